"""Whether the instance that reads a slot is still alive, as far as its walsender tells."""

from __future__ import annotations

import time

from pycdc.connectors.postgres.catalog.catalog import Catalog


class SlotReader:
    """What the reader of a slot last sent, from one look to the next.

    A reader sends a status update each `status_interval`. The server gives up a silent one only after
    `wal_sender_timeout`, which may be minutes, or never. `reply_time` of pg_stat_replication is by the reader's clock:
    so the question is only whether it changes.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._seen: tuple[int, str] | None = None
        self._changed = 0.0

    def silent_for(self, pid: int) -> float:
        """Return the seconds since the session `pid` was first seen without a newer update; 0 where it may be gone.

        Raises PycdcError. A role that may not see the other's updates sees none, so it never takes one for silent.
        """
        replied = self._catalog.last_reply(pid)
        now = time.monotonic()
        if replied is None or self._seen != (pid, replied):
            self._seen = None if replied is None else (pid, replied)
            self._changed = now
        return now - self._changed

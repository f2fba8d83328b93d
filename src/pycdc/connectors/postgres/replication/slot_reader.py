"""Whether the instance that reads a slot is still alive, as far as its walsender tells."""

from __future__ import annotations

import time

from pycdc.clients.walsender_commands import is_working
from pycdc.connectors.postgres.catalog.catalog import Catalog


class SlotReader:
    """What the reader of a slot last sent, from one look to the next.

    A reader sends a status update each `status_interval`. The server gives up a silent one only after
    `wal_sender_timeout`, which may be minutes, or never. `reply_time` of pg_stat_replication is by the reader's clock:
    so the question is only whether it changes.
    """

    def __init__(self, catalog: Catalog, dsn: str) -> None:
        self._catalog = catalog
        self._dsn = dsn
        self._seen: tuple[int, str] | None = None
        self._changed = 0.0

    def is_silent(self, pid: int, seconds: float) -> bool:
        """Return whether the walsender `pid` has waited that long for a status update. Raises PycdcError.

        One that sorts a large transaction takes none meanwhile: whoever took its slot over would have it begin anew. A
        role that may not see the other's updates sees none, and never takes it for silent.
        """
        replied = self._catalog.last_reply(pid)
        now = time.monotonic()
        if replied is None or self._seen != (pid, replied):
            self._seen = None if replied is None else (pid, replied)
            self._changed = now
        if now - self._changed <= seconds:
            return False
        if is_working(self._dsn, pid):
            self._changed = now
            return False
        return True

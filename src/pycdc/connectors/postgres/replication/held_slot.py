"""The slot, from when it is acquired: by starting to stream from it, which keeps everybody else from it."""

from __future__ import annotations

import time
from typing import Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.replication.stream import ReplicationStream
from pycdc.connectors.postgres.start_check import can_be_read
from pycdc.errors import SlotActive
from pycdc.model.change import Lsn
from pycdc.observability.logger import get_logger

log = get_logger()

WAIT: Final = 1.0
"""Seconds between looks at a slot that is somebody else's."""
FAR: Final = Lsn((1 << 64) - 2)
"""Where no WAL ever is. From there on nothing is sent, to one who only holds the slot: a walsender that cannot send
cannot be ended either, and a checkpoint of the server's that wants the slot invalidated would wait for it."""


class HeldSlot:
    """`stream` is None while the slot is not ours."""

    def __init__(self, config: CapturePipeline, catalog: Catalog) -> None:
        self._config = config
        self._catalog = catalog
        self._waiting_since: float | None = None
        self.stream: ReplicationStream | None = None

    def acquire(self, seconds: float) -> bool:
        """Try for so long. Raises SlotActive after `slot_timeout`.

        A slot that is not there yet, or cannot be read at all, is for others to deal with.
        """
        slot = None if self.stream is not None else self._catalog.slot(self._config.slot)
        if slot is None:
            return True
        if slot.confirmed_flush is None:
            time.sleep(seconds)
            hint = "start again when that is done"
            self._wait(SlotActive(f"slot {slot.name} is still being made, by pid {slot.active_pid}", hint=hint))
            return False
        if not can_be_read(slot, self._catalog.server()):
            return True
        try:
            # Where the stored position is further, the assembler leaves out what was delivered.
            self._take(Lsn(0), seconds)
        except SlotActive as error:
            self._wait(error)
            return False
        return True

    def _wait(self, error: SlotActive) -> None:
        """Say once that the slot is in use; raise `error` where that has lasted for `slot_timeout`."""
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
            log.warning("slot is in use, waiting", slot=self._config.slot, fact=error.fact)
        if now - self._waiting_since >= self._config.source.postgres.slot_timeout:
            raise error

    def _take(self, start: Lsn, wait: float) -> ReplicationStream:
        config = self._config
        stream = ReplicationStream(
            config.source.postgres.dsn.get_secret_value(),
            slot=config.slot,
            publications=[config.publication],
            options=config.source.postgres,
            raw_text=config.values.encoding_errors == "replace",
            stopping=self._catalog.stopping,
        )
        stream.open(start, wait)
        self.stream = stream
        return stream

    def take_new(self, begin: Lsn, start: Lsn) -> ReplicationStream:
        """Acquire the slot that was made at `begin`. Another reader may have been quicker, and moved it."""
        stream = self._take(start, WAIT)
        slot = self._catalog.slot(self._config.slot)
        if slot is None or slot.confirmed_flush != begin:
            raise SlotActive(f"another session read slot {self._config.slot} just now", hint="run one instance")
        return stream

    def release(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.stream = None

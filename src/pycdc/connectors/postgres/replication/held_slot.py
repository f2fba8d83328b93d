"""The slot, from when it is acquired: by starting to stream from it, which keeps everybody else from it."""

from __future__ import annotations

import time
from typing import Final

from pycdc.clients.walsender_commands import enable_failover
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.privileges import SourceInspection
from pycdc.connectors.postgres.failover_check import may_enable
from pycdc.connectors.postgres.replication.slot_reader import SlotReader
from pycdc.connectors.postgres.replication.stream import ReplicationStream
from pycdc.connectors.postgres.start_check import can_be_read
from pycdc.errors import SlotActive
from pycdc.model.change import Lsn
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

WAIT: Final = 1.0
"""Seconds between looks at a slot that is somebody else's."""
_LOOK: Final = 0.25
"""Seconds between looks of a standby: what a takeover costs is this, and the start."""
FAR: Final = Lsn((1 << 64) - 2)
"""Where no WAL ever is. From there on nothing is sent, to one who only holds the slot: a walsender that cannot send
cannot be ended either, and a checkpoint of the server's that wants the slot invalidated would wait for it."""


class HeldSlot:
    """`stream` is None while the slot is not ours."""

    def __init__(self, config: CapturePipeline, catalog: Catalog, progress: Progress) -> None:
        self._config = config
        self._catalog = catalog
        self._progress = progress
        self._reader = SlotReader(catalog, config.source.postgres.dsn.get_secret_value())
        self._waiting_since: float | None = None
        self.stream: ReplicationStream | None = None

    def acquire(self, seconds: float) -> bool:
        """Try for so long. Raises SlotActive after `slot_timeout`.

        A slot that is not there yet, or cannot be read at all, is for others to deal with.
        """
        slot = None if self.stream is not None else self._catalog.slot(self._config.slot)
        if slot is not None and slot.active_pid is not None and self._config.source.postgres.standby:
            return self._stand_by(slot.active_pid, seconds)
        if self._progress.state == "standby":
            self._progress.state = "starting"
        if slot is None:
            return True
        if slot.confirmed_flush is None:
            time.sleep(seconds)
            hint = "start again when that is done"
            self._wait(SlotActive(f"slot {slot.name} is still being made, by pid {slot.active_pid}", hint=hint))
            return False
        server = self._catalog.server()
        if not can_be_read(slot, server):
            return True
        if self._config.source.postgres.failover and may_enable(slot, server):
            log.info("making the slot one that comes along to standbys", slot=slot.name)
            enable_failover(self._config.source.postgres.dsn.get_secret_value(), slot.name)
        try:
            # Where the stored position is further, the assembler leaves out what was delivered.
            self._take(Lsn(0), seconds)
        except SlotActive as error:
            # Of several that stand by, another one was quicker.
            if not self._config.source.postgres.standby:
                self._wait(error)
            return False
        return True

    def _stand_by(self, reader: int, seconds: float) -> bool:
        """Wait for `seconds`, and end the session of a reader that is silent for too long."""
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
            log.info("standing by: another instance reads the slot", slot=self._config.slot, pid=reader)
        self._progress.state = "standby"
        source = self._config.source.postgres
        if self._reader.is_silent(reader, source.standby_timeout):
            log.warning("the instance that reads the slot is silent: taking over", pid=reader)
            SourceInspection(source.dsn.get_secret_value()).end(reader)
        time.sleep(min(seconds, _LOOK))
        return False

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
        # The server remembers with the slot from where on it sends what is prepared: never from where it only holds.
        reads = start != FAR
        stream = ReplicationStream(
            config.source.postgres.dsn.get_secret_value(),
            slot=config.slot,
            publications=[config.publication],
            options=config.source.postgres,
            streaming=config.source.postgres.streaming and reads and not self._progress.unstreamed,
            two_phase=config.source.postgres.two_phase and reads,
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

    def require(self) -> None:
        """Raise ConnectionLost where the slot was taken over, as from a process that was frozen.

        Whoever has it now moves slot and position on, so that what was read of them says nothing.
        """
        if self.stream is not None:
            self.stream.require_open()

    def release(self) -> None:
        if self.stream is not None:
            self.stream.close()
            if self.stream.cannot_stream and not self._progress.unstreamed:
                log.warning("source.postgres.streaming is off until the next start: the error says why")
                self._progress.unstreamed = True
            self.stream = None

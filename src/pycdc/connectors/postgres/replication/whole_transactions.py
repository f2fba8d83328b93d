"""Where a batch may end, so that what it has can be made visible together with its position.

Frames are cut behind the last transaction that is complete: what comes behind it waits for the next batch. A
transaction that has more than one batch is visible as a whole too, up to a limit; from there on it has positions
within, each of which says how much of it was delivered.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.replication.transaction_chunks import last_end
from pycdc.model.transaction_chunk import TransactionChunk


class WholeTransactions:
    """Of one stream. Does nothing where records and position are not one Kafka transaction."""

    def __init__(self, config: CapturePipeline, now: Callable[[], float] = time.monotonic) -> None:
        kafka = config.sink.kafka
        self.wanted = config.exactly_once
        self.chunked = self.wanted and not config.envelope.transaction_metadata
        """The counts of transaction metadata are of whole transactions, and of nothing else."""
        self._changes = 0 if kafka is None else kafka.transaction_changes
        self._seconds = 0.0 if kafka is None else kafka.transaction_timeout / 2
        self._now = now
        self._since: float | None = None
        self._delivered = 0
        self._waiting: list[bytes] = []

    @property
    def holds(self) -> bool:
        """Whether frames wait for the next batch."""
        return bool(self._waiting)

    def cut(self, frames: list[bytes]) -> list[bytes]:
        """Return what is to be delivered now, of what waited and of `frames`."""
        if not self.wanted:
            return frames
        if self._waiting:
            frames, self._waiting = self._waiting + frames, []
        end = last_end(frames)
        if end and end < len(frames):
            frames, self._waiting = frames[:end], frames[end:]
        return frames

    def ends_here(self, half_read: TransactionChunk | None) -> TransactionChunk | None:
        """Return what a position within the transaction would say, where it has become too large."""
        if half_read is None or not self.chunked:
            self._since, self._delivered = None, 0
            return None
        now = self._now()
        if self._since is None:
            self._since, self._delivered = now, 0
        if half_read.changes - self._delivered < self._changes and now - self._since < self._seconds:
            return None
        self._since, self._delivered = now, half_read.changes
        return half_read

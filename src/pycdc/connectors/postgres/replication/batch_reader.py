"""From the stream to batches: how much is read at once, where a batch ends, and which position it has."""

from __future__ import annotations

import time
from typing import Final

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.replication.stream import ReplicationStream
from pycdc.connectors.postgres.replication.streamed_transactions import StreamedTransactions
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.replication.transaction_spool import SpoolFolder
from pycdc.connectors.postgres.replication.whole_transactions import WholeTransactions
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.observability.progress import Progress

_POLL: Final = 0.1
"""Seconds without data after which the pipeline gets its turn."""
_FEW: Final = 256
"""Messages: so many at once show that more are waiting."""


class BatchReader:
    """Of one stream, which starts at `start`, and whose transactions `assembler` follows.

    `prepares`: the slot sends what is prepared, as each does that was once read with `two_phase`.
    """

    def __init__(
        self,
        config: CapturePipeline,
        stream: ReplicationStream,
        assembler: TransactionAssembler,
        start: Lsn,
        whole: WholeTransactions,
        progress: Progress,
        *,
        prepares: bool = False,
    ) -> None:
        self._source = config.source.postgres
        self._stream = stream
        self._assembler = assembler
        self._whole = whole
        self._progress = progress
        self._unstored = False
        self._newest_commit: float | None = None
        self._frames = stream.read
        self._streamed: StreamedTransactions | None = None
        if self._source.streaming or self._source.two_phase or prepares:
            self._folder = SpoolFolder(self._source.spool_folder)
            self._folder.check()
            in_doubt = self._read_at_commits if self._source.messages else None
            self._streamed = StreamedTransactions(stream, self._folder, self._source.spool_memory, start, in_doubt)
            self._frames = self._streamed.read

    def read(self, position: Lsn) -> Batch:
        """Return what came within the poll time. Where nothing is in flight, a keepalive moves the position."""
        source, stream, assembler = self._source, self._stream, self._assembler
        frames = self._whole.cut(self._frames(source.max_batch_changes, source.max_batch_bytes, _POLL))
        self._progress.last_message = stream.last_message_at
        if self._streamed is not None:
            self._report(self._streamed)
        batch = Batch(last_commit=assembler.last_commit)
        if frames:
            assembler.feed(frames, batch)
            assembler.report(self._progress)
            batch.ends_at_commit = assembler.idle
            batch.flush_now = len(frames) < _FEW and not stream.high_throughput and not self._whole.holds
            batch.chunk = self._whole.ends_here(assembler.half_read)
        elif assembler.idle and stream.idle_position is not None and stream.idle_position > position:
            batch.position = Position(stream.idle_position)
        self._measure(batch, position)
        return batch

    def _read_at_commits(self) -> None:
        self._stream.cannot_stream = True

    def _report(self, streamed: StreamedTransactions) -> None:
        self._progress.spooled_bytes, self._progress.in_progress = self._folder.on_disk, streamed.count
        if streamed.replaying:
            # Nobody listens to the server meanwhile, so that its silence says nothing.
            self._progress.last_message = time.monotonic()

    def _measure(self, batch: Batch, position: Lsn) -> None:
        """Count what comes without changes as delivered, where nothing before it waits to be stored."""
        if batch.runs:
            self._unstored = True
            self._progress.lag.arrived(batch.runs[-1].transaction.commit_lsn)
            self._newest_commit = batch.runs[-1].transaction.commit_time / 1_000_000
        elif not self._unstored:
            self._progress.lag.reached(batch.position.lsn if batch.position is not None else position)

    def acknowledge(self, checkpoint: Checkpoint) -> None:
        """Tell the server of a position that is stored."""
        self._unstored = False
        if checkpoint.snapshot_done:
            self._progress.lag.reached(checkpoint.position.lsn, self._newest_commit)
        position = checkpoint.position.lsn
        self._stream.confirm(position if self._streamed is None else self._streamed.confirmable(position))

    def close(self) -> None:
        """Forget what is kept of transactions in progress. Idempotent."""
        if self._streamed is not None:
            self._streamed.close()

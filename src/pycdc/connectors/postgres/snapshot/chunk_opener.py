"""Open a chunk of a table, and read its rows: a short transaction that writes a watermark behind its snapshot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import uuid4

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import CopySource, TableRef
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.chunk_reader import ChunkReader, some
from pycdc.connectors.postgres.snapshot.copy_reader import CopiedPart
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.connectors.postgres.snapshot.watermark_window import WatermarkWindow
from pycdc.model.change import Transaction
from pycdc.observability.logger import get_logger

log = get_logger()

_BYTES: Final = 16 * 1024 * 1024
"""A chunk ends where it has that many, however few its rows are."""


@dataclass(slots=True)
class OpenChunk:
    """A chunk that waits for its watermark. `began` is monotonic.

    `whole_table_placed`: the rows of a table without a key, which one chunk has all, were placed into the stream.
    `abandoned`: the table is read again later.
    """

    window: WatermarkWindow
    source: CopySource
    began: float
    whole_table_placed: bool = False
    abandoned: bool = False

    @property
    def task(self) -> TableTask:
        """The task whose rows these are."""
        return self.window.task


class ChunkOpener:
    """Opens the chunks of one stream."""

    def __init__(
        self,
        config: CapturePipeline,
        catalog: Catalog,
        relations: RelationCache,
        backlog: Backlog,
        report: SnapshotReport,
        reader: ChunkReader,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._relations = relations
        self._backlog = backlog
        self._report = report
        self._reader = reader
        self._rows = config.source.postgres.snapshot_chunk

    def open(self, task: TableTask, ref: TableRef, assembler: TransactionAssembler) -> OpenChunk | None:
        """Begin the chunk's transaction and write its watermark; None where that cannot be done now.

        Raises TableLocked where somebody holds or wants the table's lock.
        """
        visibility = self._reader.begin(ref)
        if visibility is None:
            return None
        # A transaction that waits for a standby was delivered, but no snapshot sees it yet.
        if not assembler.unseen.settle(visibility):
            self._reader.end()
            return None
        if task.delivered is not None and not self._reader.still_there(ref, task.delivered):
            log.info("a table was rewritten since its snapshot, and is read again", table=str(task))
            self._backlog.delivered(task, None, 0)
        number = uuid4().hex
        lsn = self._reader.mark(number)
        generated = self._config.compatibility.generated_columns == "snapshot"
        source = self._catalog.columns_for_copy(ref.oid, self._config.publication, generated=generated)
        table = None if source is None else self._relations.from_catalog(ref.oid, source.columns)
        if source is None or table is None:
            self._reader.end()
            return None
        moment = Transaction(None, lsn, time.time_ns() // 1000)
        self._restart_unless_in_place(task, ref, source)
        window = WatermarkWindow(number, task, table, visibility, moment, [], last=True)
        return OpenChunk(window, source, time.monotonic())

    def fill(self, chunk: OpenChunk, ref: TableRef) -> Iterator[None]:
        """Read the chunk's rows, where the table has a key; yields while it waits. Raises PycdcError."""
        task, source = chunk.task, chunk.source
        if task.where is not None and task.from_signal:
            signals = self._config.signals
            self._reader.confine(ref, task.where, signals.filter_role, signals.filter_timeout)
        self._report.begun(task, partial(self._reader.extent, source, ref, task.where))
        if source.keyset is not None:
            yield from self._read_chunk(chunk.window, source)

    def _restart_unless_in_place(self, task: TableTask, ref: TableRef, source: CopySource) -> None:
        """Read a table again whose key changed: a key that was delivered is a place in the order of that very key."""
        by = None if source.keyset is None else f"{ref.oid}: {source.keyset.order_name}"
        if task.after is not None and task.by is not None and task.by != by:
            log.warning("a table or its key was changed while it was read; it is read again", table=str(task))
            self._backlog.restart(task)
            self._report.show([task])
        task.by = by

    def _read_chunk(self, window: WatermarkWindow, source: CopySource) -> Iterator[None]:
        task = window.task
        # One more than is delivered tells whether there are more.
        part = CopiedPart(task.after, self._rows + 1, task.where, task.delivered)
        lines, cut = yield from some(self._reader.lines(source, part), _BYTES)
        self._reader.end()
        window.last = not cut and len(lines) <= self._rows
        window.lines[:] = lines = lines[: self._rows]
        window.after = source.keyset.of_line(lines[-1]) if lines and source.keyset else task.after

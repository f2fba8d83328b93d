"""Place the rows of a chunk into the batches of the stream: each before a change that its snapshot does not see.

What is placed goes out in pieces, so that a batch never holds more than `_ROWS` rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pycdc.clients.postgres_errors import TableLocked
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.chunk_opener import OpenChunk
from pycdc.connectors.postgres.snapshot.chunk_reader import ChunkReader
from pycdc.connectors.postgres.snapshot.copy_reader import CopiedPart
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.connectors.postgres.snapshot.task_end import TaskEnd
from pycdc.connectors.postgres.snapshot.watermark_window import WatermarkWindow
from pycdc.errors import PycdcError
from pycdc.model.change import Batch, Run
from pycdc.observability.logger import get_logger

log = get_logger()

_ROWS: Final = 4096
"""Rows in a batch."""


class ChunkPlacer:
    """Places the chunks of one stream. `runs` are always those of the batch that are to come before what is placed.

    `once`: of rows that were placed none may come again.
    """

    def __init__(
        self, backlog: Backlog, report: SnapshotReport, reader: ChunkReader, end: TaskEnd, *, once: bool = False
    ) -> None:
        self._once = once
        self._backlog = backlog
        self._report = report
        self._reader = reader
        self._end = end

    def before(self, chunk: OpenChunk, run: Run, runs: list[Run]) -> Iterator[Batch]:
        """Place the rows that have to come before `run`, a change that the chunk's snapshot does not see."""
        if chunk.source.keyset is not None:
            placed = chunk.window.before(run)
            self._report.count(chunk.task, size_of(placed))
            runs += placed
        elif not chunk.whole_table_placed:
            yield from self._whole_table(chunk, runs)

    def contains(self, chunk: OpenChunk, run: Run) -> bool:
        """Return whether the rows of a whole table, placed before their watermark, hold the outcome of `run`."""
        window = chunk.window
        if not chunk.whole_table_placed or run.table is None:
            return False
        return run.table.oid == window.table.oid and window.visibility.sees(run.transaction.xid)

    def at_watermark(self, chunk: OpenChunk, runs: list[Run]) -> Iterator[Batch]:
        """Place what is left, and go on in the table behind it."""
        task = chunk.task
        if task not in self._backlog:
            self._reader.end()
        elif chunk.source.keyset is None:
            if not chunk.whole_table_placed:
                yield from self._whole_table(chunk, runs)
            if task in self._backlog and chunk.whole_table_placed:
                self._end.finish(task)
        else:
            yield from self._rest(chunk.window, runs)

    def _rest(self, window: WatermarkWindow, runs: list[Run]) -> Iterator[Batch]:
        task, lines = window.task, window.rest()
        yield from self._batches(window, lines, runs, ends=self._last_marker(task) if window.last else None)
        self._backlog.advance(task, window.after, window.placed)
        if window.placed:
            self._report.chunk(task)
        if window.last:
            self._end.finish(task)

    def _whole_table(self, chunk: OpenChunk, runs: list[Run]) -> Iterator[Batch]:
        window, task = chunk.window, chunk.task
        held: list[bytes] = []
        try:
            for lines in filter(None, self._reader.lines(chunk.source, CopiedPart(where=task.where))):
                if held:
                    yield from self._batches(window, held, runs, ends=None)
                held = lines
        except PycdcError as error:
            try:
                self._end.give_up(task, error, chunk.began)
            except TableLocked:
                if self._once and window.placed:
                    # The sink gives up what it has of them, and the stream begins anew before them.
                    raise
                log.warning("a table without a key is read again, because somebody wants it", table=str(task))
                chunk.abandoned = True
                self._reader.end()
                return
        self._reader.end()
        yield from self._batches(window, held, runs, ends=self._last_marker(task))
        chunk.whole_table_placed = True

    def _batches(
        self, window: WatermarkWindow, lines: list[bytes], runs: list[Run], *, ends: str | None
    ) -> Iterator[Batch]:
        """Yield what was to come before, then the rows."""
        if runs:
            yield Batch(list(runs), size=size_of(runs), ends_at_commit=False)
            runs.clear()
        for start in range(0, len(lines), _ROWS):
            part = lines[start : start + _ROWS]
            made = window.runs(part, ends=ends if start + _ROWS >= len(lines) else None)
            self._report.count(window.task, len(part))
            yield Batch(made, size=len(part), ends_at_commit=False)

    def _last_marker(self, task: TableTask) -> str:
        others = [other for other in self._backlog if other is not task and not other.ad_hoc]
        return "last_in_data_collection" if others else "last"


def size_of(runs: list[Run]) -> int:
    """Return how many changes runs have."""
    return sum(len(run.frames) for run in runs)

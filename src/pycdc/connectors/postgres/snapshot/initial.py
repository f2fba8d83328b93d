"""The first snapshot: every table as it was at the slot's consistent point, by readers pinned to one exported snapshot.

Tables are read in physical order, range of blocks after range, by this process or by workers. What was delivered is
known at each range's beginning, so that a snapshot that is interrupted can leave it out. The rest is then read in
chunks (`incremental`): the exported snapshot ended with its session.

No table is locked between two ranges. One that was changed in between, so that the snapshot does not see it any more,
and one that somebody keeps locked, are read in chunks too, without what was delivered of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pycdc.clients.postgres_errors import TableLocked
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.exported_snapshot import ExportedSnapshot
from pycdc.connectors.postgres.catalog.keyset import KeyValues
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.block_ranges import BlockRange, Rewritten
from pycdc.connectors.postgres.snapshot.copy_reader import CopiedPart, SnapshotReader
from pycdc.connectors.postgres.snapshot.lock_yield import Yielding, mark_of
from pycdc.connectors.postgres.snapshot.notifications import Notifications
from pycdc.connectors.postgres.snapshot.open_table import OpenTable
from pycdc.connectors.postgres.snapshot.parallel import Chunk, ParallelReader, Task, Workers, unpacked
from pycdc.connectors.postgres.snapshot.snapshot_markers import SnapshotMarkers
from pycdc.errors import ConnectionLost, SchemaIncompatible
from pycdc.model.change import NOWHERE, Batch, Encoded, Position, Run, Transaction
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress, TableSnapshot

log = get_logger()

_BLOCK: Final = 8192
_LARGEST: Final = 4096
"""Blocks of a range, at most."""
_PING: Final = 1.0
_PAUSE: Final = 0.1
"""Seconds until the next try where a table is locked."""
_PATIENCE: Final = 5.0
"""Seconds after which it is read in chunks, when all others are read; as many times _MORE where it has no key."""
_MORE: Final = 12


class InitialSnapshot:
    """Made for one snapshot. A batch's position is nowhere; its index counts, so that progress is stored.

    Only a batch behind which the backlog lists just what is still to come has a position.
    """

    def __init__(
        self,
        config: CapturePipeline,
        catalog: Catalog,
        relations: RelationCache,
        progress: Progress,
        snapshot: ExportedSnapshot,
        notifications: Notifications,
        workers: Workers | None = None,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._relations = relations
        self._progress = progress
        self._snapshot = snapshot
        self._notifications = notifications
        self._tables: list[TableRef] = []
        self._workers = workers
        self._parallel_reader = None if workers is None else ParallelReader(workers)
        self._database = "" if workers is None else catalog.server().database
        self._moment = Transaction(None, snapshot.slot.consistent_point, time.time_ns() // 1000)
        self._markers = SnapshotMarkers(self._moment)
        self._backlog = Backlog()
        self._batches = 0
        self._held_back = False
        self._within_range = False
        self._reader: SnapshotReader | None = None
        self._yielding = Yielding(config.source.postgres.dsn.get_secret_value(), config.slot)
        self._next_ping = 0.0
        self.unseen: list[TableTask] = []
        """What the snapshot cannot see, because it was rewritten since: to be read in chunks."""

    def batches(self, tables: list[TableRef]) -> Iterator[Batch | None]:
        """Every row once; None where workers have nothing ready."""
        self._progress.state = "snapshot"
        self._progress.snapshot = [TableSnapshot(str(ref), estimated=ref.rows_estimate or 0) for ref in tables]
        tasks = [TableTask(ref.schema, ref.name, oid=ref.oid) for ref in tables]
        self._backlog.add(tasks)
        self._tables = tables
        self._yielding.begin()
        opened = map(self._opened, tables, tasks, self._progress.snapshot)
        try:
            yield from (
                self._one_by_one(opened)
                if self._parallel_reader is None
                else self._by_workers(opened, self._parallel_reader)
            )
        finally:
            self.close()
        if not self.unseen:
            self._notifications.ended()
        last = self._markers.finish()
        if last is not None:
            yield Batch([last], size=len(last))

    def close(self) -> None:
        """End the workers and the session. Idempotent."""
        if self._parallel_reader is not None:
            self._parallel_reader.close()
        self._yielding.close()
        self._drop_reader()

    # -- tables

    def _opened(self, ref: TableRef, task: TableTask, progress: TableSnapshot) -> OpenTable | None:
        """Open a table, None for one that cannot be read now."""
        generated = self._config.compatibility.generated_columns == "snapshot"
        try:
            source = self._catalog.columns_for_copy(ref.oid, self._config.publication, generated=generated)
            table = None if source is None else self._relations.from_catalog(ref.oid, source.columns)
            if source is None or table is None:
                log.warning("a table is gone before its snapshot", table=str(ref))
                return None
            log.info("snapshot of a table", table=str(table), rows_estimated=ref.rows_estimate)
            with self._transaction() as reader:
                held, oldest = reader.hold(source), reader.oldest()
        except (Rewritten, TableLocked) as error:
            self._leave(task, error)
            return None
        opened = OpenTable(table, source, task, progress, held, oldest, 1)
        opened.blocks = self._first_blocks(held.heap.leaves)
        self._notifications.scanning(ref, self._tables)
        return opened

    def _first_blocks(self, leaves: int) -> int:
        """Return as many blocks as a crash may repeat; fewer for a worker, until the size of its records is known."""
        blocks = self._config.source.postgres.max_batch_bytes // _BLOCK // max(1, leaves)
        return max(1, min(_LARGEST, blocks // 8 if self._parallel_reader is not None else blocks))

    def _leave(self, task: TableTask, why: Exception) -> None:
        """Read what is left of a table in chunks, when all others are read."""
        locked = isinstance(why, TableLocked)
        reason = "it is locked by somebody" if locked else "it was altered, rewritten or truncated meanwhile"
        log.warning("a table is read in chunks from here on", table=str(task), reason=reason, rows=task.rows)
        self.unseen.append(task)

    def _close(self, opened: OpenTable) -> None:
        if not opened.left:
            opened.progress.finished = True
            done = opened.progress.done
            self._notifications.scanned(opened, self._tables, done, "SUCCEEDED" if done else "EMPTY")
            log.info("read a table", table=str(opened), rows=opened.progress.done)

    # -- by this process

    @contextmanager
    def _transaction(self) -> Iterator[SnapshotReader]:
        """On this process' session, which does not outlive a failure."""
        if self._reader is None:
            raw_text, mark = self._config.values.encoding_errors == "replace", mark_of(self._config.slot)
            dsn = self._config.source.postgres.dsn.get_secret_value()
            self._reader = SnapshotReader(dsn, self._snapshot.name, mark=mark, raw_text=raw_text)
        else:
            self._reader.begin()
        try:
            yield self._reader
            self._reader.end()
        except BaseException:
            self._drop_reader()
            raise

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _one_by_one(self, tables: Iterator[OpenTable | None]) -> Iterator[Batch | None]:
        for opened in tables:
            if opened is not None:
                yield from self._alone(opened)
                self._close(opened)

    def _alone(self, opened: OpenTable) -> Iterator[Batch | None]:
        try:
            yield from self._in_blocks(opened) if opened.heap.ordinary else self._by_key(opened)
        except (Rewritten, TableLocked) as error:
            if self._within_range and self._config.exactly_once:
                raise ConnectionLost(
                    f"table {opened} was locked or changed by somebody while a part of it was read",
                    hint="nothing is to be done: what was read of that part is given up, and the rest read in chunks",
                ) from None
            opened.left = True
            self._leave(opened.task, error)

    def _in_blocks(self, opened: OpenTable) -> Iterator[Batch | None]:
        for part in opened.ranges():
            before = opened.progress.done
            self._delivered(opened, part, before)
            for lines in self._lines(opened, part):
                if not lines:
                    yield None
                    continue
                runs = self._markers.runs(opened.table, lines)
                opened.progress.read(len(lines))
                self._within_range = True
                yield from self._placed(opened, runs)
            self._within_range = False

    def _by_key(self, opened: OpenTable) -> Iterator[Batch | None]:
        """Read what has no blocks of rows in the key's order, where it has a key."""
        task, progress, keyset = opened.task, opened.progress, opened.source.keyset
        held: KeyValues | None = None
        try:
            for lines in filter(None, self._lines(opened, CopiedPart(), patience=0.0)):
                runs = self._markers.runs(opened.table, lines)
                progress.read(len(lines))
                self._forget_before(task)
                self._within_range = keyset is None
                if keyset is not None:
                    # The newest row is not in the runs yet.
                    after = keyset.of_line(lines[-2]) if len(lines) > 1 else held
                    self._backlog.advance(task, after, progress.done - 1 - task.rows)
                    held = keyset.of_line(lines[-1])
                yield self._batch(runs, whole=keyset is not None)
        except (Rewritten, TableLocked):
            if held is not None:
                # It comes before whatever is read next.
                self._backlog.advance(task, held, 1)
            raise
        self._within_range = False

    def _lines(
        self, opened: OpenTable, part: CopiedPart | BlockRange, patience: float = _PATIENCE
    ) -> Iterator[list[bytes]]:
        """Yield the lines of a part; none, where there are none yet.

        A part that somebody interrupted is read again: the same snapshot has the same lines in the same order.
        """
        if opened.source.keyset is None and opened.progress.done:
            # All of it would be read once more.
            patience *= _MORE
        deadline: float | None = None
        seen = 0
        while True:
            read = 0
            try:
                with self._transaction() as reader:
                    reader.hold(opened.source, opened.held)
                    for lines in reader.lines(
                        opened.source, part, max_bytes=self._config.source.postgres.max_batch_bytes
                    ):
                        deadline, read = None, read + len(lines)
                        new, seen = min(read - seen, len(lines)), max(read, seen)
                        if new > 0:
                            yield lines[-new:]
                return
            except TableLocked:
                now = time.monotonic()
                deadline = deadline or now + patience
                if now >= deadline:
                    raise
            time.sleep(_PAUSE)
            yield []

    # -- by workers

    def _by_workers(self, tables: Iterator[OpenTable | None], reader: ParallelReader) -> Iterator[Batch | None]:
        for job_result in reader.results(self._jobs(tables)):
            self._ping()
            if job_result is None:
                yield None
                continue
            opened, task, result = job_result
            if task is not None and isinstance(result, Chunk):
                yield from self._chunk(opened, task, result)
            elif task is not None and isinstance(result, Exception):
                opened.left = True
                self._delivered(opened, task.range, opened.progress.done)
                self._leave(opened.task, result)
            else:
                if not opened.plan:
                    yield from self._alone(opened)
                self._close(opened)

    def _jobs(self, tables: Iterator[OpenTable | None]) -> Iterator[tuple[OpenTable, Task | None]]:
        """Yield the ranges of each table, and its end."""
        for opened in tables:
            if opened is None:
                continue
            opened.plan = self._plan(opened)
            for part in opened.ranges() if opened.plan else ():
                yield opened, Task(opened.plan, self._snapshot.name, part)
            yield opened, None

    def _plan(self, opened: OpenTable) -> bytes:
        """Empty for a table that workers cannot read."""
        assert self._workers is not None
        if not opened.heap.ordinary:
            return b""
        try:
            return self._workers.plan(opened.table, opened.source, opened.held, self._moment, self._database)
        except SchemaIncompatible:
            # What is to become of its rows is the sink's business.
            return b""

    def _chunk(self, opened: OpenTable, task: Task, chunk: Chunk) -> Iterator[Batch]:
        self._count(chunk)
        self._fit(opened, task, chunk)
        if chunk.head is None:
            return
        between = sum(rows for rows, _ in chunk.records)
        self._delivered(opened, task.range, opened.progress.done)
        runs = self._markers.around(opened.table, chunk.head, between, chunk.tail)
        opened.progress.read(chunk.rows)
        yield from self._placed(opened, runs)
        for rows, data in chunk.records:
            batch = self._batch([], whole=False)
            batch.encoded = [Encoded(opened.table, rows, unpacked(data))]
            batch.size = rows
            yield batch

    def _count(self, chunk: Chunk) -> None:
        self._progress.nulled = dict(Counter(self._progress.nulled) + Counter(chunk.nulled))
        self._progress.dead_letters = dict(Counter(self._progress.dead_letters) + Counter(chunk.dead_letters))

    def _fit(self, opened: OpenTable, task: Task, chunk: Chunk) -> None:
        """Set the next range to as many blocks as make half of what a worker may return."""
        blocks = max(1, chunk.range.end - chunk.range.first)
        share = chunk.size / (self._config.source.postgres.max_batch_bytes / 2)
        wanted = round(blocks / share) if share > 1 / 4 else blocks * 4
        opened.blocks = max(1, min(_LARGEST, wanted))

    # -- both

    def _delivered(self, opened: OpenTable, part: BlockRange, rows: int) -> None:
        """Take note that all before the range was delivered with the batch at hand; `rows` are that.

        The range's own last row is not certain before the next one begins.
        """
        task = opened.task
        self._held_back = self._markers.holds
        self._forget_before(task)
        if opened.source.keyset is not None and part.first and not part.item:
            known = task.delivered
            if known is None or known.block != part.first:
                self._backlog.delivered(task, opened.delivered(part.first), rows - task.rows)

    def _placed(self, opened: OpenTable, runs: list[Run]) -> Iterator[Batch]:
        """Yield the rows of a range, and before them the row that was held back: there the backlog is right."""
        if self._held_back and (opened.source.keyset is not None or runs[0].table is not opened.table):
            yield self._batch(runs[:1])
            runs = runs[1:]
        self._held_back = False
        if runs:
            yield self._batch(runs, whole=False)

    def _batch(self, runs: list[Run], *, whole: bool = True) -> Batch:
        self._batches += 1
        self._ping()
        return Batch(
            runs,
            Position(NOWHERE, self._batches) if whole else None,
            size=sum(map(len, runs)),
            snapshot_done=False,
            snapshot=self._backlog.state,
        )

    def _ping(self) -> None:
        now = time.monotonic()
        if now < self._next_ping:
            return
        self._next_ping = now + _PING
        self._snapshot.ping()

    def _forget_before(self, task: TableTask) -> None:
        """Forget the tables before this one: they are read, to their last row."""
        for earlier in self._backlog:
            if earlier is task:
                return
            if earlier not in self.unseen:
                self._backlog.finish(earlier)

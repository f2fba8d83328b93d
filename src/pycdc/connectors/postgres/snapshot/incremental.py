"""Reads what the backlog lists while the stream goes on, chunk after chunk, and places the rows into the stream.

A table with a key is read in chunks, in the key's order, each by a short transaction. A table without one is read as a
whole by one transaction, while the stream waits: no key would tell where a row belongs among the changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Final
from uuid import uuid4

from pycdc.clients.postgres_errors import TableLocked
from pycdc.config.pipeline import PipelineConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import CopySource, TableRef
from pycdc.connectors.postgres.publication.published_state import older_writers
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.replication.transaction_assembler import ControlMessage, TransactionAssembler
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.signals.signing import SigningKey
from pycdc.connectors.postgres.snapshot.backlog import RESYNC, Backlog, TableTask
from pycdc.connectors.postgres.snapshot.chunk_reader import ChunkReader, some
from pycdc.connectors.postgres.snapshot.copy_reader import CopiedPart
from pycdc.connectors.postgres.snapshot.lock_yield import Yielding
from pycdc.connectors.postgres.snapshot.notifications import Notifications, Scan
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.connectors.postgres.snapshot.signal_handler import SignalHandler, SignalResult
from pycdc.connectors.postgres.snapshot.watermark_window import WatermarkWindow
from pycdc.errors import ConfigError, PycdcError
from pycdc.model.change import Batch, Run, Transaction
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_PAUSE: Final = 0.05
"""Seconds until the next try, where a lock was held or a delivered transaction could not be seen yet."""
_WAIT: Final = 0.5
"""Seconds between looks at transactions that are to end before a table is read."""
_ROWS: Final = 4096
"""Rows in a batch."""
_TOO_SLOW: Final = "raise signals.filter_timeout, or let an index of the table answer the condition"
_PATIENCE: Final = 5.0
"""Seconds that a table's lock is tried for before the others are read first."""
_BYTES: Final = 16 * 1024 * 1024
"""A chunk ends where it has that many, however few its rows are."""


class IncrementalSnapshot:
    """One for each stream. `choose` makes readings of the tables that a signal's patterns name, `look` of those that
    join the pipeline now."""

    def __init__(
        self,
        config: PipelineConfig,
        catalog: Catalog,
        relations: RelationCache,
        backlog: Backlog,
        progress: Progress,
        key: SigningKey,
        choose: Callable[[signals.Signal], list[TableTask]],
        look: Callable[[], list[TableTask]],
        notifications: Notifications,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._relations = relations
        self._progress = progress
        self._notifications = notifications
        self._desk = SignalHandler(config, catalog, backlog, progress, key, choose, look)
        self._rows = config.capture.snapshot_chunk
        self._reader = ChunkReader(
            config.capture.dsn.get_secret_value(),
            config.slot,
            config.values.encoding_errors == "replace",
            config.capture.max_batch_bytes,
            catalog.stopping,
        )
        self._yielding = Yielding(config.capture.dsn.get_secret_value(), config.slot)
        self._window: WatermarkWindow | None = None
        self._source: CopySource | None = None
        self._whole_table_placed = False
        self._not_before = 0.0
        self._began = 0.0
        self._report = SnapshotReport(catalog, progress, backlog, notifications, self._rows)
        self._awaited: set[TableTask] = set()
        self._locked: dict[TableTask, float] = {}
        self.backlog = backlog
        self._report.show(list(backlog))

    @property
    def waiting(self) -> bool:
        """Whether a chunk waits for its mark."""
        return self._window is not None

    @property
    def _over_wal_budget(self) -> bool:
        """Whether chunks wait until the stream has caught up: see `WalGuardConfig.pause_snapshots`."""
        guard = self._config.capture.wal_guard
        return guard is not None and guard.pause_snapshots and self._progress.over_wal_budget

    def close(self) -> None:
        self._yielding.close()
        self._reader.close()

    # -- reading the next chunk

    def step(self, assembler: TransactionAssembler) -> Iterator[None]:
        """Read the next chunk, where one is due and the stream is between two transactions. Yields while it waits."""
        reading = self.backlog.current
        if reading is None or self._window is not None or not assembler.idle or self._over_wal_budget:
            return
        if time.monotonic() < self._not_before:
            return
        ref = self._ref(reading)
        if ref is None:
            log.warning("a table is gone before its snapshot", table=str(reading))
            self._finish(reading, "UNKNOWN_SCHEMA")
            return
        if self._waits(reading, ref):
            self._not_before = time.monotonic() + _WAIT
            return
        self._yielding.begin()
        try:
            opened = yield from self._open(reading, ref, assembler)
        except TableLocked:
            self._window = None
            self._reader.end()
            opened = False
        self._not_before = 0.0
        if opened:
            self._locked.pop(reading, None)
        else:
            self._not_before = time.monotonic() + _PAUSE
            self._stand_aside(reading)

    def _stand_aside(self, reading: TableTask) -> None:
        """A table whose lock is not to be had for a while lets the others go first."""
        now = time.monotonic()
        since = self._locked.setdefault(reading, now)
        if now - since >= _PATIENCE and reading in self.backlog:
            log.warning("a table that is to be read is locked by somebody; the others go first", table=str(reading))
            self._locked[reading] = now
            self.backlog.postpone(reading)

    def _ref(self, reading: TableTask) -> TableRef | None:
        """The table, whatever its name is by now; one that is not captured under it counts as gone."""
        found = self._catalog.tables([str(reading)])
        ref = next((ref for ref in found if (ref.schema, ref.name) == (reading.schema, reading.name)), None)
        if reading.oid is not None and (ref is None or ref.oid != reading.oid):
            ref = self._renamed(reading, reading.oid, ref)
        if ref is not None:
            self.backlog.identify(reading, ref.oid, ref.schema, ref.name)
        return ref

    def _renamed(self, reading: TableTask, oid: int, namesake: TableRef | None) -> TableRef | None:
        source = self._config.capture
        ref = self._catalog.named(oid, source.tables, source.exclude_tables)
        if ref is None:
            return namesake
        log.warning("a table has another name, and is read on under it", before=str(reading), now=str(ref))
        if namesake is not None:
            # Somebody made another table under the name that was to be read.
            same = TableTask(reading.schema, reading.name, where=reading.where, request=reading.request)
            same.oid = namesake.oid
            self.backlog.add([same])
            self._report.show([same])
        return ref

    def _waits(self, reading: TableTask, ref: TableRef) -> bool:
        """Whether a transaction wrote to the table before it was published, and goes on: the stream does not have all
        of it, so the chunk that has must not be read before it ended."""
        if reading.since is None:
            return False
        writers = older_writers(self._catalog, ref.oid, reading.since)
        if not writers:
            self.backlog.settle(reading)
            return False
        if reading not in self._awaited:
            self._awaited.add(reading)
            log.warning(
                "reading a table waits for older transactions that write to it", table=str(reading), pids=writers
            )
        self.backlog.postpone(reading)
        return True

    def _open(self, reading: TableTask, ref: TableRef, assembler: TransactionAssembler) -> Generator[None, None, bool]:
        visibility = self._reader.begin(ref)
        if visibility is None:
            return False
        # A transaction that waits for a standby was delivered, but no snapshot sees it yet.
        if not assembler.unseen.settle(visibility):
            self._reader.end()
            return False
        if reading.delivered is not None and not self._reader.still_there(ref, reading.delivered):
            log.info("a table was rewritten since its snapshot, and is read again", table=str(reading))
            self.backlog.delivered(reading, None, 0)
        number = uuid4().hex
        lsn = self._reader.mark(number)
        generated = self._config.compatibility.generated_columns == "snapshot"
        source = self._catalog.columns_for_copy(ref.oid, self._config.publication, generated=generated)
        table = None if source is None else self._relations.from_catalog(ref.oid, source.columns)
        if source is None or table is None:
            self._reader.end()
            return False
        moment = Transaction(None, lsn, time.time_ns() // 1000)
        self._restart_unless_in_place(reading, ref, source)
        self._source = source
        self._window = WatermarkWindow(number, reading, table, visibility, moment, [], last=True)
        self._whole_table_placed = False
        self._began = time.monotonic()
        try:
            self._confine(reading, ref)
            self._report.begun(reading, partial(self._reader.extent, source, ref, reading.where))
            if source.keyset is not None:
                yield from self._read_chunk(self._window, source)
        except PycdcError as error:
            self._window = None
            self._give_up(reading, error)
        return True

    def _confine(self, reading: TableTask, ref: TableRef) -> None:
        if reading.where is not None and reading.by_strangers:
            signals = self._config.signals
            self._reader.confine(ref, reading.where, signals.filter_role, signals.filter_timeout)

    def _restart_unless_in_place(self, reading: TableTask, ref: TableRef, source: CopySource) -> None:
        """A key that was delivered is a place in the table that it is of, and in the order of its key."""
        by = None if source.keyset is None else f"{ref.oid}: {source.keyset.order_name}"
        if reading.after is not None and reading.by is not None and reading.by != by:
            log.warning("a table or its key was changed while it was read; it is read again", table=str(reading))
            self.backlog.restart(reading)
            self._report.show([reading])
        reading.by = by

    def _give_up(self, reading: TableTask, error: PycdcError) -> None:
        """A wish that cannot be fulfilled, such as a condition that divides by zero, must not stop the stream."""
        limit = self._config.signals.filter_timeout
        if isinstance(error, TableLocked) and reading.by_strangers and time.monotonic() - self._began >= limit * 0.9:
            error = ConfigError(f"reading under its condition took longer than {limit:g} s", hint=_TOO_SLOW)
        if error.retry or not reading.ad_hoc:
            raise error
        log.error("gave up the snapshot of a table", table=str(reading), error=error.code, fact=error.fact)
        self._reader.end()
        self._finish(reading, "SQL_EXCEPTION")

    def _read_chunk(self, window: WatermarkWindow, source: CopySource) -> Iterator[None]:
        reading = window.reading
        # One more than is delivered tells whether there are more.
        part = CopiedPart(reading.after, self._rows + 1, reading.where, reading.delivered)
        lines, cut = yield from some(self._reader.lines(source, part), _BYTES)
        self._reader.end()
        window.last = not cut and len(lines) <= self._rows
        window.lines[:] = lines = lines[: self._rows]
        window.after = source.keyset.of_line(lines[-1]) if lines and source.keyset else reading.after

    # -- placing it

    def place(self, batch: Batch, notes: list[ControlMessage]) -> Iterator[Batch]:
        """The batch with the rows that belong into it, in pieces; only the last has the batch's position."""
        runs: list[Run] = []
        waiting = list(notes)
        for number, run in enumerate(batch.runs):
            while waiting and waiting[0].run == number:
                yield from self._note(waiting.pop(0), runs)
            yield from self._before(run, runs)
            if not self._contained(run):
                runs.append(run)
        for note in waiting:
            yield from self._note(note, runs)
        batch.runs, batch.size = runs, _size(runs)
        batch.snapshot = self.backlog.state
        yield batch

    def _before(self, run: Run, runs: list[Run]) -> Iterator[Batch]:
        window = self._window
        if window is None or not window.meets(run):
            return
        if self._source is None or self._source.keyset is not None:
            placed = window.before(run)
            self._report.count(window.reading, _size(placed))
            runs += placed
        elif not self._whole_table_placed:
            yield from self._whole_table(window, runs)

    def _contained(self, run: Run) -> bool:
        """Return whether the rows of a whole table, placed before their mark, hold the outcome of `run` already."""
        window = self._window
        if window is None or not self._whole_table_placed or run.table is None:
            return False
        return run.table.oid == window.table.oid and window.visibility.sees(run.transaction.xid)

    def _note(self, note: ControlMessage, runs: list[Run]) -> Iterator[Batch]:
        if note.inserted:
            self._follow(self._desk.inserted(note))
            return
        document = signals.content(note.content)
        if not document:
            self._progress.signal("command", "unreadable")
            return
        if self._window is not None and document.get("chunk") == self._window.id:
            yield from self._at_mark(self._window, runs)
        elif "signal" in document:
            self._follow(self._desk.sent(document, note))

    def _at_mark(self, window: WatermarkWindow, runs: list[Run]) -> Iterator[Batch]:
        source, reading = self._source, window.reading
        assert source is not None
        self._window = None
        if reading not in self.backlog:
            self._reader.end()
        elif source.keyset is None:
            if not self._whole_table_placed:
                yield from self._whole_table(window, runs)
            if reading in self.backlog and self._whole_table_placed:
                self._finish(reading)
        else:
            yield from self._rest(window, runs)

    def _rest(self, window: WatermarkWindow, runs: list[Run]) -> Iterator[Batch]:
        reading, lines = window.reading, window.rest()
        yield from self._batches(window, lines, runs, ends=self._end(reading) if window.last else None)
        self.backlog.advance(reading, window.after, window.placed)
        if window.placed:
            self._report.chunk(reading)
        if window.last:
            self._finish(reading)

    def _whole_table(self, window: WatermarkWindow, runs: list[Run]) -> Iterator[Batch]:
        source = self._source
        assert source is not None
        held: list[bytes] = []
        try:
            for lines in filter(None, self._reader.lines(source, CopiedPart(where=window.reading.where))):
                if held:
                    yield from self._batches(window, held, runs, ends=None)
                held = lines
        except PycdcError as error:
            try:
                self._give_up(window.reading, error)
            except TableLocked:
                log.warning("a table without a key is read again, because somebody wants it", table=str(window.reading))
                self._window = None
                self._reader.end()
                return
        self._reader.end()
        yield from self._batches(window, held, runs, ends=self._end(window.reading))
        self._whole_table_placed = True

    def _batches(
        self, window: WatermarkWindow, lines: list[bytes], runs: list[Run], *, ends: str | None
    ) -> Iterator[Batch]:
        """What was to come before, then the rows."""
        if runs:
            yield Batch(list(runs), size=_size(runs), whole=False)
            runs.clear()
        for start in range(0, len(lines), _ROWS):
            part = lines[start : start + _ROWS]
            made = window.runs(part, ends=ends if start + _ROWS >= len(lines) else None)
            self._report.count(window.reading, len(part))
            yield Batch(made, size=len(part), whole=False)

    def _end(self, reading: TableTask) -> str:
        others = [other for other in self.backlog if other is not reading and not other.ad_hoc]
        return "last_in_data_collection" if others else "last"

    # -- signals

    def _follow(self, outcome: SignalResult) -> None:
        self._report.show(list(outcome.added))
        self._notifications.started(outcome.added)
        self._notifications.changed("ABORTED", outcome.gone)
        for gone in outcome.gone:
            self._report.cancelled(gone)
        if outcome.paused is not None:
            self._notifications.changed("PAUSED" if outcome.paused else "RESUMED", list(self.backlog))

    # -- progress

    def take(self, readings: list[TableTask]) -> None:
        """Read these too, each once: a table that is on the list already stays where it is, but for one that has to
        begin anew."""
        added = self.backlog.expect(readings, anew=(RESYNC,))
        self._report.show(added)
        self._notifications.started(added)

    def _finish(self, reading: TableTask, status: Scan | None = None) -> None:
        self._report.finished(reading, status)
        self.backlog.finish(reading)
        if not len(self.backlog):
            self._yielding.close()
            self._reader.close()


def _size(runs: list[Run]) -> int:
    return sum(len(run.frames) for run in runs)

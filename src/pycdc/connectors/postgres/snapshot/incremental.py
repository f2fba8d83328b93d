"""Read what the backlog lists while the stream goes on, chunk after chunk, and place the rows into the stream.

A table with a key is read in chunks, in the key's order, each by a short transaction. A table without one is read as a
whole by one transaction, while the stream waits: no key would show where a row belongs among the changes.

`ChunkOpener` reads a chunk, `ChunkPlacer` places its rows; `TaskTables` finds the table of a task, `TaskEnd` ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Final

from pycdc.clients.postgres_errors import TableLocked
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.replication.control_message import ControlMessage
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.signals.signing import SigningKey
from pycdc.connectors.postgres.snapshot.backlog import RESYNC, Backlog, TableTask
from pycdc.connectors.postgres.snapshot.chunk_opener import ChunkOpener, OpenChunk
from pycdc.connectors.postgres.snapshot.chunk_placer import ChunkPlacer, size_of
from pycdc.connectors.postgres.snapshot.chunk_reader import ChunkReader
from pycdc.connectors.postgres.snapshot.lock_yield import Yielding
from pycdc.connectors.postgres.snapshot.notifications import Notifications
from pycdc.connectors.postgres.snapshot.progress_report import SnapshotReport
from pycdc.connectors.postgres.snapshot.signal_handler import SignalHandler, SignalResult
from pycdc.connectors.postgres.snapshot.task_end import TaskEnd
from pycdc.connectors.postgres.snapshot.task_tables import TaskTables
from pycdc.errors import PycdcError
from pycdc.model.change import Batch, Run
from pycdc.model.parked_request import ParkedRequest
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_PAUSE: Final = 0.05
"""Seconds until the next try, where a lock was held or a delivered transaction could not be seen yet."""
_WAIT: Final = 0.5
"""Seconds between looks at transactions that are to end before a table is read."""
_PATIENCE: Final = 5.0
"""Seconds that a table's lock is tried for before the others are read first."""


class IncrementalSnapshot:
    """Reads the tables of one stream's backlog, one chunk at a time.

    `choose` makes tasks of the tables that a signal's patterns name, `look` of those that join the pipeline now.
    """

    def __init__(
        self,
        config: CapturePipeline,
        catalog: Catalog,
        relations: RelationCache,
        backlog: Backlog,
        progress: Progress,
        key: SigningKey,
        choose: Callable[[signals.Signal], list[TableTask]],
        look: Callable[[], list[TableTask]],
        notifications: Notifications,
    ) -> None:
        dsn = config.source.postgres.dsn.get_secret_value()
        replaces = config.values.encoding_errors == "replace"
        self.backlog = backlog
        self._progress = progress
        self._wal_guard = config.source.postgres.wal_guard
        self._notifications = notifications
        self._signals = SignalHandler(config, catalog, backlog, progress, key, choose, look)
        self._reader = ChunkReader(dsn, config.slot, replaces, config.source.postgres.max_batch_bytes, catalog.stopping)
        self._yielding = Yielding(dsn, config.slot)
        self._report = SnapshotReport(catalog, progress, backlog, notifications, config.source.postgres.snapshot_chunk)
        self._tables = TaskTables(config, catalog, backlog, self._report)
        self._end = TaskEnd(config, backlog, self._report, self._reader, self._yielding)
        self._opener = ChunkOpener(config, catalog, relations, backlog, self._report, self._reader)
        self._placer = ChunkPlacer(backlog, self._report, self._reader, self._end, once=config.exactly_once)
        self._parked: list[ParkedRequest] = []
        self._chunk: OpenChunk | None = None
        self._not_before = 0.0
        self._locked: dict[TableTask, float] = {}
        self._report.show(list(backlog))

    @property
    def waiting(self) -> bool:
        """Whether a chunk waits for its watermark."""
        return self._chunk is not None

    @property
    def _over_wal_budget(self) -> bool:
        """Whether chunks wait until the stream has caught up: see `WalGuardConfig.pause_snapshots`."""
        guard = self._wal_guard
        return guard is not None and guard.pause_snapshots and self._progress.over_wal_budget

    def close(self) -> None:
        """Close the connections."""
        self._end.close()

    def take(self, tasks: list[TableTask]) -> None:
        """Read these tables too, each once.

        A table that is on the list already stays where it is, but for one that has to begin again.
        """
        added = self.backlog.expect(tasks, read_again=(RESYNC,))
        self._report.show(added)
        self._notifications.started(added)

    # -- reading the next chunk

    def step(self, assembler: TransactionAssembler) -> Iterator[None]:
        """Read the next chunk, where one is due and the stream is between two transactions. Yields while it waits."""
        task = self.backlog.current
        if task is None or self._chunk is not None or not assembler.idle or self._over_wal_budget:
            return
        if time.monotonic() < self._not_before:
            return
        ref = self._tables.find(task)
        if ref is None:
            log.warning("a table is gone before its snapshot", table=str(task))
            self._end.finish(task, "UNKNOWN_SCHEMA")
            return
        if self._tables.has_older_writers(task, ref):
            self._not_before = time.monotonic() + _WAIT
            return
        self._yielding.begin()
        try:
            opened = yield from self._open(task, ref, assembler)
        except TableLocked:
            self._chunk = None
            self._reader.end()
            opened = False
        self._not_before = 0.0
        if opened:
            self._locked.pop(task, None)
        else:
            self._not_before = time.monotonic() + _PAUSE
            self._stand_aside(task)

    def _open(self, task: TableTask, ref: TableRef, assembler: TransactionAssembler) -> Generator[None, None, bool]:
        chunk = self._chunk = self._opener.open(task, ref, assembler)
        if chunk is None:
            return False
        try:
            yield from self._opener.fill(chunk, ref)
        except PycdcError as error:
            self._chunk = None
            self._end.give_up(task, error, chunk.began)
        return True

    def _stand_aside(self, task: TableTask) -> None:
        """Let the other tables go first where a table's lock is not to be had for a while."""
        now = time.monotonic()
        since = self._locked.setdefault(task, now)
        if now - since >= _PATIENCE and task in self.backlog:
            log.warning("a table that is to be read is locked by somebody; the others go first", table=str(task))
            self._locked[task] = now
            self.backlog.postpone(task)

    # -- placing it

    def place(self, batch: Batch, messages: list[ControlMessage]) -> Iterator[Batch]:
        """Yield the batch with the rows that belong into it, in pieces; only the last has the batch's position."""
        runs: list[Run] = []
        waiting = list(messages)
        for number, run in enumerate(batch.runs):
            while waiting and waiting[0].run == number:
                yield from self._control(waiting.pop(0), runs)
            yield from self._before(run, runs)
            if self._chunk is None or not self._placer.contains(self._chunk, run):
                runs.append(run)
        for message in waiting:
            yield from self._control(message, runs)
        batch.runs, batch.size = runs, size_of(runs)
        batch.snapshot = self.backlog.state
        batch.parked_requests, self._parked = self._parked, []
        if self._chunk is not None and self._chunk.window.placed:
            # The backlog does not say yet that some of the chunk's rows were placed.
            batch.position = batch.chunk = None
        yield batch

    def _before(self, run: Run, runs: list[Run]) -> Iterator[Batch]:
        chunk = self._chunk
        if chunk is not None and chunk.window.meets(run):
            yield from self._placer.before(chunk, run, runs)
            if chunk.abandoned:
                self._chunk = None

    def _control(self, message: ControlMessage, runs: list[Run]) -> Iterator[Batch]:
        if message.inserted:
            self._follow(self._signals.inserted(message))
            return
        document = signals.content(message.content)
        if not document:
            self._progress.signal("command", "unreadable")
            return
        chunk = self._chunk
        if chunk is not None and document.get("chunk") == chunk.window.id:
            self._chunk = None
            yield from self._placer.at_watermark(chunk, runs)
        elif "signal" in document:
            self._follow(self._signals.sent(document, message))

    def _follow(self, result: SignalResult) -> None:
        self._report.show(list(result.added))
        self._notifications.started(result.added)
        self._notifications.changed("ABORTED", result.gone)
        for gone in result.gone:
            self._report.cancelled(gone)
        if result.parked is not None:
            self._parked.append(result.parked)
        if result.paused is not None:
            self._notifications.changed("PAUSED" if result.paused else "RESUMED", list(self.backlog))

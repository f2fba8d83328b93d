"""Capture from Postgres: a snapshot where one is due, then the stream, for as long as somebody iterates.

Start: the slot is acquired first, by starting to stream from it, and held until the end, through a snapshot too. Only
then are the stored checkpoint, the slot and the server read and compared (`identity`): until the slot is ours, another
reader may move each of them. Continuing with a gap is refused.
Hand-over: the slot is made with an exported snapshot, every reader is pinned to it, and the stream starts at the slot's
consistent point, so that a row is either in the snapshot or in the stream, never in both and never in neither.

A snapshot announces itself first: a checkpoint with `snapshot_done` false is stored before the slot is made. A crash
before the snapshot's end leaves a slot that was never streamed from; the next start keeps it, because it holds the
deletes of rows that were already delivered, streams from the slot's beginning, and reads the rows that are still
missing among the changes (`incremental`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Set
from functools import partial
from typing import Any, TypeVar

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.dropped_tables import DroppedTables
from pycdc.connectors.postgres.catalog.metadata import PublishedTable, TableRef, arriving
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin, Blocker
from pycdc.connectors.postgres.failover_check import failover_problems
from pycdc.connectors.postgres.publication.captured_tables import DeliveredTables
from pycdc.connectors.postgres.publication.reconciler import PublicationReconciler
from pycdc.connectors.postgres.replication.batch_reader import BatchReader
from pycdc.connectors.postgres.replication.held_slot import FAR, WAIT, HeldSlot
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.replication.transaction_chunks import TransactionChunks
from pycdc.connectors.postgres.replication.wal_end import WalEnd
from pycdc.connectors.postgres.replication.whole_transactions import WholeTransactions
from pycdc.connectors.postgres.signals.messages import Signal
from pycdc.connectors.postgres.signals.signing import SigningKey
from pycdc.connectors.postgres.snapshot import lock_wait as waiting
from pycdc.connectors.postgres.snapshot.backlog import RESYNC, Backlog, TableTask
from pycdc.connectors.postgres.snapshot.incremental import IncrementalSnapshot
from pycdc.connectors.postgres.snapshot.initial import InitialSnapshot
from pycdc.connectors.postgres.snapshot.notifications import Notifications
from pycdc.connectors.postgres.snapshot.parallel import Workers
from pycdc.connectors.postgres.snapshot.pg_snapshot import UnseenTransactions
from pycdc.connectors.postgres.start_check import (
    StartAt,
    StartDecision,
    check_start,
    require_one_server,
    source_identity,
)
from pycdc.errors import (
    ConfigError,
    EnvironmentNotReady,
    OtherSource,
    PositionGap,
    PycdcError,
    SlotActive,
)
from pycdc.interfaces import Checkpoint
from pycdc.model.change import NOWHERE, Batch, Lsn, Position, Table
from pycdc.model.patterns import matches_any, names_any
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()
T = TypeVar("T")

_LOOK = 1.0
"""Seconds between looks at the WAL's end, and at which delivered transactions snapshots see by now."""


class PostgresConnector:
    """A `Connector` for one database, slot and publication."""

    def __init__(
        self,
        config: CapturePipeline,
        progress: Progress | None = None,
        workers: Workers | None = None,
        admit: Callable[[Table], None] = lambda table: None,
        stopping: threading.Event | None = None,
        forget: Callable[[Set[int]], None] = lambda oids: None,
    ) -> None:
        self._config = config
        self._workers = workers
        self._source = config.source.postgres
        self._dsn = self._source.dsn.get_secret_value()
        self._progress = progress or Progress()
        self._catalog = Catalog(self._dsn, stopping)
        self._admin = Admin(self._dsn, stopping)
        self._delivered = DeliveredTables(
            self._catalog,
            self._source.tables,
            self._source.exclude_tables,
            self._progress.unclaimed_table,
            config.signals.schema_and_table,
        )
        self._relations = RelationCache(
            self._catalog, self._delivered.wants, self._progress.unknown_type, config.compatibility, admit
        )
        self._dropped = DroppedTables(self._catalog, self._relations, forget)
        self._identity: dict[str, Any] = {}
        self.signing_key = SigningKey(config)
        self._held = HeldSlot(config, self._catalog, self._progress)
        self._notifications = Notifications(config)
        self._backlog = Backlog()
        self._incremental: IncrementalSnapshot | None = None
        self._pinned: InitialSnapshot | None = None
        self._watch = PublicationReconciler(config, self._catalog, self._admin, self._progress, self._objection)
        self._recorded: dict[str, Any] = {}
        self._reader: BatchReader | None = None

    def acquire(self, seconds: float) -> bool:
        """See `Exclusive`."""
        return self._held.acquire(seconds)

    def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
        """See `Connector.batches`."""
        return self._notifications.along(self._batches(start))

    def _batches(self, start: Checkpoint | None) -> Generator[Batch | None, None, None]:
        """Yield batches; a transaction that was half yielded when the connection broke is yielded again.

        `start` is to be loaded after `acquire` returned True; without that the slot is acquired here.
        """
        while not self.acquire(WAIT):
            yield None
        tables = self._tables()
        decision = self._decide(start)
        admit = partial(self._admit, tables, starting=decision.start is not StartAt.RESUME)
        yield from waiting.for_locks(admit, self._progress, "describe the tables")
        joined = yield from self._take_in(start, decision)
        self._delivered.know(self._watch.members)
        self._delivered.partitioned = self._watch.partitions_only
        begin, last_commit = decision.lsn, NOWHERE if start is None else start.last_commit
        self._backlog = self._left_to_read(start, decision, tables)
        self._backlog.expect(joined, read_again=(RESYNC,))
        self._recorded = start.membership if start is not None and decision.start is StartAt.RESUME else {}
        if decision.start is StartAt.CREATE:
            yield Batch(position=Position(NOWHERE), checkpoint_now=True, snapshot_done=False)
        if decision.start is not StartAt.RESUME and self._source.snapshot != "never":
            self._notifications.began(self._read_once(tables))
        elif not len(self._backlog):
            self._notifications.skipped()
        if decision.start is not StartAt.RESUME:
            begin = yield from self._begin(tables, decision)
        if self._source.snapshot != "only" or len(self._backlog):
            yield from self._stream_from(begin, last_commit, start if decision.start is StartAt.RESUME else None)

    def checkpoint(self, batch: Batch) -> Checkpoint:
        assert batch.position is not None
        if self._held.stream is not None:
            # Whoever took the slot over stores positions of his own.
            self._held.stream.require_open()
        self._recorded = batch.membership or self._recorded
        state = batch.snapshot_done, batch.snapshot, self._recorded, batch.unseen, batch.chunk
        return Checkpoint(batch.position, batch.last_commit, self._identity, *state)

    def acknowledge(self, checkpoint: Checkpoint) -> None:
        if self._reader is not None:
            self._reader.acknowledge(checkpoint)
            return
        if checkpoint.snapshot_done:
            self._progress.lag.reached(checkpoint.position.lsn)
        if self._held.stream is not None:
            self._held.stream.confirm(checkpoint.position.lsn)

    def close(self) -> None:
        self._held.release()
        if self._reader is not None:
            self._reader.close()
        if self._incremental is not None:
            self._incremental.close()
        if self._pinned is not None:
            self._pinned.close()
        self._catalog.close()

    # Preparation.

    def _tables(self) -> list[TableRef]:
        tables = self._catalog.tables(self._source.tables, self._source.exclude_tables)
        if not tables:
            raise EnvironmentNotReady(
                f"no table matches {', '.join(self._source.tables)}",
                hint="check source.postgres.tables and exclude_tables; `pycdc init` lists the tables there are",
            )
        return tables

    def _admit(self, tables: list[TableRef], *, starting: bool) -> None:
        """Raise for a captured table that cannot be delivered as it is configured. One that has not joined waits."""
        published = self._catalog.publication(self._config.publication)
        if not starting and published is not None:
            tables = [table for table in tables if table.oid in published.covered]
        if tables:
            via_root = self._source.via_partition_root if published is None else published.via_partition_root
            chosen = arriving(tables, via_root=via_root)
            listed = {} if published is None else {(one.schema, one.name): one for one in published.tables}
            for found in self._catalog.metadata_of([table.oid for table in chosen]).values():
                sent = listed.get((found.schema, found.name), PublishedTable(found.schema, found.name))
                self._relations.of_metadata(found, [name for name, one in found.columns.items() if sent.sends(one)])

    def _objection(self, table: TableRef) -> PycdcError | None:
        """Why a table cannot join."""
        try:
            self._admit([table], starting=True)
        except ConfigError as error:
            return error
        return None

    def _take_in(self, start: Checkpoint | None, decision: StartDecision) -> Generator[None, None, list[TableTask]]:
        """Publish what is captured; return what joined since the checkpoint, whose rows are to be read."""
        resumes = start is not None and decision.start is StartAt.RESUME
        take_in = partial(self._watch.resume, start.membership) if start and resumes else self._watch.first
        return (yield from waiting.for_locks(take_in, self._progress, "publish the tables"))

    def _decide(self, start: Checkpoint | None) -> StartDecision:
        """Compare what is stored with slot and server; `when_needed` turns a gap into a new beginning."""
        slot_name = self._config.slot
        server = self._catalog.server()
        kept = self.signing_key.take(None if start is None else start.source)
        self._identity = source_identity(server, slot_name) | kept
        slot = self._catalog.slot(slot_name)
        if (stream := self._held.stream) is not None:
            require_one_server(stream.systemid, stream.timeline, server)
        if self._source.failover:
            for problem in failover_problems(slot, server, self._catalog.standby_slots()):
                log.warning(problem.fact, detail=problem.detail, hint=problem.remedy)
        try:
            moved = start is not None and start.source.get("timeline", server.timeline) != server.timeline
            ends = self._catalog.timeline_ends() if moved and slot is not None and slot.failover else None
            decision = check_start(start, slot, server, slot_name, timeline_ends=ends)
        except PositionGap as gap:
            self._held.require()
            if self._source.snapshot != "when_needed" or isinstance(gap, OtherSource):
                raise
            log.warning("starting over with a snapshot", reason=gap.fact)
            self._held.release()
            self._admin.drop_slot(slot_name)
            return StartDecision(StartAt.CREATE, NOWHERE, gap.fact)
        if decision.start is not StartAt.CREATE and self._held.stream is None:
            raise SlotActive(f"slot {slot_name} was made by another session just now", hint="run one instance")
        log.info("comparing position, slot and server", decision=decision.start.value, reason=decision.reason)
        return decision

    def _begin(self, tables: list[TableRef], decision: StartDecision) -> Generator[Batch | None, None, Lsn]:
        """Make or adopt the slot; read the rows that exist, or put them on the backlog; return where the stream starts.

        An adopted slot was never read past its position, so all changes since are still to come, and what a snapshot
        left is read among them.
        """
        if decision.start is StartAt.ADOPT:
            begin = decision.lsn
        elif self._source.snapshot == "never" or self._source.snapshot_method == "chunks":
            begin = (yield from self._made(self._admin.create_slot)).consistent_point
            self._held.take_new(begin, begin)
        else:
            with (yield from self._made(self._admin.create_slot_with_snapshot)) as snapshot:
                begin = snapshot.slot.consistent_point
                # Nothing is sent from there on: a walsender that cannot send cannot be ended either, and whoever wants
                # the slot invalidated, a checkpoint of the server's, would wait for this snapshot.
                stream = self._held.take_new(begin, FAR)
                pinned = self._pinned = InitialSnapshot(
                    self._config,
                    self._catalog,
                    self._relations,
                    self._progress,
                    snapshot,
                    self._notifications,
                    self._workers,
                )
                for batch in pinned.batches(self._read_once(tables)):
                    # Whoever took the slot over delivers later changes: no row from before may follow them.
                    stream.require_open()
                    yield batch
                self._held.release()
                self._held.take_new(begin, begin)
                self._backlog.add(pinned.unseen)
        state, members = self._backlog.state, self._watch.state
        yield Batch(position=Position(begin), checkpoint_now=True, snapshot=state, membership=members)
        return begin

    def _made(self, make: Callable[..., T]) -> Generator[None, None, T]:
        """Make a slot, which waits for transactions that are open."""

        def announce(blockers: list[Blocker]) -> None:
            if not self._progress.waits_for:
                log.warning("creating the slot waits for open transactions", blockers=", ".join(map(str, blockers)))
            self._progress.wait_for(f"transactions to end: {', '.join(map(str, blockers))}")

        def made(given_up: threading.Event) -> T:
            failover = self._source.failover
            return make(self._config.slot, failover=failover, on_wait=announce, given_up=given_up)

        return (yield from waiting.elsewhere(made, self._progress))

    def _left_to_read(self, start: Checkpoint | None, decision: StartDecision, tables: list[TableRef]) -> Backlog:
        """Return what is read while the stream goes on."""
        if start is not None and start.snapshot and decision.start is not StartAt.CREATE:
            log.info("going on with a snapshot", tables=len(start.snapshot["tables"]))
            return Backlog.of_state(start.snapshot)
        adopted = decision.start is StartAt.ADOPT
        chunks = decision.start is StartAt.CREATE and self._source.snapshot_method == "chunks"
        if self._source.snapshot == "never" or not (adopted or chunks):
            return Backlog()
        return Backlog(TableTask(ref.schema, ref.name, oid=ref.oid) for ref in self._read_once(tables))

    def _read_once(self, tables: list[TableRef]) -> list[TableRef]:
        """Partitions under the names that the stream will use for them; as Debezium does, whatever is named itself."""
        if self._config.compatibility.partitioned_snapshot == "twice":
            return [ref for ref in tables if matches_any(self._source.tables, ref.schema, ref.name)]
        return arriving(tables, via_root=self._source.via_partition_root)

    def _chosen(self, signal: Signal) -> list[TableTask]:
        """Return the captured tables that a signal names. A partitioned table goes by its or its partitions' names."""
        captured = self._read_once(self._catalog.tables(self._source.tables, self._source.exclude_tables))
        named = {ref.oid for ref in self._catalog.tables(signal.tables)} if signal.tables else set()
        where, request = signal.where, signal.id
        return [
            TableTask(r.schema, r.name, where=where, request=request, oid=r.oid) for r in captured if r.oid in named
        ]

    # Stream.

    def _stream_from(self, begin: Lsn, last_commit: Lsn, resumed: Checkpoint | None) -> Iterator[Batch | None]:
        source, stream = self._source, self._held.stream
        assert stream is not None
        unseen, whole = UnseenTransactions(resumed.unseen if resumed else ()), WholeTransactions(self._config)
        assembler = TransactionAssembler(
            self._relations.from_message,
            begin,
            last_commit,
            marks=self._config.envelope.transaction_metadata,
            messages=source.messages,
            foreign=partial(names_any, source.skip_origins),
            by_table=source.skip_scope == "tables",
            signals=self._config.signals.schema_and_table,
            unseen=unseen,
            chunks=TransactionChunks(resumed.chunk if resumed else None, counting=whole.chunked),
        )
        slot = self._catalog.slot(self._config.slot)
        prepares = slot is not None and slot.two_phase
        reader = self._reader = BatchReader(
            self._config, stream, assembler, begin, whole, self._progress, prepares=prepares
        )
        log.info("streaming", slot=self._config.slot, start=str(begin))
        position = begin
        heartbeat = waiting.Timer(self._config.envelope.heartbeat_interval / 4)
        watch, look = waiting.Timer(source.publication_check), waiting.Timer(_LOOK)
        incremental = self._incremental = IncrementalSnapshot(
            self._config,
            self._catalog,
            self._relations,
            self._backlog,
            self._progress,
            self.signing_key,
            self._chosen,
            partial(self._look, assembler, Lsn(0), follow=True),
            self._notifications,
        )
        wal_end = WalEnd(self._catalog, self._dsn, source.silence_timeout / 2, self._progress)
        self._progress.state = "streaming"
        while True:
            yield from incremental.step(assembler)
            batch = reader.read(position)
            if batch.position is not None:
                position = batch.position.lsn
                batch.dropped = self._dropped.passed(position, assembler)
            elif batch.chunk is not None:
                batch.position, batch.checkpoint_now = Position(position, batch.chunk.changes), True
            elif assembler.idle and heartbeat.due():
                batch.position = Position(position)
            if watch.due():
                incremental.take(self._look(assembler, position))
            if look.due():
                wal_end.look(unseen)
            batch.snapshot, batch.membership, batch.unseen = self._backlog.state, self._watch.state, unseen.state
            if incremental.waiting or assembler.notes:
                notes, assembler.notes = assembler.notes, []
                yield from incremental.place(batch, notes)
            else:
                yield batch if batch.runs or batch.position is not None else None
            if self._source.snapshot == "only" and not len(self._backlog) and batch.position is not None:
                return

    def _look(self, assembler: TransactionAssembler, position: Lsn, *, follow: bool = False) -> list[TableTask]:
        """Compare tables, publication and configuration at `position`; return tasks for the tables that join."""
        tasks = self._watch.look(follow=follow)
        self._delivered.partitioned = self._watch.partitions_only
        self._delivered.know(self._watch.members)
        if assembler.idle and (gone := self._watch.passed(position)):
            self._delivered.dismiss(gone)
            assembler.dismiss(gone)
        self._dropped.look()
        return tasks

"""Capture from Postgres: a snapshot where one is due, then the stream, for as long as somebody iterates.

Start: the stored checkpoint, the slot and the server are compared (`identity`); continuing with a gap is refused.
Hand-over: the slot is made with an exported snapshot, every reader is pinned to it, and the stream starts at the slot's
consistent point, so that a row is either in the snapshot or in the stream, never in both and never in neither.

A snapshot announces itself first: a checkpoint with `snapshot_done` false is stored before the slot is made. A crash
in between leaves a slot that was never streamed from, which the next start may drop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial

import structlog

from pycdc.config import Config
from pycdc.connectors.postgres import admin
from pycdc.connectors.postgres.assembler import Assembler
from pycdc.connectors.postgres.catalog import Catalog, TableRef
from pycdc.connectors.postgres.identity import Start, check_start
from pycdc.connectors.postgres.relations import Relations
from pycdc.connectors.postgres.replication import ReplicationStream
from pycdc.connectors.postgres.snapshot import copy_rows
from pycdc.errors import EnvironmentNotReady
from pycdc.interfaces import Checkpoint
from pycdc.model import NOWHERE, Batch, Lsn, Op, Position, Run, Table, Transaction
from pycdc.observability.progress import Progress, TableSnapshot

log = structlog.get_logger("pycdc")

_POLL = 0.1
"""Seconds without data after which the pipeline gets its turn."""


class PostgresConnector:
    """A `Connector` for one database, slot and publication."""

    def __init__(self, config: Config, progress: Progress | None = None) -> None:
        self._config = config
        self._source = config.source.postgres
        self._dsn = self._source.dsn.get_secret_value()
        self._progress = progress or Progress()
        self._catalog = Catalog(self._dsn)
        self._relations = Relations(self._catalog, partial(wanted, self._source.tables, self._source.exclude_tables))
        self._stream: ReplicationStream | None = None

    def batches(self, start: Checkpoint | None) -> Iterator[Batch | None]:
        """See `Connector.batches`. A transaction that was half yielded when the connection broke is yielded again."""
        tables = self._tables()
        self._ensure_publication(tables)
        decision = check_start(
            start,
            self._catalog.slot(self._config.slot),
            self._catalog.server(),
            slot_name=self._config.slot,
            snapshot=self._source.snapshot,
        )
        begin, last_commit = decision.lsn, NOWHERE if start is None else start.last_commit
        if decision.start is Start.FRESH:
            yield self._announcement()
            begin = yield from self._begin(tables, drop=decision.drop_slot)
            if self._source.snapshot == "only":
                return
        yield from self._stream_from(begin, last_commit)

    def checkpoint(self, batch: Batch) -> Checkpoint:
        server = self._catalog.server_identity()
        assert batch.position is not None
        return Checkpoint(
            batch.position,
            batch.last_commit,
            {**server, "slot": self._config.slot},
            batch.snapshot_done,
        )

    def acknowledge(self, position: Position) -> None:
        if self._stream is not None:
            self._stream.confirm(position.lsn)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
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

    def _ensure_publication(self, tables: list[TableRef]) -> None:
        if self._source.manage_publication:
            admin.ensure_publication(
                self._dsn,
                self._config.publication,
                tables,
                via_partition_root=self._source.via_partition_root,
            )

    def _announcement(self) -> Batch:
        return Batch(position=Position(NOWHERE), urgent=True, snapshot_done=False)

    def _begin(self, tables: list[TableRef], *, drop: bool) -> Iterator[Batch | None]:
        """Make the slot and read the snapshot if one is due; return where the stream starts."""
        if drop:
            log.info("dropping a slot that was made for a snapshot that did not finish", slot=self._config.slot)
            admin.drop_slot(self._dsn, self._config.slot)
        with admin.create_slot(
            self._dsn,
            self._config.slot,
            export=self._source.snapshot != "never",
            failover=self._source.failover,
        ) as slot:
            if self._source.snapshot != "never":
                yield from self._snapshot(tables, slot)
        yield Batch(position=Position(slot.consistent_point), urgent=True)
        return slot.consistent_point

    # Snapshot, the simple form: one reader after another, all pinned to the slot's exported snapshot.

    def _snapshot(self, tables: list[TableRef], slot: admin.CreatedSlot) -> Iterator[Batch | None]:
        self._progress.state = "snapshot"
        self._progress.snapshot = [TableSnapshot(str(ref), estimated=ref.rows_estimate) for ref in tables]
        moment = Transaction(None, slot.consistent_point, time.time_ns() // 1000)
        markers = _Markers(moment)
        for ref, progress in zip(tables, self._progress.snapshot, strict=True):
            yield from self._table(ref, slot, markers, progress)
        last = markers.finish()
        if last is not None:
            yield Batch([last], size=len(last))

    def _table(
        self, ref: TableRef, slot: admin.CreatedSlot, markers: _Markers, progress: TableSnapshot
    ) -> Iterator[Batch | None]:
        generated = self._config.compatibility.generated_columns == "snapshot"
        table = self._relations.from_catalog(ref.oid, generated=generated)
        if table is None:
            log.warning("a table is gone before its snapshot", table=str(ref))
            return
        log.info("snapshot of a table", table=str(table), rows_estimated=ref.rows_estimate)
        for lines in copy_rows(self._dsn, slot.snapshot_name, table, max_bytes=self._source.max_batch_bytes):
            runs = markers.runs(table, lines)
            progress.done += len(lines)
            yield Batch(runs, size=sum(map(len, runs)))
            slot.ping()
        progress.finished = True

    # Stream.

    def _stream_from(self, begin: Lsn, last_commit: Lsn) -> Iterator[Batch | None]:
        source = self._source
        stream = self._stream = ReplicationStream(
            self._dsn, slot=self._config.slot, publications=[self._config.publication], settings=source
        )
        stream.open(begin)
        self._progress.state = "streaming"
        assembler = Assembler(
            self._relations.from_message, begin, last_commit, marks=self._config.envelope.transaction_metadata
        )
        position = begin
        log.info("streaming", slot=self._config.slot, start=str(begin))
        while True:
            frames = stream.read(source.max_batch_changes, source.max_batch_bytes, _POLL)
            self._progress.last_message = stream.last_message_at
            batch = Batch(last_commit=assembler.last_commit)
            if frames:
                assembler.feed(frames, batch)
            elif assembler.idle and stream.idle_position is not None and stream.idle_position > position:
                batch.position = Position(stream.idle_position)
            if batch.position is not None:
                position = batch.position.lsn
            self._measure(stream, batch)
            yield batch if batch.runs or batch.position is not None else None

    def _measure(self, stream: ReplicationStream, batch: Batch) -> None:
        progress = self._progress
        progress.lag_bytes = max(0, stream.server_wal_end - stream.received)
        if batch.runs:
            behind = time.time() - batch.runs[-1].transaction.commit_time / 1_000_000
            progress.lag_seconds = max(0.0, behind)
        elif not progress.lag_bytes:
            progress.lag_seconds = 0.0


def wanted(tables: list[str], exclude: list[str], schema: str, name: str) -> bool:
    """Whether a table is captured: some pattern of `tables` names it and none of `exclude` does."""
    full = f"{schema}.{name}"
    return _any(tables, full) and not _any(exclude, full)


def _any(patterns: list[str], full: str) -> bool:
    return any(fnmatchcase(full, pattern if "." in pattern else f"public.{pattern}") for pattern in patterns)


class _Markers:
    """Marks snapshot rows as Debezium does: first, first_in_data_collection, true, last_in_data_collection, last.

    The newest row is held back, because only its successor tells what it was.
    """

    def __init__(self, moment: Transaction) -> None:
        self._moment = moment
        self._held: tuple[Table, bytes, int] | None = None
        self._in_table = 0
        self._count = 0

    def runs(self, table: Table, lines: list[bytes]) -> list[Run]:
        """The runs that are certain now that `lines`, not empty, were read."""
        out: list[Run] = []
        new_table = self._held is None or self._held[0] is not table
        if self._held is not None:
            out.append(self._release("last_in_data_collection" if new_table else "true"))
        if new_table:
            self._in_table = 0
        first = len(lines) - 1 if self._in_table == 0 else 0
        if first > 0:
            out.append(self._run(table, [lines[0]], self._first()))
            lines = lines[1:]
        if len(lines) > 1:
            out.append(self._run(table, lines[:-1], "true"))
        self._held = (table, lines[-1], self._in_table)
        return out

    def finish(self) -> Run | None:
        """The last row of all, None if there were no rows."""
        return None if self._held is None else self._release("last")

    def _release(self, marker: str) -> Run:
        assert self._held is not None
        table, line, before = self._held
        if before == 0 and marker == "true":
            marker = self._first()
        elif self._count == 0 and marker != "last":
            marker = "first"
        self._held = None
        return self._run(table, [line], marker)

    def _first(self) -> str:
        return "first" if self._count == 0 else "first_in_data_collection"

    def _run(self, table: Table, lines: list[bytes], marker: str) -> Run:
        run = Run(Op.READ, table, self._moment, self._count, lines, marker)
        self._count += len(lines)
        self._in_table += len(lines)
        return run

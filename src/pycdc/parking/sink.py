"""A Kafka sink that parks rows which it cannot deliver, and what follows of their keys.

Strategy: a batch is written as it is while that goes well, and costs nothing more. Where a row of it cannot be
transformed, encoded or taken by its topic, before anything was sent, the batch is sifted: each run is tried, and halved
until the rows that fail stand alone. What the tables' rules want parked goes to the topic of parked rows, in the same
batch and so in the same Kafka transaction as the rest. From there on later rows of its keys follow it there, so that
each key keeps its order: only tables with parked rows pay for a look at each row's key. A request (`pycdc parked retry`
or `drop`) that comes through the stream has the rows of the keys tried again, from where they are parked.

What is parked is what the topic holds. It is read when the sink is made, behind the fence of exactly-once delivery.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from pycdc.errors import ConnectionLost, ConversionError, PycdcError, RecordTooLarge, TransformError
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Op, Position, Run, Table
from pycdc.model.parked_request import ParkedRequest
from pycdc.model.parked_row import (
    WAITS,
    ParkedEntry,
    ParkedReason,
    ParkedRow,
    parked_id,
    position_of,
)
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.parking.parked_rows import ParkedRows
from pycdc.parking.table_policies import TablePolicies, TablePolicy
from pycdc.parking.truncation import fitting
from pycdc.serialization.parked_records import records_of, tombstones_of
from pycdc.serialization.records import Record
from pycdc.sinks.kafka.parked_topic import ParkedTopic
from pycdc.sinks.kafka.producer import KafkaSink
from pycdc.sinks.kafka.transactional import TransactionalKafkaSink
from pycdc.transforms.capture import CaptureTransforms

log = get_logger()

_OF_A_ROW: Final = (ConversionError, RecordTooLarge, TransformError)
"""Errors that one row is to blame for."""
_AT_ONCE: Final = 500
"""Parked rows that are written by one call when they are tried again."""

Groups = list[tuple[str, list[Record]]]


@dataclass(slots=True)
class _Sifted:
    """What becomes of rows: `runs` are delivered, `parked` are records of the topic of parked rows.

    `tries`: runs are transformed, and tried out before they are taken. `ids` are those of the rows parked.
    """

    tries: bool = True
    runs: list[Run] = field(default_factory=list)
    parked: list[Record] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


class ParkingSink:
    """Writes batches by `sink`, transformed by `transforms`. It closes the sink and the `topic` of parked rows.

    `limit`: how many rows may be parked. `skips_truncates`: these have no records, so nothing waits for them.
    """

    def __init__(
        self,
        sink: KafkaSink | TransactionalKafkaSink,
        transforms: CaptureTransforms | None,
        policies: TablePolicies,
        topic: ParkedTopic,
        limit: int,
        progress: Progress,
        *,
        skips_truncates: bool = False,
    ) -> None:
        self._sink = sink
        self._transforms = transforms
        self._policies = policies
        self._topic = topic
        self._limit = limit
        self._skips_truncates = skips_truncates
        self._progress = progress
        self._rows: ParkedRows | None = None
        self._uncommitted: dict[str, ParkedRow] = {}
        self._most = 0
        self._again: ParkedEntry | None = None
        """The row that is tried again."""

    @property
    def uncommitted(self) -> bool | None:
        return getattr(self._sink, "uncommitted", None)

    def write(self, batch: Batch) -> None:
        """Take a batch. Raises what is wrong with a row that its table's rule does not park."""
        rows = self._parked()
        sifted = _Sifted(tries=False)
        groups = self._held_back(batch, sifted) if rows.tables and self._meets_parked(batch) else self._whole(batch)
        if groups is None:
            for identity in sifted.ids:
                rows.remove(identity)
                del self._uncommitted[identity]
            groups = self._sifted(batch, _Sifted())
        self._sink.publish(groups, batch)
        for request in batch.parked_requests:
            self._handle(request)
        if batch.dropped:
            self._policies.forget(batch.dropped)
        rows.report()

    def commit(self, checkpoint: Checkpoint) -> None:
        self._sink.commit(checkpoint)
        self._uncommitted.clear()

    def close(self) -> None:
        self._sink.close()
        self._topic.close()

    # -- batches

    def _parked(self) -> ParkedRows:
        """Return what is parked: read before the first batch, once older instances can write no more."""
        if self._rows is None:
            self._rows = ParkedRows(self._topic.entries(settled=True).values(), self._limit, self._progress)
            self._most = self._sink.takes(self._topic.topic)
        return self._rows

    def _meets_parked(self, batch: Batch) -> bool:
        tables = self._parked().tables
        return any(run.table is not None and self._policies.of(run.table).name in tables for run in batch.runs)

    def _whole(self, batch: Batch) -> Groups | None:
        """Return the records of a batch of which nothing is to be parked; None where a row's fault may be spared."""
        try:
            return self._sink.prepared(batch if self._transforms is None else self._transforms.batch(batch))
        except _OF_A_ROW:
            if not any(run.table is not None and self._policies.of(run.table).spares for run in batch.runs):
                raise
            return None

    def _held_back(self, batch: Batch, sifted: _Sifted) -> Groups | None:
        """Return the records of a batch without what has to wait; None as `_whole`."""
        for run in batch.runs:
            self._sift(run, sifted)
        groups = self._whole(_of_runs(batch, sifted.runs))
        return None if groups is None else [*groups, *self._groups(sifted)]

    def _sifted(self, batch: Batch, sifted: _Sifted) -> Groups:
        """Return the records of a batch of which some row is known to fail."""
        if self._transforms is not None and batch.dropped:
            self._transforms.batch(Batch(dropped=batch.dropped))
        for run in batch.runs:
            self._sift(run, sifted)
        return [*self._sink.prepared(_of_runs(batch, sifted.runs)), *self._groups(sifted)]

    def _groups(self, sifted: _Sifted) -> Groups:
        return [(self._topic.topic, sifted.parked)] if sifted.parked else []

    # -- runs

    def _sift(self, run: Run, sifted: _Sifted) -> None:
        """Put the rows of a run where they belong."""
        table = run.table
        if table is None or (run.op is Op.TRUNCATE and self._skips_truncates):
            sifted.runs.append(run)
            return
        policy = self._policies.of(table)
        if policy.name not in self._parked().tables:
            self._try(run, table, policy, sifted)
            return
        first = 0
        for place, frame in enumerate(run.frames):
            keys = policy.keys.of(run.op, frame)
            position = Position(Lsn(run.transaction.commit_lsn), run.index + place)
            if self._parked().holds(policy.name, keys, position, streamed=run.op is not Op.READ):
                self._try(_part(run, first, place), table, policy, sifted)
                self._park(_part(run, place, place + 1), table, keys, WAITS, sifted)
                first = place + 1
        self._try(_part(run, first, len(run.frames)), table, policy, sifted)

    def _try(self, run: Run, table: Table, policy: TablePolicy, sifted: _Sifted) -> None:
        """Deliver a run where that can be done, else its parts."""
        if not run.frames:
            return
        if not sifted.tries:
            sifted.runs.append(run)
            return
        try:
            made = self._transformed(run)
            self._sink.try_out(made)
        except _OF_A_ROW as error:
            if len(run.frames) == 1:
                self._fail(run, table, policy, error, sifted)
                return
            middle = len(run.frames) // 2
            self._sift(_part(run, 0, middle), sifted)
            self._sift(_part(run, middle, len(run.frames)), sifted)
        else:
            sifted.runs += made

    def _fail(self, run: Run, table: Table, policy: TablePolicy, error: PycdcError, sifted: _Sifted) -> None:
        """Do with a row that cannot be delivered what its table's rule says."""
        if policy.of(error) == "truncate":
            cut = fitting(self._transformed(run), policy.truncatable, partial(self._sink.try_out, surely=True))
            if cut is None:
                raise error
            log.warning("cutting a row", table=policy.name, position=str(position_of(run)), reason=error.fact)
            self._progress.truncated_rows[policy.name] += 1
            sifted.runs += cut
            return
        if policy.of(error) == "stop":
            raise error
        reason = ParkedReason(type(error).__name__, error.fact)
        self._park(run, table, policy.keys.of(run.op, run.frames[0]), reason, sifted)

    def _transformed(self, run: Run) -> list[Run]:
        return [run] if self._transforms is None else self._transforms.batch(Batch([run], size=len(run.frames))).runs

    def _park(self, run: Run, table: Table, keys: tuple[str, ...], reason: ParkedReason, sifted: _Sifted) -> None:
        identity, rows = parked_id(run), self._parked()
        if identity in rows:
            # It was parked before a crash, and comes again.
            return
        again = self._again if self._again is not None and self._again.id == identity else None
        if again is not None and (again.reason, again.keys) == (reason, keys):
            rows.add(again)
            return
        position = position_of(run)
        since, sequence = (
            (time.time_ns() // 1_000_000, rows.next) if again is None else (again.parked_at, again.sequence)
        )
        entry = ParkedEntry(identity, str(table), keys, run.op, position, run.transaction.xid, reason, since, sequence)
        row = ParkedRow(entry, table, run.transaction, run.frames[0], run.marker)
        entry, records = records_of(row, self._most)
        rows.add(entry)
        self._uncommitted[identity] = replace(row, entry=entry)
        sifted.parked += records
        sifted.ids.append(identity)
        if not entry.waits:
            log.warning(
                "parking a row",
                table=entry.table,
                id=identity,
                position=str(position),
                xid=run.transaction.xid,
                reason=reason.fact,
                topic=self._topic.topic,
            )

    # -- requests

    def _handle(self, request: ParkedRequest) -> None:
        """Try the rows of a request again, with all that share a key with them; leave out what is to be dropped."""
        rows = self._parked()
        chosen = rows.component(request.ids)
        dropped = set(request.ids) if request.action == "drop" else set()
        log.info("handling parked rows", action=request.action, rows=len(chosen))
        entries = {entry.id: rows.remove(entry.id) for entry in chosen}
        sifted = _Sifted()
        for number, row in enumerate(self._stored(entries)):
            entry = entries.pop(row.entry.id)
            if entry.id in dropped:
                self._uncommitted.pop(entry.id, None)
                log.warning("a parked row is dropped", table=entry.table, id=entry.id, position=str(entry.position))
                sifted.parked += tombstones_of(entry)
            else:
                self._try_again(row, entry, sifted)
            if number % _AT_ONCE == _AT_ONCE - 1:
                self._release(sifted)
                sifted = _Sifted()
        if entries:
            raise ConnectionLost(
                f"{len(entries)} parked rows are not to be found in topic {self._topic.topic}",
                hint="the topic is read again; if this comes again, somebody else wrote to it",
            )
        self._release(sifted)

    def _try_again(self, row: ParkedRow, entry: ParkedEntry, sifted: _Sifted) -> None:
        """Deliver a row, or park it anew: whatever is wrong with it now does not stop the pipeline."""
        run = row.run()
        run.table = table = self._policies.live(row.table)
        self._again = entry
        try:
            self._sift(run, sifted)
        except PycdcError as error:
            if error.retry:
                raise
            self._park(run, table, entry.keys, ParkedReason(type(error).__name__, error.fact), sifted)
        finally:
            self._again = None
        if entry.id not in self._parked():
            self._uncommitted.pop(entry.id, None)
            sifted.parked += tombstones_of(entry)

    def _release(self, sifted: _Sifted) -> None:
        batch = Batch(sifted.runs, size=len(sifted.runs))
        self._sink.publish(self._sink.prepared(batch, apart=True), batch)
        # A row must not be forgotten before its record is sure to be there.
        self._sink.settle()
        self._sink.publish(self._groups(sifted), Batch())

    def _stored(self, entries: dict[str, ParkedEntry]) -> Iterator[ParkedRow]:
        """Yield these rows in their order: what was committed, and what was parked since."""
        fresh = [self._uncommitted[identity] for identity in entries if identity in self._uncommitted]
        committed = entries.keys() - self._uncommitted.keys()
        stored = self._topic.rows(frozenset(committed)) if committed else iter(())
        yield from heapq.merge(stored, fresh, key=lambda row: row.entry.sequence)


def _of_runs(batch: Batch, runs: list[Run]) -> Batch:
    return replace(batch, runs=runs, size=sum(len(run.frames) for run in runs))


def _part(run: Run, first: int, behind: int) -> Run:
    """Return some rows of a run."""
    if first == 0 and behind == len(run.frames):
        return run
    frames = run.frames[first:behind]
    return Run(run.op, run.table, run.transaction, run.index + first, frames, run.marker, run.message, run.routing)

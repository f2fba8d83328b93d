"""Debezium's records, from runs: which topic, which schemas, which bytes; what a batch needs to know only once.

`Serializer` decides once per table version, then walks the runs. How a record is written is the form's business:
`avro.AvroForm` or `json_form.JsonForm`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pycdc.config.pipeline import PipelineConfig
from pycdc.model.change import Batch, Op, Routing, Run, Table, Transaction
from pycdc.rows.change_events import events
from pycdc.rows.encoder import Append, EncodedParts, OnNull, RowEncoder, UnexpectedNull, UnknownLabel
from pycdc.rows.images import loosened, relabelled
from pycdc.rows.plan import plan_table
from pycdc.serialization import envelope
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.headers import Header
from pycdc.serialization.names import DEFAULT_TOPIC, routed, topic_name
from pycdc.serialization.outbox import EventRouter
from pycdc.serialization.record_format import RecordFormat, TableEncoder
from pycdc.serialization.row_headers import RowHeaders
from pycdc.serialization.schema_dead_letters import BatchPlace, PrepareTable, SchemaDeadLetters
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin, TransactionMetadata, context_headers
from pycdc.serialization.special_topics import MESSAGES, SpecialTopics, transaction_id
from pycdc.serialization.topic_buffers import TopicBuffer, TopicBuffers, TopicRecordList


class Serializer:
    """Turns batches into groups of records by topic. Order within a topic is commit order. With `parking`, rows whose
    schema the registry refuses are set apart."""

    def __init__(
        self,
        config: PipelineConfig,
        database: str,
        form: RecordFormat,
        on_null: OnNull,
        parking: SchemaDeadLetters | None = None,
    ) -> None:
        self._config = config
        self._origin = SourceOrigin(config.name, database)
        self._context = context_headers(self._origin) if config.envelope.context_headers else []
        self._form = form
        self._on_null = on_null
        self._targets: dict[BatchPlace, TableEncoder] = {}
        self._parking = parking
        self._loosened: dict[Table, Table] = {}
        self._newest: dict[tuple[int, bool, bool], Table] = {}
        self._special = SpecialTopics(config, self._origin, form, self._alone)
        self._next_heartbeat = 0.0
        self._skip = frozenset(Op(letter) for letter in config.envelope.skip)
        self._blocks = config.envelope.transaction_metadata
        adjust = config.envelope.adjust_names
        self._flat = None if config.flatten is None else Flattening(config.flatten, adjust=adjust)
        self._router = None if config.outbox is None else EventRouter(config.outbox, config, form, self._encoder)
        self._added_headers = self._flat is not None and self._flat.has_headers
        self._slow = self._blocks or self._added_headers
        self._moment = ProcessingTime(0)
        self._lanes = TopicBuffers()
        self._written = TopicBuffer("", [])
        self._orders: dict[str, int] = {}

    def serialize(self, batch: Batch) -> list[TopicRecordList]:
        """The batch's records. Groups with headers stand apart from those without, so that the latter can be sent
        in one call; groups of one topic are in order."""
        self._moment = moment = ProcessingTime.now()
        lanes = self._lanes = TopicBuffers()
        self._gather(batch.runs)
        for lane in lanes:
            self._write(lane)
        for rows in batch.encoded:
            lanes.groups += rows.groups
        for told in batch.notifications:
            self._special.notification(told)
        if batch.position is not None:
            self._heartbeat(moment)
        if batch.dropped:
            self._forget(batch.dropped)
        return [group for group in lanes.groups if group[1]]

    def _forget(self, oids: frozenset[int]) -> None:
        """Nothing more comes of these tables."""
        self._targets = {place: target for place, target in self._targets.items() if place[0].oid not in oids}
        self._loosened = {table: other for table, other in self._loosened.items() if table.oid not in oids}
        self._newest = {version: table for version, table in self._newest.items() if version[0] not in oids}
        if self._router is not None:
            self._router.forget(oids)
        if self._parking is not None:
            self._parking.forget(oids)

    def _gather(self, runs: list[Run]) -> None:
        """Add runs to what their topics gather; what does not go on with that is put where it belongs."""
        gathering: dict[Table | None, TopicBuffer] = {}
        transaction: Transaction | None = None
        stamp, alike = None, False
        for run in runs:
            if run.transaction is not transaction:
                transaction = run.transaction
                stamp = self._form.stamp(transaction, self._origin)
                alike = transaction.came is None and transaction.origin is None
            lane = gathering.get(run.table)
            if lane is not None and lane.op is run.op and lane.table is run.table and alike and run.routing is None:
                lane.runs.append((run, stamp))
            elif run.op in self._skip:
                continue
            elif run.table is None:
                self._tableless(run)
            elif self._router is not None and not _dead(run.routing) and self._router.takes(run.table):
                self._routed(self._router, run, run.table)
            else:
                lane = self._begin(run, run.table, stamp)
                if alike and run.routing is None and not self._slow:
                    gathering[run.table] = lane
                else:
                    self._write(lane)

    def _begin(self, run: Run, table: Table, stamp: Any) -> TopicBuffer:
        """The topic's lane, where what was gathered is written and this run is the first of what is to be."""
        target = self._target(run, self._written_as(table))
        lane = self._lane(target.topic)
        lane.target, lane.table, lane.op, lane.runs = target, table, run.op, [(run, stamp)]
        lane.headers = target.delete_headers if run.op is Op.DELETE else target.headers
        if run.routing is not None or run.transaction.came is not None:
            lane.headers = [*(lane.headers or ()), *_of_run(run)] or None
        lane.into(headed=lane.headers is not None)
        return lane

    def _lane(self, topic: str) -> TopicBuffer:
        """The topic's, with nothing gathered."""
        lane = self._lanes.of(topic)
        self._write(lane)
        return lane

    def _alone(self, topic: str, record: EncodedParts) -> None:
        self._lane(topic).alone(record)

    def _write(self, lane: TopicBuffer) -> None:
        """Write what is gathered."""
        runs, target = lane.runs, lane.target
        lane.runs, lane.op = [], None
        if not runs or target is None:
            return
        self._written = lane
        try:
            if not self._slow and not target.parked and self._compiled(runs, target, lane):
                return
            for run, _ in runs:
                self._events(run, target, lane)
        except UnexpectedNull as found:
            self._loosen(target, found, runs)

    def _compiled(self, runs: list[tuple[Run, Any]], target: TableEncoder, lane: TopicBuffer) -> bool:
        """Return whether that could be done; rows of a snapshot are taken back where one is older than its table."""
        try:
            done = self._form.rows(
                runs, target, self._origin, self._moment, lane.start(), self._surprise, self._lacking
            )
        except UnexpectedNull as found:
            if found.run is not None:
                lane.finish()
                raise
            lane.undo()
            return False
        if done:
            lane.finish()
        return done

    def _surprise(self, run: Run, frame: bytes) -> Append:
        """A frame that compiled code does not write."""
        lane = self._written
        assert lane.target is not None
        lane.finish()
        one = Run(run.op, run.table, run.transaction, run.index, [frame], run.marker, None, run.routing)
        try:
            self._events(one, lane.target, lane)
        except UnexpectedNull as found:
            found.run = run
            # Of two frames that are the same, the first has met this first.
            found.index = run.index + next(place for place, other in enumerate(run.frames) if other is frame)
            lane.start()
            raise
        return lane.start()

    def _lacking(self, mask: int, record: EncodedParts) -> Append:
        """A record of compiled code whose row was not sent whole: `mask` are its columns."""
        lane = self._written
        assert lane.target is not None
        lane.finish()
        record["headers"] = [*lane.target.row_headers.unsent(mask), *(lane.headers or ())]
        lane.into(headed=True).append(record)
        return lane.start()

    def _written_as(self, table: Table) -> Table:
        """The table as it was when its rows were written."""
        return self._loosened.get(table, table) if self._loosened else table

    def _loosen(self, target: TableEncoder, found: UnexpectedNull, runs: list[tuple[Run, Any]]) -> None:
        """Write what is left with the table as it was then, which holds until the next version of it comes."""
        broken = found.run
        assert broken is not None
        assert broken.table is not None
        self._loosen_table(broken.table, target.plan.table, found)
        at = next(place for place, (run, _) in enumerate(runs) if run is broken)
        for run, stamp in [(_from(broken, found.index), runs[at][1]), *runs[at + 1 :]]:
            self._write(self._begin(run, broken.table, stamp))

    def _loosen_table(self, table: Table, written: Table, found: UnexpectedNull) -> None:
        for old in [old for old in self._loosened if old.oid == table.oid]:
            del self._loosened[old]
        if isinstance(found, UnknownLabel):
            self._loosened[table] = relabelled(written, found.labels)
        else:
            self._loosened[table] = loosened(written, found.columns)

    def prepare(self, table: Table) -> None:
        """Do at once what the first row that a snapshot reads of `table` would make necessary: ask for ids, say."""
        if self._router is None or not self._router.takes(table):
            self._admitted((table, True, None))

    def topics(self) -> Sequence[str]:
        """Topics of the tables seen so far."""
        return sorted({target.topic for target in self._targets.values()})

    def _target(self, run: Run, table: Table) -> TableEncoder:
        routing = run.routing
        if routing is not None:
            routing = None if routing.topic is None else Routing(routing.topic, dead=routing.dead)
        place = (table, run.op is Op.READ, routing)
        target = self._targets.get(place)
        return target if target is not None else self._admitted(place)

    def _admitted(self, place: BatchPlace) -> TableEncoder:
        """The target of a table version that is new, or was refused the last time."""
        prepare = self._form.prepare
        if self._parking is None:
            target = self._new_target(place, prepare)
        else:
            target = self._parking.target(place, self._new_target, prepare)
        # An older version of the table no longer comes; keep the map as large as the number of live tables.
        table, snapshot, dead = place[0], place[1], _dead(place[2])
        newest = self._newest.setdefault((table.oid, snapshot, dead), table)
        if newest is not table:
            self._newest[table.oid, snapshot, dead] = table
            for old in [old for old in self._targets if _version(old) == (newest, snapshot, dead)]:
                del self._targets[old]
        if not target.parked:
            self._targets[place] = target
        return target

    def _encoder(self, table: Table, *, snapshot: bool, flat: bool = False) -> RowEncoder:
        config = self._config
        plan = plan_table(table, config.rules, config.values, config.compatibility, snapshot=snapshot)
        return RowEncoder(plan, self._on_null, flat=flat)

    def _new_target(self, place: BatchPlace, prepare: PrepareTable) -> TableEncoder:
        table, snapshot, routing = place
        name, adjust = self._config.name, self._config.envelope.adjust_names
        dead = _dead(routing)
        flat = None if dead else self._flat
        encoder = self._encoder(table, snapshot=snapshot, flat=flat is not None)
        plan = encoder.plan
        if routing is not None:
            topic = topic_name(routing.topic or "")
        else:
            pattern = plan.topic or DEFAULT_TOPIC
            topic = routed(pattern, name=name, schema=table.schema, table=table.name)
        key = envelope.key_schema(plan, name, adjust=adjust)
        value = envelope.envelope_schema(plan, name, adjust=adjust) if flat is None else flat.schema(plan, name)
        # Dead letters of all tables share a topic, and no registry takes their schemas for versions of one.
        subject = topic_name(f"{topic}.{table}") if dead else topic
        form = prepare(subject, key, value)
        tombstones = self._config.envelope.tombstones and not dead and (flat is None or flat.followed_by_tombstone)
        of_rows, context = RowHeaders(encoder, key, adjust=adjust), self._context
        headers, delete_headers = context or None, of_rows.known + context or None
        return TableEncoder(topic, encoder, key, value, form, of_rows, flat, tombstones, headers, delete_headers)

    def _events(self, run: Run, target: TableEncoder, lane: TopicBuffer) -> None:
        """The plain way: record by record. Raises UnexpectedNull, with the run."""
        try:
            self._each_event(run, target, lane)
        except UnexpectedNull as found:
            found.run = run
            raise

    def _each_event(self, run: Run, target: TableEncoder, lane: TopicBuffer) -> None:
        table, moment = str(run.table), self._moment
        for full in events(run, target.encoder):
            block = self._block(run, table) if self._blocks else None
            event = full if target.flat is None else target.flat.reduced(full)
            if event is None:
                continue
            record = self._form.event(event, run, target, self._origin, moment, block)
            headers = target.row_headers.of(event) + self._context + _of_run(run)
            if target.parked and self._parking is not None:
                headers += self._parking.headers(run, event, target)
            records = [record]
            if event.op is Op.DELETE and target.tombstones:
                records.append({"key": record["key"], "value": None})
            headed = bool(headers) or self._added_headers
            if headed:
                for item in records:
                    item["headers"] = headers
            if target.flat is not None and self._added_headers:
                record["headers"] = headers + target.flat.headers(event, run, self._origin, moment, block)
                for item in records[1:]:
                    item["headers"] = headers + target.flat.tombstone_headers()
            lane.into(headed=headed).extend(records)

    def _routed(self, router: EventRouter, run: Run, table: Table) -> None:
        written = self._written_as(table)
        try:
            self._route(router, run, written)
        except UnexpectedNull as found:
            self._loosen_table(table, written, found)
            self._routed(router, _from(run, found.index), table)

    def _route(self, router: EventRouter, run: Run, table: Table) -> None:
        """Rows of an outbox table: each a record with headers, to a topic of its own."""
        context, added, done = self._context, _of_run(run), len(run.frames)
        try:
            for topic, record in router.records(run, table):
                record["headers"] = context + record["headers"] + added
                self._lane(topic).into(headed=True).append(record)
        except UnexpectedNull as found:
            done = found.index - run.index
            raise
        finally:
            # Events of a transaction are counted as the source has them.
            for _ in range(done if self._blocks else 0):
                self._block(run, str(table))

    def _block(self, run: Run, table: str) -> TransactionMetadata | None:
        """The next event's block. `total_order` counts events, not rows: a key change makes two.

        None for rows of a snapshot, which belong to no transaction; Debezium's have no block either.
        """
        transaction = run.transaction
        if run.op is Op.READ:
            return None
        total = self._orders[""] = self._orders.get("", 0) + 1
        order = self._orders[table] = self._orders.get(table, 0) + 1
        return TransactionMetadata(transaction_id(transaction), total, order)

    def _tableless(self, run: Run) -> None:
        if run.op is Op.MESSAGE and run.message is not None:
            # One that belongs to no transaction has no block, as in Debezium.
            counted = self._blocks and run.message.transactional
            self._special.message(run, run.message, self._moment, self._block(run, MESSAGES) if counted else None)
        elif run.op is Op.BEGIN:
            self._orders = {}
            self._special.boundary("BEGIN", run, None)
        elif run.op is Op.END:
            self._special.boundary("END", run, self._orders)

    def _heartbeat(self, moment: ProcessingTime) -> None:
        """One, where it is time."""
        interval = self._config.envelope.heartbeat_interval
        now = time.monotonic()
        if interval and now >= self._next_heartbeat:
            self._next_heartbeat = now + interval
            self._special.heartbeat(moment)


def _from(run: Run, index: int) -> Run:
    """What is left of the run from that change of its transaction on."""
    frames = run.frames[index - run.index :]
    return Run(run.op, run.table, run.transaction, index, frames, run.marker, run.message, run.routing)


def _version(place: BatchPlace) -> tuple[Table, bool, bool]:
    """What a transform failed at stands beside what it made."""
    return place[0], place[1], _dead(place[2])


def _dead(routing: Routing | None) -> bool:
    return routing is not None and routing.dead


def _of_run(run: Run) -> list[Header]:
    """Of changes that pycdc wrote into the database, who carried them, and how often; and what a transform added."""
    way = [] if run.transaction.came is None else run.transaction.came.headers()
    return way if run.routing is None else [*way, *run.routing.headers]

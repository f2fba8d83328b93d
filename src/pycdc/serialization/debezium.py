"""Debezium's records, from runs: which topic, which schemas, which bytes; what a batch needs to know only once.

`Serializer` decides once per table version, then walks the runs. How a record is written is the form's business:
`avro.AvroForm` or `json_form.JsonForm`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pycdc.config import Config
from pycdc.model import Batch, Op, Routing, Run, Table
from pycdc.rows.encoder import OnNull, Record, RowEncoder, UnexpectedNull
from pycdc.rows.images import loosened
from pycdc.rows.plan import plan_table
from pycdc.rows.schema import Schema
from pycdc.serialization import envelope
from pycdc.serialization.events import Event, events
from pycdc.serialization.flatten import Flattening
from pycdc.serialization.form import Form, Target
from pycdc.serialization.headers import Header, key_text
from pycdc.serialization.names import field_name, routed, topic_name
from pycdc.serialization.outbox import Router
from pycdc.serialization.parking import Parking, Place, Prepare
from pycdc.serialization.provenance import Block, Moment, Origin, source_datum

Group = tuple[str, list[Record]]
NEW_KEY, OLD_KEY, KNOWN = "__debezium.newkey", "__debezium.oldkey", "__pycdc.before"


class Serializer:
    """Turns batches into groups of records by topic. Order within a topic is commit order. With `parking`, rows whose
    schema the registry refuses are set apart."""

    def __init__(
        self, config: Config, database: str, form: Form, on_null: OnNull, parking: Parking | None = None
    ) -> None:
        self._config = config
        self._origin = Origin(config.name, database)
        self._form = form
        self._on_null = on_null
        self._parking = parking
        self._targets: dict[Place, Target] = {}
        self._loosened: dict[Table, Table] = {}
        self._special: dict[str, Any] = {}
        self._skip = frozenset(Op(letter) for letter in config.envelope.skip)
        self._blocks = config.envelope.transaction_metadata
        adjust = config.envelope.adjust_names
        self._flat = None if config.flatten is None else Flattening(config.flatten, adjust=adjust)
        self._router = None if config.outbox is None else Router(config.outbox, config, form, self._encoder)
        self._added_headers = self._flat is not None and self._flat.has_headers
        self._slow = self._blocks or config.envelope.context_headers or self._added_headers
        self._orders: dict[str, int] = {}
        self._next_heartbeat = 0.0

    def serialize(self, batch: Batch) -> list[Group]:
        """The batch's records. Groups with headers stand apart from those without, so that the latter can be sent
        in one call; groups of one topic are in order."""
        moment = Moment.now()
        groups: dict[str, list[Record]] = {}
        out: list[Group] = []
        for run in batch.runs:
            if run.op in self._skip:
                continue
            if run.table is None:
                self._tableless(run, moment, groups, out)
                continue
            self._rows(run, run.table, moment, groups, out)
        for rows in batch.encoded:
            out += rows.groups
        if batch.position is not None:
            self._heartbeat(moment, out)
        return [group for group in out if group[1]]

    def _rows(self, run: Run, table: Table, moment: Moment, groups: dict[str, list[Record]], out: list[Group]) -> None:
        """Records of a run of rows, or of a truncate."""
        written = self._loosened.get(table, table) if self._loosened else table
        try:
            if self._router is not None and not _dead(run.routing) and self._router.takes(table):
                self._route(self._router, run, written, groups, out)
                return
            target = self._target(run, written)
            records = groups.get(target.topic)
            if records is None:
                records = groups[target.topic] = []
                out.append((target.topic, records))
            if not (self._slow or run.routing is not None or run.transaction.came is not None or target.parked):
                before = len(records)
                try:
                    if self._form.rows(run, target, self._origin, moment, records):
                        return
                except UnexpectedNull:
                    # Whoever makes single events knows at which one.
                    del records[before:]
            self._events(run, target, moment, groups, out)
        except UnexpectedNull as found:
            # The table as it was when the rows were written, until the next version of it comes.
            for old in [old for old in self._loosened if old.oid == table.oid]:
                del self._loosened[old]
            self._loosened[table] = loosened(written, found.columns)
            self._rows(_from(run, found.index), table, moment, groups, out)

    def prepare(self, table: Table) -> None:
        """Do at once what the first row that a snapshot reads of `table` would make necessary: ask for ids, say."""
        if self._router is None or not self._router.takes(table):
            self._admitted((table, True, None))

    def topics(self) -> Sequence[str]:
        """Topics of the tables seen so far."""
        return sorted({target.topic for target in self._targets.values()})

    def _target(self, run: Run, table: Table) -> Target:
        routing = run.routing
        if routing is not None:
            routing = None if routing.topic is None else Routing(routing.topic, dead=routing.dead)
        place = (table, run.op is Op.READ, routing)
        target = self._targets.get(place)
        return target if target is not None else self._admitted(place)

    def _admitted(self, place: Place) -> Target:
        """The target of a table version that is new, or was refused the last time."""
        prepare = self._form.prepare
        if self._parking is None:
            target = self._new_target(place, prepare)
        else:
            target = self._parking.target(place, self._new_target, prepare)
        # An older version of the table no longer comes; keep the map as large as the number of live tables.
        for old in [old for old in self._targets if _outdated(old, place)]:
            del self._targets[old]
        if not target.parked:
            self._targets[place] = target
        return target

    def _encoder(self, table: Table, *, snapshot: bool, flat: bool = False) -> RowEncoder:
        config = self._config
        plan = plan_table(table, config.rules, config.values, config.compatibility, snapshot=snapshot)
        return RowEncoder(plan, self._on_null, flat=flat)

    def _new_target(self, place: Place, prepare: Prepare) -> Target:
        table, snapshot, routing = place
        name, adjust = self._config.name, self._config.envelope.adjust_names
        dead = _dead(routing)
        flat = None if dead else self._flat
        encoder = self._encoder(table, snapshot=snapshot, flat=flat is not None)
        plan = encoder.plan
        if routing is not None:
            topic = topic_name(routing.topic or "")
        else:
            pattern = plan.topic or "{name}.{schema}.{table}"
            topic = routed(pattern, name=name, schema=table.schema, table=table.name)
        key = envelope.key_schema(plan, name, adjust=adjust)
        value = envelope.envelope_schema(plan, name, adjust=adjust) if flat is None else flat.schema(plan, name)
        # Dead letters of all tables share a topic, and no registry takes their schemas for versions of one.
        subject = topic_name(f"{topic}.{table}") if dead else topic
        return Target(topic, encoder, key, value, prepare(subject, key, value), flat)

    def _events(
        self, run: Run, target: Target, moment: Moment, groups: dict[str, list[Record]], out: list[Group]
    ) -> None:
        table = str(run.table)
        for full in events(run, target.encoder):
            block = self._block(run, table) if self._blocks else None
            event = full if target.flat is None else target.flat.reduced(full)
            if event is None:
                continue
            record = self._form.event(event, run, target, self._origin, moment, block)
            headers = self._headers(event, target) + _of_run(run)
            if target.parked and self._parking is not None:
                headers += self._parking.headers(run, event, target)
            records = [record]
            if self._tombstone_follows(event) and not _dead(run.routing):
                records.append({"key": record["key"], "value": None})
            if not headers and not self._added_headers:
                groups[target.topic].extend(records)
                continue
            for item in records:
                item["headers"] = headers
            if target.flat is not None and self._added_headers:
                record["headers"] = headers + target.flat.headers(event, run, self._origin, moment, block)
                for item in records[1:]:
                    item["headers"] = headers + target.flat.tombstone_headers()
            _append_apart(target.topic, records, groups, out)

    def _tombstone_follows(self, event: Event) -> bool:
        if event.op is not Op.DELETE or not self._config.envelope.tombstones:
            return False
        return self._flat is None or self._flat.followed_by_tombstone

    def _headers(self, event: Event, target: Target) -> list[Header]:
        headers: list[Header] = []
        encoder = target.encoder
        if event.other_key is not None and target.key_schema is not None:
            name = NEW_KEY if event.op is Op.DELETE else OLD_KEY
            headers.append((name, key_text(target.key_schema, encoder.key_datums(event.other_key))))
        if event.partial and target.plan.unknown_when_old and self._config.compatibility.unknown_before == "marked":
            adjust = self._config.envelope.adjust_names
            known = [field_name(field.name, adjust=adjust) for field in target.plan.fields if field.column.identity]
            headers.append((KNOWN, ",".join(known).encode()))
        return headers + self._context()

    def _context(self) -> list[Header]:
        if not self._config.envelope.context_headers:
            return []
        return [
            ("__debezium.context.connectorLogicalName", self._origin.name.encode()),
            ("__debezium.context.taskId", b"0"),
            ("__debezium.context.connectorName", self._origin.connector.encode()),
        ]

    def _route(self, router: Router, run: Run, table: Table, groups: dict[str, list[Record]], out: list[Group]) -> None:
        """Rows of an outbox table: each a record with headers, to a topic of its own."""
        context, added, done = self._context(), _of_run(run), len(run.frames)
        try:
            for topic, record in router.records(run, table):
                record["headers"] = context + record["headers"] + added
                _append_apart(topic, [record], groups, out)
        except UnexpectedNull as found:
            done = found.index - run.index
            raise
        finally:
            # Events of a transaction are counted as the source has them.
            for _ in range(done if self._blocks else 0):
                self._block(run, str(table))

    def _block(self, run: Run, table: str) -> Block | None:
        """The next event's block. `total_order` counts events, not rows: a key change makes two.

        None for rows of a snapshot, which belong to no transaction; Debezium's have no block either.
        """
        transaction = run.transaction
        if run.op is Op.READ:
            return None
        total = self._orders[""] = self._orders.get("", 0) + 1
        order = self._orders[table] = self._orders.get(table, 0) + 1
        return Block(f"{transaction.xid}:{transaction.commit_lsn:d}", total, order)

    def _tableless(self, run: Run, moment: Moment, groups: dict[str, list[Record]], out: list[Group]) -> None:
        name = self._config.name
        if run.op is Op.MESSAGE and run.message is not None:
            key = {"prefix": run.message.prefix}
            value = {
                "op": "m",
                "ts_ms": moment.ms,
                "source": source_datum(run, self._origin, run.message.lsn),
                "transaction": None,
                "message": {"prefix": run.message.prefix, "content": run.message.content},
            }
            self._append(f"{name}.message", envelope.MESSAGE_KEY, envelope.MESSAGE_VALUE, key, value, out)
        elif run.op is Op.BEGIN:
            self._orders = {}
            self._boundary("BEGIN", run, None, out)
        elif run.op is Op.END:
            self._boundary("END", run, self._orders, out)

    def _boundary(self, status: str, run: Run, orders: dict[str, int] | None, out: list[Group]) -> None:
        transaction = run.transaction
        identity = f"{transaction.xid}:{transaction.commit_lsn:d}"
        counts = None
        if orders is not None:
            counts = [{"data_collection": table, "event_count": count} for table, count in orders.items() if table]
        value = {
            "status": status,
            "id": identity,
            "event_count": None if orders is None else orders.get("", 0),
            "data_collections": counts,
            "ts_ms": transaction.commit_time // 1000,
        }
        topic = f"{self._config.name}.transaction"
        self._append(topic, envelope.TRANSACTION_KEY, envelope.TRANSACTION_VALUE, {"id": identity}, value, out)

    def _heartbeat(self, moment: Moment, out: list[Group]) -> None:
        interval = self._config.envelope.heartbeat_interval
        now = time.monotonic()
        if not interval or now < self._next_heartbeat:
            return
        self._next_heartbeat = now + interval
        topic = f"__debezium-heartbeat.{self._config.name}"
        key, value = {"serverName": self._config.name}, {"ts_ms": moment.ms}
        self._append(topic, envelope.HEARTBEAT_KEY, envelope.HEARTBEAT_VALUE, key, value, out)

    def _append(
        self, topic: str, key_schema: Schema, value_schema: Schema, key: Any, value: Any, out: list[Group]
    ) -> None:
        topic = topic_name(topic)
        if topic not in self._special:
            self._special[topic] = self._form.prepare(topic, key_schema, value_schema)
        out.append((topic, [self._form.datums(self._special[topic], key, value)]))


def _outdated(old: Place, new: Place) -> bool:
    """Whether `old` is another version of the table; what a transform failed at stands beside what it made."""
    same_table = old[0].oid == new[0].oid and old[1] == new[1]
    return same_table and old[0] is not new[0] and _dead(old[2]) == _dead(new[2])


def _from(run: Run, index: int) -> Run:
    """What is left of the run from that change of its transaction on."""
    frames = run.frames[index - run.index :]
    return Run(run.op, run.table, run.transaction, index, frames, run.marker, run.message, run.routing)


def _dead(routing: Routing | None) -> bool:
    return routing is not None and routing.dead


def _of_run(run: Run) -> list[Header]:
    """Of changes that pycdc wrote into the database, who carried them, and how often; and what a transform added."""
    came = run.transaction.came
    way = [] if came is None else came.headers()
    return way if run.routing is None else [*way, *run.routing.headers]


def _append_apart(topic: str, records: list[Record], groups: dict[str, list[Record]], out: list[Group]) -> None:
    """Records with headers, and a new group for those of the same topic that follow."""
    out.append((topic, records))
    if topic in groups:
        groups[topic] = []
        out.append((topic, groups[topic]))

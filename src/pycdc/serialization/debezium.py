"""Debezium's records, from runs: which topic, which schemas, which bytes; what a batch needs to know only once.

`Tables` decides once per table version; `Serializer` walks the runs. How a record is written is the form's business:
`avro.AvroForm` or `json_form.JsonForm`.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from pycdc.config import Config
from pycdc.model import Batch, Op, Run, Table
from pycdc.rows.encoder import OnNull, Record, RowEncoder
from pycdc.rows.plan import Plan, plan_table
from pycdc.rows.schema import DECIMAL, Schema
from pycdc.serialization import envelope
from pycdc.serialization.events import Event, events
from pycdc.serialization.names import field_name, routed, topic_name
from pycdc.version import __version__

Group = tuple[str, list[Record]]
NEW_KEY, OLD_KEY, KNOWN = "__debezium.newkey", "__debezium.oldkey", "__pycdc.before"


@dataclass(frozen=True, slots=True)
class Origin:
    """What every record of a pipeline says of its source. `name` is the topic prefix."""

    name: str
    database: str
    version: str = __version__
    connector: str = "postgresql"


@dataclass(frozen=True, slots=True)
class Moment:
    """Processing time of a batch, nanoseconds since the Unix epoch."""

    ns: int

    @classmethod
    def now(cls) -> Moment:
        return cls(time.time_ns())

    @property
    def us(self) -> int:
        return self.ns // 1000

    @property
    def ms(self) -> int:
        return self.ns // 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where the rows of one table version go, and how. `form` is what the form prepared for it."""

    topic: str
    encoder: RowEncoder
    key_schema: Schema | None
    value_schema: Schema
    form: Any

    @property
    def plan(self) -> Plan:
        return self.encoder.plan


@dataclass(frozen=True, slots=True)
class Block:
    """Debezium's ``transaction`` block: only with envelope.transaction_metadata."""

    id: str
    total_order: int
    data_collection_order: int


class Form(Protocol):
    """How records are written: Avro by registry id, or JSON."""

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> Any:
        """What the form needs per table version, ids for instance. The only place that may ask a registry."""

    def rows(self, run: Run, target: Target, origin: Origin, moment: Moment, out: list[Record]) -> bool:
        """Write a whole run the fast way; False, having written nothing, where only `event` can."""

    def event(
        self, event: Event, run: Run, target: Target, origin: Origin, moment: Moment, block: Block | None
    ) -> Record:
        """One record; a truncate has neither key nor rows."""

    def datums(self, prepared: Any, key: Any, value: Any) -> Record:
        """A record outside of the tables' topics, from Connect values."""


class Serializer:
    """Turns batches into groups of records by topic. Order within a topic is commit order."""

    def __init__(self, config: Config, database: str, form: Form, on_null: OnNull) -> None:
        self._config = config
        self._origin = Origin(config.name, database)
        self._form = form
        self._on_null = on_null
        self._targets: dict[tuple[Table, bool], Target] = {}
        self._special: dict[str, Any] = {}
        self._skip = frozenset(Op(letter) for letter in config.envelope.skip)
        self._blocks = config.envelope.transaction_metadata
        self._slow = self._blocks or config.envelope.context_headers
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
            target = self._target(run.table, snapshot=run.op is Op.READ)
            records = groups.get(target.topic)
            if records is None:
                records = groups[target.topic] = []
                out.append((target.topic, records))
            if self._slow or not self._form.rows(run, target, self._origin, moment, records):
                self._events(run, target, moment, groups, out)
        if batch.position is not None:
            self._heartbeat(moment, out)
        return [group for group in out if group[1]]

    def topics(self) -> Sequence[str]:
        """Topics of the tables seen so far."""
        return sorted({target.topic for target in self._targets.values()})

    def _target(self, table: Table, *, snapshot: bool) -> Target:
        target = self._targets.get((table, snapshot))
        return target if target is not None else self._new_target(table, snapshot=snapshot)

    def _new_target(self, table: Table, *, snapshot: bool) -> Target:
        config = self._config
        plan = plan_table(table, config.rules, config.values, config.compatibility, snapshot=snapshot)
        pattern = plan.topic or "{name}.{schema}.{table}"
        topic = routed(pattern, name=config.name, schema=table.schema, table=table.name)
        adjust = config.envelope.adjust_names
        key = envelope.key_schema(plan, config.name, adjust=adjust)
        value = envelope.envelope_schema(plan, config.name, adjust=adjust)
        target = Target(topic, RowEncoder(plan, self._on_null), key, value, self._form.prepare(topic, key, value))
        # An older version of the table no longer comes; keep the map as large as the number of live tables.
        for old in [old for old in self._targets if old[0].oid == table.oid and old[1] == snapshot]:
            del self._targets[old]
        self._targets[table, snapshot] = target
        return target

    def _events(
        self, run: Run, target: Target, moment: Moment, groups: dict[str, list[Record]], out: list[Group]
    ) -> None:
        table = str(run.table)
        for event in events(run, target.encoder):
            block = self._block(run, table) if self._blocks else None
            record = self._form.event(event, run, target, self._origin, moment, block)
            headers = self._headers(event, target, moment)
            records = [record]
            if event.op is Op.DELETE and self._config.envelope.tombstones:
                records.append({"key": record["key"], "value": None})
            if not headers:
                groups[target.topic].extend(records)
                continue
            for item in records:
                item["headers"] = headers
            out.append((target.topic, records))
            groups[target.topic] = []
            out.append((target.topic, groups[target.topic]))

    def _headers(self, event: Event, target: Target, moment: Moment) -> list[tuple[str, bytes]]:
        headers: list[tuple[str, bytes]] = []
        encoder = target.encoder
        if event.other_key is not None and target.key_schema is not None:
            name = NEW_KEY if event.op is Op.DELETE else OLD_KEY
            headers.append((name, key_text(target.key_schema, encoder.key_datums(event.other_key))))
        if event.partial and target.plan.unknown_when_old and self._config.compatibility.unknown_before == "marked":
            adjust = self._config.envelope.adjust_names
            known = [field_name(field.name, adjust=adjust) for field in target.plan.fields if field.column.identity]
            headers.append((KNOWN, ",".join(known).encode()))
        if self._config.envelope.context_headers:
            headers += [
                ("__debezium.context.connectorLogicalName", self._origin.name.encode()),
                ("__debezium.context.taskId", b"0"),
                ("__debezium.context.connectorName", self._origin.connector.encode()),
            ]
        return headers

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


def source_datum(run: Run, origin: Origin, lsn: int) -> dict[str, Any]:
    """The ``source`` block as Connect values."""
    transaction, table = run.transaction, run.table
    previous = f'"{transaction.previous_end:d}"' if transaction.previous_end and run.op is not Op.READ else "null"
    return {
        "version": origin.version,
        "connector": origin.connector,
        "name": origin.name,
        "ts_ms": transaction.commit_time // 1000,
        "snapshot": run.marker or "false",
        "db": origin.database,
        "sequence": f'[{previous},"{lsn:d}"]',
        "ts_us": transaction.commit_time,
        "ts_ns": transaction.commit_time * 1000,
        "schema": table.schema if table is not None else "",
        "table": table.name if table is not None else "",
        "txId": transaction.xid,
        "lsn": lsn,
        "xmin": None,
        "origin": transaction.origin,
        "origin_lsn": transaction.origin_lsn,
    }


def key_text(schema: Schema, key: dict[str, Any]) -> bytes:
    """A key as Connect's SimpleHeaderConverter prints a struct: ``{"id":9}`` (golden/headers.jsonl).

    A decimal is a number, other bytes are base64, and of a string only quotes and backslashes are escaped.
    """
    fields = zip(schema.fields, key.values(), strict=True)
    return (
        "{" + ",".join([f"{_quoted(name)}:{_printed(field, value)}" for (name, field), value in fields]) + "}"
    ).encode()


def _printed(schema: Schema, value: Any) -> str:
    if value is None:
        return "null"
    if schema.type == "struct":
        return key_text(schema, {name: value[name] for name, _ in schema.fields}).decode()
    if schema.type == "array" and schema.items is not None:
        return "[" + ",".join([_printed(schema.items, item) for item in value]) + "]"
    if schema.type == "map" and schema.items is not None:
        return "{" + ",".join([f"{_quoted(key)}:{_printed(schema.items, item)}" for key, item in value.items()]) + "}"
    if schema.name == DECIMAL:
        unscaled = int.from_bytes(value, "big", signed=True)
        return str(Decimal(f"{unscaled}E{-int(dict(schema.parameters)['scale'])}"))
    if isinstance(value, bytes):
        return f'"{b64encode(value).decode()}"'
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

"""Events from an outbox table, as Debezium's EventRouter makes them.

The columns are found once per table version; per row there is a topic to choose, a key, a payload and headers. Schemas
belong to a topic and, where the value is a record, to its version: they are prepared when first met.

Where Debezium's task dies, this says which row and column (a value that makes no topic name), or takes it (timestamptz
as timestamp). Debezium names all records by the first `route` that it meets; here each has its own name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from pycdc.config.envelope import Adjustment, OutboxConfig
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import ConfigError, ConversionError
from pycdc.model.change import Column, Lsn, Op, Position, Run, Table
from pycdc.model.patterns import matches_any
from pycdc.rows.change_events import RecordPlan, events
from pycdc.rows.codecs.civil import timestamp_micros
from pycdc.rows.encoder import EncodedParts, RowEncoder
from pycdc.rows.plan import PlannedField
from pycdc.rows.schema import Datum, Schema
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.headers import header_text
from pycdc.serialization.inferred_schema import NotInferable, Untyped, inferred
from pycdc.serialization.names import field_name, record_name
from pycdc.serialization.record_format import RecordFormat

log = logging.getLogger(__name__)

_TOPIC: Final = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}")
_REMEMBERED: Final = 10_000
"""Topics and schemas that are remembered: a payload that is expanded may have any number of schemas."""


class Encoders(Protocol):
    def __call__(self, table: Table, *, snapshot: bool) -> RowEncoder: ...


class EventRouter:
    """The outbox tables of a pipeline."""

    def __init__(self, settings: OutboxConfig, whole: CapturePipeline, form: RecordFormat, encoder: Encoders) -> None:
        self._settings = settings
        self._prefix = whole.name
        self._adjust = whole.envelope.adjust_names
        self._form = form
        self._encoder = encoder
        self._outboxes: dict[tuple[Table, bool], _Outbox] = {}

    def takes(self, table: Table) -> bool:
        """Return whether it is an outbox table."""
        return matches_any([self._settings.table], table.schema, table.name)

    def forget(self, oids: Set[int]) -> None:
        """Forget these tables, of which nothing more comes."""
        self._outboxes = {key: found for key, found in self._outboxes.items() if key[0].oid not in oids}

    def records(self, run: Run, table: Table) -> Iterator[tuple[str, EncodedParts]]:
        """Yield topic and record of each row that was inserted (or read by a snapshot), headers included.

        Raises ConversionError, where `outbox.updates` is ``stop`` for an update too.
        """
        if run.op is Op.UPDATE:
            self._refuse(run, table)
        if run.op not in (Op.CREATE, Op.READ):
            return
        outbox = self._outbox(table, snapshot=run.op is Op.READ)
        for event in events(run, outbox.encoder):
            if event.after is not None:
                yield outbox.record(event.after, partial(_position, run, event))

    def record(
        self, table: Table, columns: list[ColumnBytes], where: Callable[[], Position]
    ) -> tuple[str, EncodedParts]:
        """Return topic and record of one row; `where` is asked only for an error. Raises ConversionError."""
        return self._outbox(table, snapshot=False).record(columns, where)

    def _outbox(self, table: Table, *, snapshot: bool) -> _Outbox:
        found = self._outboxes.get((table, snapshot))
        if found is None:
            for old in [old for old in self._outboxes if old[0].oid == table.oid and old[1] == snapshot]:
                del self._outboxes[old]
            encoder = self._encoder(table, snapshot=snapshot)
            found = _Outbox(self._settings, encoder, self._form, f"{self._prefix}.{table}", adjust=self._adjust)
            self._outboxes[table, snapshot] = found
        return found

    def _refuse(self, run: Run, table: Table) -> None:
        where = Position(Lsn(run.transaction.commit_lsn), run.index)
        if self._settings.updates == "stop":
            raise ConversionError(
                f"rows of outbox table {table} were updated at position {where}, and an update is no event",
                hint="insert a new row for each event; outbox.updates: warn leaves updates out and goes on",
            )
        log.warning("left out updates of outbox table %s at position %s: %d", table, where, len(run))


def _position(run: Run, event: RecordPlan) -> Position:
    return Position(Lsn(run.transaction.commit_lsn), event.index)


@dataclass(frozen=True, slots=True)
class _Placed:
    """A further column of the table in the record."""

    name: str
    field: PlannedField


class _Outbox:
    """One version of an outbox table: its columns by their role."""

    def __init__(
        self, settings: OutboxConfig, encoder: RowEncoder, form: RecordFormat, base: str, *, adjust: Adjustment
    ) -> None:
        self.encoder = encoder
        self._table = encoder.plan.table
        self._fields = {field.column.name: field for field in encoder.plan.fields}
        self._settings = settings
        self._form = form
        self._base = base
        self._adjust = adjust
        self._untyped = Untyped(settings.null_members, settings.empty_arrays)
        self._id = self._field(settings.id, "id")
        self._key = None if settings.key is None else self._field(settings.key, "key")
        self._route = self._typed(settings.route, "route", ("string",), "text")
        self._payload = self._field(settings.payload, "payload")
        self._headers = [_Placed("id", self._id), *self._placed("header")]
        self._envelope = self._inside_envelope()
        self._version = self._optional(settings.schema_version, "schema_version")
        partitions = [item.column for item in settings.additional if item.to == "partition"]
        self._partition = self._optional(partitions[-1] if partitions else None, "additional")
        self._timestamp = None if settings.timestamp is None else self._time(settings.timestamp)
        self._pattern = None if settings.route_pattern is None else re.compile(settings.route_pattern)
        self._topics: dict[str, str] = {}
        self._prepared: dict[tuple[str, str, int | None, Schema | None], Any] = {}
        self._warned = False

    # -- once per table

    def _field(self, column: str, role: str) -> PlannedField:
        field = self._fields.get(column)
        if field is None:
            raise ConfigError(
                f"outbox table {self._table} has no column {column!r}",
                hint=f"name the column under outbox.{role}, or leave it in the records (rules[])",
            )
        return field

    def _typed(self, column: str, role: str, types: tuple[str, ...], wanted: str) -> PlannedField:
        field = self._field(column, role)
        if field.schema.type not in types:
            raise self._wrong_type(field.column, role, wanted)
        return field

    def _optional(self, column: str | None, role: str) -> PlannedField | None:
        return None if column is None else self._typed(column, role, ("int16", "int32", "int64"), "an integer")

    def _time(self, column: str) -> PlannedField:
        field = self._field(column, "timestamp")
        if field.column.type.name not in ("timestamp", "timestamptz"):
            raise self._wrong_type(field.column, "timestamp", "a timestamp with or without time zone")
        return field

    def _wrong_type(self, column: Column, role: str, wanted: str) -> ConfigError:
        return ConfigError(
            f"column {column.name!r} of outbox table {self._table} is of type {column.type.name}, not {wanted}",
            hint=f"name another column under outbox.{role}",
        )

    def _placed(self, where: str) -> list[_Placed]:
        return [
            _Placed(item.name or item.column, self._field(item.column, "additional"))
            for item in self._settings.additional
            if item.to == where
        ]

    def _inside_envelope(self) -> list[_Placed]:
        out = [_Placed(field_name(one.name, adjust=self._adjust), one.field) for one in self._placed("envelope")]
        names = ["payload", *(one.name for one in out)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"values of outbox table {self._table} would have two fields {name!r}",
                    hint="give one of them another name with outbox.additional[].name",
                )
        return out

    # -- once per row

    def record(self, columns: list[ColumnBytes], where: Callable[[], Position]) -> tuple[str, EncodedParts]:
        """Topic and record of a row; `where` is asked only for an error."""
        row = self.encoder.datums(columns)
        route, payload = row[self._route.name], row[self._payload.name]
        topic = self._topics.get(route) or self._topic(route, where)
        empty = payload is None or not (payload if isinstance(payload, bytes) else str(payload)).strip()
        expanded = None
        if self._settings.expand_json_payload and not empty:
            expanded, payload = self._expanded(payload)
        version = None if self._version is None or not self._envelope else row[self._version.name]
        prepared = self._prepared.get((topic, route, version, expanded))
        if prepared is None:
            prepared = self._prepare(topic, route, version, expanded)
        value = payload
        if self._envelope:
            value = {"payload": payload, **{placed.name: row[placed.field.name] for placed in self._envelope}}
        record = self._form.datums(prepared, None if self._key is None else row[self._key.name], value)
        if empty and self._settings.tombstone_on_empty_payload:
            record["value"] = None
        record["headers"] = [
            (placed.name, header_text(placed.field.schema, row[placed.field.name])) for placed in self._headers
        ]
        self._address(record, columns, row, where)
        return topic, record

    def _address(
        self, record: EncodedParts, columns: list[ColumnBytes], row: dict[str, Datum], where: Callable[[], Position]
    ) -> None:
        """Partition and timestamp, where columns say them."""
        if self._partition is not None and (partition := row[self._partition.name]) is not None:
            if partition < 0:
                raise self._unusable(self._partition, "a negative number, which is no partition", where())
            record["partition"] = partition
        text = None if self._timestamp is None else columns[self._timestamp.index]
        if self._timestamp is not None and isinstance(text, bytes):
            millis = _millis(text)
            if millis is None:
                raise self._unusable(self._timestamp, "a time that no record can have", where())
            record["timestamp"] = millis

    def _topic(self, route: str | None, where: Callable[[], Position]) -> str:
        """Return the topic for a value of the column `route`."""
        text = route or ""
        match = None if self._pattern is None else self._pattern.fullmatch(text)
        topic = text
        if self._pattern is None or match is not None:
            groups = {} if match is None else {name: value or "" for name, value in match.groupdict().items()}
            topic = self._settings.topic.format(**{"route": text, **groups})
        if not text or not _TOPIC.fullmatch(topic):
            raise self._unusable(self._route, "a value that makes no topic name", where())
        if len(self._topics) < _REMEMBERED:
            self._topics[text] = topic
        return topic

    def _unusable(self, field: PlannedField, what: str, where: Position) -> ConversionError:
        key = ", ".join(map(repr, self._table.key)) or "none"
        hint = "correct what writes the row, or name another column in the section `outbox`"
        if field is self._route:
            hint = (
                "topics are made of letters, digits, '.', '_' and '-', 249 at most: correct what writes the row, or "
                "turn such values into names with outbox.route_pattern and outbox.topic"
            )
        return ConversionError(
            f"column {field.column.name!r} of outbox table {self._table} holds {what}, at position {where} "
            f"(key of the row: {key}; id of the event: {self._id.column.name!r})",
            hint=hint,
        )

    def _prepare(self, topic: str, route: str, version: int | None, expanded: Schema | None) -> Any:
        """Prepare a topic and schema, as the record format does."""
        schema = expanded or self._payload.schema
        if self._envelope:
            fields = [("payload", schema), *((placed.name, placed.field.schema) for placed in self._envelope)]
            name = record_name(f"{self._base}.{route}.Value", adjust=self._adjust)
            schema = Schema("struct", name=name, version=version, fields=tuple(fields))
        if len(self._prepared) >= _REMEMBERED:
            self._prepared.clear()
        prepared = self._form.prepare(topic, None if self._key is None else self._key.schema, schema)
        self._prepared[topic, route, version, expanded] = prepared
        return prepared

    def _expanded(self, payload: Datum) -> tuple[Schema | None, Datum]:
        """Return the payload's schema and structure; no schema, and the payload as it is, where it has none."""
        try:
            return inferred(payload, self._payload.name, adjust=self._adjust, untyped=self._untyped)
        except NotInferable as exc:
            if not self._warned:
                self._warned = True
                log.warning("payloads of outbox table %s are not all expanded (%s)", self._table, exc)
            return None, payload


def _millis(text: bytes) -> int | None:
    """Return a timestamp in milliseconds since the Unix epoch; None where Kafka has no number for it."""
    try:
        millis = timestamp_micros(text) // 1000
    except ValueError:
        return None
    return millis if 0 < millis < 1 << 63 else None

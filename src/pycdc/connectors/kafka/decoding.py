"""From a record's bytes to an `Event`: Avro by registry id or JSON; an envelope, a flat row, or a business event.

Pure, but for `schema_text`, which may ask a registry once for each schema id. A record that cannot be decoded is an
event with a problem: what happens to it is the sink's decision. A registry that is away is no property of a record and
raises.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import fastavro

from pycdc.connectors.kafka.avro_reader import Read, compile_reader
from pycdc.errors import UnknownSchema
from pycdc.events import Event, Partition

_JSON: Final = json.JSONDecoder(parse_float=Decimal)
"""`json.loads` makes one for each call that has a `parse_float`."""
_MAGIC: Final = 0
HEADER: Final = 5
_ROWS: Final = ("before", "after")
_UPSERTS: Final = frozenset("cru")
_DEBEZIUM_EXTRA: Final = "__"
"""Fields that Debezium's flattening adds begin with it: ``__deleted``, ``__op``, ``__table`` …"""


class Malformed(ValueError):
    """The record cannot be decoded. The message holds none of its bytes."""


class _Schema(NamedTuple):
    """`rows` reads no further than before and after of Debezium's envelope; None for what is none. `whole` checks that
    nothing is left behind the value."""

    parsed: Any
    whole: Callable[[bytes], Any]
    rows: Read | None


class Decoder:
    """`schema_text` turns a registry id into the schema's text; None where no registry is configured."""

    def __init__(
        self, schema_text: Callable[[int], str] | None, form: Literal["auto", "avro", "json"] = "auto"
    ) -> None:
        self._schema_text = schema_text
        self._form = form
        self._schemas: dict[bytes, _Schema] = {}
        """By the five bytes that records begin with."""

    def event(
        self,
        partition: Partition,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> Event:
        """Raises PycdcError where the registry cannot be asked."""
        event = Event(partition, offset, timestamp, headers=headers, raw_key=key, raw_value=value)
        try:
            if key is not None:
                event.key = self._key(key)
            if value is None:
                event.deleted = True
                return event
            schema = self._schemas.get(value[:HEADER]) or self._schema_of(value)
            if schema is None:
                self._fill(event, self._json(value))
            elif schema.rows is None:
                self._fill(event, schema.whole(value))
            else:
                self._fill_from_rows(event, schema, schema.rows, value)
        except (Malformed, UnknownSchema) as error:
            event.problem = str(error.args[0])
        return event

    def _fill_from_rows(self, event: Event, schema: _Schema, rows: Read, data: bytes) -> None:
        """An envelope with a row after the change says all that there is to know with it: half of the record's bytes
        tell where it comes from and when."""
        (before, after), _ = _read(rows, data)
        if after is None:
            self._fill(event, schema.whole(data))
        else:
            event.row, event.before, event.reread = after, before, schema.whole

    def _fill(self, event: Event, value: Any) -> None:
        if value is None:
            event.deleted = True
        elif not isinstance(value, dict):
            raise Malformed(f"the value is no record but {type(value).__name__}")
        elif "op" in value and ("after" in value or "before" in value):
            self._fill_from_envelope(event, value)
        else:
            event.deleted = str(value.get("__deleted", "")).lower() == "true"
            extra = [name for name in value if name.startswith(_DEBEZIUM_EXTRA)]
            row = {name: item for name, item in value.items() if name not in extra} if extra else value
            event.row, event.before = (None, row) if event.deleted else (row, None)

    def _fill_from_envelope(self, event: Event, value: dict[str, Any]) -> None:
        op, before, after = value["op"], value.get("before"), value.get("after")
        event.envelope = value
        if not all(row is None or isinstance(row, dict) for row in (before, after)):
            raise Malformed("before or after is no record")
        if op == "d":
            event.deleted, event.before = True, before
        elif op in _UPSERTS and after is not None:
            event.row, event.before = after, before
        else:
            raise Malformed("the envelope's op is none of c, r, u and d, or the row is not there")

    def _key(self, data: bytes) -> Any:
        """Keys of business events are often plain text, which is no mistake."""
        schema = self._schemas.get(data[:HEADER]) or self._schema_of(data)
        if schema is not None:
            return schema.whole(data)
        try:
            return self._json(data)
        except Malformed:
            return data.decode("utf-8", "replace")

    def known(self, prefix: bytes) -> Any:
        """The parsed schema of records that begin with these five bytes; None before the first of them was read."""
        schema = self._schemas.get(prefix)
        return None if schema is None else schema.parsed

    def is_avro(self, data: bytes) -> bool:
        """Whether it is read as Avro; what is not never fails as a key."""
        if self._form == "auto":
            return self._schema_text is not None and len(data) >= HEADER and data[0] == _MAGIC
        return self._form == "avro"

    def _schema_of(self, data: bytes) -> _Schema | None:
        """The schema that a record names for the first time; None for what is not Avro."""
        if not self.is_avro(data):
            return None
        if len(data) < HEADER or data[0] != _MAGIC:
            raise Malformed("the record is not in Confluent's wire format: no zero byte and schema id")
        assert self._schema_text is not None
        number = int.from_bytes(data[1:HEADER], "big")
        text = self._schema_text(number)
        try:
            parsed = fastavro.parse_schema(json.loads(text))
        except Exception as error:
            raise Malformed(f"schema {number} of the registry is no Avro schema ({type(error).__name__})") from None
        rows = compile_reader(parsed, _ROWS) if is_envelope(parsed) else None
        return self._schemas.setdefault(data[:HEADER], _Schema(parsed, partial(_whole, compile_reader(parsed)), rows))

    def _json(self, data: bytes) -> Any:
        try:
            value = _JSON.decode(data.decode())
        except (ValueError, RecursionError):
            raise Malformed("the record is not JSON") from None
        if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
            return value["payload"]
        return value


def is_envelope(schema: Any) -> bool:
    fields = [field["name"] for field in schema["fields"]] if isinstance(schema, dict) and "fields" in schema else []
    return tuple(fields[:2]) == _ROWS and "op" in fields


def _whole(read: Read, data: bytes) -> Any:
    value, end = _read(read, data)
    if end < len(data):
        raise Malformed("bytes are left behind the Avro record: it was written with another schema")
    return value


def _read(read: Read, data: bytes) -> tuple[Any, int]:
    try:
        value, end = read(data, HEADER)
    except Exception as error:
        # Truncated or foreign bytes fail in whatever way they like: IndexError, UnicodeDecodeError …
        raise Malformed(f"the Avro record cannot be read with its schema ({type(error).__name__})") from None
    if end > len(data):
        raise Malformed("the Avro record cannot be read with its schema (it ends too soon)")
    return value, end

"""From a record's bytes to an `Event`: Avro by registry id or JSON; an envelope, a flat row, or a business event.

Pure, but for `schema_text`, which may ask a registry once for each schema id. A record that cannot be decoded is an
event with a problem: what happens to it is the sink's decision. A registry that is away is no property of a record and
raises.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

import fastavro

from pycdc.connectors.kafka.connect_values import AvroConversions, Convert
from pycdc.errors import UnknownSchema
from pycdc.events import Event, Partition

_JSON: Final = json.JSONDecoder(parse_float=Decimal)
"""`json.loads` makes one for each call that has a `parse_float`."""
_MAGIC: Final = 0
_HEADER: Final = 5
_UPSERTS: Final = frozenset("cru")
_DEBEZIUM_EXTRA: Final = "__"
"""Fields that Debezium's flattening adds begin with it: ``__deleted``, ``__op``, ``__table`` …"""


class Malformed(ValueError):
    """The record cannot be decoded. The message holds none of its bytes."""


class _Schema(NamedTuple):
    parsed: Any
    convert: Convert | None


class Decoder:
    """`schema_text` turns a registry id into the schema's text; None where no registry is configured."""

    def __init__(
        self, schema_text: Callable[[int], str] | None, form: Literal["auto", "avro", "json"] = "auto"
    ) -> None:
        self._schema_text = schema_text
        self._form = form
        self._schemas: dict[int, _Schema] = {}

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
            event.key = self._key(key)
            self._fill(event, None if value is None else self._decoded(value))
        except (Malformed, UnknownSchema) as error:
            event.problem = str(error.args[0])
        return event

    def _fill(self, event: Event, value: Any) -> None:
        if value is None:
            event.deleted = True
        elif not isinstance(value, dict):
            raise Malformed(f"the value is no record but {type(value).__name__}")
        elif "op" in value and ("after" in value or "before" in value):
            self._fill_from_envelope(event, value)
        else:
            event.deleted = str(value.get("__deleted", "")).lower() == "true"
            row = {name: item for name, item in value.items() if not name.startswith(_DEBEZIUM_EXTRA)}
            event.row, event.before = (None, row) if event.deleted else (row, None)

    def _fill_from_envelope(self, event: Event, value: dict[str, Any]) -> None:
        op, before, after = value["op"], value.get("before"), value.get("after")
        event.op, event.source = op, value.get("source")
        if not all(row is None or isinstance(row, dict) for row in (before, after)):
            raise Malformed("before or after is no record")
        if op == "d":
            event.deleted, event.before = True, before
        elif op in _UPSERTS and after is not None:
            event.row, event.before = after, before
        else:
            raise Malformed("the envelope's op is none of c, r, u and d, or the row is not there")

    def _key(self, data: bytes | None) -> Any:
        """Keys of business events are often plain text, which is no mistake."""
        if data is None:
            return None
        if self._is_avro(data):
            return self._avro(data)
        try:
            return self._json(data)
        except Malformed:
            return data.decode("utf-8", "replace")

    def _decoded(self, data: bytes) -> Any:
        return self._avro(data) if self._is_avro(data) else self._json(data)

    def _is_avro(self, data: bytes) -> bool:
        if self._form == "auto":
            return self._schema_text is not None and len(data) >= _HEADER and data[0] == _MAGIC
        return self._form == "avro"

    def _avro(self, data: bytes) -> Any:
        if len(data) < _HEADER or data[0] != _MAGIC:
            raise Malformed("the record is not in Confluent's wire format: no zero byte and schema id")
        schema = self._schema(int.from_bytes(data[1:_HEADER], "big"))
        stream = io.BytesIO(data)
        stream.seek(_HEADER)
        try:
            datum = fastavro.schemaless_reader(stream, schema.parsed, None)
            if stream.tell() != len(data):
                raise Malformed("bytes are left behind the Avro record: it was written with another schema")
            return datum if schema.convert is None or datum is None else schema.convert(datum)
        except Malformed:
            raise
        except Exception as error:
            # Truncated or foreign bytes fail in whatever way they like: EOFError, IndexError, UnicodeDecodeError …
            raise Malformed(f"the Avro record cannot be read with its schema ({type(error).__name__})") from None

    def _schema(self, number: int) -> _Schema:
        if number not in self._schemas:
            assert self._schema_text is not None
            text = self._schema_text(number)
            try:
                parsed = fastavro.parse_schema(json.loads(text))
            except Exception as error:
                raise Malformed(f"schema {number} of the registry is no Avro schema ({type(error).__name__})") from None
            self._schemas[number] = _Schema(parsed, AvroConversions().of(parsed))
        return self._schemas[number]

    def _json(self, data: bytes) -> Any:
        try:
            value = _JSON.decode(data.decode())
        except (ValueError, RecursionError):
            raise Malformed("the record is not JSON") from None
        if isinstance(value, dict) and value.keys() == {"schema", "payload"}:
            return value["payload"]
        return value

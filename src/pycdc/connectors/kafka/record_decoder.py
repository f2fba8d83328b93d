"""From a record's bytes to an `Event`: Avro by registry id or JSON; an envelope, a flat row, or a business event.

Pure, but for `schema_text`, which may ask a registry once for each schema id. A record that cannot be decoded is an
event with a problem: what happens to it is the sink's decision. A registry that is away is no property of a record and
raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from pycdc.config.values import ValuesConfig
from pycdc.connectors.kafka.json_decoder import BadJson, JsonDecoder
from pycdc.connectors.kafka.key_change_headers import has_other_key, other_key, value_of_other, with_schema_of
from pycdc.connectors.kafka.key_decoder import key_reader
from pycdc.errors import PycdcError, UnknownSchema
from pycdc.model.change import Row
from pycdc.model.event import Event, Forms, Partition, Unwritable, added_by_flattening
from pycdc.rows.avro_decoder import BadField, ReadValue, compile_reader
from pycdc.rows.avro_schema import BadSchema, parse_avro

_MAGIC: Final = 0
HEADER: Final = 5
_ROWS: Final = ("before", "after")
_UPSERTS: Final = frozenset("cru")
_MOST_SCHEMAS: Final = 10_000
_LATER: Final = 5.0
"""Seconds for which a registry is not asked again for a schema that it does not have."""


class Malformed(Unwritable):
    """The record cannot be decoded. The message holds none of its bytes."""


class _Schema(NamedTuple):
    """A schema that records name.

    `rows` reads no further than before and after of Debezium's envelope; None for what is none. `whole` checks that
    nothing is left behind the value.
    """

    parsed: Any
    whole: Callable[[bytes], Any]
    rows: ReadValue | None


class Decoder:
    """`schema_text` turns a registry id into the schema's text; None where no registry is configured.

    `record_at` reads one record, if it is there: what is asked for where a null value may repeat a delete that another
    process read.
    """

    def __init__(
        self,
        schema_text: Callable[[int], str] | None,
        form: Literal["auto", "avro", "json"] = "auto",
        key_form: str = "auto",
        values: ValuesConfig | None = None,
        record_at: Callable[[Partition, int], Event | None] | None = None,
    ) -> None:
        self._schema_text = schema_text
        self._form = form
        self._key_form = key_form
        self._json_reader = JsonDecoder()
        options = (
            ()
            if values is None
            else (values.decimal, values.time, values.interval, values.binary, values.money_fraction_digits)
        )
        self._typed = Forms(True, True, *options)
        self._captured = Forms(False, True, *options)
        self._plain = Forms(False, values is not None, *options)
        self._record_at = record_at
        self._removed: dict[Partition, tuple[int, bytes | None]] = {}
        """Behind the last delete of each partition: the offset, and the delete's key."""
        self._bare: set[Partition] = set()
        """Whose null values stand alone: nobody looks what is before them, which takes its time."""
        self._schemas: dict[bytes, _Schema] = {}
        """By the five bytes that records begin with."""
        self._refused: dict[bytes, tuple[float, Malformed]] = {}
        """Why there is none, and until when that is so."""
        self._read_key = key_reader(
            key_form, self._avro_key, self._json_reader, lambda typed: self._typed if typed else self._plain
        )

    def event(
        self,
        partition: Partition,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
    ) -> Event:
        """Decode a record. Raises PycdcError without a registry's answer; other faults are the event's problem."""
        event = Event(partition, offset, timestamp, headers=headers, raw_key=key, raw_value=value)
        if key is not None:
            event.read_key_later(self._read_key)
        try:
            if headers and key is not None and has_other_key(headers):
                event.other_key = self._other_key(headers, key) or {}
            if value is None:
                event.deleted = True
                self._look_back(event)
                return event
            schema = self._schemas.get(value[:HEADER]) or self._schema_of(value)
            if schema is None:
                self._fill_from_json(event, value)
            elif schema.rows is None:
                event.forms = self._typed
                event.schema = schema.parsed
                self._fill(event, schema.whole(value))
            else:
                event.forms = self._typed
                self._fill_from_rows(event, schema, schema.rows, value)
        except Malformed as error:
            event.problem = str(error)
        except PycdcError:
            raise
        except Exception as error:
            # Strangers' bytes may fail in a way that nobody thought of, and then too they are a record's fault.
            event.problem = f"the record cannot be decoded ({type(error).__name__})"
        if event.deleted:
            self._removed[partition] = offset + 1, key
        return event

    def _look_back(self, event: Event) -> None:
        event.repeats = self._removed.get(event.partition) == (event.offset, event.raw_key)
        if event.repeats:
            self._removed[event.partition] = event.offset + 1, event.raw_key  # so does another one behind it
        elif event.offset and event.partition not in self._bare:
            event.look_back = partial(self._is_behind_delete, event)

    def _is_behind_delete(self, event: Event) -> bool:
        before = None if self._record_at is None else self._record_at(event.partition, event.offset - 1)
        if (
            before is not None
            and before.deleted
            and before.raw_value is not None
            and (before.offset, before.raw_key) == (event.offset - 1, event.raw_key)
        ):
            return True
        self._bare.add(event.partition)
        return False

    def _other_key(self, headers: tuple[tuple[str, bytes | None], ...], key: bytes) -> Row | None:
        """Return the other key of a changed one, None where it cannot be read."""
        found = value_of_other(headers)
        if found is not None and found[:1] == b"\0" and self.is_avro_key(found):
            return self._key_in_avro(found)
        schema = self._schema_of_key(key)
        beside = with_schema_of(key, headers) if schema is None else None
        if beside is None:
            return other_key(headers, schema)
        try:
            value, _ = self._json_reader.read(beside)
        except (BadJson, BadField, Unwritable):
            return None
        return value if isinstance(value, dict) else None

    def _key_in_avro(self, found: bytes) -> Row | None:
        try:
            value, _ = self._read_key(found)
        except (Malformed, Unwritable):
            return None
        return value if isinstance(value, dict) else None

    def _fill_from_rows(self, event: Event, schema: _Schema, rows: ReadValue, data: bytes) -> None:
        """Fill an event from its rows alone, where that is all that is needed.

        Half of an envelope's bytes are about where and when it was written.
        """
        (before, after), _ = _read(rows, data)
        if after is None:
            event.schema = schema.parsed
            self._fill(event, schema.whole(data))
        else:
            event.row, event.before, event.reread = after, before, schema.whole

    def _fill_from_json(self, event: Event, data: bytes) -> None:
        try:
            value, typed = self._json_reader.read(data)
        except (BadJson, BadField, Unwritable) as error:
            raise Malformed(f"the record is not JSON: {error}" if isinstance(error, BadJson) else str(error)) from None
        event.forms = self._typed if typed else self._plain
        self._fill(event, value)
        if event.envelope is not None and not typed:
            event.forms = self._captured

    def _fill(self, event: Event, value: Any) -> None:
        if value is None:
            event.deleted = True
        elif isinstance(value, str):
            event.schema, event.forms = None, self._plain
            event.row = self._record_in(value)
        elif not isinstance(value, dict):
            raise Malformed(f"the value is no record but {type(value).__name__}")
        elif "op" in value and ("after" in value or "before" in value):
            self._fill_from_envelope(event, value)
        else:
            event.deleted = str(value.get("__deleted", "")).lower() == "true"
            added = [name for name in value if added_by_flattening(name)]
            row = {name: item for name, item in value.items() if name not in added} if added else value
            event.added = {name: value[name] for name in added}
            event.row, event.before = (None, row) if event.deleted else (row, None)

    def _record_in(self, text: str) -> dict[str, Any]:
        """Return the record of a text: the payload of an outbox is one, in JSON. Raises Malformed."""
        try:
            value, _ = self._json_reader.read(text.encode())
        except (ValueError, Unwritable):
            value = None
        if not isinstance(value, dict):
            raise Malformed("the value is no record but text that is no JSON object")
        return value

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

    def _avro_key(self, data: bytes) -> Any:
        try:
            schema = self._schemas.get(data[:HEADER]) or self._schema_of_avro(data)
            return schema.whole(data)
        except Malformed as error:
            raise Malformed(f"of the key, {error}; if it is none, set source.kafka.key_format") from None

    def known(self, prefix: bytes) -> Any:
        """Return the parsed schema of records that begin with these five bytes; None if none of them was read yet."""
        schema = self._schemas.get(prefix)
        return None if schema is None else schema.parsed

    def fields_of_key(self, key: bytes) -> frozenset[str] | None:
        """Return a key's fields in Avro; None for what is no record. Raises PycdcError without a registry's answer."""
        schema = self._schema_of_key(key)
        return None if schema is None else frozenset(field["name"] for field in schema["fields"])

    def _schema_of_key(self, key: bytes) -> Any:
        """Return the schema of a key that is a record in Avro, else None."""
        try:
            known = self._schemas.get(key[:HEADER]) or self._schema_of_avro(key) if self.is_avro_key(key) else None
        except Malformed:
            return None
        parsed = None if known is None else known.parsed
        return parsed if isinstance(parsed, dict) and "fields" in parsed else None

    def is_avro(self, data: bytes) -> bool:
        """Return whether a value is read as Avro."""
        if self._form == "auto":
            return self._schema_text is not None and len(data) >= HEADER and data[0] == _MAGIC
        return self._form == "avro"

    def is_avro_key(self, data: bytes) -> bool:
        return self._key_form == "avro" or (self._key_form == "auto" and data[:1] == b"\0")

    def _schema_of(self, data: bytes) -> _Schema | None:
        """Return the schema that a record names for the first time; None for what is not Avro."""
        return self._schema_of_avro(data) if self.is_avro(data) else None

    def _schema_of_avro(self, data: bytes) -> _Schema:
        if len(data) < HEADER or data[0] != _MAGIC or self._schema_text is None:
            raise Malformed("the record is not in Confluent's wire format, or no registry is configured")
        prefix = data[:HEADER]
        until, refusal = self._refused.get(prefix, (0.0, None))
        if refusal is not None and time.monotonic() < until:
            raise refusal
        try:
            made = _schema(int.from_bytes(prefix[1:], "big"), self._schema_text)
        except Malformed as error:
            seconds = _LATER if isinstance(error.__cause__, UnknownSchema) else float("inf")
            _bounded(self._refused)[prefix] = (time.monotonic() + seconds, error)
            raise
        _bounded(self._schemas)[prefix] = made
        return made


def _bounded(known: dict[bytes, Any]) -> dict[bytes, Any]:
    """Empty `known` where it has too many schemas: whoever writes records chooses the ids in them."""
    if len(known) >= _MOST_SCHEMAS:
        known.clear()
    return known


def _schema(number: int, schema_text: Callable[[int], str]) -> _Schema:
    try:
        text = schema_text(number)
    except UnknownSchema as error:
        raise Malformed(error.fact) from error
    try:
        parsed = parse_avro(text)
        rows = compile_reader(parsed, _ROWS) if is_envelope(parsed) else None
        return _Schema(parsed, partial(_whole, compile_reader(parsed)), rows)
    except Exception as error:
        why = str(error) if isinstance(error, BadSchema | Unwritable) else type(error).__name__
        raise Malformed(f"schema {number} of the registry is no Avro schema that is read here: {why}") from None


def is_envelope(schema: Any) -> bool:
    fields = [field["name"] for field in schema["fields"]] if isinstance(schema, dict) and "fields" in schema else []
    return tuple(fields[:2]) == _ROWS and "op" in fields


def _whole(read: ReadValue, data: bytes) -> Any:
    value, end = _read(read, data)
    if end < len(data):
        raise Malformed("bytes are left behind the Avro record: it was written with another schema")
    return value


def _read(read: ReadValue, data: bytes) -> tuple[Any, int]:
    try:
        value, end = read(data, HEADER)
    except BadField as error:
        raise Malformed(str(error)) from None
    except Exception as error:
        # Truncated or foreign bytes fail in whatever way they like: IndexError, UnicodeDecodeError …
        raise Malformed(f"the Avro record cannot be read with its schema ({type(error).__name__})") from None
    if end > len(data):
        raise Malformed("the Avro record cannot be read with its schema (it ends too soon)")
    return value, end

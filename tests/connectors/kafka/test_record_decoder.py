"""Records become events, or events with a problem; a row written by the capture side reads back as it was."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.errors import ConnectionLost, UnknownSchema
from pycdc.model.event import Event, Partition

SCHEMAS: dict[int, str] = {}


def schema_text(number: int) -> str:
    if number == 404:
        raise UnknownSchema("the registry has no schema with the id 404")
    if number == 503:
        raise ConnectionLost("the registry is away")
    return SCHEMAS[number]


def avro(number: int, schema: Any, datum: Any) -> bytes:
    SCHEMAS[number] = json.dumps(schema)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), datum)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def decode(value: Any, key: Any = None, *, form: Any = "auto") -> Event:
    def encoded(data: Any) -> bytes | None:
        return data if data is None or isinstance(data, bytes) else json.dumps(data).encode()

    return Decoder(schema_text, form).event(Partition("t", 0), 5, 0, encoded(key), encoded(value))


ROW = {"id": 1, "name": None}


@pytest.mark.parametrize(
    ("value", "deleted", "row", "before"),
    [
        ({"op": "c", "before": None, "after": ROW, "source": {}}, False, ROW, None),
        ({"op": "u", "before": {"id": 0}, "after": ROW}, False, ROW, {"id": 0}),
        ({"op": "r", "after": ROW}, False, ROW, None),
        ({"op": "d", "before": ROW, "after": None}, True, None, ROW),
        ({"schema": {}, "payload": {"op": "d", "before": ROW, "after": None}}, True, None, ROW),
        ({"schema": None, "payload": None}, True, None, None),
        (ROW, False, ROW, None),
        ({**ROW, "__deleted": "true", "__op": "d"}, True, None, ROW),
        ({**ROW, "__deleted": "false"}, False, ROW, None),
        ({"type": "StockAdjusted", "item": {"id": 1}}, False, {"type": "StockAdjusted", "item": {"id": 1}}, None),
        (None, True, None, None),
    ],
    ids=["create", "update", "read", "delete", "schema", "null", "flat", "rewritten", "kept", "event", "tombstone"],
)
def test_what_a_record_says_of_a_row(value: Any, deleted: bool, row: Any, before: Any) -> None:
    event = decode(value, {"id": 1})
    assert event.problem is None
    assert (event.deleted, event.row, event.before, event.key) == (deleted, row, before, {"id": 1})


def test_the_payload_of_an_outbox_is_a_record_in_a_text() -> None:
    payload = {"op": "reserve", "after": 1, "price": 10.5}
    for value in (json.dumps(payload), avro(7, "string", json.dumps(payload))):
        event = decode(value)
        assert (event.problem, event.row, event.envelope) == (None, payload, None)
        assert event.forms == decode(ROW).forms


def test_a_null_value_repeats_the_delete_of_its_key_right_before_it_in_its_partition() -> None:
    decoder, removal = Decoder(None), json.dumps({"op": "d", "before": ROW, "after": None, "source": {}}).encode()

    def of(number: int, offset: int, key: bytes | None, value: bytes | None = None) -> bool:
        return decoder.event(Partition("t", number), offset, 0, key, value).is_behind_delete()

    assert [of(0, 4, b"1", removal), of(1, 9, b"2", removal)] == [False, False]
    assert [of(0, 5, b"1"), of(1, 10, b"3")] == [True, False]
    assert [of(0, 6, b"1"), of(0, 8, b"1"), of(0, 7, None)] == [True, False, False]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"secret", "not JSON"),
        (b"[1]", "no record"),
        (b'"secret"', "no record"),
        (b'"[\\"secret\\"]"', "no record"),
        ({"op": "t", "before": None, "after": None}, "none of c, r, u and d"),
        ({"op": "c", "after": "secret"}, "no record"),
        (b"\0\0\0\x01\x94" + b"x", "no schema with the id 404"),
        (b"\0" + (9).to_bytes(4, "big") + b"\x02", "cannot be read with its schema"),
        (b"\0" + (9).to_bytes(4, "big") + b"\x02ab", "bytes are left"),
    ],
)
def test_a_record_that_cannot_be_decoded_is_an_event_with_a_problem_that_shows_none_of_it(
    value: Any, words: str
) -> None:
    avro(9, {"type": "record", "name": "r", "fields": [{"name": "s", "type": "string"}]}, {"s": "a"})
    event = decode(value)
    assert event.problem is not None
    assert words in event.problem
    assert "secret" not in event.problem
    assert event.raw_value


def test_a_registry_that_is_away_is_no_property_of_the_record() -> None:
    with pytest.raises(ConnectionLost):
        decode(b"\0" + (503).to_bytes(4, "big") + b"x")


@pytest.mark.parametrize(("key", "expected"), [(b"plain", "plain"), (b"17", 17), (b'{"a":1}', {"a": 1}), (None, None)])
def test_a_key_may_be_anything(key: bytes | None, expected: Any) -> None:
    assert decode({"id": 1}, key).key == expected


def test_numbers_of_json_keep_their_digits() -> None:
    assert decode(b'{"price": 10.10}').row == {"price": Decimal("10.10")}


def named(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "connect.version": 1, "connect.name": name, **more}


@pytest.mark.parametrize(
    ("schema", "datum", "expected"),
    [
        (named("int", "io.debezium.time.Date"), 19_000, "2022-01-08"),
        (named("int", "io.debezium.time.Date"), -719_529, "0002-12-31 BC"),
        (named("int", "io.debezium.time.Date"), 2_147_483_647, "infinity"),
        (named("long", "io.debezium.time.MicroTimestamp"), 1_600_000_000_123_456, "2020-09-13 12:26:40.123456"),
        (named("long", "io.debezium.time.Timestamp"), 1_600_000_000_000, "2020-09-13 12:26:40"),
        (named("long", "io.debezium.time.MicroTimestamp"), 9_223_372_036_825_200_000, "infinity"),
        (named("long", "io.debezium.time.MicroTime"), 3_600_000_001, "01:00:00.000001"),
        (named("int", "io.debezium.time.Time"), 3_600_000, "01:00:00"),
        (named("long", "io.debezium.time.MicroDuration"), 5, "5 microseconds"),
        (named("string", "io.debezium.time.ZonedTimestamp"), "2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        (
            named("bytes", "io.debezium.data.Bits", **{"connect.parameters": {"length": "10"}}),
            b"\x05\x02",
            "1000000101",
        ),
    ],
)
@pytest.mark.parametrize("nullable", [False, True])
def test_named_types_become_what_postgres_reads(schema: Any, datum: Any, expected: Any, nullable: bool) -> None:
    kind: Any = ["null", schema] if nullable else schema
    record = {"type": "record", "name": "Value", "fields": [{"name": "v", "type": kind}, {"name": "n", "type": "int"}]}
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", record]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "op", "type": "string"},
        ],
    }
    value = {"before": {"v": datum, "n": 1}, "after": {"v": datum, "n": 2}, "op": "u"}
    event = decode(avro(20, envelope, value), form="avro")
    assert (event.before, event.row) == ({"v": expected, "n": 1}, {"v": expected, "n": 2})


def test_where_an_envelope_comes_from_is_read_when_it_is_asked_for() -> None:
    row = {"type": "record", "name": "Value", "fields": [{"name": "id", "type": "int"}]}
    source = {"type": "record", "name": "Source", "fields": [{"name": "ts_ms", "type": "long"}]}
    fields = [("before", ["null", row]), ("after", ["null", "Value"]), ("source", source), ("op", "string")]
    envelope = {"type": "record", "name": "E", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    datum = {"before": None, "after": {"id": 1}, "source": {"ts_ms": 17}, "op": "u"}
    event = decode(avro(31, envelope, datum))
    assert (event.row, event.envelope) == ({"id": 1}, None)
    assert (event.op, event.source) == ("u", {"ts_ms": 17})
    cut = decode(avro(31, envelope, datum)[:-1])
    assert (cut.row, cut.source) == ({"id": 1}, None)
    assert decode({"op": "c", "after": {}, "source": {"ts_ms": 1}}).source == {"ts_ms": 1}
    assert decode({"id": 1}).op is None

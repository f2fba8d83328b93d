"""Debezium's JSON, as Kafka Connect's JsonConverter writes it."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.errors import ConversionError
from pycdc.model.change import UNCHANGED, LogicalMessage, Lsn, Op, PgType, Run, Table
from pycdc.rows.schema import Schema, json_datum
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.serializer import Serializer
from tests.connectors.postgres import frames
from tests.recording import Schemas
from tests.serialization.runs import FULL, ID, LOG, USERS, batch, column, configured, inserts, run, transaction

NOW = 1_795_250_256_078_123_456
TYPES = Table(
    6,
    "public",
    "types",
    (
        ID,
        column("price", PgType(0, "numeric", (10 << 16 | 2) + 4)),
        column("any", "numeric"),
        column("f4", "float4"),
        column("f8", "float8"),
        column("raw", "bytea"),
        column("tags", PgType(0, "_text", element=PgType(0, "text"))),
        column("fs", PgType(0, "_float8", element=PgType(0, "float8"))),
        column("at", "point"),
        column("doc", "jsonb"),
        column("ok", "bool"),
        column("made", "timestamptz", default="now()"),
    ),
    ("id",),
)
ROW: list[ColumnBytes] = [
    b"7",
    b"-1.50",
    b"1.25",
    b"0.1",
    b"1e+300",
    b"\\x00ff",
    b'{a,NULL,"b c"}',
    b"{NaN,1}",
    b"(Infinity,2)",
    b'{"a": "\xc3\xbc"}',
    b"t",
    None,
]


@pytest.fixture(autouse=True)
def _standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycdc.serialization.serializer.time.time_ns", lambda: NOW)


def strict(text: bytes) -> Any:
    """As a parser reads it that knows nothing but the standard."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def records(*runs: Run, schemas: bool = False, **options: Any) -> list[dict[str, Any]]:
    serializer = Serializer(configured(**options), "db", JsonFormat(schemas=schemas), lambda table, column: None)
    return [record for _, group in serializer.serialize(batch(*runs)) for record in group]


def payloads(*runs: Run, **options: Any) -> list[Any]:
    return [None if record["value"] is None else strict(record["value"]) for record in records(*runs, **options)]


def test_values_are_written_as_the_json_converter_does() -> None:
    [record] = records(inserts(TYPES, ROW))
    assert record["key"] == b'{"id":7}'
    assert strict(record["value"])["after"] == {
        "id": 7,
        "price": b64encode(b"\xff\x6a").decode(),
        "any": {"scale": 2, "value": b64encode(b"\x7d").decode()},
        "f4": 0.1,
        "f8": 1e300,
        "raw": "AP8=",
        "tags": ["a", None, "b c"],
        "fs": ["NaN", 1.0],
        "at": {"x": "Infinity", "y": 2.0, "wkb": strict(record["value"])["after"]["at"]["wkb"], "srid": None},
        "doc": '{"a": "ü"}',
        "ok": True,
        "made": None,
    }


@pytest.mark.parametrize(("text", "name"), [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity")])
@pytest.mark.parametrize("kind", ["float4", "float8"])
def test_floats_that_json_cannot_say_are_strings(text: str, name: str, kind: str) -> None:
    table = Table(1, "public", "t", (column("f", kind),))
    [value] = payloads(inserts(table, [text.encode()]))
    assert value["after"] == {"f": name}


@given(st.floats())
def test_no_float_makes_the_json_invalid(value: float) -> None:
    arrays = Schema("array", items=Schema("float64"))
    [found] = strict(json.dumps(json_datum(arrays, [value])).encode())
    assert float(found) == value or value != value


def test_the_fields_of_a_record_are_in_the_schema_s_order() -> None:
    [record] = records(inserts(TYPES, ROW), schemas=True)
    document = strict(record["value"])
    fields = {field["field"]: field for field in document["schema"]["fields"]}
    assert list(document["payload"]) == list(fields)
    assert list(document["payload"]["after"]) == [field["field"] for field in fields["after"]["fields"]]
    assert list(document["payload"]["source"]) == [field["field"] for field in fields["source"]["fields"]]


def test_the_schema_beside_the_payload_is_connect_s() -> None:
    [record] = records(inserts(TYPES, ROW), schemas=True)
    assert strict(record["key"]) == {
        "schema": {
            "type": "struct",
            "fields": [{"type": "int32", "optional": False, "field": "id"}],
            "optional": False,
            "name": "shop.public.types.Key",
        },
        "payload": {"id": 7},
    }
    schema = strict(record["value"])["schema"]
    assert (schema["name"], schema["version"]) == ("shop.public.types.Envelope", 2)
    after = {field["field"]: field for field in schema["fields"][1]["fields"]}
    assert after["price"] == {
        "type": "bytes",
        "optional": True,
        "name": "org.apache.kafka.connect.data.Decimal",
        "version": 1,
        "parameters": {"scale": "2", "connect.decimal.precision": "10"},
        "field": "price",
    }
    assert after["tags"] == {
        "type": "array",
        "items": {"type": "string", "optional": True},
        "optional": True,
        "field": "tags",
    }
    assert after["made"]["default"] == "1970-01-01T00:00:00.000000Z"


def as_json(schema: Schema, value: Any) -> Any:
    """What a consumer of the Avro record holds, in the converter's JSON."""
    return strict(json.dumps(json_datum(schema, value)).encode())


@pytest.mark.parametrize(
    "made",
    [
        inserts(TYPES, ROW),
        run(Op.READ, USERS, b"1\t\\N\t2"),
        run(Op.UPDATE, USERS, frames.update(1, [b"1", UNCHANGED, b"2"])),
        run(Op.UPDATE, FULL, frames.update(2, [b"1", b"b", UNCHANGED], [b"1", b"a", b"c"], b"O")),
        run(Op.UPDATE, USERS, frames.update(1, [b"2", b"x", b"2"], [b"1", None, None])),
        run(Op.DELETE, USERS, frames.delete(1, [b"1", None, None])),
        run(Op.TRUNCATE, USERS, frames.truncate(1)),
        inserts(LOG, [b"1", None]),
        run(Op.BEGIN, None),
    ],
    ids=["types", "read", "update", "full", "key", "delete", "truncate", "no key", "begin"],
)
def test_json_and_avro_say_the_same(made: Run) -> None:
    schemas = Schemas()
    options: dict[str, Any] = {"envelope": {"skip": [], "transaction_metadata": True}}
    known: dict[str, Schema] = {}

    def schema_id(topic: str, part: str, schema: Schema) -> int:
        number = schemas(topic, part, schema)
        known[schemas.texts[number]] = schema
        return number

    avro = Serializer(configured(**options), "db", AvroFormat(schema_id), lambda table, column: None)
    written = [record for _, group in avro.serialize(batch(made)) for record in group]
    plain = records(made, **options)
    assert len(plain) == len(written)
    for mine, other in zip(plain, written, strict=True):
        assert mine.get("headers") == other.get("headers")
        for part in ("key", "value"):
            if other[part] is None:
                assert mine[part] is None
            else:
                text, value = schemas.decode(other[part])
                expected = as_json(known[text], value)
                if made.table is TYPES and part == "value":
                    # A single-precision float has more digits once it was bytes.
                    expected["after"]["f4"] = 0.1
                assert strict(mine[part]) == expected


def test_a_logical_message_has_its_content_as_base64() -> None:
    message = LogicalMessage("audit", b"\x00hello", True, Lsn(900))
    made = Run(Op.MESSAGE, None, transaction(), 0, [b""], message=message)
    [record] = records(made)
    assert strict(record["key"]) == {"prefix": "audit"}
    assert strict(record["value"])["message"] == {"prefix": "audit", "content": b64encode(b"\x00hello").decode()}


def test_a_tombstone_and_a_key_of_a_table_without_one_are_nothing_at_all() -> None:
    deleted = records(run(Op.DELETE, USERS, frames.delete(1, [b"1", None, None])), schemas=True)
    assert deleted[1]["value"] is None
    assert strict(deleted[1]["key"])["payload"] == {"id": 1}
    [record] = records(inserts(LOG, [b"1", None]), schemas=True)
    assert record["key"] is None


def test_adjusted_names_are_those_of_the_schema() -> None:
    table = Table(1, "public", "t", (column("we ird", nullable=False, identity=True), column("ünï")), ("we ird",))
    [record] = records(inserts(table, [b"x", b"y"]), schemas=True)
    assert strict(record["key"])["payload"] == {"we_ird": "x"}
    assert strict(record["value"])["payload"]["after"] == {"we_ird": "x", "_n_": "y"}
    [record] = records(inserts(table, [b"x", b"y"]), envelope={"adjust_names": False})
    assert strict(record["value"])["after"] == {"we ird": "x", "ünï": "y"}


def test_text_that_is_no_utf_8_stops_or_is_mended() -> None:
    with pytest.raises(ConversionError, match=r"column 'name' of table public\.users"):
        records(inserts(USERS, [b"1", b"\xff", b"2"]))
    [value] = payloads(inserts(USERS, [b"1", b"\xff", b"2"]), values={"encoding_errors": "replace"})
    assert value["after"]["name"] == "\ufffd"


def test_text_stays_readable() -> None:
    [record] = records(inserts(USERS, [b"1", "Grüße 😀".encode(), b"2"]))
    assert "Grüße 😀".encode() in record["value"]
    assert b": " not in record["value"].replace("Grüße 😀".encode(), b"")

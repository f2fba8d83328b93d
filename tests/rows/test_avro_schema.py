"""A schema comes from whoever answers as the registry: nothing of it becomes code, and none makes a record endless."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import fastavro
import pytest

from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.engine_interfaces import NotColumnar
from pycdc.model.event import Event, Partition
from pycdc.rows.avro_decoder import compile_reader
from pycdc.rows.avro_schema import BadSchema, parse_avro, parse_schema
from tests.connectors.kafka.test_columnar_decoder import Targets

ran: list[str] = []
CODE = "__import__('tests.rows.test_avro_schema', fromlist=['ran']).ran.append('code')"
HOSTILE_NAMES = (f"x'\n{CODE}\n'", f'x"]\n{CODE}', f"f: {CODE} #", "x\\", "\\\n", "{}", "{p}", "日本", "d", "p", "n")


def record(*fields: Any, name: str = "Row") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": one, "type": kind} for one, kind in fields]}


def nested(kind: str, depth: int) -> Any:
    inner = {"array": "items", "map": "values"}[kind]
    return {"type": kind, inner: nested(kind, depth - 1)} if depth else "int"


def doubling(depth: int, leaf: Any) -> Any:
    """A record whose value is 2 ** depth times `leaf`."""
    return (
        leaf if not depth else record(("a", doubling(depth - 1, leaf)), ("b", _name(depth - 1, leaf)), name=f"R{depth}")
    )


def _name(depth: int, leaf: Any) -> Any:
    return f"R{depth}" if depth else leaf


REFUSED: dict[str, Any] = {
    "size is code": record(("f", {"type": "fixed", "name": "F", "size": f"{CODE} or 1"})),
    "size is a text": record(("f", {"type": "fixed", "name": "F", "size": "2"})),
    "size is true": record(("f", {"type": "fixed", "name": "F", "size": True})),
    "size is negative": record(("f", {"type": "fixed", "name": "F", "size": -1})),
    "size is huge": record(("f", {"type": "fixed", "name": "F", "size": 10**30})),
    "size is a fraction": record(("f", {"type": "fixed", "name": "F", "size": 1.5})),
    "no size": record(("f", {"type": "fixed", "name": "F"})),
    "scale is code": record(("f", {"type": "bytes", "logicalType": "decimal", "scale": CODE})),
    "scale is huge": record(("f", {"type": "bytes", "logicalType": "decimal", "scale": 10**12})),
    "precision is a list": record(("f", {"type": "bytes", "logicalType": "decimal", "scale": 1, "precision": [1]})),
    "type is code": record(("f", CODE)),
    "type in type is code": record(("f", {"type": CODE})),
    "type is a number": record(("f", 7)),
    "type is null": {"type": None},
    "nothing": None,
    "items are code": record(("f", {"type": "array", "items": CODE})),
    "no items": {"type": "array"},
    "no fields": {"type": "record", "name": "R"},
    "fields are a text": {"type": "record", "name": "R", "fields": CODE},
    "a field is a text": {"type": "record", "name": "R", "fields": [CODE]},
    "a field twice": record(("f", "int"), ("f", "int")),
    "a field without a name": {"type": "record", "name": "R", "fields": [{"type": "int"}]},
    "a name that is a list": {"type": "record", "name": [CODE], "fields": []},
    "a name with half a surrogate": record(("\ud800", "int")),
    "a name with NUL": record(("a\0", "int")),
    "symbols are a text": record(("f", {"type": "enum", "name": "E", "symbols": CODE})),
    "a symbol is a number": record(("f", {"type": "enum", "name": "E", "symbols": [1]})),
    "a union in a union": record(("f", [["int"]])),
    "a type defined twice": record(("f", {"type": "fixed", "name": "F", "size": 1}), ("g", record(name="F"))),
    "a primitive defined anew": record(("f", {"type": "fixed", "name": "int", "size": 1})),
    "parsed already, it says": {**record(("f", CODE)), "__fastavro_parsed__": True, "__named_schemas": {}},
    "deep": nested("array", 100),
    "deeper than the stack": json.loads("[" * 500 + "]" * 500),
    "too many types": ["int"] * 20_000,
    "more nulls than bytes": doubling(40, "null"),
    "more empty records than bytes": doubling(40, record(name="Empty")),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_schema_that_holds_what_no_schema_holds_is_refused_by_name(what: str) -> None:
    began = time.process_time()
    with pytest.raises(BadSchema) as refused:
        parse_schema(REFUSED[what])
    assert ran == []
    assert "import" not in str(refused.value)
    event = decoded(REFUSED[what])
    assert event.problem is not None
    assert event.problem.startswith("schema 1 of the registry is no Avro schema that is read here: ")
    assert ran == []
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"\\ud800"', "1e999", "nul", '"' + "x" * (5 << 20) + '"'])
def test_an_answer_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(BadSchema):
        parse_avro(text)


def decoded(schema: Any, body: bytes = b"\0" * 64) -> Event:
    decoder = Decoder(lambda number: json.dumps(schema))
    return decoder.event(Partition("t", 0), 0, 0, None, b"\0\0\0\0\1" + body)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_is_only_a_name(name: str) -> None:
    """In every place where a schema has names, by the reader of a row, of an envelope and of columns."""
    fixed = {"type": "fixed", "name": f"F{name}", "size": 1, "aliases": [name], "doc": CODE}
    enum = {"type": "enum", "name": f"E{name}", "symbols": [name, "B"], "default": name}
    decimal = {"type": "bytes", "logicalType": "decimal", "scale": 1, "precision": 5, "connect.name": name}
    odd = {"type": "string", "logicalType": name, "connect.name": name, "connect.parameters": {name: name}}
    row = record(
        ("id", "long"), (name, "string"), ("f", fixed), ("e", enum), ("m", decimal), ("o", odd), name=f"R{name}"
    )
    row["fields"][1] |= {"default": CODE, "doc": CODE, "aliases": [CODE]}
    envelope = record(("before", ["null", row]), ("after", ["null", row["name"]]), ("op", "string"))
    values = b"\x0e" + b"\x04ab" + b"x" + b"\x02" + b"\x02\x15" + b"\0"
    for schema, body in ((row, values), (envelope, b"\0\x02" + values + b"\x02c")):
        decoder = Decoder(lambda number, schema=schema: json.dumps(schema))  # type: ignore[misc]
        data = b"\0\0\0\0\1" + body
        event = decoder.event(Partition("t", 0), 0, 0, None, data)
        assert event.problem is None
        assert event.row is not None
        assert (event.row["id"], event.row[name], event.row["e"]) == (7, "ab", "B")
        row, removals = ColumnarDecoder(decoder, Targets()).part("t", [None], [data])
        assert (row[0][0], removals) == (7, 0)
    assert ran == []


@pytest.mark.parametrize("kind", ["array", "map"])
def test_arrays_in_arrays_are_read_however_deep_they_are(kind: str) -> None:
    schema = record(("id", "long"), ("f", nested(kind, 30)))
    value: Any = 5
    for _ in range(30):
        value = [value, value] if kind == "array" and value == 5 else [value] if kind == "array" else {"k": value}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), {"id": 1, "f": value})
    event = decoded(schema, out.getvalue())
    assert event.problem is None
    assert event.row == {"id": 1, "f": value}
    decoder = Decoder(lambda number: json.dumps(schema))
    data = b"\0\0\0\0\1" + out.getvalue()
    decoder.event(Partition("t", 0), 0, 0, None, data)
    assert ColumnarDecoder(decoder, Targets()).part("t", [None], [data]) == ([(1, value)], 0)


def test_a_union_of_many_branches_is_read_by_its_number() -> None:
    branches = [record(("x", "int"), name=f"R{number}") for number in range(3000)]
    read = compile_reader(parse_schema(branches))
    for number in (0, 1, 63, 64, 2999):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema([*branches]), (f"R{number}", {"x": number}))
        assert read(out.getvalue(), 0) == ({"x": number}, len(out.getvalue()))
    with pytest.raises(IndexError):
        read(b"\xf0\xff\x7f\0", 0)


def test_a_table_may_have_as_many_nullable_columns_as_postgres_allows() -> None:
    columns = [(f"c{number}", ["null", "int"]) for number in range(1600)]
    row = record(*columns)
    envelope = record(("before", ["null", row]), ("after", ["null", "Row"]), ("op", "string"), name="Envelope")
    # Neither row is there but `after`, whose columns are all NULL.
    found = decoded(envelope, b"\0" + b"\2" + b"\0" * 1600 + b"\2c")
    assert found.problem is None
    assert found.row == dict.fromkeys((name for name, _ in columns), None)


def test_items_that_take_no_bytes_are_few() -> None:
    read = compile_reader(parse_schema({"type": "array", "items": "null"}))
    assert read(b"\x06\0", 0) == ([None] * 3, 2)
    with pytest.raises(ValueError, match="more items than bytes"):
        read(b"\x06" * 60 + b"\0", 0)


def test_a_schema_that_is_refused_is_refused_once_and_its_records_each() -> None:
    asked: list[int] = []

    def schema_text(number: int) -> str:
        asked.append(number)
        return "{"

    decoder = Decoder(schema_text)
    events = [decoder.event(Partition("t", 0), place, 0, None, b"\0\0\0\0\1x") for place in range(3)]
    assert [event.problem is None for event in events] == [False] * 3
    assert asked == [1]
    with pytest.raises(NotColumnar):
        ColumnarDecoder(decoder, Targets()).part("t", [None], [b"\0\0\0\0\1x"])


def test_a_record_that_holds_itself_without_end_is_a_record_that_cannot_be_read() -> None:
    endless = record(("again", "Row"))
    list_ = record(("next", ["null", "Row"]))
    assert decoded(endless).problem is not None
    assert decoded(list_, b"\x02" * 100_000).problem is not None
    assert decoded(list_, b"\x02\x02\0").row == {"next": {"next": {"next": None}}}


def test_a_schema_that_refers_to_another_one_of_the_registry_is_refused_with_its_remedy() -> None:
    with pytest.raises(BadSchema, match="refer to others in the registry are not read: register them with all types"):
        parse_schema(record(("place", "shop.Place")))

"""The rules of the Avro specification, checked against fastavro's own resolution of the same schemas."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import fastavro.utils
import pytest

from pycdc.demo.compatibility import can_read, compatible

A_RECORD = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}]}


def record(*fields: dict[str, Any], name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "a", "type": "int"}, *fields]}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "Tree"], "default": None}],
}
WIDER_TREE = {**TREE, "fields": [{"name": "v", "type": "long"}, TREE["fields"][1]]}

CASES: list[tuple[Any, Any, bool]] = [
    ("int", "int", True),
    ("long", "int", True),
    ("int", "long", False),
    ("double", "float", True),
    ("float", "double", False),
    ("bytes", "string", True),
    ("string", "int", False),
    (["null", "int"], "int", True),
    ("int", ["null", "int"], False),
    (["null", "int", "string"], ["null", "int"], True),
    (["null", "int"], ["null", "int", "string"], False),
    (record({"name": "b", "type": "int", "default": 0}), A_RECORD, True),
    (record({"name": "b", "type": "int"}), A_RECORD, False),
    (record({"name": "b", "type": ["null", "int"], "default": None}), A_RECORD, True),
    (A_RECORD, record({"name": "b", "type": "int"}), True),
    (record(name="Other"), A_RECORD, False),
    ({**record(name="Other"), "aliases": ["R"]}, A_RECORD, True),
    ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, True),
    ({"type": "array", "items": "int"}, {"type": "array", "items": "string"}, False),
    ({"type": "map", "values": "double"}, {"type": "map", "values": "int"}, True),
    (enum("A", "B"), enum("A"), True),
    (enum("A"), enum("A", "B"), False),
    (enum("A", default="A"), enum("A", "B"), True),
    ({"type": "fixed", "name": "F", "size": 4}, {"type": "fixed", "name": "F", "size": 4}, True),
    ({"type": "fixed", "name": "F", "size": 4}, {"type": "fixed", "name": "F", "size": 8}, False),
    (WIDER_TREE, TREE, True),
    (TREE, WIDER_TREE, False),
    ({"type": "int", "connect.type": "int16"}, "int", True),
]


@pytest.mark.parametrize(("reader", "writer", "wanted"), CASES)
def test_what_a_reader_can_read_follows_the_specification(reader: Any, writer: Any, wanted: bool) -> None:
    assert can_read(reader, writer) is wanted


@pytest.mark.parametrize(("reader", "writer", "wanted"), [case for case in CASES if case[2]])
def test_what_counts_as_readable_is_read_by_fastavro(reader: Any, writer: Any, wanted: bool) -> None:
    written, read = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    for value in fastavro.utils.generate_many(written, 5):
        data = io.BytesIO()
        fastavro.schemaless_writer(data, written, value)
        data.seek(0)
        fastavro.schemaless_reader(data, written, read)


@pytest.mark.parametrize(
    ("level", "wanted"),
    [
        ("NONE", True),
        ("BACKWARD", True),
        ("BACKWARD_TRANSITIVE", False),
        ("FORWARD", True),
        ("FORWARD_TRANSITIVE", False),
        ("FULL", True),
        ("FULL_TRANSITIVE", False),
    ],
)
def test_transitive_levels_look_at_every_earlier_version(level: str, wanted: bool) -> None:
    assert compatible(level, "int", ["string", "int"]) is wanted


def test_forward_lets_fields_go_that_had_defaults_only() -> None:
    old = record({"name": "b", "type": "int"})
    assert not compatible("FORWARD", A_RECORD, [old])
    assert compatible("FORWARD", old, [A_RECORD])
    assert not compatible("FULL", old, [A_RECORD])


@pytest.mark.parametrize("schema", ["nothing", {"type": "record"}, 7])
def test_what_is_no_schema_is_a_value_error(schema: Any) -> None:
    with pytest.raises(ValueError, match="not an Avro schema"):
        can_read(schema, "int")

"""Generated readers read what fastavro wrote, and as fastavro reads it."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.rows.avro_decoder import BadField, compile_reader

PLAIN: list[tuple[Any, st.SearchStrategy[Any]]] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", st.integers(-(2**63), 2**63 - 1)),
    ("float", st.floats(width=32, allow_nan=False)),
    ("double", st.floats(allow_nan=False)),
    ("string", st.text()),
    ("bytes", st.binary()),
    ({"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 3}, st.decimals(-9, 9, places=3)),
    ({"type": "int", "logicalType": "date"}, st.dates()),
    ({"type": "string", "logicalType": "uuid"}, st.uuids()),
    ({"type": "long", "logicalType": "unheard-of"}, st.integers(0, 9)),
    ({"type": "long", "logicalType": "decimal"}, st.integers(0, 9)),
]


def nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas with strategies of their values, as pairs."""
    arrays = children.map(lambda c: ({"type": "array", "items": c[0]}, st.lists(c[1], max_size=3)))
    maps = children.map(lambda c: ({"type": "map", "values": c[0]}, st.dictionaries(st.text(), c[1], max_size=3)))
    optional = st.sampled_from(PLAIN[1:]).map(lambda c: (["null", c[0]], st.none() | c[1]))
    return arrays | maps | optional


schemas = st.recursive(st.sampled_from(PLAIN), nested, max_leaves=4)


def written(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


@given(st.data(), st.lists(schemas, max_size=5))
def test_records_read_as_fastavro_reads_them(data: st.DataObject, kinds: list[Any]) -> None:
    fields = [{"name": f"f{number}", "type": kind} for number, (kind, _) in enumerate(kinds)]
    schema = fastavro.parse_schema({"type": "record", "name": "R", "fields": fields})
    datum = {f"f{number}": data.draw(values) for number, (_, values) in enumerate(kinds)}
    encoded = written(schema, datum)
    expected = fastavro.schemaless_reader(io.BytesIO(encoded), schema, None)
    assert compile_reader(schema)(b"12345" + encoded, 5) == (expected, 5 + len(encoded))


TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["LEAF", "NODE"]}},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
        {"name": "children", "type": {"type": "array", "items": "Tree"}},
        {"name": "other", "type": ["null", "string", "Hash", "Tree"]},
    ],
}


def tree(**more: Any) -> dict[str, Any]:
    return {"kind": "LEAF", "hash": b"ab", "children": [], "other": None, **more}


@pytest.mark.parametrize("other", [None, "text", b"cd", tree(other="x")])
def test_types_that_name_themselves_and_others_are_read(other: Any) -> None:
    schema = fastavro.parse_schema(TREE)
    datum = tree(kind="NODE", children=[tree(), tree(other=b"ef")], other=other)
    encoded = written(schema, datum)
    assert compile_reader(schema)(encoded, 0) == (datum, len(encoded))


def test_the_first_fields_of_a_record_are_read_alone() -> None:
    schema = fastavro.parse_schema(TREE)
    encoded = written(schema, tree())
    assert compile_reader(schema, ["kind", "hash"])(encoded, 0) == (("LEAF", b"ab"), 3)


def test_blocks_with_a_size_are_read_and_a_count_beyond_the_bytes_is_refused() -> None:
    read = compile_reader(fastavro.parse_schema({"type": "array", "items": "int"}))
    assert read(b"\x03\x04\x02\x04\x00", 0) == ([1, 2], 5)
    with pytest.raises(ValueError, match="more items than bytes"):
        read(b"\xfe\xff\xff\xff\x0f", 0)


@given(st.integers(0, 10))
def test_bytes_of_another_schema_are_an_error_or_end_elsewhere(cut: int) -> None:
    schema = fastavro.parse_schema(TREE)
    encoded = written(schema, tree(other="some text"))[:cut]
    try:
        _, end = compile_reader(schema)(encoded, 0)
    except (ValueError, LookupError):
        return
    assert end > len(encoded)


NEGATIVE = [{"name": "before", "type": "long"}, {"name": "value", "type": "string"}, {"name": "behind", "type": "long"}]


@pytest.mark.parametrize("length", [b"\x03", b"\x01", b"\xff\x01", b"\xff" * 9 + b"\x01"])
@pytest.mark.parametrize("kind", ["string", "bytes", ["null", "bytes"], {"type": "map", "values": "int"}])
def test_a_negative_length_is_an_error_that_names_the_field(kind: Any, length: bytes) -> None:
    fields = [{**field, "type": kind if field["name"] == "value" else field["type"]} for field in NEGATIVE]
    read = compile_reader(fastavro.parse_schema({"type": "record", "name": "R", "fields": fields}))
    branch = b"\x02" if isinstance(kind, list | dict) else b""
    with pytest.raises(BadField, match="field value has a negative length"):
        read(b"\x02" + branch + length + b"abc" * 40, 0)


@given(st.binary(max_size=12))
def test_what_is_read_of_any_bytes_is_what_they_were_written_from(data: bytes) -> None:
    schema = fastavro.parse_schema({"type": "record", "name": "R", "fields": NEGATIVE})
    try:
        datum, end = compile_reader(schema)(data, 0)
        encoded = written(schema, datum)
    except (ValueError, LookupError, OverflowError):
        return
    # Numbers may have more bytes than they need.
    assert end > len(data) or len(encoded) <= end

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.rows.avro import long, unsigned, varint, writer
from pycdc.rows.schema import NO_DEFAULT, Schema, avro_text, connect_json, json_datum

GOLDEN = Path(__file__).parents[1] / "golden"


def from_avro(avro: Any, namespace: str = "", known: dict[str, Schema] | None = None) -> Schema:
    """A Connect schema back from the Avro that a converter made of it."""
    known = {} if known is None else known
    if isinstance(avro, list):
        first_null = avro[0] == "null"
        return from_avro(avro[1 if first_null else 0], namespace, known).as_optional()
    if isinstance(avro, str):
        plain = {"int": "int32", "long": "int64", "float": "float32", "double": "float64"}
        if avro in ("string", "bytes", "boolean", *plain):
            return Schema(plain.get(avro, avro))
        return known[avro if "." in avro else f"{namespace}.{avro}"]
    default = avro.get("connect.default", NO_DEFAULT)
    common = {
        "name": avro.get("connect.name"),
        "version": avro.get("connect.version"),
        "doc": avro.get("connect.doc"),
        "parameters": tuple(avro.get("connect.parameters", {}).items()),
        "default": default,
    }
    if avro["type"] == "record":
        inner = avro.get("namespace", namespace)
        fields = tuple((field["name"], from_avro(field["type"], inner, known)) for field in avro["fields"])
        schema = Schema("struct", **common, fields=fields)
        known[f"{inner}.{avro['name']}"] = schema
        return schema
    if avro["type"] == "array":
        return Schema("array", **common, items=from_avro(avro["items"], namespace, known))
    base = from_avro(avro["type"], namespace, known)
    return Schema(avro.get("connect.type", base.type), **common)


def recorded() -> list[str]:
    out = []
    for name in ("stream", "snapshot", "headers"):
        for schema in json.loads((GOLDEN / "3.6" / f"{name}.schemas.json").read_text()).values():
            loaded = json.loads(schema) if isinstance(schema, str) else schema
            out.append(json.dumps(loaded, separators=(",", ":"), ensure_ascii=False))
    return out


@pytest.mark.parametrize("text", recorded())
def test_the_avro_text_of_every_recorded_schema_comes_out_to_the_letter(text: str) -> None:
    assert avro_text(from_avro(json.loads(text))) == text


@given(st.integers(0, 2**64))
def test_varints_by_table_equal_varints_by_loop(value: int) -> None:
    assert unsigned(value) == varint(value)


@given(st.integers(-(2**63), 2**63 - 1))
def test_longs_are_zigzag_varints(value: int) -> None:
    assert long(value) == varint((value << 1) ^ (value >> 63))


def test_a_null_takes_the_branch_that_its_schema_gives_it() -> None:
    assert writer(Schema("int32", optional=True))(None) == b"\x00"
    assert writer(Schema("int32", optional=True))(1) == b"\x02\x02"
    assert writer(Schema("int32", optional=True, default=5))(None) == b"\x02"
    assert writer(Schema("int32", optional=True, default=5))(1) == b"\x00\x02"


def test_the_json_converter_s_schema_names_fields_and_types_as_connect_does() -> None:
    schema = Schema(
        "struct",
        name="a.Value",
        fields=(
            ("id", Schema("int32")),
            ("f", Schema("float64", optional=True)),
            ("b", Schema("bytes", optional=True)),
        ),
    )
    assert connect_json(schema) == {
        "type": "struct",
        "fields": [
            {"type": "int32", "optional": False, "field": "id"},
            {"type": "double", "optional": True, "field": "f"},
            {"type": "bytes", "optional": True, "field": "b"},
        ],
        "optional": False,
        "name": "a.Value",
    }
    assert json_datum(schema, {"id": 1, "f": None, "b": b"\x01"}) == {"id": 1, "f": None, "b": "AQ=="}

"""Schemas inferred from JSON: what they hold is the document, and Avro's own reader agrees."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.rows.avro import writer
from pycdc.rows.schema import avro_schema
from pycdc.serialization.inferred_schema import NotInferable, Untyped, inferred

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab \u00e4", max_size=5)
)
NAMES = st.text("abc", min_size=1, max_size=2)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def stripped(value: Any) -> Any:
    """The document without members that have no type, nor those that a schema gives to its other elements."""
    if isinstance(value, dict):
        members = {key: stripped(member) for key, member in value.items()}
        return {key: member for key, member in members.items() if member is not None}
    if isinstance(value, list):
        items = [stripped(item) for item in value]
        return items if any(item is not None for item in items) else None
    return value


@given(st.dictionaries(NAMES, DOCUMENTS, max_size=4) | st.lists(DOCUMENTS, max_size=4))
def test_what_is_written_is_what_was_there_but_for_members_without_a_type(document: Any) -> None:
    try:
        _, datum = inferred(json.dumps(document), "payload", adjust=True)
    except NotInferable:
        return
    assert stripped(datum) == stripped(document)


ORDER = {"id": 1, "at": 2**40, "net": 1.5, "paid": True, "lines": [{"a": 1}, {"b": ["x"]}], "of": {"lines": {"z": 1}}}


def test_avros_own_reader_reads_it() -> None:
    schema, datum = inferred(json.dumps(ORDER), "payload", adjust=True)
    read = fastavro.schemaless_reader(io.BytesIO(writer(schema)(datum)), fastavro.parse_schema(avro_schema(schema)))
    assert stripped(read) == ORDER


def test_numbers_of_an_array_take_the_widest_type() -> None:
    schema, datum = inferred("[1, 4294967296, 1.5]", "payload", adjust=True)
    assert schema.items is not None
    assert (schema.items.type, datum) == ("float64", [1.0, 4294967296.0, 1.5])


@pytest.mark.parametrize(
    "text",
    ['{"order-id": 17, "order_id": 99}', '{"a": [{"x y": 1, "x-y": null}]}', '{"o": {"1a": "x", "_1a": []}}'],
)
def test_members_whose_names_become_the_same_are_not_lost_but_not_expanded(text: str) -> None:
    with pytest.raises(NotInferable, match="several members of an object would be field"):
        inferred(text, "payload", adjust=True)
    inferred(text, "payload", adjust=False)


def test_names_are_made_legal() -> None:
    schema, datum = inferred('{"a b": 1, "9": {"x": 1}}', "payload", adjust=True)
    assert datum == {"a_b": 1, "_9": {"x": 1}}
    assert dict(schema.fields)["_9"].name == "payload._9"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        '"a"',
        "null",
        "[]",
        "[null]",
        "{",
        "[" * 100_000,
        "[1, true]",
        "[[], {}]",
        '{"a": [null]}',
        '{"a": [[], []]}',
        '[{"a": []}, {"a": 1}]',
        '[{"a": 1}, {"a": "b"}]',
        None,
    ],
)
def test_what_has_no_schema_is_refused(text: object) -> None:
    with pytest.raises(NotInferable):
        inferred(text, "payload", adjust=True)


KEPT = Untyped(nulls="optional_bytes", empty_arrays="optional_string")


def test_members_without_a_type_are_kept_where_that_is_asked_for() -> None:
    schema, datum = inferred('{"a": [], "b": null, "c": [[], []], "d": [null]}', "payload", adjust=True, untyped=KEPT)
    fields = {name: avro_schema(field) for name, field in schema.fields}
    texts = {"type": "array", "items": ["null", "string"]}
    assert fields == {
        "a": ["null", texts],
        "b": ["null", "bytes"],
        "c": ["null", {"type": "array", "items": ["null", texts]}],
        "d": ["null", {"type": "array", "items": ["null", "bytes"]}],
    }
    assert datum == {"a": [], "b": None, "c": [[], []], "d": [None]}


@pytest.mark.parametrize("untyped", [Untyped(), KEPT])
def test_an_empty_array_takes_the_type_of_another_in_its_place(untyped: Untyped) -> None:
    schema, datum = inferred('[{"a": []}, {"a": [1]}, {"a": null}]', "payload", adjust=True, untyped=untyped)
    assert datum == [{"a": []}, {"a": [1]}, {"a": None}]
    assert schema.items is not None
    assert avro_schema(dict(schema.items.fields)["a"]) == ["null", {"type": "array", "items": ["null", "int"]}]


@pytest.mark.parametrize(("text", "optional"), [('[{"a": 1}, {"a": 2}]', True), ('[{"a": 1}, {"b": 2}]', False)])
def test_objects_of_an_array_that_differ_are_required_as_debezium_has_them(text: str, optional: bool) -> None:
    schema, _ = inferred(text, "payload", adjust=True)
    assert schema.items is not None
    assert schema.items.optional is optional


def test_an_array_with_a_null_among_differing_objects_keeps_it() -> None:
    assert inferred('[{"a": 1}, null, {"b": 2}]', "payload", adjust=True)[1] == [
        {"a": 1, "b": None},
        None,
        {"a": None, "b": 2},
    ]

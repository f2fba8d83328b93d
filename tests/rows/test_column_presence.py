"""Which values an event's row really has, and what its old row is known to hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.model.change import UNCHANGED, Column, Op, PgType, Table
from pycdc.model.event import Event, Partition, Unwritable
from pycdc.rows.column_presence import ColumnPresence, holds_field
from pycdc.serialization.json_format import JsonFormat
from tests.connectors.postgres import frames
from tests.generated_examples import examples
from tests.serialization.runs import Recorder, column, run

RECORDED = {
    name: json.loads(line)
    for name, line in (
        text.strip().rstrip(",").split(": ", 1)
        for text in (Path(__file__).parents[1] / "golden" / "types.json").read_text().splitlines()
        if text.startswith('"t_toast.')
    )
}
WITHOUT = ("vector", "numeric", "varbit", "float8[]", "numeric[]", "boolean[]", "timestamptz[]", "interval[]")
"""Types for which Debezium has no placeholder."""
WITH = (
    *("text", "varchar", "bpchar", "json", "jsonb", "xml", "bytea", "hstore", "citext", "ltree", "tsvector"),
    *("text[]", "varchar[]", "jsonb[]", "int4[]", "int8[]", "date[]", "uuid[]", "bytea[]"),
)


def kind(name: str) -> PgType:
    if name.endswith("[]"):
        return PgType(0, "_" + name[:-2], element=kind(name[:-2]))
    return PgType(0, {"boolean": "bool"}.get(name, name))


def table(*names: str) -> Table:
    key = Column("id", PgType(0, "int8"), identity=True, nullable=False)
    return Table(1, "public", "t", (key, *(column(f"c{n}", kind(name)) for n, name in enumerate(names))), ("id",))


def captured(of: Table, texts: list[Any], *, form: str = "avro", headers: bool = True, **options: Any) -> Event:
    """What an update becomes on the way through a topic. Without headers: as Debezium would have written it."""
    recorder = Recorder(form=None if form == "avro" else JsonFormat(schemas=form == "json_schema"), **options)
    ((_, [record]),) = recorder.groups(run(Op.UPDATE, of, frames.update(1, texts)))
    decoder = Decoder(lambda number: recorder.schemas.texts[number], "avro" if form == "avro" else "json")
    own = tuple(record.get("headers", ())) if headers else ()
    event = decoder.event(Partition("t", 0), 0, 0, record["key"], record["value"], own)
    assert event.problem is None
    return event


def unsent(event: Event, placeholder: str = "__debezium_unavailable_value") -> set[str]:
    ColumnPresence(placeholder).settle(event)
    assert event.row is not None
    assert event.row.keys().isdisjoint(event.unsent)
    return set(event.unsent)


@pytest.mark.parametrize("name", [name for name in RECORDED if RECORDED[name].get("unavailable") is not None])
def test_what_debezium_wrote_for_a_value_that_was_not_sent_is_recognised(name: str) -> None:
    value = json.dumps({"op": "u", "before": None, "after": {"id": 1, "c": RECORDED[name]["unavailable"]}})
    event = Decoder(None).event(Partition("t", 0), 0, 0, b'{"id":1}', value.encode())
    assert unsent(event) == {"c"}


FORMS = st.sampled_from(["avro", "json", "json_schema"])
COLUMNS = st.lists(st.sampled_from(WITH + WITHOUT), min_size=1, max_size=6)


@given(COLUMNS, FORMS, st.booleans(), st.sampled_from(["json", "map"]), st.data())
@examples(20)
def test_the_header_names_what_was_not_sent_whatever_the_type(
    names: list[str], form: str, flat: bool, hstore: str, data: st.DataObject
) -> None:
    of = table(*names)
    lacking = data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    texts = [b"7", *(UNCHANGED if lacks else None for lacks in lacking)]
    options: dict[str, Any] = {"values": {"hstore": hstore}, **({"flatten": {}} if flat else {})}
    assert unsent(captured(of, texts, form=form, **options)) == {f"c{n}" for n, lacks in enumerate(lacking) if lacks}


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
PLACEHOLDERS = (
    st.sampled_from(["__debezium_unavailable_value", "?", "nicht da", 'q"\\', "größe", "hex:6e61FF", "hex:c3"])
    | TEXTS.filter(lambda text: not text.startswith("hex:"))
    | TEXTS.map(lambda text: f"hex:{text.encode().hex()}")
)


@given(st.lists(st.sampled_from(WITH), min_size=1, max_size=6), FORMS, PLACEHOLDERS, st.booleans())
@example(["hstore"], "avro", "\x0b", False)
@example(["hstore"], "json", "\x0b", True)
@example(["hstore", "text[]"], "json_schema", '\x1f\u2028\x7f"', False)
@examples(20)
def test_without_a_header_a_placeholder_is_recognised_in_each_of_its_forms(
    names: list[str], form: str, placeholder: str, flat: bool
) -> None:
    options = {"values": {"unavailable": placeholder}, **({"flatten": {}} if flat else {})}
    event = captured(table(*names), [b"7", *[UNCHANGED] * len(names)], form=form, headers=False, **options)
    assert unsent(event, placeholder) == {f"c{n}" for n in range(len(names))}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-200, 200) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=5))
def test_other_values_are_values(row: dict[str, Any]) -> None:
    assert unsent(Event(Partition("t", 0), 0, 0, row=dict(row))) == set()
    presence = ColumnPresence("__debezium_unavailable_value")
    assert not presence.any_not_sent([*row.values()])
    assert presence.any_not_sent([*row.values(), "__debezium_unavailable_value"])


def test_a_placeholder_in_a_column_that_the_header_does_not_name_is_a_value() -> None:
    row = {"a": "__debezium_unavailable_value", "b": None}
    assert unsent(Event(Partition("t", 0), 0, 0, row=row, headers=(("__pycdc.unavailable", b"b"),))) == {"b"}


def test_a_placeholder_may_be_given_in_debezium_s_hexadecimal_notation() -> None:
    presence = ColumnPresence("hex:" + b"gone\xff".hex())
    for value in (b"gone\xff", [103, 111, 110, 101, -1], "gone\ufffd", [b"gone\xff"]):
        assert presence.was_not_sent(value)


# What an old row tells.


def delete(before: Any, key: Any, headers: Any = (), **facts: Any) -> Event:
    event = Event(Partition("t", 0), 0, 0, key=key, before=before, deleted=True, headers=headers, **facts)
    ColumnPresence("__debezium_unavailable_value").settle(event)
    return event


def test_the_header_tells_what_the_old_row_holds() -> None:
    event = delete({"id": 1, "code": "", "a.b": 0}, {"id": 1}, (("__pycdc.before", b"id"),))
    assert [holds_field(event, name) for name in ("id", "code", "code.x", "a.b", "other")] == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert event.before == {"id": 1}


def test_without_the_header_the_message_key_is_told_and_nobody_knows_of_the_rest() -> None:
    event = delete({"id": 1, "code": "x"}, {"id": 1})
    assert [holds_field(event, name) for name in ("id", "code")] == [True, None]
    assert holds_field(event, "code", full=True) is True
    assert event.before == {"id": 1, "code": "x"}


@pytest.mark.parametrize("key", [None, 2, "x"])
def test_a_key_that_no_field_of_the_row_has_is_not_debezium_s_and_casts_no_doubt(key: Any) -> None:
    assert holds_field(delete({"id": 1, "code": ""}, key), "code") is True


@pytest.mark.parametrize("key", [1, "1", {"ID": 1}, {"key": "1"}])
def test_a_field_of_the_key_is_known_without_its_name_too_and_the_rest_is_doubtful(key: Any) -> None:
    schema_of_both = schema({"name": "code", "type": "string"})
    for code, known in (("", None), ("x", True)):
        event = delete({"id": 1, "code": code}, key, schema=schema_of_both)
        assert [holds_field(event, name) for name in ("id", "code")] == [True, known]


def test_beside_a_key_that_cannot_be_read_what_may_be_a_filling_is_doubtful() -> None:
    def unreadable(data: bytes) -> Any:
        raise Unwritable("no key")

    event = Event(Partition("t", 0), 1, 0, before={"id": 1, "code": "", "n": 0, "m": None}, deleted=True, raw_key=b"?")
    event.read_key_later(unreadable)
    ColumnPresence("placeholder").settle(event)
    assert [holds_field(event, name) for name in ("id", "code", "n", "m")] == [True, None, None, None]


def schema(*fields: dict[str, Any]) -> Any:
    row = {"type": "record", "name": "Value", "fields": [{"name": "id", "type": "int"}, *fields]}
    both = [{"name": "before", "type": ["null", row]}, {"name": "after", "type": ["null", "Value"]}]
    return {"type": "record", "name": "Envelope", "fields": [*both, {"name": "op", "type": "string"}]}


NOTE = {"name": "note", "type": ["null", "string"], "default": None}
CODE = {"name": "code", "type": "string"}
DEFAULT = {"name": "code", "type": "string", "default": "none"}
DATE = {"name": "code", "type": {"type": "int", "connect.name": "io.debezium.time.Date"}}


@pytest.mark.parametrize(
    ("field", "before", "whole"),
    [
        (NOTE, {"note": "x"}, True),
        (NOTE, {"note": None}, None),
        (CODE, {"code": "x"}, True),
        (CODE, {"code": ""}, None),
        (DEFAULT, {"code": "x"}, None),
        (DEFAULT, {"code": "none"}, None),
        (DATE, {"code": "1970-01-01"}, None),
        ({"name": "n", "type": "int"}, {"n": 0}, None),
        ({"name": "n", "type": "int"}, {"n": 2}, True),
    ],
    ids=str,
)
def test_a_value_that_only_the_source_can_have_written_proves_the_old_row_whole(
    field: dict[str, Any], before: dict[str, Any], whole: bool | None
) -> None:
    event = delete({"id": 1, "z": 0, **before}, {"id": 1}, schema=schema(field, {"name": "z", "type": "int"}))
    assert holds_field(event, "z") is whole


def test_the_schema_beside_a_json_record_proves_as_much() -> None:
    text = {"field": "note", "type": "string", "optional": True}
    row = {"field": "before", "type": "struct", "fields": [{"field": "id", "type": "int32"}, text]}
    for note, whole in (("x", True), (None, None)):
        before = {"id": 1, "note": note, "z": 0}
        payload = {"op": "d", "before": before, "after": None}
        document = {"schema": {"type": "struct", "fields": [row]}, "payload": payload}
        event = delete(dict(before), {"id": 1}, raw_value=json.dumps(document).encode())
        assert holds_field(event, "z") is whole

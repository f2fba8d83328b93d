"""What an event means, decided without a server."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.config.postgres_sink import PostgresSinkConfig, Route
from pycdc.model.event import Event, Partition
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import Unwritable, text_of
from pycdc.sinks.postgres.route_checks import mismatches
from pycdc.sinks.postgres.routing.field_paths import ABSENT, has_value
from pycdc.sinks.postgres.routing.router import RouteTable
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.writes import RowWrite


def column(name: str, base: str = "text", category: str = "S", **options: Any) -> TargetColumn:
    values = {"element": "", "required": False, "identity": "", "generated": False, **options}
    return TargetColumn(name, ("pg_catalog", base), category, base, **values)


COLUMNS = [
    column("id", "int4", "N", required=True),
    column("name"),
    column("quantity", "int4", "N"),
    column("doc", "jsonb", "U"),
    column("tags", "_text", "A", element="text"),
    column("deleted", "bool", "B"),
    column("total", "int4", "N", generated=True),
]
ITEMS = TargetTable("public", "items", {c.name: c for c in COLUMNS}, ("id",), frozenset({frozenset({"id"})}))


def route(**options: Any) -> Route:
    return Route.model_validate({"topic": "items", "table": "items", **options})


class Told(NamedTuple):
    """A write with the names of its columns."""

    operation: str
    key: dict[str, str]
    set: dict[str, str | None]
    add: dict[str, Any]
    must_exist: bool


def told(write: RowWrite) -> Told:
    shape = write.shape
    assigned = dict(zip(shape.set, write.set, strict=True))
    added = dict(zip(shape.add, write.add, strict=True))
    return Told(shape.operation, dict(zip(shape.key, write.key, strict=True)), assigned, added, shape.must_exist)


def router(*routes: Route) -> RouteTable:
    settings = PostgresSinkConfig.model_validate({"dsn": "x", "routes": routes or [route()]})
    return RouteTable(settings, {"items": ITEMS})


def writes(event: Event, *routes: Route) -> list[Told]:
    return [told(write) for write in router(*routes).writes(event)]


def event(row: Any = None, key: Any = None, **options: Any) -> Event:
    return Event(Partition("items", 0), 7, 1_700_000_000_000, key=key, row=row, **options)


def only(event: Event, **options: Any) -> Told:
    (write,) = writes(event, route(**options))
    return write


def test_a_row_goes_into_the_columns_of_its_names_and_the_key_says_which_row() -> None:
    write = only(event({"id": 1, "name": "cup", "quantity": None}))
    assert (write.operation, write.key, write.set) == ("upsert", {"id": "1"}, {"name": "cup", "quantity": None})


def test_a_field_that_is_absent_leaves_its_column_alone_and_null_does_not() -> None:
    mapping = {"name": "title", "quantity": "stock.count"}
    assert only(event({"id": 1, "stock": {}}), set=mapping).set == {}
    assert only(event({"id": 1, "title": None, "stock": {"count": 3}}), set=mapping).set == {
        "name": None,
        "quantity": "3",
    }


@pytest.mark.parametrize("placeholder", ["__debezium_unavailable_value", b"__debezium_unavailable_value"])
def test_a_value_that_was_not_sent_leaves_its_column_alone(placeholder: Any) -> None:
    assert only(event({"id": 1, "name": "x", "doc": placeholder})).set == {"name": "x"}
    assert only(event({"id": 1, "tags": ["__debezium_unavailable_value"]})).set == {}


def unsent(row: Any, names: bytes, **options: Any) -> Event:
    return event(row, headers=(("__pycdc.unavailable", names),), **options)


def test_a_row_that_was_not_sent_whole_is_never_made() -> None:
    lacking = unsent({"id": 1, "name": "x", "quantity": None, "doc": None}, b"doc,quantity")
    write = only(lacking)
    assert (write.operation, write.set, write.must_exist) == ("update", {"name": "x"}, True)
    assert only(lacking).set == {"name": "x"}, "once more is as good as once"
    assert only(unsent({"id": 1, "doc": None}, b"doc"), set={"name": "doc.title"}).must_exist
    assert only(unsent({"id": 1, "doc": None}, b"doc"), operation="insert").operation == "update"
    assert not only(unsent({"id": 1, "doc": None}, b"doc"), operation="update", missing="ignore").must_exist


def test_what_was_not_sent_and_is_not_written_does_not_matter() -> None:
    write = only(unsent({"id": 1, "doc": None, "name": "x"}, b"doc"), set={"name": "name"})
    assert (write.operation, write.set, write.must_exist) == ("upsert", {"name": "x"}, False)
    assert only(unsent({"id": 1, "total": 0, "name": "x"}, b"total")).operation == "upsert"


@pytest.mark.parametrize("placeholder", [[95, 95, 103], ["x"], {"__g": "__g"}, '{"__g":"__g"}', "X19n"])
def test_every_form_of_a_placeholder_leaves_its_column_alone(placeholder: Any) -> None:
    settings = PostgresSinkConfig.model_validate({"dsn": "x", "routes": [route()], "unavailable": "__g"})
    raw = json.dumps({"id": 1, "tags": placeholder}).encode()
    (write,) = RouteTable(settings, {"items": ITEMS}).writes(event({"id": 1, "tags": placeholder}, raw_value=raw))
    assert told(write).set == ({"tags": '{"x"}'} if placeholder == ["x"] else {})


HONEST = (("__pycdc.before", b"id"),)


def test_a_delete_is_never_of_the_row_that_a_zero_names() -> None:
    by_name, old = {"key": {"name": "code"}}, {"id": 1, "code": ""}
    for headers in (HONEST, ()):
        with pytest.raises(Unwritable, match=r"does not tell field code.*REPLICA IDENTITY FULL"):
            only(event(before=dict(old), key={"id": 1}, headers=headers, deleted=True), **by_name)
    assert only(event(before=dict(old), key={"id": 1, "code": "a"}, deleted=True, headers=HONEST), **by_name).key == {
        "name": "a"
    }
    full = event(before={"id": 1, "code": "a"}, key={"id": 1}, deleted=True)
    assert only(full, replica_identity="full", **by_name).key == {"name": "a"}


def test_a_delete_is_not_chosen_by_what_its_old_row_does_not_tell() -> None:
    for headers in (HONEST, ()):
        with pytest.raises(Unwritable, match="does not tell field name"):
            writes(
                event(before={"id": 1, "name": ""}, key={"id": 1}, deleted=True, headers=headers),
                route(when={"name": "x"}),
            )
    chosen = event(before={"id": 1, "name": "x"}, key={"id": 1}, deleted=True)
    assert writes(chosen, route(when={"id": "1"}))
    assert writes(chosen, route(when={"name": "x"}, replica_identity="full"))


def test_a_field_without_a_column_is_not_lost_silently() -> None:
    with pytest.raises(Unwritable, match="no column colour"):
        only(event({"id": 1, "colour": "red"}))
    assert only(event({"id": 1, "colour": "red"}), set={}).set == {}


def test_a_deleted_row_is_deleted_by_its_old_row_or_its_key() -> None:
    assert only(event(before={"id": 1}, deleted=True)).operation == "delete"
    assert only(event(key={"id": 2}, deleted=True)).key == {"id": "2"}
    assert only(event(key=3, deleted=True)).key == {"id": "3"}
    assert writes(event(key={"id": 2}, deleted=True), route(on_delete="ignore")) == []


def test_a_soft_delete_marks_the_row() -> None:
    soft = {"soft_delete": {"deleted": True, "name": "$timestamp"}}
    marked = {"deleted": "true", "name": "2023-11-14T22:13:20+00:00"}
    kept = only(event(key={"id": 2}, deleted=True), on_delete="soft_delete", **soft)
    assert (kept.operation, kept.set, kept.must_exist) == ("update", marked, False)
    removal = only(event({"id": 2, "reason": "lost"}), operation="soft_delete", **soft)
    assert (removal.operation, removal.set) == ("update", marked)


@pytest.mark.parametrize(
    ("amount", "expected"), [(-5, -5), (Decimal("2.50"), Decimal("2.50")), ("3.0", 3), (1.5, Decimal("1.5"))]
)
def test_a_delta_is_added(amount: Any, expected: Any) -> None:
    write = only(
        event({"id": 1, "by": amount, "at": "now"}),
        operation="delta",
        delta={"quantity": "by"},
        set={"name": "at"},
    )
    assert (write.operation, write.add, write.set) == ("update", {"quantity": expected}, {"name": "now"})
    assert write.must_exist


@pytest.mark.parametrize("amount", [None, True, "a lot", float("nan"), [1]])
def test_what_is_no_number_is_not_added(amount: Any) -> None:
    with pytest.raises(Unwritable, match="no number to add to column quantity"):
        only(event({"id": 1, "by": amount}), operation="delta", delta={"quantity": "by"})


def test_one_event_may_write_several_tables_and_its_type_chooses_the_routes() -> None:
    adjusted = route(when={"type": "adjusted"}, set={"quantity": "count"}, constants={"deleted": False})
    removed = route(when={"$headers.kind": "removed"}, operation="delete")
    logged = route(set={"name": "$offset"})
    found = writes(event({"id": 1, "type": "adjusted", "count": 4}), adjusted, removed, logged)
    assert [(w.operation, w.set) for w in found] == [
        ("upsert", {"quantity": "4", "deleted": "false"}),
        ("upsert", {"name": "7"}),
    ]
    found = writes(event({"id": 1}, headers=(("kind", b"removed"),)), adjusted, removed)
    assert [w.operation for w in found] == ["delete"]


def test_a_key_that_an_event_does_not_tell_is_an_error_and_so_is_a_topic_without_a_route() -> None:
    for row in ({}, {"id": None}):
        with pytest.raises(Unwritable, match="key column id"):
            only(event(row))
    with pytest.raises(Unwritable, match="no route takes topic items"):
        writes(event({"id": 1}), Route(topic="orders", table="items"))


def test_paths_reach_key_headers_and_the_record_itself() -> None:
    write = only(
        event({"a": {"b": 1}}, key={"nested": {"id": 9}}, headers=(("h", b"x"),)),
        key={"id": "$key.nested.id"},
        set={"name": "$headers.h", "quantity": "$partition", "doc": "a"},
    )
    assert (write.key, write.set) == ({"id": "9"}, {"name": "x", "quantity": "0", "doc": '{"b": 1}'})


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (True, "deleted", "true"),
        (Decimal("1.10"), "quantity", "1.10"),
        (b"\x00\xff", "name", "\\x00ff"),
        (["a", None, 'q"\\'], "tags", '{"a",NULL,"q\\"\\\\"}'),
        ([["a"], ["b"]], "tags", '{{"a"},{"b"}}'),
        ([1, None], "doc", "[1, null]"),
        ({"n": Decimal("1.5")}, "doc", '{"n": 1.5}'),
        (float("inf"), "name", "+infinity"),
    ],
)
def test_a_value_is_written_as_its_column_reads_it(value: Any, name: str, text: str) -> None:
    assert text_of(value, ITEMS.columns[name]) == text


@pytest.mark.parametrize("value", ["a\0b", {"a": 1}, ["a"], object()])
def test_a_value_that_a_column_cannot_hold_is_refused_without_being_shown(value: Any) -> None:
    with pytest.raises(Unwritable, match="column name") as refused:
        text_of(value, ITEMS.columns["name"])
    assert "a\0b" not in str(refused.value)


def test_a_route_that_does_not_fit_its_table_is_told_with_a_remedy() -> None:
    wrong = route(key={"name": "n"}, set={"colour": "c", "total": "t"})
    facts = [fact for fact, _ in mismatches(wrong, ITEMS)]
    assert facts == [
        "table public.items has no column colour",
        "column total of table public.items is generated",
        "table public.items has no unique index over name, so one event could write several rows",
    ]
    assert [fact for fact, _ in mismatches(wrong, None)] == ["table items does not exist"]
    assert list(mismatches(route(), ITEMS)) == []


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.decimals(allow_nan=False), st.text(),
    st.binary(max_size=3), st.lists(st.text(max_size=3), max_size=2), st.just("__debezium_unavailable_value"),
)  # fmt: skip
rows = st.dictionaries(st.sampled_from([*ITEMS.columns, "other"]), values)
mappings = [
    {},
    {"operation": "insert", "constants": {"quantity": 5, "id": 9}},
    {"operation": "update", "missing": "ignore", "set": {"name": "other", "quantity": "quantity", "doc": "$key.a"}},
    {"key": {"id": "other"}, "set": {"name": "name", "tags": "a.b", "deleted": "deleted"}},
    {"operation": "delta", "delta": {"quantity": "other"}},
    {"operation": "delete"},
]


@given(rows, st.sampled_from(mappings), st.sampled_from([None, {"id": 3}, {"a": 1}]))
def test_compiled_routes_write_what_the_plain_ones_write(row: Any, mapping: Any, key: Any) -> None:
    found: list[Any] = []
    for raw in (None, repr(row).encode()):
        try:
            found.append(writes(event(row, key, raw_value=raw), route(**mapping)))
        except Unwritable as refused:
            found.append(str(refused))
    assert found[0] == found[1]


def test_rows_of_any_number_of_kinds_are_written() -> None:
    every = router(route(set={"name": "name"}))
    for number in range(300):
        (write,) = every.writes(event({"id": number, f"x{number}": 1, "name": "a"}, raw_value=b""))
        assert told(write).set == {"name": "a"}


def test_a_header_is_bytes_to_bytea_and_a_text_to_others() -> None:
    raw = column("raw", "bytea", "U")
    table = TargetTable("public", "items", {**ITEMS.columns, "raw": raw}, ("id",), ITEMS.uniques)
    settings = PostgresSinkConfig.model_validate(
        {"dsn": "x", "routes": [route(set={"raw": "$headers.h", "name": "$headers.n"})]}
    )
    found = RouteTable(settings, {"items": table})
    for header in (b"a\\b", b"\xff\xfe"):
        (write,) = found.writes(event({"id": 1}, headers=(("h", header), ("n", b"x")), raw_value=b"{}"))
        assert write.set == ("\\x" + header.hex(), "x")
    with pytest.raises(Unwritable, match="column name"):
        found.writes(event({"id": 1}, headers=(("h", b""), ("n", b"\xff"))))


def test_a_field_of_the_payload_is_one_whatever_its_name_begins_with() -> None:
    """Those that flattening adds are found where a route asks for them, and missed nowhere."""
    mapping = {"quantity": "__v", "name": "__op"}
    made = event({"id": 1, "__v": 7}, added={"__op": "c"})
    assert only(made, set=mapping).set == {"quantity": "7", "name": "c"}
    with pytest.raises(Unwritable, match="no column __v"):
        only(made)


@pytest.mark.parametrize("name", ["x'\nraise SystemExit", '"]', "\\", "{x}", "\u2028"])
def test_no_name_of_a_field_gets_out_of_a_compiled_route(name: str) -> None:
    assert only(event({"id": 1, name: "a"}, raw_value=b"{}"), set={"name": name}).set == {"name": "a"}


def test_rows_whose_keys_are_equal_in_several_texts_need_a_topic_of_one_partition() -> None:
    loose = column("id", "citext", "S", required=True)
    table = TargetTable("public", "items", {**ITEMS.columns, "id": loose}, ("id",), ITEMS.uniques)
    settings = PostgresSinkConfig.model_validate({"dsn": "x", "routes": [route()]})
    row = event({"id": "ABC", "name": "a"}, raw_value=b"{}")
    assert len(RouteTable(settings, {"items": table}).writes(row)) == 1
    with pytest.raises(Unwritable, match="give the topic one partition"):
        RouteTable(settings, {"items": table}, ordered=lambda topic: False).writes(row)
    assert len(RouteTable(settings, {"items": ITEMS}, ordered=lambda topic: False).writes(event({"id": 1}))) == 1


@pytest.mark.parametrize(
    ("wanted", "taken", "left"),
    [
        (True, [True, "true", "True"], [False, "false", None, 1, "yes"]),
        ("true", [True, "true"], [False, None]),
        (1, [1, 1.0, Decimal("1.00"), "1"], [True, "1.0", 2, None]),
        ("None", ["None"], [None]),
        ("Absent.ABSENT", ["Absent.ABSENT"], []),
    ],
)
def test_when_takes_what_has_the_value_whatever_its_type(wanted: Any, taken: list[Any], left: list[Any]) -> None:
    for value, takes in [*((value, True) for value in taken), *((value, False) for value in left)]:
        assert has_value(value, wanted) is takes, value
    assert not has_value(ABSENT, wanted)

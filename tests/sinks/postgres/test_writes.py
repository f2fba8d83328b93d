"""A batch in few statements does what its events do one by one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pycdc.events import Event, Partition
from pycdc.sinks.postgres.statements import parameters, statement
from pycdc.sinks.postgres.writes import Write, groups_of, shape_of
from tests.sinks.postgres.test_routing import ITEMS

Rows = dict[str, dict[str, Any]]


EVENT = Event(Partition("items", 0), 7, 0)


def write(operation: Any, key: int = 1, assigned: Any = None, add: Any = None, **more: Any) -> Write:
    assigned, add = assigned or {}, add or {}
    shape = shape_of(ITEMS, operation, ("id",), tuple(assigned), tuple(add), **more)
    return Write(shape, (str(key),), tuple(assigned.values()), tuple(add.values()), EVENT, EVENT)


def assigned(write: Write) -> dict[str, Any]:
    return dict(zip(write.shape.set, write.set, strict=True))


def added(write: Write) -> dict[str, Any]:
    return dict(zip(write.shape.add, write.add, strict=True))


def told(*writes: Write) -> list[tuple[str, list[tuple[dict[str, Any], dict[str, Any]]]]]:
    return [(g.shape.operation, [(assigned(w), added(w)) for w in g.writes]) for g in groups_of(writes)]


def test_upserts_of_a_row_become_one_with_the_last_value_of_each_column() -> None:
    first, second = {"name": "a", "quantity": "1"}, {"name": None}
    assert told(write("upsert", assigned=first), write("upsert", assigned=second)) == [
        ("upsert", [({"name": None, "quantity": "1"}, {})])
    ]


def test_deltas_of_a_row_are_summed_and_never_across_an_assignment() -> None:
    one, two = write("update", add={"quantity": 3}), write("update", add={"quantity": Decimal("-1.5")})
    assert told(one, two) == [("update", [({}, {"quantity": Decimal("1.5")})])]
    reset = write("update", assigned={"quantity": "0"})
    assert told(one, reset, two) == [
        ("update", [({}, {"quantity": 3})]),
        ("update", [({"quantity": "0"}, {})]),
        ("update", [({}, {"quantity": Decimal("-1.5")})]),
    ]


def test_a_delete_makes_what_came_before_it_needless_and_what_follows_comes_later() -> None:
    assert told(write("upsert", assigned={"name": "a"}), write("delete")) == [("delete", [({}, {})])]
    assert [operation for operation, _ in told(write("delete"), write("upsert", assigned={"name": "b"}))] == [
        "delete",
        "upsert",
    ]


def test_rows_of_a_statement_are_sorted_by_key_and_parents_come_first() -> None:
    later = [write("upsert", key, {"name": "x"}, order=1) for key in (3, 1, 2)]
    (group,) = groups_of(later)
    assert [w.key for w in group.writes] == [("1",), ("2",), ("3",)]
    parent, removal = write("upsert", 9, {"quantity": "1"}, order=0), write("delete", 8, order=0)
    found = [
        (g.shape.operation, g.shape.order) for g in groups_of([*later, removal, parent, write("delete", 7, order=1)])
    ]
    assert found[0] == ("upsert", 0)
    assert found[-1][0] == "delete"


def test_an_upsert_without_a_column_that_an_insert_needs_updates_a_row_that_must_be_there() -> None:
    shape = shape_of(ITEMS, "upsert", ("name",), ("quantity",))
    assert (shape.operation, shape.must_exist) == ("update", True)


def test_statements_cast_to_types_without_modifiers_and_name_their_columns_safely() -> None:
    (group,) = groups_of([write("upsert", 5, {"name": 'q"\\'})])
    text = statement(group.shape).decode()
    assert text == (
        'INSERT INTO "public"."items" AS t ("id", "name") SELECT u."c0", u."c1" '
        'FROM unnest(%s::"pg_catalog"."int4"[], %s::"pg_catalog"."text"[]) '
        'AS u("c0", "c1") ON CONFLICT ("id") DO UPDATE SET "name" = excluded."name"'
    )
    assert parameters(group.shape, group.writes) == ['{"5"}', '{"q\\"\\\\"}']


def apply(rows: Rows, write: Write) -> None:
    """What a write does, by the book."""
    (key,) = write.key
    if write.shape.operation == "delete":
        rows.pop(key, None)
    elif write.shape.operation == "upsert":
        rows.setdefault(key, {"name": None, "quantity": 0}).update(assigned(write))
    elif key in rows:
        rows[key].update(assigned(write))
        for column, amount in added(write).items():
            rows[key][column] = int(rows[key][column] or 0) + int(amount)


keys = st.integers(1, 3)
names = st.dictionaries(st.just("name"), st.sampled_from(["a", "b", None]))
both = st.builds(lambda n, q: {**n, **q}, names, st.dictionaries(st.just("quantity"), st.integers(0, 9).map(str)))
some = st.one_of(
    st.builds(write, st.sampled_from(["upsert", "update"]), keys, both),
    st.builds(write, st.just("update"), keys, names, st.fixed_dictionaries({"quantity": st.integers(-9, 9)})),
    st.builds(write, st.just("delete"), keys),
)


@given(st.lists(some, max_size=12))
def test_statements_end_in_the_same_rows_as_the_writes_one_by_one(batch: list[Write]) -> None:
    one_by_one: Rows = {}
    for each in batch:
        apply(one_by_one, each)
    together: Rows = {}
    for group in groups_of(batch):
        assert len({w.key for w in group.writes}) == len(group.writes)
        for each in group.writes:
            apply(together, each)
    shown = [{k: {**r, "quantity": int(r["quantity"])} for k, r in rows.items()} for rows in (one_by_one, together)]
    assert shown[0] == shown[1]

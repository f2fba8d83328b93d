"""A batch in few statements does what its events do one by one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pycdc.model.event import Event, Partition
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.statements import parameters, statement
from pycdc.sinks.postgres.writing.table_dependencies import ForeignKey, TableDependencies
from pycdc.sinks.postgres.writing.write_order import sequenced, unmoved
from pycdc.sinks.postgres.writing.writes import RowWrite, groups_of, in_order, merge, shape_of
from tests.sinks.postgres.routing.test_router import ITEMS

Rows = dict[str, dict[str, Any]]


EVENT = Event(Partition("items", 0), 7, 0)


def write(
    operation: Any, key: int = 1, assigned: Any = None, add: Any = None, table: TargetTable = ITEMS, **more: Any
) -> RowWrite:
    assigned, add = assigned or {}, add or {}
    shape = shape_of(table, operation, ("id",), tuple(assigned), tuple(add), **more)
    return RowWrite(shape, (str(key),), tuple(assigned.values()), tuple(add.values()), EVENT, EVENT)


def assigned(write: RowWrite) -> dict[str, Any]:
    return dict(zip(write.shape.set, write.set, strict=True))


def added(write: RowWrite) -> dict[str, Any]:
    return dict(zip(write.shape.add, write.add, strict=True))


def told(*writes: RowWrite) -> list[tuple[str, list[tuple[dict[str, Any], dict[str, Any]]]]]:
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


def places(*writes: RowWrite) -> list[tuple[str, int]]:
    return [(group.shape.operation, group.shape.order) for group in groups_of(writes)]


def test_rows_of_a_statement_are_sorted_by_key() -> None:
    (group,) = groups_of([write("upsert", key, {"name": "x"}, order=1) for key in (3, 1, 2)])
    assert [w.key for w in group.writes] == [("1",), ("2",), ("3",)]


def test_parents_come_first_and_go_last_and_rows_that_no_other_names_go_before_all() -> None:
    """So that no row is ever without its parent, and unique values are free as early as can be."""
    parents, children = replace(ITEMS, ties=TableDependencies(parent=True)), replace(ITEMS, rank=1)
    made = [write("upsert", 1, order=1, table=children), write("upsert", 2, order=0, table=parents)]
    gone = [write("delete", 3, order=0, table=parents), write("delete", 4, order=1, table=children)]
    assert places(*made, *gone) == [("delete", 1), ("upsert", 0), ("upsert", 1), ("delete", 0)]


def test_a_parent_goes_behind_all_that_is_done_to_other_rows() -> None:
    parents, children = replace(ITEMS, ties=TableDependencies(parent=True)), replace(ITEMS, rank=1)
    steps = [
        write("update", 1, add={"quantity": 1}, table=children, order=1),
        write("update", 1, {"quantity": "7"}, table=children, order=1),
    ]
    assert places(write("delete", 9, table=parents), *steps)[-1] == ("delete", 0)


def test_a_parent_that_is_deleted_and_made_anew_is_one_write_that_leaves_nothing_of_what_was() -> None:
    parents = replace(ITEMS, ties=TableDependencies(parent=True))
    (group,) = groups_of([write("delete", 1, table=parents), write("upsert", 1, {"name": "b"}, table=parents)])
    assert (group.shape.operation, group.shape.replaces) == ("upsert", True)
    assert group.shape.reset == ("quantity", "doc", "tags", "deleted")
    text = statement(group.shape).decode()
    assert '"name" = excluded."name", "quantity" = excluded."quantity"' in text
    assert [g.shape.operation for g in groups_of([*group.writes, write("delete", 1, table=parents)])] == ["delete"]


def test_in_order_neighbours_of_one_shape_share_a_statement_until_a_row_comes_again() -> None:
    made = [write("upsert", key, {"name": "x"}) for key in (3, 1, 3)]
    found = in_order([*made, write("delete", 1), write("delete", 2)])
    assert [(g.shape.operation, [w.key[0] for w in g.writes]) for g in found] == [
        ("upsert", ["3", "1"]),
        ("upsert", ["3"]),
        ("delete", ["1", "2"]),
    ]


def test_a_column_that_is_reset_is_not_told_any_more_and_one_that_is_told_is_not_reset() -> None:
    marked = write("upsert", assigned={"deleted": "true", "name": "a"})
    (cleared,) = groups_of([marked, write("upsert", assigned={"name": "b"}, reset=("deleted",))])
    assert (cleared.shape.set, cleared.shape.reset) == (("name",), ("deleted",))
    (again,) = groups_of([*cleared.writes, write("update", assigned={"deleted": "true"})])
    assert (again.shape.set, again.shape.reset) == (("name", "deleted"), ())


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


def apply(rows: Rows, write: RowWrite) -> None:
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
def test_statements_end_in_the_same_rows_as_the_writes_one_by_one(batch: list[RowWrite]) -> None:
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


def test_a_delete_comes_behind_what_its_foreign_keys_did_in_the_source_and_before_its_row_is_made_again() -> None:
    """The source's log has the delete first, and what was cascaded behind it."""
    key = ForeignKey("public.lines", "public.items", ("public", "k"), deferrable=False, deferred=False, on_delete="c")
    below = replace(key, child="public.notes", parent="public.lines")
    parents = replace(ITEMS, ties=TableDependencies("c", parent=True, waits=(key,)))
    children = replace(
        ITEMS, name="lines", rank=1, ties=TableDependencies("c", parent=True, child=True, waits=(below,))
    )
    notes = replace(ITEMS, name="notes", rank=2, ties=TableDependencies("c", child=True))
    other = replace(ITEMS, name="other", rank=3, ties=TableDependencies("c"))
    log = [
        write("delete", table=parents),
        write("delete", table=children),
        write("delete", key=2, table=children),
        write("delete", table=notes),
        write("upsert", key=2, table=notes),
        write("upsert", table=parents),
        write("upsert", key=5, table=children),
        write("delete", table=parents),
        write("upsert", table=other),
        write("delete", table=notes),
    ]
    told = [(one.shape.operation, one.shape.table.name, *one.key) for one in sequenced(log)]
    assert told == [
        ("delete", "notes", "1"),
        ("upsert", "notes", "2"),
        ("delete", "lines", "1"),
        ("delete", "lines", "2"),
        ("delete", "items", "1"),
        ("upsert", "items", "1"),
        ("upsert", "lines", "5"),
        ("delete", "items", "1"),
        ("upsert", "other", "1"),
        ("delete", "notes", "1"),
    ]


def test_what_is_left_of_moved_rows_in_the_end_is_what_their_moves_one_by_one_leave() -> None:
    """Where a row is known whole, by then or under its new key; another one is still moved."""
    whole = {name: name for name in ITEMS.columns if name != "id"}
    told = [
        write("upsert", assigned={**whole, "name": "old"}),
        *moved(1, 2),
        *moved(1, 2)[:1],  # its create says it again
        write("update", key=2, assigned={"name": "new"}),
        *moved(3, 4),
        write("upsert", key=4, assigned={**whole, "name": "sent whole"}),
        *moved(5, 6),
        write("update", key=6, assigned={"name": "part"}),
        write("delete", key=7),
    ]
    ends = list(unmoved(told, {}))
    assert [(one.shape.operation, *one.key) for one in ends if one.shape.moves] == [("update", "5"), ("delete", "5")]
    left = {one.key: merged for one in ends if (merged := last_of(ends, one.key)) is not None}
    assert left["2",].shape.operation == "upsert"
    assert assigned(left["2",]) == {**whole, "name": "new"}
    assert assigned(left["4",]) == {**whole, "name": "sent whole"}
    assert {key for (key,), one in left.items() if one.shape.operation == "delete"} == {"1", "3", "5", "7"}


def moved(old: int, new: int) -> list[RowWrite]:
    return [
        write("update", key=old, assigned={"id": str(new)}),
        write("delete", key=old, assigned={"id": str(new)}),
        write("delete", key=old),
    ]


def last_of(writes: list[RowWrite], key: tuple[str, ...]) -> RowWrite | None:
    """All writes of a row as one."""
    own = [one for one in writes if one.key == key and not one.shape.moves]
    left = own[0] if own else None
    for one in own[1:]:
        left = one if left is None else (merge(left, one) or one)
    return left

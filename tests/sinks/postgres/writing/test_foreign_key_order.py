"""The order of tables by their foreign keys."""

from __future__ import annotations

from pycdc.sinks.postgres.writing.foreign_key_order import order_of
from pycdc.sinks.postgres.writing.table_dependencies import ForeignKey


def key(child: str, parent: str, *, deferrable: bool = False, deferred: bool = False) -> ForeignKey:
    return ForeignKey(child, parent, ("public", f"{child}_{parent}"), deferrable, deferred)


def test_parents_come_first_and_what_is_open_stays_as_the_routes_have_it() -> None:
    keys = [key("c", "b"), key("b", "a")]
    assert order_of(["x", "c", "y", "b", "a"], keys).ranks == {"x": 0, "y": 1, "a": 2, "b": 3, "c": 4}


def test_routes_of_one_table_have_one_rank() -> None:
    assert order_of(["child", "parent", "child"], [key("child", "parent")]).ranks == {"parent": 0, "child": 1}


def test_a_circle_is_entered_where_its_key_can_be_deferred() -> None:
    found = order_of(["a", "b"], [key("a", "b"), key("b", "a", deferrable=True)])
    assert found.ranks == {"b": 0, "a": 1}
    assert found.deferred == (("public", "b_a"),)


def test_what_is_deferred_anyway_and_what_the_order_keeps_is_left_alone() -> None:
    keys = [key("a", "a", deferrable=True, deferred=True), key("b", "a", deferrable=True), key("a", "a")]
    assert order_of(["a", "b"], keys).deferred == ()


def test_a_circle_that_cannot_be_deferred_is_entered_at_the_first_route() -> None:
    assert order_of(["a", "b"], [key("a", "b"), key("b", "a")]).ranks == {"a": 0, "b": 1}

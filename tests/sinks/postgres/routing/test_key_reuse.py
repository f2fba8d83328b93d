"""A route whose key is not the message key, over several partitions, loses no row in silence: it is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.errors import ConfigError
from pycdc.model.event import Partition
from tests.sinks.postgres.rig import NO_KEY, Process, Rig

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql("CREATE TABLE codes (code text PRIMARY KEY, id int, n int)")
    yield rig
    rig.close()


def process(rig: Rig, *, partitions: int = 2, on_error: str = "park", **route: Any) -> Process:
    own = {"topic": "docs", "table": "codes", "key": {"code": "code"}, **route}
    sink = rig.process(own, on_error=on_error)
    sink.apply_offsets.claim([Partition("docs", number) for number in range(1, partitions)], lambda partition: 0)
    return sink


def row(key: int, code: str) -> dict[str, Any]:
    return {"id": key, "code": code, "n": key}


def made(key: int, code: str, op: str = "c") -> Any:
    return "docs", {"id": key}, {"op": op, "before": None, "after": row(key, code), "source": {}}


def gone(key: int, code: str) -> Any:
    return "docs", {"id": key}, {"op": "d", "before": row(key, code), "after": None}, (("__pycdc.before", b"id,code"),)


def codes(rig: Rig) -> list[Any]:
    return rig.sql("SELECT code, id FROM codes ORDER BY 1")


@pytest.mark.parametrize("on_error", ["stop", "park"])
def test_values_that_may_pass_between_rows_of_several_partitions_are_refused_whatever_on_error_says(
    rig: Rig, on_error: str
) -> None:
    """The source deleted row 1 and gave its code to row 2; the partition of row 2 is read first."""
    sink = process(rig, on_error=on_error)
    with pytest.raises(ConfigError, match="several partitions, and its message key is not the key") as refused:
        sink.feed(made(1, "a"), made(2, "a"), gone(1, "a"))
    assert "key_reuse: never" in (refused.value.hint or "")
    assert codes(rig) == []
    assert rig.sql("SELECT count(*) FROM pycdc.parked") == [(0,)]


def test_a_route_says_that_values_never_pass_on(rig: Rig) -> None:
    sink = process(rig, key_reuse="never")
    sink.feed(made(1, "a"), made(2, "b"), gone(1, "a"))
    assert codes(rig) == [("b", 2)]


def test_one_partition_has_an_order(rig: Rig) -> None:
    sink = process(rig, partitions=1)
    sink.feed(made(1, "a"), gone(1, "a"), made(2, "a"))
    assert codes(rig) == [("a", 2)]


def test_a_topic_that_gets_partitions_is_refused_from_then_on(rig: Rig) -> None:
    sink = process(rig, partitions=1)
    sink.feed(made(1, "a"))
    sink.apply_offsets.claim([Partition("docs", 1)], lambda partition: 0)
    with pytest.raises(ConfigError, match="several partitions"):
        sink.feed(made(2, "a"))
    assert codes(rig) == [("a", 1)]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ({"code": "5"}, "code"),
        ({"code": "5"}, "$key.code"),
        (5, "$key"),
        (5, "code"),
        ({"renamed": "5"}, "code"),
        ({"schema": {"fields": [{"field": "x"}]}, "payload": {"code": "5"}}, "code"),
    ],
    ids=str,
)
def test_a_message_key_that_is_the_route_s_is_told_in_any_form(rig: Rig, key: Any, path: str) -> None:
    sink = process(rig, key={"code": path})
    sink.feed(("docs", key, made(1, "5")[2]))
    assert codes(rig) == [("5", 1)]


def test_a_route_by_a_part_of_the_message_key_is_refused_and_one_by_more_than_it_is_not(rig: Rig) -> None:
    sink = process(rig)
    with pytest.raises(ConfigError, match="not the key of the route"):
        sink.feed(("docs", {"code": "a", "place": 1}, made(1, "a")[2]))
    rig.sql("CREATE TABLE wide (code text, id int, n int, PRIMARY KEY (code, id))")
    sink = process(rig, table="wide", key={"code": "code", "id": "id"})
    sink.feed(made(1, "a"))
    assert rig.sql("SELECT * FROM wide") == [("a", 1, 1)]


def test_events_of_an_application_and_amounts_have_any_message_key(rig: Rig) -> None:
    sink = process(rig)
    sink.feed(("docs", {"id": 1}, row(1, "a")), ("docs", "x", row(2, "b")))
    sink = process(rig, operation="delta", delta={"n": "n"})
    sink.feed(made(3, "a", op="u"))
    assert rig.sql("SELECT code, n FROM codes ORDER BY 1") == [("a", 4), ("b", 2)]


def test_flattened_rows_are_rows_of_a_table_too(rig: Rig) -> None:
    sink = process(rig)
    with pytest.raises(ConfigError, match="not the key of the route"):
        sink.feed(("docs", {"id": 1}, {**row(1, "a"), "__deleted": "false"}))


@pytest.mark.parametrize("op", ["u", "d"])
def test_changes_of_rows_without_a_message_key_need_one_partition(rig: Rig, op: str) -> None:
    change = gone(1, "a")[2] if op == "d" else made(1, "a", "u")[2]
    sink = process(rig, key_reuse="never")
    sink.feed(("docs", NO_KEY, made(1, "a")[2]))
    with pytest.raises(ConfigError, match="no message key"):
        sink.feed(("docs", NO_KEY, change))
    assert codes(rig) == [("a", 1)]

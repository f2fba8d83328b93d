"""Events that end nowhere are counted, deletes behind `when` are decided, snapshots and TRUNCATE as routes say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import ApplyError
from pycdc.model.event import Partition
from pycdc.sinks.postgres.bookkeeping.inspection import read_pipeline_state
from tests.sinks.postgres.rig import TABLES, Rig

pytestmark = pytest.mark.pg("newest")
KINDS = [
    {"topic": "items", "table": "items", "when": {"kind": "a"}, "set": {"name": "name"}},
    {"topic": "items", "table": "others", "when": {"kind": "b"}, "set": {"name": "name"}},
]


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES + "CREATE TABLE others (id int PRIMARY KEY, name text);")
    yield rig
    rig.close()


def change(op: str, before: Any = None, after: Any = None) -> Any:
    row = after or before
    return None if row is None else {"id": row["id"]}, {"op": op, "before": before, "after": after, "source": {}}


def ids(rig: Rig, table: str = "items") -> list[int]:
    return [number for (number,) in rig.sql(f"SELECT id FROM {table} ORDER BY 1")]


def test_events_that_no_route_wants_are_counted_by_topic_and_reason(rig: Rig) -> None:
    process = rig.process(*KINDS, {"topic": "kept", "table": "lines", "on_delete": "ignore"})
    process.feed(
        ("items", 1, {"id": 1, "kind": "a", "name": "x"}),
        ("items", 2, {"id": 2, "kind": "c"}),
        ("items", 3, {"id": 3}),
        ("kept", 1, None),
    )
    assert process.progress.skipped == {("items", "when"): 2, ("kept", "on_delete"): 1}


def test_what_was_left_out_is_known_from_outside_and_after_the_process(rig: Rig) -> None:
    for _ in range(2):
        process = rig.process(*KINDS, {"topic": "kept", "table": "lines", "on_delete": "ignore"})
        process.feed(("items", 1, {"id": 1, "kind": "a"}), ("items", 2, {"id": 2, "kind": "c"}), ("kept", 1, None))
        process.feed(("items", 3, {"id": 3}))
    settings = PostgresSinkConfig.model_validate({"dsn": rig.dsn, "routes": KINDS})
    assert read_pipeline_state(settings, "back").left_out == {"items": {"when": 4}, "kept": {"on_delete": 2}}
    assert read_pipeline_state(settings, "other").left_out == {}
    rig.sql("ALTER TABLE pycdc.apply_offsets DROP left_out")
    assert read_pipeline_state(settings, "back").left_out == {}, "tables of an older version"


def test_a_delete_behind_when_is_decided_by_what_it_tells(rig: Rig) -> None:
    process = rig.process(*KINDS, on_error="park")
    rig.sql("INSERT INTO items (id) SELECT generate_series(1, 5); INSERT INTO others SELECT generate_series(1, 5)")
    process.feed(
        (
            "items",
            {"id": 1},
            {"op": "d", "before": {"id": 1, "kind": "a"}, "after": None},
            [("__pycdc.before", b"id,kind")],
        ),
        ("items", {"id": 2, "kind": "b"}, {"op": "d", "before": {"id": 2}, "after": None}),
        ("items", {"id": 3, "kind": "a"}, None),
        ("items", {"id": 4}, {"op": "d", "before": {"id": 4, "kind": None}, "after": None}),
        ("items", {"id": 5}, None),
        ("items", {"id": 1}, {"op": "d", "before": {"id": 1, "kind": "b"}, "after": None}, [("__pycdc.before", b"id")]),
    )
    assert (ids(rig), ids(rig, "others")) == ([2, 4, 5], [1, 3, 4, 5])
    assert rig.sql('SELECT "offset" FROM pycdc.parked ORDER BY 1') == [(3,), (5,)]
    assert "`when`" in rig.sql("SELECT detail FROM pycdc.parked LIMIT 1")[0][0]
    assert process.progress.skipped == {("items", "when"): 1}


def test_a_row_that_when_takes_no_more_is_gone_and_one_that_it_takes_now_is_there(rig: Rig) -> None:
    process = rig.process(*KINDS)
    row = {"id": 1, "kind": "a", "name": "x"}
    process.apply(change("c", after=row), change("c", after={**row, "id": 2}))
    process.apply(change("u", row, row := {**row, "kind": "b"}))
    assert (ids(rig), ids(rig, "others")) == ([2], [1])
    process.apply(change("u", row, row := {**row, "kind": "c"}))
    assert (ids(rig), ids(rig, "others")) == ([2], [])
    process.apply(change("u", row, row := {**row, "kind": "a", "name": "back"}), change("u", row, {**row, "kind": "d"}))
    assert (ids(rig), ids(rig, "others")) == ([2], [])
    process.apply(change("u", {**row, "kind": "d"}, {**row, "kind": "c"}))
    assert rig.sql("SELECT count(*) FROM pycdc.conflicts") == [(0,)]


def test_a_row_that_goes_from_one_route_to_another_of_its_table_stays(rig: Rig) -> None:
    routes = [{"topic": "items", "table": "items", "when": {"kind": kind}, "set": {"name": kind}} for kind in "ab"]
    process = rig.process(*routes)
    rig.sql("ALTER TABLE items ADD own int DEFAULT 5")
    row = {"id": 1, "kind": "a", "a": "of a", "b": "of b"}
    process.apply(change("c", after=row))
    rig.sql("UPDATE items SET own = 7")
    process.apply(change("u", row, {**row, "kind": "b"}))
    assert rig.sql("SELECT name, own FROM items") == [("of b", 7)]


@pytest.mark.parametrize(
    ("route", "left"),
    [
        ({"on_delete": "ignore"}, (1, "x")),
        ({"on_delete": "soft_delete", "soft_delete": {"name": "gone"}}, (1, "gone")),
        ({"when": {"$headers.kind": "a"}}, (1, "x")),
        ({"ops": ["c", "d"]}, (1, "x")),
        ({}, None),
    ],
)
def test_what_becomes_of_it_the_route_says(rig: Rig, route: dict[str, Any], left: Any) -> None:
    process = rig.process({**KINDS[0], **route})
    row = {"id": 1, "kind": "a", "name": "x"}
    process.feed(("items", 1, {"op": "c", "after": row}), headers=(("kind", b"a"),))
    process.feed(("items", 1, {"op": "u", "before": row, "after": {**row, "kind": "c"}}), headers=(("kind", b"b"),))
    assert rig.sql("SELECT id, name FROM items") == ([] if left is None else [left])


def test_without_the_row_before_it_stays_and_that_is_said(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    process = rig.process(KINDS[0])
    row = {"id": 1, "kind": "a", "name": "x"}
    process.apply(change("c", after=row))
    for _ in range(2):
        process.apply(({"id": 1}, {"op": "u", "before": None, "after": {**row, "kind": "c"}, "source": {}}))
    assert ids(rig) == [1]
    assert caplog.text.count("does not tell its old row") == 1


def test_a_row_whose_key_changes_too_leaves_nothing(rig: Rig) -> None:
    process = rig.process(KINDS[0])
    row = {"id": 1, "kind": "a", "name": "x"}
    process.apply(change("c", after=row))
    new, old = ("__debezium.newkey", b'{"id":2}'), ("__debezium.oldkey", b'{"id":1}')
    key, deleted = change("d", row)
    created = change("c", after={**row, "id": 2, "kind": "c"})
    known = ("__pycdc.before", b"id,kind,name")
    process.feed(("items", key, deleted, (new, known)), ("items", key, None, (new,)), ("items", *created, (old,)))
    assert ids(rig) == []


def test_a_field_of_when_that_was_not_sent_is_the_one_before_or_refused(rig: Rig) -> None:
    process = rig.process(KINDS[0], on_error="park")
    row = {"id": 1, "kind": "a", "name": "x"}
    process.apply(change("c", after=row))
    sent = {"id": 1, "kind": "__debezium_unavailable_value", "name": "y"}
    process.apply(change("u", row, sent))
    assert rig.sql("SELECT name FROM items") == [("y",)]
    process.apply(({"id": 1}, {"op": "u", "before": None, "after": {**sent, "name": "z"}, "source": {}}))
    assert "was not sent" in rig.sql("SELECT detail FROM pycdc.parked")[0][0]


def test_a_snapshot_of_the_former_owner_is_left_out_where_the_route_says_so(rig: Rig) -> None:
    process = rig.process({"topic": "items", "table": "items", "ops": ["c", "u", "d"]})
    process.apply(change("c", after={"id": 1, "name": "new"}))
    process.apply(change("r", after={"id": 1, "name": "old"}), change("r", after={"id": 2, "name": "gone"}))
    process.apply(change("u", {"id": 1}, {"id": 1, "name": "newer"}), ({"id": 3}, {"id": 3, "name": "flat"}))
    assert rig.sql("SELECT id, name FROM items ORDER BY 1") == [(1, "newer"), (3, "flat")]
    assert process.progress.skipped == {("items", "ops"): 2}
    process.apply(({"id": 1}, None))
    assert ids(rig) == [3]


def test_a_snapshots_row_is_no_amount_to_add_unless_it_is_said(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    delta = {"topic": "items", "table": "items", "operation": "delta", "delta": {"quantity": "by"}}
    read = change("r", after={"id": 1, "by": 3})
    with pytest.raises(ApplyError, match="op r"):
        rig.process(delta).apply(read)
    rig.process({**delta, "ops": ["c", "r"]}).apply(read)
    assert rig.sql("SELECT quantity FROM items") == [(3,)]


EMPTIED: dict[str, Any] = {"op": "t", "before": None, "after": None, "source": {}}


@pytest.mark.parametrize(("word", "left"), [("truncate", [3]), ("skip", [1, 2, 3])])
def test_a_truncate_of_the_source_does_what_the_route_says(rig: Rig, word: str, left: list[int]) -> None:
    process = rig.process({"topic": "items", "table": "items", "on_truncate": word})
    rows = [("items", {"id": n}, {"id": n}) for n in (1, 2, 3)]
    assert process.feed(*rows[:2], ("items", None, EMPTIED), rows[2]) is None
    assert ids(rig) == left
    counted = process.progress.applied["public.items", "truncate"], process.progress.skipped["items", "truncate"]
    assert counted == ((2, 0) if word == "truncate" else (0, 1))


def test_by_default_a_truncate_is_refused_by_name(rig: Rig) -> None:
    with pytest.raises(ApplyError, match="on_truncate"):
        rig.process().feed(("items", 1, {"id": 1}), ("items", None, EMPTIED))
    assert ids(rig) == [1]


def test_a_truncate_has_no_order_among_several_partitions(rig: Rig) -> None:
    process = rig.process({"topic": "items", "table": "items", "on_truncate": "truncate"}, on_error="park")
    process.apply_offsets.claim([Partition("items", 1)], lambda partition: 0)
    process.feed(("items", 1, {"id": 1}), ("items", None, EMPTIED))
    assert ids(rig) == [1]
    assert "several partitions" in rig.sql("SELECT detail FROM pycdc.parked")[0][0]

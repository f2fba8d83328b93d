"""Two keys are the same row where the database says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("newest")
T = {"topic": "t", "table": "t"}


@pytest.fixture
def rig(contrib_database: str) -> Iterator[Rig]:
    rig = Rig(contrib_database)
    yield rig
    rig.close()


def moved(rig: Rig, old: Any, new: Any, n: int) -> list[Any]:
    """A key that changed, as a capture tells it."""
    return [("t", {"k": old}, None), ("t", {"k": new}, {"k": new, "n": n})]


KEYS: dict[str, tuple[str, Any, Any]] = {
    "citext": ("citext", "abc", "ABC"),
    "domain over citext": ("d", "abc", "ABC"),
    "text without case": ('text COLLATE "nocase"', "abc", "ABC"),
    "numeric": ("numeric", "1.5", "1.50"),
    "double": ("float8", "0", "-0"),
    "char": ("char(5)", "ab", "ab   "),
    "timestamptz": ("timestamptz", "2026-01-01T12:00:00+00:00", "2026-01-01 13:00:00+01"),
    "interval": ("interval", "1 day", "24:00:00"),
    "inet": ("inet", "10.0.0.1", "10.0.0.1/32"),
    "jsonb": ("jsonb", {"a": 1, "b": 2}, {"b": 2, "a": 1.0}),
    "integer": ("int", "7", "+07"),
    "uuid": ("uuid", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "{6F9619FF-8B86-D011-B42D-00C04FC964FF}"),
    "range": ("int4range", "[1,3)", "[1,2]"),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("together", [True, False])
def test_a_row_whose_key_is_written_in_another_way_is_the_same_row(rig: Rig, kind: str, together: bool) -> None:
    declared, old, new = KEYS[kind]
    rig.sql(
        "CREATE EXTENSION IF NOT EXISTS citext; CREATE DOMAIN d AS citext;"
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        f"CREATE TABLE t (k {declared} PRIMARY KEY, n int)"
    )
    process = rig.process(T)
    process.feed(("t", {"k": old}, {"k": old, "n": 1}))
    batches = [moved(rig, old, new, 2)] if together else [[one] for one in moved(rig, old, new, 2)]
    for batch in batches:
        process.feed(*batch)
    bare = declared.partition(" COLLATE")[0]
    written = new if isinstance(new, str) else json.dumps(new)
    expected = rig.sql(f"SELECT cast('{written}' AS {bare})::text, 2")
    assert rig.sql("SELECT k::text, n FROM t") == expected
    process.feed(("t", {"k": new}, {"k": new, "n": 3}), ("t", {"k": old}, {"k": old, "n": 4}), ("t", {"k": new}, None))
    assert rig.sql("SELECT * FROM t") == []


@pytest.mark.parametrize("operation", ["upsert", "update"])
def test_writes_of_a_row_by_several_texts_of_its_key_end_in_the_last(rig: Rig, operation: str) -> None:
    rig.sql("CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE t (k citext PRIMARY KEY, n int)")
    rig.sql("INSERT INTO t VALUES ('a', 0), ('b', 0)")
    process = rig.process({**T, "operation": operation})
    process.feed(*(("t", {"k": k}, {"k": k, "n": n}) for n, k in enumerate("aAbaBA", 1)))
    assert rig.sql("SELECT lower(k), n FROM t ORDER BY k") == [("a", 6), ("b", 5)]


def test_a_key_of_several_columns_is_compared_as_a_whole(rig: Rig) -> None:
    rig.sql("CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE t (a int, b citext, n int, PRIMARY KEY (a, b))")
    keys = [(1, "x"), (2, "x"), (1, "X"), (2, "y")]
    rig.process(T).feed(*(("t", {"a": a, "b": b}, {"a": a, "b": b, "n": n}) for n, (a, b) in enumerate(keys)))
    assert rig.sql("SELECT a, b, n FROM t ORDER BY 1, 2") == [(1, "X", 2), (2, "x", 1), (2, "y", 3)]


# One table, several routes.


def test_events_of_a_topic_keep_their_order_across_routes_with_different_keys(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE, name text); INSERT INTO t VALUES (1, 'c', 'old')")
    by_id = {**T, "when": {"type": "saved"}, "key": {"id": "id"}, "set": {"name": "name"}, "operation": "update"}
    by_code = {
        **T,
        "when": {"type": "renamed"},
        "key": {"code": "code"},
        "set": {"name": "name"},
        "operation": "update",
    }
    renamed = {"type": "renamed", "code": "c", "name": "first"}
    saved = {"type": "saved", "id": 1, "name": "second"}
    for routes in ((by_id, by_code), (by_code, by_id)):
        process = rig.process(*routes)
        process.feed(("t", "k", renamed), ("t", "k", saved))
        assert rig.sql("SELECT name FROM t") == [("second",)]
        process.feed(("t", "k", saved), ("t", "k", renamed))
        assert rig.sql("SELECT name FROM t") == [("first",)]


def at(lsn: int, op: str, row: dict[str, Any]) -> dict[str, Any]:
    rows = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return {"op": op, **rows, "source": {"name": "shop", "db": "shop", "lsn": lsn}}


def test_events_of_several_topics_about_one_row_are_applied_in_the_sources_order(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, name text)")
    process = rig.process({"topic": "a", "table": "t"}, {"topic": "b", "table": "public.t"})
    key = {"id": 1}
    process.feed(("a", key, at(30, "u", {"id": 1, "name": "a"})), ("b", key, at(20, "d", {"id": 1})))
    assert rig.sql("SELECT name FROM t") == [("a",)]
    process.feed(("a", key, at(40, "u", {"id": 1, "name": "x"})), ("b", key, at(50, "d", {"id": 1})))
    assert rig.sql("SELECT name FROM t") == []


# Triggers.

COUNTS = """CREATE TABLE orders (id int PRIMARY KEY, total int);
CREATE TABLE lines (id int PRIMARY KEY, order_id int REFERENCES orders, amount int);
CREATE FUNCTION add() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN UPDATE orders SET total = coalesce(total, 0) + NEW.amount WHERE id = NEW.order_id; RETURN NEW; END';
CREATE TRIGGER added AFTER INSERT ON lines FOR EACH ROW EXECUTE FUNCTION add();"""


def test_what_a_trigger_writes_elsewhere_is_overwritten_by_the_event_that_came_after_it(rig: Rig) -> None:
    rig.sql(COUNTS)
    process = rig.process({"topic": "orders", "table": "orders"}, {"topic": "lines", "table": "lines"})
    process.feed(
        ("orders", {"id": 1}, at(1, "c", {"id": 1, "total": 0})),
        ("orders", {"id": 1}, at(3, "u", {"id": 1, "total": 5})),
        ("orders", {"id": 1}, at(5, "u", {"id": 1, "total": 7})),
        ("lines", {"id": 1}, at(2, "c", {"id": 1, "order_id": 1, "amount": 5})),
        ("lines", {"id": 2}, at(4, "c", {"id": 2, "order_id": 1, "amount": 2})),
    )
    assert rig.sql("SELECT * FROM orders") == [(1, 7)]


def test_a_trigger_sees_each_change_in_the_order_in_which_they_came(rig: Rig) -> None:
    rig.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE audit (no serial, what text);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit (what) VALUES "
        "(TG_OP || (coalesce(NEW, OLD)).id || coalesce(NEW.n, 0)); RETURN NULL; END';"
        "CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note()"
    )
    rig.process(T).feed(
        *(("t", {"id": i}, {"id": i, "n": n}) for i, n in ((2, 1), (1, 2), (2, 3))),
        ("t", {"id": 1}, None),
        ("t", {"id": 1}, {"id": 1, "n": 4}),
    )
    told = [what for (what,) in rig.sql("SELECT what FROM audit ORDER BY no")]
    assert told == ["INSERT21", "INSERT12", "UPDATE23", "DELETE10", "INSERT14"]


# Rows that are marked as deleted.


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("column", ["timestamptz", "bool NOT NULL DEFAULT false"])
def test_a_row_that_comes_back_is_not_marked_as_deleted_any_more(rig: Rig, column: str, apart: bool) -> None:
    rig.sql(f"CREATE TABLE t (id int PRIMARY KEY, n int, gone {column})")
    mark = "$timestamp" if column == "timestamptz" else True
    process = rig.process({**T, "on_delete": "soft_delete", "soft_delete": {"gone": mark}})
    steps = [("t", {"id": 1}, {"id": 1, "n": 1}), ("t", {"id": 1}, None), ("t", {"id": 1}, {"id": 1, "n": 2})]
    unmarked = None if column == "timestamptz" else False
    for batch in [[step] for step in steps] if apart else [steps]:
        process.feed(*batch)
    assert rig.sql("SELECT * FROM t") == [(1, 2, unmarked)]
    process.feed(*steps, ("t", {"id": 1}, None))
    assert [(n, gone != unmarked) for _, n, gone in rig.sql("SELECT * FROM t")] == [(2, True)]


def test_a_mark_that_another_route_set_is_taken_back_by_an_upsert_and_kept_where_the_event_tells_it(rig: Rig) -> None:
    rig.sql("CREATE TABLE t (id int PRIMARY KEY, n int, gone bool)")
    removed = {**T, "topic": "gone", "operation": "soft_delete", "soft_delete": {"gone": True}}
    process = rig.process(T, removed)
    process.feed(("t", {"id": 1}, {"id": 1, "n": 1}), ("gone", {"id": 1}, {"id": 1}))
    assert rig.sql("SELECT * FROM t") == [(1, 1, True)]
    process.feed(("t", {"id": 1}, {"id": 1, "n": 2}))
    assert rig.sql("SELECT * FROM t") == [(1, 2, None)]
    process.feed(("t", {"id": 1}, {"id": 1, "n": 3, "gone": True}))
    assert rig.sql("SELECT * FROM t") == [(1, 3, True)]

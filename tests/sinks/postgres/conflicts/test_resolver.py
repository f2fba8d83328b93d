"""Events that meet rows which somebody else changed, on real servers: seen, decided, recorded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pycdc.errors import ApplyError, EnvironmentNotReady
from pycdc.sinks.postgres.conflicts.conflict import Conflict
from tests.reading import wait_for
from tests.sinks.postgres.rig import Process, Rig

SERVERS = pytest.mark.pg("outermost")
NEWEST = pytest.mark.pg("newest")
TABLES = """
CREATE TABLE items (id int PRIMARY KEY, name text, quantity int NOT NULL DEFAULT 0, price numeric(10,2),
    version int, changed timestamptz, doc json, email text UNIQUE);
"""
LOCAL = "UPDATE items SET name = 'local', price = 9 WHERE id = 1"
"""What an application does."""


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


def process(rig: Rig, conflict: Any = None, *, sink: Any = None, **route: Any) -> Process:
    rule = {} if conflict is None else {"conflict": conflict}
    return rig.process({"topic": "items", "table": "items", **rule, **route}, **(sink or {}))


def update(before: dict[str, Any] | None, after: dict[str, Any], at: int = 0) -> tuple[Any, Any]:
    """An envelope, as a capture with REPLICA IDENTITY FULL writes it."""
    row = {**(before or {}), **after}
    source = {"source": {"ts_ms": at}} if at else {}
    return row["id"], {"op": "u" if before else "c", "before": before, "after": row, **source}


def removal(before: dict[str, Any], at: int = 0) -> tuple[Any, Any]:
    return before["id"], {"op": "d", "before": before, "after": None, "source": {"ts_ms": at}}


def recorded(rig: Rig) -> list[Any]:
    return rig.sql("SELECT kind, decision FROM pycdc.conflicts ORDER BY id")


def names(rig: Rig) -> list[Any]:
    return [name for (name,) in rig.sql("SELECT name FROM items ORDER BY id")]


# Seen.


@SERVERS
@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_by_old_values_json_and_numbers_are_what_they_mean_and_not_how_they_are_written(rig: Rig, kind: str) -> None:
    rig.sql(f"ALTER TABLE items ALTER doc TYPE {kind}, ALTER price TYPE numeric")
    sink = process(rig, {"default": "keep_local", "detect": "old_values"})
    document = '{"b":  1, "a": [2]}'
    rig.sql(f"INSERT INTO items (id, name, doc, price) VALUES (1, 'a', '{document}', 1.50), (2, 'a', NULL, NULL)")
    first = {"id": 1, "name": "a", "doc": '{"a": [2], "b": 1.0}', "price": "1.5"}
    second = {"id": 2, "name": "a", "doc": None, "price": None}
    sink.apply(update(first, {"name": "b"}), update(second, {"name": "b"}))
    assert (names(rig), recorded(rig)) == (["b", "b"], [])
    other = {**first, "name": "b", "doc": '{"a": [2], "b": 2}'}
    sink.apply(update(other, {"name": "c"}), update({**second, "name": "b", "doc": "{}"}, {"name": "c"}))
    assert (names(rig), recorded(rig)) == (["b", "b"], [("update_values_differ", "keep_local")] * 2)


@SERVERS
def test_a_row_that_an_application_changed_is_a_conflict_and_is_recorded_with_both_rows(rig: Rig) -> None:
    sink = process(rig)
    sink.apply({"id": 1, "name": "cup", "price": 1.5}, {"id": 2, "name": "jug"})
    rig.sql(LOCAL)
    sink.apply({"id": 1, "name": "pot", "price": 2}, {"id": 2, "name": "pan"})
    assert names(rig) == ["pot", "pan"]
    columns = (
        'pipeline, topic, partition, "offset", "table", key, kind, decision, current_origin, current->>\'name\', '
        "incoming, before, current_committed_at < detected_at, resolved_at"
    )
    assert rig.sql(f"SELECT {columns} FROM pycdc.conflicts") == [
        (
            *("back", "items", 0, 2, "public.items", {"id": 1}),
            *("update_origin_differs", "apply_remote", "", "local", {"name": "pot", "price": 2.0}, None, True, None),
        )
    ]
    assert dict(sink.sink._progress.conflicts) == {("public.items", "update_origin_differs", "apply_remote"): 1}
    sink.apply({"id": 1, "name": "tin"})
    assert len(recorded(rig)) == 1, "the row is the pipeline's own again"


@SERVERS
def test_rows_from_before_the_pipeline_are_no_conflict_and_neither_are_those_of_its_other_processes(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id, name) VALUES (1, 'old'), (2, 'old')")
    sink = process(rig)
    sink.apply({"id": 1, "name": "cup"})
    heir = process(rig)
    heir.apply({"id": 1, "name": "jug"}, ({"id": 2}, None))
    assert (names(rig), recorded(rig)) == (["jug"], [])
    assert rig.sql("SELECT count(*) FROM pg_replication_origin WHERE roname LIKE 'pycdc:back:%'")[0][0] >= 2


@NEWEST
def test_the_same_transaction_may_write_a_row_several_times(rig: Rig) -> None:
    sink = process(rig, "keep_local")
    sink.apply({"id": 1, "name": "a"}, (1, None), {"id": 1, "name": "b"}, (1, None), {"id": 1, "name": "c"})
    assert (names(rig), recorded(rig)) == (["c"], [])


@NEWEST
@pytest.mark.parametrize("time", ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
def test_since_says_from_when_on_it_counts(rig: Rig, time: str) -> None:
    rig.sql("INSERT INTO items (id, name) VALUES (1, 'old')")
    process(rig, sink={"conflicts": {"since": time}}).apply({"id": 1, "name": "cup"})
    assert len(recorded(rig)) == (1 if time < "2026" else 0)


@NEWEST
def test_what_is_not_wanted_in_the_table_is_not_kept(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    sink = process(rig, sink={"conflicts": {"values": False, "since": "2020-01-01T00:00:00Z"}})
    sink.apply({"id": 1, "name": "cup"})
    assert rig.sql("SELECT key, current, incoming, before FROM pycdc.conflicts") == [({"id": 1}, None, None, None)]
    silent = process(rig, sink={"conflicts": {"record": False}})
    rig.sql(LOCAL)
    silent.apply({"id": 1, "name": "jug"})
    assert len(recorded(rig)) == 1
    assert silent.sink._progress.conflicts.total() == 1


@SERVERS
def test_an_event_whose_old_row_is_the_row_knew_it(rig: Rig) -> None:
    sink = process(rig, "keep_local")
    first = {"id": 1, "name": "cup", "price": "1.50", "doc": {"a": [1]}}
    sink.apply(update(None, first))
    rig.sql(LOCAL)
    stale = {**first, "name": "never"}
    sink.apply(update(first, stale))
    known = {**first, "name": "local", "price": "9.0"}
    sink.apply(update(known, {**known, "name": "pot"}))
    assert names(rig) == ["pot"]
    assert recorded(rig) == [("update_origin_differs", "keep_local")]


@SERVERS
@pytest.mark.parametrize("rule", ["apply_remote", "keep_local"])
def test_deletes_conflict_too(rig: Rig, rule: str) -> None:
    sink = process(rig, rule)
    sink.apply({"id": 1, "name": "cup"}, {"id": 2, "name": "jug"})
    rig.sql(LOCAL)
    sink.apply(removal({"id": 1, "name": "cup"}), removal({"id": 2, "name": "jug"}), removal({"id": 3}))
    kept = rule == "keep_local"
    assert names(rig) == (["local"] if kept else [])
    decision = "keep_local" if kept else "apply_remote"
    assert recorded(rig) == [("delete_origin_differs", decision), ("delete_missing", "ignored")]
    sink.apply((4, None))
    assert len(recorded(rig)) == 2, "a tombstone of a row that is not there agrees with the table"


@NEWEST
def test_each_route_says_what_its_events_mean_wherever_its_table_stands_in_the_order(rig: Rig) -> None:
    rig.sql("CREATE TABLE lines (id int PRIMARY KEY, item int REFERENCES items)")
    gone = {"operation": "soft_delete", "soft_delete": {"name": "gone"}, "when": {"type": "gone"}}
    sink = rig.process(
        {"topic": "items", "table": "lines", "set": {"item": "id"}, "when": {"type": "line"}},
        {"topic": "items", "table": "items", "set": {"name": "name"}, "when": {"type": "named"}},
        {"topic": "items", "table": "items", **gone},
    )
    sink.apply({"id": 1, "type": "named", "name": "cup"}, {"id": 1, "type": "line"})
    rig.sql(LOCAL)
    sink.apply({"id": 1, "type": "gone"})
    rig.sql(LOCAL)
    sink.apply({"id": 1, "type": "named", "name": "pot"}, {"id": 2, "type": "gone"})
    assert names(rig) == ["pot"]
    assert [kind for kind, _ in recorded(rig)] == ["delete_origin_differs", "update_origin_differs", "delete_missing"]


@SERVERS
def test_an_update_of_a_missing_row_is_recorded_where_it_is_let_pass(rig: Rig) -> None:
    sink = process(rig, operation="update", missing="ignore")
    sink.apply({"id": 1, "name": "cup"})
    assert recorded(rig) == [("update_missing", "ignored")]
    with pytest.raises(ApplyError, match="not there"):
        process(rig, operation="update").apply({"id": 1, "name": "cup"})
    process(rig, operation="update", sink={"on_error": "park"}).apply({"id": 1, "name": "cup"})
    assert recorded(rig)[1:] == [("update_missing", "parked")]


@SERVERS
@pytest.mark.parametrize(("rule", "name"), [("apply_remote", "event"), ("keep_local", "there")])
def test_an_insert_of_a_row_that_is_there_is_decided_where_there_is_a_rule(rig: Rig, rule: str, name: str) -> None:
    rig.sql("INSERT INTO items (id, name) VALUES (1, 'there')")
    with pytest.raises(ApplyError, match="UniqueViolation"):
        process(rig, operation="insert").apply({"id": 1, "name": "event"})
    process(rig, rule, operation="insert").apply({"id": "01", "name": "event"}, {"id": 2, "name": "new"})
    assert names(rig) == [name, "new"]
    assert recorded(rig) == [("insert_exists", rule.removesuffix("_wins"))]


@NEWEST
def test_a_schema_of_an_older_version_gets_the_tables(rig: Rig) -> None:
    process(rig).apply({"id": 1, "name": "cup"})
    rig.sql("DROP TABLE pycdc.conflicts, pycdc.conflict_watch")
    sink = process(rig)
    rig.sql(LOCAL)
    sink.apply({"id": 1, "name": "pot"})
    assert recorded(rig) == [("update_origin_differs", "apply_remote")]


# Versions and old values, which need neither origin nor commit timestamps.


@SERVERS
@pytest.mark.parametrize("operation", ["upsert", "update"])
def test_an_event_with_an_older_or_the_same_version_is_dropped(rig: Rig, operation: str) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    sink = process(rig, {"default": "version", "version": "version"}, operation=operation)
    sink.apply({"id": 1, "name": "v2", "version": 2})
    sink.apply({"id": 1, "name": "v1", "version": 1})
    sink.apply({"id": 1, "name": "again", "version": 2})
    assert names(rig) == ["v2"]
    sink.apply(*({"id": 1, "name": f"v{n}", "version": n} for n in (5, 3, 10, 10, 9)))
    assert names(rig) == ["v10"]
    assert recorded(rig) == [("update_stale", "keep_local")] * 5
    sink.apply(removal({"id": 1, "version": 9}))
    assert names(rig) == ["v10"]
    sink.apply(removal({"id": 1, "version": 10}))
    assert names(rig) == []


@NEWEST
def test_an_event_without_its_version_is_refused(rig: Rig) -> None:
    sink = process(rig, {"default": "version", "version": "version"}, sink={"on_error": "park"})
    sink.apply({"id": 1, "name": "cup"}, {"id": 2, "version": "secret"}, {"id": 3, "version": 1})
    assert rig.sql("SELECT id FROM items") == [(3,)]
    assert rig.sql('SELECT "offset", error FROM pycdc.parked ORDER BY 1') == [(0, "Refused"), (1, "Refused")]


@NEWEST
def test_duplicates_add_nothing_twice(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    rule = {"default": "version", "version": "version"}
    route = {"operation": "delta", "delta": {"quantity": "by"}, "set": {"version": "version"}}
    sink = process(rig, rule, **route)
    moved = [{"id": 1, "by": n, "version": n} for n in range(1, 10)]
    for event in moved + moved[3:]:
        sink.apply(event)
    assert rig.sql("SELECT quantity, version FROM items") == [(sum(range(1, 10)), 9)]


@SERVERS
@pytest.mark.parametrize("rule", ["apply_remote", "keep_local"])
def test_a_row_that_is_not_what_it_was_is_seen_by_its_values(rig: Rig, rule: str) -> None:
    sink = process(rig, {"default": rule, "detect": "old_values"})
    row = {"id": 1, "name": "cup", "price": "1.5", "doc": {"a": 1}}
    other = {"id": 2, "name": "jug", "price": None, "doc": None}
    sink.apply(update(None, row), update(None, other))
    rig.sql("UPDATE items SET price = 7 WHERE id = 1")
    sink.apply(
        update(row, {"name": "pot"}), update(other, {"name": "pan"}), update({"id": 3, "name": "a"}, {"name": "b"})
    )
    wins = rule == "apply_remote"
    assert rig.sql("SELECT name, price FROM items WHERE id = 1") == [("pot", 1.5) if wins else ("cup", 7)]
    assert names(rig)[1:] == (["pan", "b"] if wins else ["pan"])
    assert recorded(rig) == [
        ("update_values_differ", "apply_remote" if wins else "keep_local"),
        ("update_missing", "apply_remote" if wins else "ignored"),
    ]
    sink.apply(removal({"id": 2, "name": "pan", "price": "0.1"}))
    assert recorded(rig)[2:] == [("delete_values_differ", "apply_remote" if wins else "keep_local")]


# Decided.


@SERVERS
@pytest.mark.parametrize(("seconds", "name"), [(-60, "local"), (60, "event")])
@pytest.mark.parametrize("by_column", [False, True])
def test_the_last_write_wins(rig: Rig, seconds: int, name: str, by_column: bool) -> None:
    rule = {"default": "last_write_wins", **({"row_time": "changed", "event_time": "changed"} if by_column else {})}
    sink = process(rig, rule)
    sink.apply(update(None, {"id": 1, "name": "cup", "changed": "2020-01-01T00:00:00Z"}))
    later = f"extract(epoch FROM now())::bigint * 1000, (now() + '{seconds} s')::text"
    ((now, stamp),) = rig.sql(f"UPDATE items SET name = 'local', changed = now() RETURNING {later}")
    sink.apply(update({"id": 1, "name": "cup"}, {"name": "event", "changed": stamp}, now + seconds * 1000))
    assert names(rig) == [name]
    kind = "update_origin_differs" if not by_column else "update_stale"
    assert recorded(rig) == (
        [] if by_column and seconds > 0 else [(kind, "apply_remote" if seconds > 0 else "keep_local")]
    )


@NEWEST
def test_times_of_rows_from_before_the_pipeline_decide_too(rig: Rig) -> None:
    """Else the first events of a pipeline that starts late would overwrite what is later than they are."""
    rig.sql("INSERT INTO items (id, name) VALUES (1, 'local'), (2, 'local')")
    ((now,),) = rig.sql("SELECT extract(epoch FROM now())::bigint * 1000")
    sink = process(rig, "last_write_wins")
    sink.apply(update({"id": 1}, {"name": "event"}, now - 60_000), update({"id": 2}, {"name": "event"}, now + 60_000))
    assert names(rig) == ["local", "event"]
    assert recorded(rig) == [("update_origin_differs", "keep_local")]


@SERVERS
def test_columns_have_owners_and_counters_add_up(rig: Rig) -> None:
    columns = {"price": "keep_local", "quantity": "delta"}
    sink = process(rig, {"default": "apply_remote", "columns": columns})
    row = {"id": 1, "name": "cup", "price": "1.5", "quantity": 10}
    sink.apply(update(None, row))
    rig.sql("UPDATE items SET name = 'local', price = 9, quantity = quantity - 3 WHERE id = 1")
    sold = {**row, "name": "pot", "price": "2.5", "quantity": 8}
    sink.apply(update(row, {**row, "quantity": 9}), update({**row, "quantity": 9}, sold))
    assert rig.sql("SELECT name, price, quantity FROM items") == [("pot", 9, 5)]
    assert recorded(rig) == [("update_origin_differs", "apply_remote")]
    sink.apply(update(sold, {**sold, "quantity": 7, "price": "3"}))
    assert rig.sql("SELECT price, quantity FROM items") == [(9, 4)], "without a conflict too"
    sink.apply(update(None, row))
    assert rig.sql("SELECT price, quantity FROM items") == [(9, 4)], "a snapshot once more"
    sink.apply(update({"id": 2, "quantity": 1}, {"quantity": 4}), {"id": 1, "price": 7}, {"id": 3, "price": 7})
    assert rig.sql("SELECT quantity, price FROM items ORDER BY id") == [(4, 9), (4, None), (0, 7)]


@NEWEST
def test_a_column_may_win_where_the_row_does_not(rig: Rig) -> None:
    rule = {"default": "keep_local", "columns": {"quantity": "apply_remote"}, "detect": "old_values"}
    sink = process(rig, rule)
    row = {"id": 1, "name": "cup", "quantity": 1}
    sink.apply(update(None, row))
    rig.sql(LOCAL)
    for quantity in (4, 5):
        sink.apply(update(row, row := {**row, "name": f"pot {quantity}", "quantity": quantity}))
        assert rig.sql("SELECT name, quantity FROM items") == [("local", quantity)]
    assert recorded(rig) == [("update_values_differ", "columns")] * 2


@NEWEST
def test_a_delta_without_the_row_before_is_refused(rig: Rig) -> None:
    sink = process(rig, {"columns": {"quantity": "delta"}})
    with pytest.raises(ApplyError, match="needs events with the row before"):
        sink.apply({"id": 1, "quantity": 4})


def both(met: Conflict) -> Any:
    assert met.current is not None
    assert met.incoming is not None
    return {"name": f"{met.current['name']} and {met.incoming['name']}"}


def fails(met: Conflict) -> Any:
    raise ValueError("secret")


@SERVERS
def test_a_function_decides(rig: Rig) -> None:
    sink = process(rig, {"default": "python", "function": f"{__name__}:both"})
    sink.apply({"id": 1, "name": "cup"})
    rig.sql(LOCAL)
    sink.apply({"id": 1, "name": "pot", "quantity": 4})
    assert rig.sql("SELECT name, quantity FROM items") == [("local and pot", 0)]
    assert recorded(rig) == [("update_origin_differs", "columns")]


def made(met: Conflict) -> Any:
    assert met.incoming is not None
    return {"name": f"made of {met.incoming['name']}", "price": 3} if met.current is None else "apply_remote"


@NEWEST
def test_a_functions_columns_are_in_the_row_that_it_has_made_anew(rig: Rig) -> None:
    sink = process(rig, {"default": "python", "function": f"{__name__}:made", "detect": "old_values"})
    sink.apply(update({"id": 1, "name": "cup"}, {"name": "pot", "quantity": 4}))
    assert rig.sql("SELECT name, price, quantity FROM items") == [("made of pot", 3, 4)]
    assert recorded(rig) == [("update_missing", "columns")]


@NEWEST
def test_a_function_that_fails_stops_with_its_name_or_parks_the_event(rig: Rig) -> None:
    rule = {"default": "python", "function": f"{__name__}:fails"}
    sink = process(rig, rule)
    sink.apply({"id": 1, "name": "cup"})
    rig.sql(LOCAL)
    with pytest.raises(ApplyError, match=r"test_resolver:fails raised ValueError") as raised:
        sink.apply({"id": 1, "name": "pot"})
    assert "secret" not in str(raised.value)
    process(rig, rule, sink={"on_error": "park"}).apply({"id": 1, "name": "pot"}, {"id": 2, "name": "pan"})
    assert names(rig) == ["local", "pan"]
    assert rig.sql("SELECT error FROM pycdc.parked") == [("Refused",)]


@SERVERS
def test_a_conflict_that_is_parked_keeps_its_followers_and_nothing_else(rig: Rig) -> None:
    sink = process(rig, "park")
    sink.apply({"id": 1, "name": "cup"}, {"id": 2, "name": "jug"})
    rig.sql(LOCAL)
    sink.apply({"id": 2, "name": "pan"}, {"id": 1, "name": "pot"}, {"id": 3, "name": "tin"}, {"id": 1, "name": "tub"})
    assert names(rig) == ["local", "pan", "tin"]
    assert recorded(rig) == [("update_origin_differs", "parked")]
    assert rig.sql('SELECT "offset", error FROM pycdc.parked ORDER BY 1') == [(3, "Conflict"), (5, "Follower")]
    assert dict(sink.sink._progress.conflicts) == {("public.items", "update_origin_differs", "parked"): 1}


# Unique keys beside the route's.


@SERVERS
def test_values_that_two_rows_swap_arrive(rig: Rig) -> None:
    sink = process(rig)
    sink.apply({"id": 1, "email": "a"}, {"id": 2, "email": "b"})
    sink.apply({"id": 1, "email": "t"}, {"id": 2, "email": "a"}, {"id": 1, "email": "b"})
    assert rig.sql("SELECT id, email FROM items ORDER BY 1") == [(1, "b"), (2, "a")]
    assert recorded(rig) == []


@SERVERS
def test_another_row_with_the_same_unique_value_is_a_conflict_and_never_overwritten(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id, email) VALUES (9, 'a')")
    at_once: dict[str, Any] = {"sink": {"wait_for_parents": 0}}  # nobody gives it up
    with pytest.raises(ApplyError, match="items_email_key"):
        process(rig, **at_once).apply({"id": 1, "email": "a"})
    process(rig, "keep_local", **at_once).apply({"id": 1, "email": "a"}, {"id": 2, "email": "b"})
    process(rig, "park", **at_once).apply({"id": 3, "email": "a"}, {"id": 4, "email": "c"})
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(2,), (4,), (9,)]
    assert recorded(rig) == [("unique_exists", "keep_local"), ("unique_exists", "parked")]
    assert rig.sql("SELECT error FROM pycdc.parked") == [("UniqueViolation",)]


# What is needed.


@NEWEST
def test_without_an_origin_of_its_own_a_rule_that_needs_one_is_refused_and_the_default_does_without(
    rig: Rig, postgres: Any
) -> None:
    name = f"plain_{postgres.major}"
    database = psycopg.conninfo.conninfo_to_dict(rig.dsn)["dbname"]
    rig.sql(f"CREATE ROLE {name} LOGIN; GRANT ALL ON items TO {name}; GRANT CREATE ON DATABASE {database} TO {name}")
    plain = Rig(postgres.dsn(database, user=name))
    try:
        with pytest.raises(EnvironmentNotReady, match=r"who wrote a row of table .* last is not known"):
            process(plain, "keep_local")
        sink = process(plain)
        sink.apply({"id": 1, "name": "cup"}, removal({"id": 7}))
        rig.sql(LOCAL)
        sink.apply({"id": 1, "name": "pot"})
        assert (names(rig), recorded(rig)) == (["pot"], [("delete_missing", "ignored")])
        process(plain, {"default": "version", "version": "version"}).apply({"id": 1, "version": 4})
    finally:
        plain.close()
        rig.sql(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


@NEWEST
@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["park", "keep_local"], "different conflict rules"),
        ([{"default": "version", "version": "nowhere"}], "no column nowhere"),
        ([{"default": "version", "version": "name"}], "neither a number nor a time"),
        ([{"columns": {"name": "delta"}}], "no number, and delta adds"),
    ],
)
def test_a_rule_that_does_not_fit_its_table_is_told_before_anything_runs(
    rig: Rig, rules: list[Any], words: str
) -> None:
    with pytest.raises(EnvironmentNotReady, match=words):
        rig.process(*({"topic": "items", "table": "items", "conflict": rule} for rule in rules))


@SERVERS
@pytest.mark.parametrize("rule", ["keep_local", {"default": "keep_local", "detect": "old_values"}])
def test_conflicts_are_seen_in_partitioned_tables_whatever_their_partitions_look_like(rig: Rig, rule: Any) -> None:
    rig.sql(
        "CREATE TABLE parts (id int PRIMARY KEY, name text, price numeric(10,2)) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE high (gone int, price numeric(10,2), name text, id int NOT NULL); ALTER TABLE high DROP gone;"
        "ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (100) TO (200)"
    )
    sink = process(rig, rule, table="parts")
    rows = [{"id": key, "name": "cup", "price": "1.5"} for key in (1, 2, 101, 102)]
    sink.apply(*(update(None, row) for row in rows))
    rig.sql("UPDATE parts SET name = 'local' WHERE id IN (1, 101)")
    sink.apply(*(update(row, {"name": "pot"}) for row in rows))
    assert rig.sql("SELECT name FROM parts ORDER BY id") == [("local",), ("pot",), ("local",), ("pot",)]
    assert [decision for _, decision in recorded(rig)] == ["keep_local"] * 2


# Races.


@SERVERS
@pytest.mark.parametrize("operation", ["upsert", "update"])
def test_a_write_that_commits_while_the_statement_waits_for_it_is_seen(rig: Rig, operation: str) -> None:
    sink = process(rig, "keep_local", operation=operation)
    rig.sql("INSERT INTO items (id, name) VALUES (1, 'cup')")
    sink = process(rig, "keep_local", operation=operation, sink={"conflicts": {"since": "2999-01-01T00:00:00Z"}})
    sink.apply({"id": 1, "name": "jug"})
    sink = process(rig, "keep_local", operation=operation)
    with psycopg.connect(rig.dsn) as other:
        other.execute(LOCAL)
        writer = threading.Thread(target=sink.apply, args=({"id": 1, "name": "pot"},))
        writer.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_for(lambda: rig.sql(waiting) != [(0,)])
    writer.join(120)
    assert names(rig) == ["local"]
    assert recorded(rig) == [("update_origin_differs", "keep_local")]


@NEWEST
def test_each_transaction_has_the_time_at_which_it_was_committed(rig: Rig) -> None:
    sink = process(rig)
    for number in (1, 2):
        sink.apply({"id": number, "name": "cup"})
    times = rig.sql("SELECT count(DISTINCT pg_xact_commit_timestamp(xmin)) FROM items")
    assert times == [(2,)], "a replication origin lends the time of its first transaction to all others"


@NEWEST
def test_a_row_that_comes_and_goes_within_a_batch_was_missed_by_nobody(rig: Rig) -> None:
    sink = process(rig)
    sink.apply(update(None, {"id": 1, "name": "cup"}), removal({"id": 1, "name": "cup"}))
    assert (names(rig), recorded(rig)) == ([], [])
    sink.apply(removal({"id": 2, "name": "jug"}))
    assert recorded(rig) == [("delete_missing", "ignored")]

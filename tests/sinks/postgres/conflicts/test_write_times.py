"""Pipelines that write one table: the later event wins, whichever comes first, and deletes are events as all others."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pycdc.clients.postgres_sessions import connect_to_target
from pycdc.sinks.postgres.conflicts.write_times import WriteTimes
from tests.reading import wait_for
from tests.sinks.postgres.rig import Process, Rig

SERVERS = pytest.mark.pg("!=16")
NEWEST = pytest.mark.pg("newest")
TABLES = "CREATE TABLE items (id int PRIMARY KEY, name text, changed timestamptz, quantity int NOT NULL DEFAULT 0)"
BY_COMMIT = {"default": "last_write_wins"}
BY_COLUMN = {"default": "last_write_wins", "row_time": "changed", "event_time": "changed"}
NOW = 1_790_000_000_000


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


@pytest.fixture
def odd(contrib_database: str) -> Iterator[Rig]:
    rig = Rig(contrib_database)
    yield rig
    rig.close()


def stamp(at: int) -> str:
    return f"2026-09-21T14:13:20.{at:03d}Z"


def write(key: int, name: str, at: int, *, before: dict[str, Any] | None = None) -> Any:
    row = {"id": key, "name": name, "changed": stamp(at)}
    return key, {"op": "u", "before": before, "after": row, "source": {"ts_ms": NOW + at}}


def removal(key: int, at: int, **before: Any) -> Any:
    return key, {"op": "d", "before": {"id": key, **before}, "after": None, "source": {"ts_ms": NOW + at}}


def pipelines(rig: Rig, rule: Any = BY_COMMIT, *names: str, **route: Any) -> list[Process]:
    own = {"topic": "items", "table": "items", "conflict": rule, **route}
    return [rig.process(own, pipeline=name) for name in names or ("first", "second")]


def apply(process: Process, *events: Any) -> None:
    """Each pipeline reads a topic of its own from its start, whatever others have read."""
    process._rig.ends["items"] = process.__dict__.setdefault("read", process.begins)
    process.apply(*events)
    process.__dict__["read"] += len(events)


def rows(rig: Rig) -> dict[int, str]:
    return dict(rig.sql("SELECT id, name FROM items ORDER BY id"))


def recorded(rig: Rig) -> list[Any]:
    return rig.sql("SELECT pipeline, kind, decision FROM pycdc.conflicts ORDER BY id")


@SERVERS
@pytest.mark.parametrize("rule", [BY_COMMIT, BY_COLUMN])
def test_of_two_pipelines_the_later_event_wins_in_both_orders_of_arrival(rig: Rig, rule: Any) -> None:
    first, second = pipelines(rig, rule)
    apply(first, write(1, "early", 10), write(2, "late", 20))
    apply(second, write(1, "late", 20), write(2, "early", 10))
    assert rows(rig) == {1: "late", 2: "late"}
    apply(first, write(1, "between", 15), write(2, "last", 30))
    assert rows(rig) == {1: "late", 2: "last"}


@SERVERS
def test_an_application_between_two_pipelines_has_the_time_of_its_commit(rig: Rig) -> None:
    first, second = pipelines(rig)
    apply(first, write(1, "long ago", 10), write(2, "long ago", 10))
    rig.sql("UPDATE items SET name = 'application' WHERE id = 1")
    apply(second, write(1, "a little later", 20), write(2, "a little later", 20))
    assert rows(rig) == {1: "application", 2: "a little later"}
    ((now,),) = rig.sql("SELECT (extract(epoch FROM now()) * 1000)::bigint")
    apply(first, write(1, "older than it", 15), write(2, "older than it", 15))
    assert rows(rig) == {1: "application", 2: "a little later"}
    apply(second, (1, {"op": "u", "after": {"id": 1, "name": "event"}, "source": {"ts_ms": now + 60_000}}))
    assert rows(rig) == {1: "event", 2: "a little later"}


@SERVERS
@pytest.mark.parametrize("rule", [BY_COMMIT, BY_COLUMN])
def test_an_older_write_does_not_bring_back_what_a_later_delete_removed(rig: Rig, rule: Any) -> None:
    first, second = pipelines(rig, rule)
    apply(first, write(1, "there", 10), write(2, "there", 10), removal(1, 30), removal(2, 30))
    apply(second, write(1, "older", 20), write(2, "newer", 40), removal(3, 5))
    assert rows(rig) == {2: "newer"}
    assert ("second", "update_deleted", "keep_local") in recorded(rig)
    apply(first, write(3, "before the delete of a row that never was", 4), write(4, "there", 10))
    apply(first, removal(2, 35))
    apply(second, removal(4, 9))
    assert rows(rig) == {2: "newer", 4: "there"}


@NEWEST
def test_events_of_one_partition_keep_its_order_whatever_their_times_say(rig: Rig) -> None:
    first, _ = pipelines(rig)
    for event in (write(1, "there", 10), removal(1, 10), write(1, "again", 10), removal(1, 9), write(1, "last", 8)):
        apply(first, event)
    assert rows(rig) == {1: "last"}
    apply(first, removal(1, 7), write(1, "in one batch", 6))
    assert (rows(rig), recorded(rig)) == ({1: "in one batch"}, [])


@NEWEST
def test_four_pipelines_come_to_the_same_row_in_every_order(rig: Rig) -> None:
    made = pipelines(rig, BY_COMMIT, "a", "b", "c", "d")
    orders = list(itertools.permutations(range(4)))
    for key, order in enumerate(orders):
        events = [write(key, "first", 10), removal(key, 20), write(key, "third", 30), removal(key, 25)]
        for place in order:
            apply(made[place], events[place])
    assert rows(rig) == dict.fromkeys(range(len(orders)), "third")


@NEWEST
def test_a_delete_of_a_table_without_full_identity_wins_by_its_time_too(rig: Rig) -> None:
    (sink,) = pipelines(rig, BY_COMMIT, "first")
    rig.sql("INSERT INTO items (id, name) VALUES (1, 'application'), (2, 'application')")
    ((now,),) = rig.sql("SELECT (extract(epoch FROM now()) * 1000)::bigint")
    apply(sink, removal(1, now + 60_000 - NOW), removal(2, now - 60_000 - NOW))
    assert rows(rig) == {2: "application"}


@SERVERS
def test_two_topics_of_one_pipeline_are_told_apart_where_one_of_them_deletes(rig: Rig) -> None:
    routes = [{"topic": topic, "table": "items", "conflict": BY_COMMIT} for topic in ("items", "other")]
    sink = rig.process(*routes)
    for at_once in (True, False):
        rig.sql("TRUNCATE items; DELETE FROM pycdc.write_times")
        key, deleted = removal(1, 30)
        _, older = write(1, "older", 20)
        records = [("items", key, deleted), ("other", key, older)]
        for batch in [records] if at_once else [[one] for one in records]:
            sink.feed(*batch)
        assert rows(rig) == {}, at_once
        _, last = write(1, "last", 40)
        records = [("other", key, last), ("items", key, deleted)]
        for batch in [records] if at_once else [[one] for one in records]:
            sink.feed(*batch)
        assert rows(rig) == {1: "last"}, at_once


@NEWEST
def test_what_is_refused_or_loses_leaves_no_time_behind(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ADD CHECK (name <> 'bad')")
    own = {"topic": "items", "table": "items", "conflict": BY_COMMIT}
    first = rig.process(own, pipeline="first", on_error="park")
    second = rig.process({**own, "operation": "update", "missing": "ignore"}, pipeline="second")
    apply(first, write(1, "bad", 50), write(2, "good", 10))
    apply(second, write(3, "no such row", 50))
    (third,) = pipelines(rig, BY_COMMIT, "third")
    apply(third, write(1, "good", 20), write(3, "good", 20))
    assert rows(rig) == {1: "good", 2: "good", 3: "good"}


@NEWEST
@pytest.mark.parametrize(("tie", "name"), [("incoming", "second"), ("existing", "first")])
def test_equal_times_are_decided_by_the_side_and_within_the_skew_too(rig: Rig, tie: str, name: str) -> None:
    first, second = pipelines(rig, {**BY_COMMIT, "tie": tie, "skew": 0.005})
    apply(first, write(1, "first", 10), write(2, "first", 10), write(3, "first", 10), removal(3, 10))
    apply(second, write(1, "second", 10), write(2, "second", 6), write(3, "second", 8))
    assert rows(rig) == ({1: name, 2: name} | ({3: name} if tie == "incoming" else {}))


@NEWEST
def test_keys_that_are_equal_in_several_texts_are_one_row(odd: Rig) -> None:
    rig = odd
    rig.sql(
        "CREATE EXTENSION IF NOT EXISTS citext;"
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
        "CREATE TABLE odd (k text COLLATE nocase, c citext, m money, d numeric, at timestamptz, name text, "
        "PRIMARY KEY (k, c, m, d, at))"
    )
    first, second = pipelines(rig, BY_COMMIT, table="odd", key={name: name for name in ("k", "c", "m", "d", "at")})

    def of(k: str, d: str, at: str, when: int, name: str | None) -> Any:
        row = {"k": k, "c": k, "m": "1.50", "d": d, "at": at}
        source = {"source": {"ts_ms": NOW + when}}
        if name is None:
            return k, {"op": "d", "before": row, "after": None, **source}
        return k, {"op": "c", "before": None, "after": {**row, "name": name}, **source}

    apply(first, of("Ab", "1.0", "2026-01-01T01:00:00+01:00", 10, "there"))
    apply(first, of("Ab", "1.0", "2026-01-01T01:00:00+01:00", 30, None))
    apply(second, of("aB", "1.00", "2026-01-01T00:00:00Z", 20, "older"))
    assert rig.sql("SELECT * FROM odd") == []
    apply(second, of("aB", "1.00", "2026-01-01T00:00:00Z", 40, "newer"))
    assert rig.sql("SELECT name FROM odd") == [("newer",)]


@NEWEST
def test_a_row_whose_key_changed_is_not_brought_back_under_the_old_one(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ADD UNIQUE (name)")
    first, second = pipelines(rig, BY_COMMIT, key={"name": "name"})
    before = {"id": 1, "name": "old", "changed": stamp(10)}
    apply(first, write(1, "old", 10))
    apply(first, write(1, "new", 30, before=before))
    apply(second, write(1, "old", 20))
    assert rows(rig) == {1: "new"}


@NEWEST
def test_who_makes_a_row_waits_for_whoever_deletes_it(rig: Rig) -> None:
    first, second = pipelines(rig)
    apply(first, write(1, "there", 10))
    with psycopg.connect(rig.dsn) as other:
        other.execute("SELECT * FROM pycdc.write_times FOR UPDATE")
        threads = [threading.Thread(target=apply, args=(first, removal(1, 30)))]
        threads[0].start()
        wait_for(lambda: rig.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        threads.append(threading.Thread(target=apply, args=(second, write(1, "older", 20))))
        rig.ends["items"] = 0
        threads[1].start()
        wait_for(lambda: rig.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(2,)])
    for thread in threads:
        thread.join(120)
    assert rows(rig) == {}


@NEWEST
def test_times_are_forgotten_by_and_by_and_none_before_its_time(rig: Rig) -> None:
    (sink,) = pipelines(rig, BY_COMMIT, "first")
    apply(sink, *(write(key, "cup", key) for key in range(900)))
    rig.sql("UPDATE pycdc.write_times SET applied_at = now() - interval '1 hour' WHERE key % 2 = 0")
    kept = rig.sql("SELECT count(*) FROM pycdc.write_times WHERE key % 2 <> 0")
    times = WriteTimes("first", "pycdc", 1800)
    times.needed = True
    with connect_to_target(rig.dsn) as connection:
        assert not times.sweep(connection), "it was made a moment ago"
        for _ in range(30):
            times._swept_at -= 25
            assert times.sweep(connection)
            connection.commit()
    assert rig.sql("SELECT count(*) FROM pycdc.write_times") == kept
    assert 0 < kept[0][0] < 900


@NEWEST
@pytest.mark.parametrize("seed", range(4))
def test_random_events_in_random_orders_end_as_their_times_say(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    streams: list[list[Any]] = [[], [], []]
    last: dict[int, tuple[int, str | None]] = {}
    for at in range(1, 120):
        key, name = chance.randrange(6), chance.choice([None, f"n{at}", f"n{at}"])
        chance.choice(streams).append(removal(key, at) if name is None else write(key, name, at))
        last[key] = at, name
    made = pipelines(rig, BY_COMMIT, "a", "b", "c")
    while any(streams):
        place = chance.choice([place for place, stream in enumerate(streams) if stream])
        count = chance.randint(1, 9)
        apply(made[place], *streams[place][:count])
        del streams[place][:count]
    assert rows(rig) == {key: name for key, (_, name) in sorted(last.items()) if name is not None}

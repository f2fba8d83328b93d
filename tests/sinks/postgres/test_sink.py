"""Events into rows on a real Postgres: what is written, what is refused, and who may write."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pycdc.errors import ApplyError, ConnectionLost, DeliveryError, EnvironmentNotReady, SinkFenced
from pycdc.model.event import Applied, Event, EventBatch, Partition, PartitionOffsets
from tests.reading import wait_for
from tests.sinks.postgres.rig import TABLES, Rig

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


def test_rows_follow_the_events_and_the_offset_goes_with_them(rig: Rig) -> None:
    process = rig.process()
    process.apply(
        {"id": 1, "name": "cup", "doc": {"a": [1, None]}, "tags": ["x", 'y"']},
        {"id": 2, "name": "jug"},
        {"id": 1, "name": None},
        ({"id": 2}, None),
        {"id": 3, "name": "pot"},
    )
    assert rig.sql("SELECT id, name, doc, tags FROM items ORDER BY id") == [
        (1, None, {"a": [1, None]}, ["x", 'y"']),
        (3, "pot", None, None),
    ]
    assert rig.sql("SELECT topic, partition, next_offset, epoch FROM pycdc.apply_offsets") == [("items", 0, 5, 1)]
    process.apply({"op": "u", "before": None, "after": {"id": 3, "name": "pan", "doc": "__debezium_unavailable_value"}})
    assert rig.sql("SELECT name FROM items WHERE id = 3") == [("pan",)]


def test_an_upsert_that_lacks_what_was_not_sent_updates_the_row_there_is(rig: Rig) -> None:
    """A TOASTed NOT NULL column is left out of an update: an INSERT without it would be refused."""
    rig.sql("ALTER TABLE items ALTER long DROP DEFAULT; INSERT INTO items (id, long) VALUES (1, 'long')")
    rig.process().apply({"id": 1, "name": "cup", "long": "__debezium_unavailable_value"})
    assert rig.sql("SELECT name, long FROM items") == [("cup", "long")]


def test_deltas_are_added_and_assignments_keep_their_place_between_them(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id, quantity) VALUES (1, 10), (2, 0)")
    process = rig.process(
        {"topic": "items", "table": "items", "operation": "delta", "delta": {"quantity": "by"}, "when": {"t": "moved"}},
        {"topic": "items", "table": "items", "operation": "update", "set": {"quantity": "n"}, "when": {"t": "counted"}},
    )
    moved = [{"t": "moved", "id": 1, "by": by} for by in (5, -3)]
    process.apply(*moved, {"t": "counted", "id": 2, "n": 7}, {"t": "moved", "id": 2, "by": 1}, *moved, {"t": "other"})
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == [(1, 14), (2, 8)]
    with pytest.raises(ApplyError, match=r"items\[0\] offset 7 .*not there"):
        process.apply({"t": "moved", "id": 3, "by": 1})


def test_one_event_writes_parent_and_child_in_one_transaction_whatever_their_order(rig: Rig) -> None:
    process = rig.process(
        {"topic": "items", "table": "items", "set": {"name": "name"}},
        {
            "topic": "items",
            "table": "lines",
            "key": {"id": "line"},
            "set": {"item": "id", "note": "note"},
            "operation": "insert",
        },
    )
    process.apply(*({"id": n % 2, "name": "cup", "line": n, "note": f"n{n}"} for n in range(5)))
    assert rig.sql("SELECT count(*), count(DISTINCT xmin::text) FROM lines") == [(5, 1)]


def test_a_text_that_is_too_long_is_refused_and_never_cut(rig: Rig) -> None:
    with pytest.raises(ApplyError, match="StringDataRightTruncation"):
        rig.process().apply({"id": 1, "name": "much too long"})
    assert rig.sql("SELECT * FROM items") == []


# Exactly once.


def test_a_process_that_was_overtaken_writes_nothing_and_stops(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    delta = {"topic": "items", "table": "items", "operation": "delta", "delta": {"quantity": "by"}}
    zombie = rig.process(delta)
    zombie.apply({"id": 1, "by": 1})
    heir = rig.process(delta)
    assert heir.begins == 1
    with pytest.raises(SinkFenced, match=r"items\[0\]"):
        zombie.apply({"id": 1, "by": 10})
    rig.ends["items"] = 1
    heir.apply({"id": 1, "by": 100})
    assert rig.sql("SELECT quantity FROM items") == [(101,)]
    with pytest.raises(DeliveryError, match="cannot go on"):
        zombie.apply({"id": 1, "by": 10})


def test_what_was_given_up_is_never_committed(rig: Rig) -> None:
    process = rig.process()
    process.apply_offsets.release([Partition("items", 0)])
    with pytest.raises(SinkFenced):
        process.apply({"id": 1})
    assert rig.sql("SELECT * FROM items") == []


def test_an_offset_that_somebody_set_by_hand_is_seen_before_anything_is_written(rig: Rig) -> None:
    process = rig.process()
    rig.sql("UPDATE pycdc.apply_offsets SET next_offset = 50")
    with pytest.raises(SinkFenced):
        process.apply({"id": 1})
    assert rig.process().begins == 50


def test_a_connection_that_breaks_is_lost_and_the_stored_offset_tells_what_became_of_it(rig: Rig) -> None:
    process = rig.process()
    rig.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pycdc-apply'")
    with pytest.raises(ConnectionLost):
        process.apply({"id": 1})
    heir = rig.process()
    assert heir.begins == 0
    heir.apply({"id": 1})
    assert rig.process().begins == 1


def test_a_deadlock_is_tried_again(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1), (2)")
    process = rig.process({"topic": "items", "table": "items", "set": {"name": "name"}})
    with psycopg.connect(rig.dsn) as other:
        other.execute("UPDATE items SET name = 'o' WHERE id = 2")
        writer = threading.Thread(target=process.apply, args=({"id": 1, "name": "p"}, {"id": 2, "name": "p"}))
        writer.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_for(lambda: rig.sql(waiting) != [(0,)])
        other.execute("SET deadlock_timeout = '10s'; UPDATE items SET name = 'o' WHERE id = 1")
    writer.join(120)
    assert rig.sql("SELECT DISTINCT name FROM items") == [("p",)]
    told = process.progress
    assert told.retried == {"DeadlockDetected": 1}
    assert (told.applied, told.transactions) == ({("public.items", "upsert"): 2}, 1)


# What cannot be applied.


def test_the_one_bad_row_is_parked_with_its_followers_and_the_rest_goes_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    process = rig.process(on_error="park")
    good = [{"id": n, "name": "cup"} for n in range(10, 30)]
    process.apply(*good[:9], {"id": 1, "name": "secret"}, *good[9:], {"id": 1, "quantity": 5})
    process.apply({"id": 1, "name": "last"}, {"id": 2, "name": "jug"}, ("k", b"secret{"), {"quantity": "secret"})
    assert rig.sql("SELECT count(*) FROM items WHERE name = 'cup'") == [(20,)]
    assert rig.sql("SELECT name FROM items WHERE id < 10") == [("jug",)]
    parked = rig.sql('SELECT "offset", key, error, sqlstate FROM pycdc.parked ORDER BY 1')
    assert parked == [
        (9, b"1", "StringDataRightTruncation", "22001"),
        (21, b"1", "Follower", None),
        (22, b"1", "Follower", None),
        (24, b'"k"', "Unwritable", None),
        (25, b"null", "Unwritable", None),
    ]
    assert rig.sql('SELECT value FROM pycdc.parked WHERE "offset" = 9') == [(b'{"id": 1, "name": "secret"}',)]
    assert rig.sql("SELECT next_offset FROM pycdc.apply_offsets") == [(26,)]
    assert "parked an event" in caplog.text
    assert "secret" not in caplog.text


def test_who_restarts_still_knows_whose_followers_wait_and_who_clears_the_table_lets_them_go(rig: Rig) -> None:
    rig.process(on_error="park").apply({"id": 1, "quantity": -1})
    heir = rig.process(on_error="park")
    heir.apply({"id": 1, "quantity": 1})
    assert rig.sql("SELECT * FROM items") == []
    rig.sql("DELETE FROM pycdc.parked")
    heir.apply({"id": 1, "quantity": 2})
    assert rig.sql("SELECT quantity FROM items") == [(2,)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"id": 1, "quantity": "secret"}, "InvalidTextRepresentation"),
        ({"id": 1, "quantity": -1}, "items_quantity_check"),
        ({"id": 1, "email": "secret"}, "items_email_key"),
        (("k", b"secret{"), "not JSON"),
    ],
)
def test_by_default_it_stops_and_names_the_record_and_not_its_values(rig: Rig, value: Any, words: str) -> None:
    rig.sql("INSERT INTO items (id, email) VALUES (99, 'secret')")
    with pytest.raises(ApplyError, match=r"items\[0\] offset 2 ") as stopped:
        rig.process(wait_for_parents=0).apply({"id": 5}, {"id": 6}, value, {"id": 7})
    assert words in stopped.value.fact
    assert "secret" not in str(stopped.value)
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(5,), (6,), (99,)], "what was before it is applied"
    assert rig.process().begins == 2


def test_routes_that_do_not_fit_are_told_before_anything_runs(rig: Rig) -> None:
    with pytest.raises(EnvironmentNotReady) as wrong:
        rig.process({"topic": "a", "table": "nowhere"}, {"topic": "b", "table": "items", "set": {"colour": "c"}})
    assert "routes[0]: table nowhere does not exist" in wrong.value.fact
    assert "routes[1]: table public.items has no column colour" in wrong.value.fact


def test_a_role_that_may_not_make_the_tables_is_told_what_an_owner_runs(rig: Rig, postgres: Any) -> None:
    name = f"apply_{postgres.major}"
    database = psycopg.conninfo.conninfo_to_dict(rig.dsn)["dbname"]
    rig.sql(f"CREATE ROLE {name} LOGIN")
    try:
        plain = Rig(postgres.dsn(database, user=name))
        rig.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON items TO {name}")
        with pytest.raises(EnvironmentNotReady) as refused:
            plain.process()
        rig.sql(refused.value.hint.partition("\n")[2])
        plain.process().apply({"id": 1})
        plain.close()
        assert rig.sql("SELECT id FROM items") == [(1,)]
    finally:
        rig.sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_schema_that_is_there_needs_no_right_to_make_one(rig: Rig, postgres: Any) -> None:
    name = f"owner_{postgres.major}"
    database = psycopg.conninfo.conninfo_to_dict(rig.dsn)["dbname"]
    rig.sql(f"CREATE ROLE {name} LOGIN; CREATE SCHEMA pycdc AUTHORIZATION {name}; GRANT ALL ON items TO {name}")
    try:
        plain = Rig(postgres.dsn(database, user=name))
        plain.process().apply({"id": 1})
        plain.close()
        assert rig.sql("SELECT id FROM items") == [(1,)]
    finally:
        rig.sql(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def test_identities_take_the_ids_of_events_triggers_fire_once_a_row_and_keys_are_checked(rig: Rig) -> None:
    rig.sql("CREATE TABLE fired (id bigint); INSERT INTO items (id) VALUES (1)")
    rig.sql(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO fired VALUES (NEW.id); RETURN NEW; END'"
    )
    rig.sql("CREATE TRIGGER note AFTER INSERT ON lines FOR EACH ROW EXECUTE FUNCTION note()")
    process = rig.process({"topic": "items", "table": "lines"}, wait_for_parents=0)
    process.apply({"id": 40, "item": 1}, {"id": 41, "item": 1})
    assert rig.sql("SELECT id FROM lines ORDER BY id") == rig.sql("SELECT id FROM fired ORDER BY id") == [(40,), (41,)]
    with pytest.raises(ApplyError, match="ForeignKeyViolation"):
        process.apply({"id": 42, "item": 9})
    assert rig.sql("SELECT max(id) FROM fired") == [(41,)]


# Transactions that take too long.

SLOW = """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END';
CREATE TRIGGER slow BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION slow()"""


def test_a_batch_that_takes_too_long_is_applied_in_smaller_transactions(rig: Rig) -> None:
    rig.sql(SLOW)
    process = rig.process(max_transaction_seconds=0.6)
    assert process.apply(*({"id": number} for number in range(16))) is None
    assert rig.sql("SELECT count(*) FROM items") == [(16,)]
    assert rig.sql("SELECT max(n) BETWEEN 2 AND 6 FROM (SELECT count(*) n FROM items GROUP BY xmin::text) t") == [
        (True,)
    ]


def test_one_event_that_takes_too_long_is_an_error_that_names_it_and_is_tried_again(rig: Rig) -> None:
    rig.sql(SLOW)
    with pytest.raises(ConnectionLost, match=r"items\[0\] offset 0 takes longer than 0.05 s"):
        rig.process(max_transaction_seconds=0.05).apply({"id": 1})
    assert rig.process().begins == 0


def test_a_batch_that_has_had_its_turn_leaves_the_rest_to_be_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sql(SLOW)
    monkeypatch.setattr("pycdc.sinks.postgres.sink._TURN", 0.5)
    process = rig.process(max_transaction_seconds=0.3)
    taken = process.apply(*({"id": number} for number in range(16)))
    assert taken is not None
    assert list(taken.held.values()) == [0.0]
    assert rig.sql("SELECT count(*) FROM items") == rig.sql("SELECT next_offset FROM pycdc.apply_offsets")


def test_a_batch_that_does_not_begin_where_the_last_one_ended_is_refused_and_read_again(rig: Rig) -> None:
    process = rig.process()
    batch = EventBatch(
        [Event(Partition("items", 0), 5, 0, row={"id": 1}, raw_key=b"1")], PartitionOffsets({Partition("items", 0): 6})
    )
    batch.starts = {Partition("items", 0): 3}
    process.sink.write(batch)
    with pytest.raises(DeliveryError, match=r"items\[0\] was read from offset 3 on, and is applied to offset 0"):
        process.sink.commit(Applied(PartitionOffsets({Partition("items", 0): 6})))
    assert rig.sql("SELECT * FROM items") == []


def test_tables_of_an_earlier_version_get_the_columns_that_they_lack(rig: Rig) -> None:
    rig.process(on_error="park").apply({"id": 1}, {"id": 2, "name": "far too long"})
    rig.sql("ALTER TABLE pycdc.apply_offsets DROP COLUMN topic_id; ALTER TABLE pycdc.parked DROP COLUMN record_ms")
    rig.process(on_error="park").apply({"id": 3}, {"id": 4, "name": "far too long"})
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (3,)]
    assert rig.sql("SELECT record_ms FROM pycdc.parked ORDER BY 1 NULLS FIRST") == [(None,), (0,)]

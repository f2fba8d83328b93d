"""Parked events that are applied after all, and conflicts that are decided after all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.sinks.postgres.conflicts.history import key_bytes, key_text
from pycdc.sinks.postgres.failures.replay import Replay
from tests.sinks.postgres.rig import TABLES, Rig

pytestmark = pytest.mark.pg("newest")
ITEMS = {"topic": "items", "table": "items"}


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    rig.process(on_error="park")
    yield rig
    rig.close()


@pytest.fixture
def opened() -> Iterator[list[Replay]]:
    made: list[Replay] = []
    yield made
    for each in made:
        each.close()


def replay(rig: Rig, opened: list[Replay], *routes: dict[str, Any]) -> Replay:
    settings = PostgresSinkConfig.model_validate({"dsn": rig.dsn, "routes": list(routes or (ITEMS,))})
    opened.append(Replay(settings, "back", Decoder(None).event))
    return opened[-1]


def park(rig: Rig, partition: int, offset: int, key: Any, value: Any, written: int, topic: str = "items") -> None:
    told = "NULL" if key is None else f"convert_to('{json.dumps(key)}', 'UTF8')"
    rig.sql(
        'INSERT INTO pycdc.parked (pipeline, topic, partition, "offset", key, value, header_names, header_values, '
        f"error, record_ms) VALUES ('back', '{topic}', {partition}, {offset}, {told}, "
        f"convert_to('{json.dumps(value)}', 'UTF8'), '{{}}', '{{}}', 'Unwritable', {written})"
    )


@pytest.mark.parametrize("key", [{"id": 1}, None])
def test_the_later_record_wins_whatever_its_partition(rig: Rig, opened: list[Replay], key: Any) -> None:
    park(rig, 0, 5, key, {"id": 1, "name": "new"}, 2000)
    park(rig, 1, 9, key, {"id": 1, "name": "old"}, 1000)
    made = replay(rig, opened)
    done = [made.replay(each) for each in made.waiting()]
    assert [each.applied for each in done] == [1, 1]
    assert rig.sql("SELECT name FROM items") == [("new",)]


def test_records_of_a_partition_stay_in_order_whatever_their_clocks_said(rig: Rig, opened: list[Replay]) -> None:
    for offset, written in enumerate((3000, 1000, 2000)):
        park(rig, 0, offset, None, {"id": 1, "name": f"n{offset}"}, written)
    made = replay(rig, opened)
    for each in made.waiting():
        made.replay(each)
    assert rig.sql("SELECT name FROM items") == [("n2",)]


def test_what_a_commit_would_refuse_is_its_events_fault_and_the_rest_goes_on(rig: Rig, opened: list[Replay]) -> None:
    rig.sql(
        "CREATE TABLE notes (id int PRIMARY KEY, item int REFERENCES items DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO items (id) VALUES (1)"
    )
    park(rig, 0, 0, {"id": 7}, {"id": 7, "item": 99}, 1000, "notes")
    park(rig, 0, 1, {"id": 8}, {"id": 8, "item": 1}, 2000, "notes")
    made = replay(rig, opened, {"topic": "notes", "table": "notes"})
    first, second = [made.replay(each) for each in made.waiting()]
    assert (first.left, second.applied) == (1, 1)
    assert "ForeignKeyViolation" in str(first.reason)
    assert rig.sql("SELECT id FROM notes") == [(8,)]


def test_a_row_keeps_the_time_of_its_record_while_it_is_parked(rig: Rig, opened: list[Replay]) -> None:
    rig.sql(
        "ALTER TABLE items ADD COLUMN changed timestamptz; INSERT INTO items (id, changed) VALUES (1, '2020-01-01')"
    )
    park(rig, 0, 0, {"id": 1}, {"id": 1, "name": "old"}, 1_000_000)
    rule = {"default": "last_write_wins", "row_time": "changed", "event_time": "$timestamp"}
    made = replay(rig, opened, {**ITEMS, "set": {"name": "name", "changed": "$timestamp"}, "conflict": rule})
    for each in made.waiting():
        made.replay(each)
    assert rig.sql("SELECT name, extract(year FROM changed)::int FROM items") == [(None, 2020)]


def conflict(rig: Rig, kept: str) -> int:
    """One that was decided: the row had one quantity, the event another."""
    rig.sql(f"INSERT INTO items (id, quantity) VALUES (1, {kept})")
    [(number,)] = rig.sql(
        'INSERT INTO pycdc.conflicts (pipeline, topic, partition, "offset", "table", key, kind, decision, current, '
        "incoming, event_time) VALUES ('back', 'items', 0, 0, 'public.items', '{\"id\": 1}', 'update_origin_differs', "
        "'apply_remote', '{\"id\": 1, \"quantity\": 100}', '{\"quantity\": 200}', now()) RETURNING id"
    )
    return int(number)


def changes(rig: Rig) -> str:
    """The kinds of messages since the slot was made, B to C for each transaction; M is the mark."""
    query = (
        "SELECT get_byte(data, 0) FROM pg_logical_slot_peek_binary_changes('seen', NULL, NULL, 'proto_version', '1', "
        "'publication_names', 'seen', 'messages', 'true')"
    )
    return "".join(chr(letter) for (letter,) in rig.sql(query))


@pytest.mark.parametrize("side", ["incoming", "existing"])
def test_a_row_that_this_side_keeps_travels_and_one_that_the_other_has_does_not(
    rig: Rig, opened: list[Replay], side: str
) -> None:
    number = conflict(rig, "200" if side == "existing" else "100")
    rig.sql("CREATE PUBLICATION seen FOR TABLE items")
    rig.sql("SELECT pg_create_logical_replication_slot('seen', 'pgoutput')")
    made = replay(rig, opened)
    made.resolve(number, side)
    assert rig.sql("SELECT quantity FROM items") == [(100 if side == "existing" else 200,)]
    letters = changes(rig)
    transaction_of_row = next(part for part in letters.split("C") if "U" in part)  # a marked one follows
    assert ("M" in transaction_of_row) == (side == "incoming")
    assert ("O" in transaction_of_row) <= (side == "incoming")
    assert rig.sql("SELECT resolution FROM pycdc.conflicts") == [(side,)]
    rig.sql("SELECT pg_drop_replication_slot('seen')")


@pytest.mark.parametrize(
    "key", [b"plain", b"\x00\x00\x00\x00\x01\x02", b"\xff", b"a\x1b[2J", b"", '{"id": "é"}'.encode()]
)
def test_a_key_can_be_typed_as_it_is_shown(key: bytes) -> None:
    shown = key_text(key)
    assert shown is not None
    assert shown.isprintable()
    assert key_bytes(shown) == key


def test_a_parked_event_that_gives_way_lets_the_row_travel(rig: Rig, opened: list[Replay]) -> None:
    conflict(rig, "100")
    rig.sql("UPDATE pycdc.conflicts SET decision = 'parked'")
    park(rig, 0, 0, {"id": 1}, {"id": 1, "quantity": 200}, 1000)
    rig.sql("CREATE PUBLICATION seen FOR TABLE items")
    rig.sql("SELECT pg_create_logical_replication_slot('seen', 'pgoutput')")
    done = replay(rig, opened).resolve(1, "existing")
    assert done is not None
    assert done.applied == 1
    letters = changes(rig)
    assert any("U" in part and "M" not in part for part in letters.split("C"))
    assert rig.sql("SELECT quantity FROM items") == [(100,)]
    rig.sql("SELECT pg_drop_replication_slot('seen')")

"""The columnar path leaves what the row path leaves, whatever comes: rows, offsets, errors and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import psycopg
import pytest

from pycdc.connectors.kafka import prefetch as fetched
from pycdc.model.event import Partition
from tests.services.postgres import PostgresServer
from tests.sinks.postgres.columnar_rig import HELD_BACK, TABLE, Record, Side, deleted, key, row, tombstone, written

pytestmark = pytest.mark.pg("newest")

Sides = Callable[..., tuple[Side, Side]]


@pytest.fixture
def sides(database: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sides]:
    """Two processes, the second by columns, on databases that are alike."""
    monkeypatch.setattr(fetched, "MANY", 1)
    made: list[Side] = []
    other = postgres.create_database()

    def start(script: str = "", route: dict[str, Any] | None = None, **options: Any) -> tuple[Side, Side]:
        for dsn, columnar in ((database, False), (other, True)):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"{TABLE}; {script}".encode())
            made.append(Side(dsn, columnar=columnar, route=route or {}, **options))
        return made[0], made[1]

    yield start
    for side in made:
        side.close()
    postgres.drop_database(other)


def both(pair: tuple[Side, Side], *records: Record) -> int:
    """Feed a batch to both, compare what became of it, and return how many events went by columns."""
    plain, columnar = pair
    before = columnar.progress.columnar
    assert columnar.feed(list(records)) == plain.feed(list(records))
    assert columnar.state() == plain.state()
    return columnar.progress.columnar - before


STRANGE: dict[str, Callable[[Random, str], Record]] = {
    "refused by the table": lambda random, form: written(form, {**row(random, 3), "small": 901}),
    "too long": lambda random, form: written(form, {**row(random, 3), "word": "longer than five"}),
    "not sent": lambda random, form: written(form, {**row(random, 3), "name": HELD_BACK}),
    "no text": lambda random, form: written(form, {**row(random, 3), "name": "a\0b"}),
    "carried before": lambda random, form: _with_headers(
        written(form, row(random, 3)), [("pycdc.origin", b"x"), ("pycdc.hops", b"1")]
    ),
    "with headers": lambda random, form: _with_headers(written(form, row(random, 3)), [("trace", b"1"), ("x", None)]),
    "cut": lambda random, form: _cut(written(form, row(random, 3)), -1 if form == "flat" else 40),
    "with more": lambda random, form: _longer(written(form, row(random, 3))),
    "key cut": lambda random, form: Record(key(10**9)[:-1], written(form, row(random, 3)).value()),
    "key unknown": lambda random, form: Record(b"\0\0\0\0\2\1", written(form, row(random, 3)).value()),
    "without a key": lambda random, form: Record(None, written(form, row(random, 3)).value()),
    "a tombstone without a key": lambda random, form: Record(None, None),
    "an object": lambda random, form: Record(b"3", b'{"id": 3, "name": "json"}'),
}


def _with_headers(record: Record, headers: Any) -> Record:
    return Record(record.key(), record.value(), headers)


def _cut(record: Record, end: int) -> Record:
    return Record(record.key(), (record.value() or b"")[:end])


def _longer(record: Record) -> Record:
    return Record(record.key(), (record.value() or b"") + b"\0")


def batch(random: Random, form: str, strange: float) -> list[Record]:
    """Few keys, so that rows are changed again, and in half of the batches deleted, made anew and renamed."""
    out: list[Record] = []
    changes = random.choice((0.75, 1.0))
    for _ in range(random.randrange(1, 25)):
        number, other = random.choice((1, 2, 3, 9, 10, 11, 200, -5)), random.choice((4, 5, 1000))
        what = random.random()
        if what < strange:
            out.append(random.choice(list(STRANGE.values()))(random, form))
        elif what < changes:
            before = row(random, number) if random.random() < 0.3 else None
            out.append(written(form, row(random, number), before))
        elif what < 0.85:
            out += [deleted(form, row(random, number)), tombstone(number)]
        elif what < 0.9:
            out += [deleted(form, row(random, number)), tombstone(number), written(form, row(random, other))]
        else:
            out.append(random.choice((tombstone(number), deleted(form, row(random, number)))))
    return out


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["envelope", "flat"])
@pytest.mark.parametrize("on_error", ["stop", "park"])
def test_random_batches_leave_the_same_behind(sides: Sides, form: str, on_error: str, seed: int) -> None:
    random, pair = Random(seed), sides(on_error=on_error)
    taken = sum(both(pair, *batch(random, form, strange=0.0)) for _ in range(12))
    assert taken > 20
    for _ in range(8):
        both(pair, *batch(random, form, strange=0.05))


@pytest.mark.parametrize("form", ["envelope", "flat"])
def test_upserts_deletes_and_their_tombstones_go_by_columns(sides: Sides, form: str) -> None:
    random, pair = Random(1), sides()
    assert both(pair, *(written(form, row(random, number)) for number in (7, 11, 100, 7, 9))) == 5
    assert both(pair, deleted(form, row(random, 7)), tombstone(7), written(form, row(random, 100))) == 3
    assert both(pair, written(form, row(random, 8)), deleted(form, row(random, 8)), tombstone(8)) == 3
    assert [number for (number,) in pair[1].sql("SELECT id FROM things ORDER BY id")] == [9, 11, 100]


@pytest.mark.parametrize("by_origin", ["on", "off"])
def test_a_row_that_is_gone_already_is_taken_only_where_nothing_is_to_be_recorded(
    sides: Sides, postgres: PostgresServer, by_origin: str
) -> None:
    postgres.configure(track_commit_timestamp=by_origin)
    pair = sides()
    assert both(pair, tombstone(1), written("envelope", {"id": 2}), tombstone(3)) == 3
    assert both(pair, written("envelope", {"id": 2}), deleted("envelope", {"id": 9})) == 0
    assert pair[1].sql("SELECT kind FROM pycdc.conflicts") == [("delete_missing",)]
    assert both(pair, written("envelope", {"id": 2}), deleted("envelope", {"id": 9}), tombstone(9)) == 3


def test_a_row_that_is_made_anew_after_its_delete_goes_the_plain_way(sides: Sides) -> None:
    pair = sides()
    assert both(pair, written("flat", {"id": 1}), deleted("flat", {"id": 1}), written("flat", {"id": 1})) == 0
    assert pair[1].sql("SELECT id FROM things") == [(1,)]


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("form", ["envelope", "flat"])
def test_what_does_not_fit_takes_its_batch_the_plain_way(sides: Sides, form: str, strange: str) -> None:
    random, pair = Random(5), sides(on_error="park")
    around = [written(form, row(random, 1)), written(form, row(random, 4))]
    taken = both(pair, around[0], STRANGE[strange](random, form), around[1])
    # Keys of rows are read by neither way; and an envelope with its row is read no further.
    fits = ["with headers", "without a key", "key cut", "key unknown", *(["with more"] if form == "envelope" else [])]
    assert taken == (3 if strange in fits else 0)
    assert both(pair, written(form, row(random, 5))) == (0 if pair[1].apply_offsets.blocked else 1)


def test_followers_of_a_parked_record_are_parked_and_the_lane_is_closed_until_then(sides: Sides) -> None:
    random, pair = Random(5), sides(on_error="park")
    both(pair, written("envelope", {**row(random, 3), "small": 901}), written("envelope", row(random, 1)))
    assert both(pair, written("envelope", row(random, 3)), written("envelope", row(random, 2))) == 0
    assert pair[1].progress.parked == {"CheckViolation": 1, "Follower": 1}


ROUTES: dict[str, dict[str, Any]] = {
    "set": {"set": {"name": "word", "word": "word", "big": "small"}},
    "constants": {"set": {"name": "name"}, "constants": {"owner": "pycdc", "small": None}},
    "insert": {"operation": "insert"},
    "update": {"operation": "update", "missing": "ignore"},
    "update of rows that must be there": {"operation": "update"},
    "deletes are ignored": {"on_delete": "ignore"},
    "deletes are soft": {"on_delete": "soft_delete", "soft_delete": {"owner": "gone"}},
    "key from another field": {"key": {"id": "big"}, "set": {"name": "name"}},
    "a field of the record": {"set": {"name": "$topic"}},
    "a condition": {"when": {"name": "plain"}},
    "delta": {"operation": "delta", "delta": {"small": "small"}},
    "monolith wins": {"conflict": "keep_local"},
    "a column of its own": {"conflict": {"default": "apply_remote", "columns": {"name": "keep_local"}}},
    "old values": {"conflict": {"default": "apply_remote", "detect": "old_values"}},
    "the last write": {"conflict": {"default": "last_write_wins", "row_time": "at", "event_time": "at"}},
}


@pytest.mark.parametrize("name", ROUTES)
def test_whatever_the_route_says_the_same_is_left_behind(sides: Sides, postgres: PostgresServer, name: str) -> None:
    pair = sides("INSERT INTO things (id, name) VALUES (1, 'theirs'), (2, 'theirs')", ROUTES[name], on_error="park")
    random = Random(3)
    for _ in range(6):
        both(pair, *batch(random, "envelope", strange=0.02))


def test_a_row_of_somebody_else_is_met_and_recorded_as_by_the_plain_way(sides: Sides, postgres: PostgresServer) -> None:
    random, pair = Random(3), sides(route={"conflict": "keep_local"})
    assert both(pair, *(written("envelope", row(random, number)) for number in (1, 2, 3))) == 3
    for side in pair:
        side.sql("UPDATE things SET name = 'theirs' WHERE id = 2")
    assert both(pair, *(written("envelope", row(random, number)) for number in (1, 2, 3))) == 0
    assert pair[1].sql("SELECT kind, decision FROM pycdc.conflicts") == [("update_origin_differs", "keep_local")]
    assert both(pair, written("envelope", row(random, 1)), deleted("envelope", row(random, 3))) == 2
    assert both(pair, deleted("envelope", row(random, 2)), tombstone(2), tombstone(3)) == 0
    assert pair[1].sql("SELECT id FROM things ORDER BY id") == [(1,), (2,)]


def test_a_table_that_changed_is_read_again_and_has_a_lane_again(sides: Sides) -> None:
    random, pair = Random(3), sides()
    assert both(pair, written("envelope", row(random, 1))) == 1
    for side in pair:
        side.sql("ALTER TABLE things ALTER COLUMN big TYPE numeric")
    both(pair, written("envelope", row(random, 2)))
    both(pair, written("envelope", row(random, 3)))
    assert both(pair, written("envelope", row(random, 4))) == 1


def test_what_was_read_for_former_routes_goes_the_plain_way(sides: Sides) -> None:
    _, columnar = sides()
    batch = columnar.read([written("envelope", row(Random(3), 1))])
    assert batch.load is not None
    columnar.begin()
    columnar.apply(batch)
    assert columnar.progress.columnar == 0
    assert columnar.sql("SELECT id FROM things") == [(1,)]


def test_whoever_was_overtaken_writes_nothing(sides: Sides) -> None:
    random, pair = Random(3), sides()
    for side in pair:
        side.sql("UPDATE pycdc.apply_offsets SET epoch = epoch + 1")
    assert both(pair, written("envelope", row(random, 1))) == 0
    assert pair[1].sql("SELECT * FROM things") == []


def test_each_transaction_carries_the_mark(sides: Sides) -> None:
    marks = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('columnar_mark', NULL, NULL, {}) WHERE {}"
    publication = "CREATE PUBLICATION everything FOR ALL TABLES"
    _, columnar = sides(publication)
    columnar.sql("SELECT pg_create_logical_replication_slot('columnar_mark', 'pgoutput')")
    columnar.feed([written("envelope", row(Random(1), 1))])
    options = "'proto_version', '1', 'publication_names', 'everything', 'messages', 'true'"
    first = columnar.sql(
        marks.format(options, "get_byte(data, 0) = ascii('M') AND strpos(encode(data, 'escape'), 'pycdc') > 0")
    )
    columnar.sql("SELECT pg_drop_replication_slot('columnar_mark')")
    assert (columnar.progress.columnar, first) == (1, [(1,)])


@pytest.mark.parametrize("by_message_key", [True, False])
def test_a_key_that_is_not_the_message_key_goes_by_no_lane_where_partitions_are_several(
    sides: Sides, by_message_key: bool
) -> None:
    pair = sides("ALTER TABLE things ADD UNIQUE (big)", {} if by_message_key else {"key": {"big": "big"}})
    for side in pair:
        side.apply_offsets.claim([Partition("t", 1)], lambda partition: 0)
    records = [written("flat", {**row(Random(1), number), "big": 10 + number}) for number in (1, 2)]
    assert both(pair, *records) == (2 if by_message_key else 0)
    assert pair[1].sql("SELECT count(*) FROM things") == [(2 if by_message_key else 0,)]

"""Confluent's wire format; and the fast way of writing a run gives the bytes of the slow one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.errors import ProtocolError
from pycdc.model.change import UNCHANGED, Op, Run, Table
from pycdc.rows.schema import Schema, avro_text
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import registered, wire_prefix
from tests.connectors.postgres import frames
from tests.serialization.runs import (
    COMMIT,
    FULL,
    ID,
    LOG,
    TIME,
    USERS,
    Recorder,
    by_topic,
    column,
    inserts,
    run,
    transaction,
)

NOW = 1_795_250_256_078_123_456


@pytest.fixture(autouse=True)
def _standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycdc.serialization.serializer.time.time_ns", lambda: NOW)


def same_either_way(*runs: Run, **options: Any) -> list[dict[str, Any]]:
    """The records of the runs, written the fast way, after a comparison with the plain one."""
    fast, slow = Recorder(**options), Recorder(plain=True, **options)
    written, expected = (by_topic(it.groups(*runs)) for it in (fast, slow))
    assert written == expected
    for topic, records in written.items():
        for record in records:
            fast.decoded(topic, record)
    return [record for records in written.values() for record in records]


TEXTS: st.SearchStrategy[ColumnBytes] = st.none() | st.text(max_size=20).map(str.encode)
UNSENT: st.SearchStrategy[ColumnBytes] = TEXTS | st.just(UNCHANGED)
IDS: st.SearchStrategy[ColumnBytes] = st.integers(-(2**31), 2**31 - 1).map(lambda n: str(n).encode())


@given(st.lists(st.tuples(IDS, TEXTS, IDS).map(list), min_size=1, max_size=4))
def test_inserts_and_reads_are_the_same_either_way(rows: list[list[bytes | None]]) -> None:
    lines = [b"\t".join(rb"\N" if text is None else text for text in row) for row in rows]
    plain = [line for line in lines if b"\\" not in line.replace(rb"\N", b"") and line.count(b"\t") == 2]
    same_either_way(inserts(USERS, *rows), run(Op.READ, USERS, *plain))


@given(st.lists(st.tuples(IDS, UNSENT, IDS).map(list), min_size=1, max_size=4))
def test_updates_without_an_old_row_are_the_same_either_way(rows: list[list[ColumnBytes]]) -> None:
    same_either_way(run(Op.UPDATE, USERS, *(frames.update(1, row) for row in rows)))


@given(st.lists(st.tuples(IDS, TEXTS, TEXTS, UNSENT, UNSENT), min_size=1, max_size=4), st.booleans())
def test_full_updates_are_the_same_either_way(changes: list[tuple[ColumnBytes, ...]], keyed: bool) -> None:
    table = FULL if keyed else Table(2, "public", "full", FULL.columns, (), "f")
    messages = [
        frames.update(2, [key, name or b"new", big], [key, old_name, old_big], b"O")
        for key, old_name, old_big, name, big in changes
    ]
    written = same_either_way(run(Op.UPDATE, table, *messages))
    assert len(written) == len(changes)
    assert all((record["key"] is None) is not keyed for record in written)


def test_unsent_values_come_from_the_full_old_row_on_both_sides() -> None:
    recorder = Recorder()
    old: list[ColumnBytes] = [b"1", b"Ada", b"big"]
    [record] = recorder.records(run(Op.UPDATE, FULL, frames.update(2, [b"1", b"Eve", UNCHANGED], old, b"O")))
    assert record.value["before"] == {"id": 1, "name": "Ada", "big": "big"}
    assert record.value["after"] == {"id": 1, "name": "Eve", "big": "big"}


def test_a_run_with_one_changed_key_is_written_once_and_in_order() -> None:
    stay = frames.update(2, [b"1", b"b", b"c"], [b"1", b"a", b"c"], b"O")
    move = frames.update(2, [b"3", b"b", b"c"], [b"2", b"a", b"c"], b"O")
    written = Recorder().records(run(Op.UPDATE, FULL, stay, move, stay))
    assert [(r.key["id"], r.value and r.value["op"]) for r in written] == [
        (1, "u"),
        (2, "d"),
        (2, None),
        (3, "c"),
        (1, "u"),
    ]


DECIMAL = Table(
    5,
    "public",
    "prices",
    (ID, column("amount", "numeric")),
    ("id",),
    "f",
)


def test_a_value_without_a_form_is_counted_once_either_way() -> None:
    row: list[ColumnBytes] = [b"1", b"NaN"]
    for plain in (False, True):
        for made in (
            inserts(DECIMAL, row),
            run(Op.READ, DECIMAL, b"1\tNaN"),
            run(Op.UPDATE, DECIMAL, frames.update(5, row, [b"1", b"1"], b"O")),
        ):
            recorder = Recorder(compatibility={"unrepresentable": "null"}, plain=plain)
            [record] = recorder.records(made)
            assert record.value["after"] == {"id": 1, "amount": None}
            assert recorder.nulls == [("public.prices", "amount")]


@pytest.mark.parametrize("op", [Op.CREATE, Op.UPDATE, Op.DELETE])
def test_a_frame_cut_at_any_place_is_a_protocol_error_that_names_the_table(op: Op) -> None:
    message = {
        Op.CREATE: frames.insert(2, [b"1", None, None]),
        Op.UPDATE: frames.update(2, [b"1", b"x", None], [b"1", b"y", None], b"O"),
        Op.DELETE: frames.delete(2, [b"1", None, None]),
    }[op]
    [whole] = run(op, FULL, message).frames
    recorder = Recorder()
    for cut in range(len(whole)):
        with pytest.raises(ProtocolError, match=r"public\.full"):
            recorder.groups(Run(op, FULL, transaction(), 0, [whole[:cut]]))


def test_source_and_times_say_where_and_when() -> None:
    recorder = Recorder()
    of = transaction(xid=9, previous=500)
    of.origin, of.origin_lsn = "other", 77
    [record] = recorder.records(run(Op.CREATE, USERS, frames.insert(1, [b"1", None, b"2"]), of=of))
    source = record.value["source"]
    assert (source["ts_ms"], source["ts_us"], source["ts_ns"]) == (TIME // 1000, TIME, TIME * 1000)
    assert (source["lsn"], source["sequence"], source["txId"]) == (COMMIT - 99, f'["500","{COMMIT - 99}"]', 9)
    assert (source["origin"], source["origin_lsn"], source["xmin"]) == ("other", 77, None)
    assert (source["name"], source["db"], source["schema"], source["table"]) == ("shop", "db", "public", "users")
    assert (source["connector"], source["snapshot"]) == ("postgresql", "false")
    value = record.value
    assert (value["ts_ms"], value["ts_us"], value["ts_ns"]) == (NOW // 1_000_000, NOW // 1000, NOW)


def test_a_read_row_carries_the_snapshot_s_position_and_marker() -> None:
    [record] = Recorder().records(run(Op.READ, USERS, b"1\t\\N\t2", of=transaction(xid=9, previous=0)))
    source = record.value["source"]
    assert (record.value["op"], source["snapshot"]) == ("r", "last")
    assert (source["lsn"], source["sequence"], source["txId"]) == (COMMIT, f'[null,"{COMMIT}"]', 9)


def test_a_record_begins_with_a_zero_byte_and_four_bytes_of_schema_id() -> None:
    assert wire_prefix(0x01020304) == b"\x00\x01\x02\x03\x04"
    [(_, [record])] = Recorder().groups(inserts(USERS, [b"1", None, b"2"]))
    assert record["key"] == wire_prefix(0) + b"\x02"
    assert record["value"].startswith(wire_prefix(1) + b"\x00\x02")


def test_a_table_without_a_key_has_null_keys() -> None:
    [record] = Recorder().records(inserts(LOG, [b"1", b"x"]))
    assert record.key is None


def test_ids_are_asked_for_by_subject_and_text() -> None:
    asked: list[tuple[str, str]] = []

    def id_for(subject: str, text: str) -> int:
        asked.append((subject, text))
        return 5

    schema = Schema("struct", name="shop.public.users.Key", fields=(("id", Schema("int32")),))
    find = registered(id_for, lambda topic, record, part: f"{topic}|{record}|{part}")
    assert find("shop.public.users", "key", schema) == 5
    assert asked == [("shop.public.users|shop.public.users.Key|key", avro_text(schema))]

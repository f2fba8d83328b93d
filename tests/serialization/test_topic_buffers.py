"""Batches of many small transactions, written by compiled loops, give each topic what it gets record by record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.model.change import UNCHANGED, Op, Routing, Run, Table, Transaction
from pycdc.model.origin import ChangeOrigin
from pycdc.serialization.source_block import SourceBlockEncoder, plain_source_block
from pycdc.serialization.source_info import SourceOrigin
from tests.connectors.postgres import frames
from tests.generated_examples import examples
from tests.serialization.runs import COMMIT, FULL, LOG, TIME, USERS, Recorder, by_topic, inserts, run, transaction

ORIGIN = SourceOrigin("shop", "db")
NEXT_USERS = Table(1, "public", "users", (*USERS.columns, LOG.columns[1]), ("id",))
NEAR = st.integers(0, 3_000_000).map(lambda micros: TIME + micros)
TIMES = NEAR | st.integers(0, 1 << 52) | st.sampled_from([(1 << 38) - 1, 1 << 38, TIME])
XIDS = st.none() | st.integers(3, 2**32 - 1)


@pytest.fixture(autouse=True)
def _standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycdc.serialization.serializer.time.time_ns", lambda: TIME * 1000)


def frame(table: Table, op: Op, number: int, kind: int) -> bytes:
    """A change of row `number`: usual, or (by `kind`) one that compiled code leaves to its reference implementation."""
    oid, row = table.oid, [b"%d" % number, b"x" * (number % 300), b"7", b"b"][: len(table.columns)]
    if op is Op.CREATE:
        return frames.insert(oid, row)
    if op is Op.DELETE:
        return (
            frames.delete(oid, row, b"O") if table is FULL else frames.delete(oid, [row[0]] + [None] * (len(row) - 1))
        )
    if kind == 0 or (table is LOG and kind < 3):
        return frames.update(oid, row)
    if kind == 2 and table is not FULL:
        return frames.update(oid, [row[0], UNCHANGED, *row[2:]])
    if kind == 3 and table is not LOG:
        return frames.update(oid, row, [b"%d" % (number + 1), *row[1:]], b"O" if table is FULL else b"K")
    return frames.update(oid, [row[0], UNCHANGED, *row[2:]], row, b"O") if table is FULL else frames.update(oid, row)


@st.composite
def transactions(draw: st.DrawFn) -> list[Run]:
    out, at, previous, users = [], COMMIT, draw(st.sampled_from([0, 500])), USERS
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.integers(1, 1 << 15))
        of = Transaction(draw(XIDS), at, draw(TIMES), previous)
        previous = of.end_lsn = at + 48
        kind = draw(st.sampled_from(["", "", "", "", "origin", "passage"]))
        if kind == "origin":
            of.origin, of.origin_lsn = "elsewhere", 5
        elif kind:
            of.change_origin = ChangeOrigin("back", 1)
        if draw(st.integers(0, 9)) == 0:
            users = NEXT_USERS
        for _ in range(draw(st.integers(1, 4))):
            table = draw(st.sampled_from([users, users, FULL, LOG]))
            op = draw(st.sampled_from([Op.CREATE, Op.UPDATE, Op.DELETE])) if table is not LOG else Op.CREATE
            numbers = draw(st.lists(st.tuples(st.integers(1, 999), st.integers(0, 3)), min_size=1, max_size=3))
            packed = [
                frames.xlog(frame(table, op, *pair), start=draw(st.integers(at - (1 << 15), at))) for pair in numbers
            ]
            routing = draw(st.sampled_from([None, None, None, Routing(headers=(("a", b"b"),)), Routing(topic="t")]))
            out.append(Run(op, table, of, of.changes, packed, None, None, routing))
            of.changes += len(packed)
    return out


OPTIONS: list[dict[str, Any]] = [
    {},
    {"envelope": {"context_headers": True}},
    {"envelope": {"tombstones": False}, "compatibility": "debezium"},
    {"rules": [{"tables": "public.*", "topic": "all"}]},
    {"flatten": {"add_fields": ["op", "lsn"]}},
    {"flatten": {"deletes": "rewrite", "add_headers": ["op"]}},
]


@given(transactions(), st.sampled_from(OPTIONS))
@examples(40)
def test_each_topic_has_the_records_of_the_plain_way_in_their_order(runs: list[Run], options: dict[str, Any]) -> None:
    fast, plain = Recorder(**options), Recorder(plain=True, **options)
    assert by_topic(fast.groups(*runs)) == by_topic(plain.groups(*runs))


@given(transactions())
@examples(20)
def test_either_all_records_of_a_group_have_headers_or_none(runs: list[Run]) -> None:
    for _, records in Recorder().groups(*runs):
        assert len({"headers" in record for record in records}) == 1


@given(st.lists(st.tuples(XIDS, TIMES, st.integers(0, 2**63 - 1)), max_size=20))
def test_stamps_in_a_row_are_the_plain_ones(facts: list[tuple[int | None, int, int]]) -> None:
    stamps = SourceBlockEncoder(ORIGIN)
    for xid, time, previous in facts:
        of = Transaction(xid, COMMIT, time, previous)
        assert stamps.of(of) == plain_source_block(of, ORIGIN)


def small(*tables: Table, count: int) -> Iterator[Run]:
    for number in range(count):
        of = transaction(xid=number + 3, commit=COMMIT + number)
        message = frames.insert(tables[number % len(tables)].oid, [b"%d" % number, None, b"2"][: len(USERS.columns)])
        yield run(Op.CREATE, tables[number % len(tables)], message, of=of)


def test_small_transactions_make_one_group_a_topic() -> None:
    groups = Recorder().groups(*small(USERS, FULL, count=100))
    assert [(topic, len(records)) for topic, records in groups] == [("shop.public.users", 50), ("shop.public.full", 50)]


def test_tables_of_one_topic_keep_the_order_of_their_commits() -> None:
    recorder = Recorder(rules=[{"tables": "public.*", "topic": "all"}])
    records = recorder.records(*small(USERS, FULL, count=20))
    assert [record.key["id"] for record in records] == list(range(20))


def test_a_new_version_of_a_table_begins_behind_the_rows_of_the_old_one() -> None:
    wide = frames.insert(1, [b"2", b"x", b"3", b"b"])
    records = Recorder().records(
        inserts(USERS, [b"1", None, b"2"]), run(Op.CREATE, NEXT_USERS, wide), run(Op.CREATE, NEXT_USERS, wide)
    )
    assert ["b" in record.value["after"] for record in records] == [False, True, True]

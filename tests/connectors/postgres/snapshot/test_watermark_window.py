"""A row of a chunk goes before the first change of its key that the chunk's snapshot does not see, else to the mark."""

from __future__ import annotations

import pytest

from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.pg_snapshot import PgSnapshot
from pycdc.connectors.postgres.snapshot.watermark_window import WatermarkWindow
from pycdc.errors import ProtocolError
from pycdc.model.change import UNCHANGED, Column, Op, PgType, Run, Table, Transaction
from tests.connectors.postgres import frames

SEEN, UNSEEN = 7, 12


def table(identity: str = "d", *, oid: int = 1, key: tuple[str, ...] = ("id",)) -> Table:
    columns = tuple(
        Column(name, PgType(25, "text"), identity=identity == "f" or (identity == "d" and name in key))
        for name in ("note", "id")
    )
    return Table(oid, "public", "t", columns, key, identity)


def window(identity: str = "d", *, lines: tuple[bytes, ...] = (b"a\t1", b"\\N\t2", b"c\\td\t3")) -> WatermarkWindow:
    task = TableTask("public", "t", request="wish")
    visibility = PgSnapshot.parse("10:15:12,13")
    return WatermarkWindow(
        "chunk", task, table(identity), visibility, Transaction(None, 900, 5), list(lines), last=True
    )


def run(op: Op, *payloads: bytes, xid: int = UNSEEN, of: Table | None = None) -> Run:
    return Run(
        op, of or table(), Transaction(xid, 800, 0), 0, [frames.xlog(payload, start=700) for payload in payloads]
    )


@pytest.mark.parametrize(
    ("xid", "seen"), [(9, True), (10, True), (11, True), (12, False), (13, False), (14, True), (15, False), (16, False)]
)
def test_a_snapshot_sees_what_was_over_when_it_was_taken(xid: int, seen: bool) -> None:
    assert PgSnapshot.parse("10:15:12,13").sees(xid) is seen
    assert PgSnapshot.parse("10:15:12,13").sees(None)


def test_ids_of_the_stream_are_compared_across_an_epoch() -> None:
    after = PgSnapshot.parse(f"{(3 << 32) + 5}:{(3 << 32) + 9}:{(3 << 32) + 5}")
    assert after.sees(0xFFFFFFF0), "the epoch before"
    assert not after.sees(5)
    before = PgSnapshot.parse(f"{(3 << 32) - 9}:{(3 << 32) - 5}:")
    assert not before.sees(3), "the epoch behind"


def test_what_is_no_snapshot_is_refused() -> None:
    for text in ("", "1:2", "a:b:c"):
        with pytest.raises(ProtocolError):
            PgSnapshot.parse(text)


def test_only_rows_of_the_table_in_a_transaction_that_is_not_seen_meet_the_window() -> None:
    insert = frames.insert(1, [b"x", b"1"])
    assert window().meets(run(Op.CREATE, insert))
    assert not window().meets(run(Op.CREATE, insert, xid=SEEN))
    assert not window().meets(run(Op.CREATE, insert, of=table(oid=2)))
    assert not window().meets(Run(Op.BEGIN, None, Transaction(UNSEEN, 1, 0), 0, []))


def test_a_touched_row_goes_before_the_change_once_and_the_rest_to_the_mark() -> None:
    it = window()
    update = run(Op.UPDATE, frames.update(1, [UNCHANGED, b"2"]))
    (before,) = it.before(update)
    assert (before.op, before.frames, before.marker) == (Op.READ, [b"\\N\t2"], "incremental")
    assert before.transaction.commit_lsn == 700, "no later than the change that follows"
    assert it.before(update) == []
    assert it.rest() == [b"a\t1", b"c\\td\t3"]


@pytest.mark.parametrize(
    ("identity", "change", "left"),
    [
        ("d", run(Op.DELETE, frames.delete(1, [None, b"3"])), [b"a\t1", b"\\N\t2"]),
        ("d", run(Op.UPDATE, frames.update(1, [b"x", b"9"], [None, b"1"])), [b"\\N\t2", b"c\\td\t3"]),
        ("d", run(Op.CREATE, frames.insert(1, [b"x", b"4"])), [b"a\t1", b"\\N\t2", b"c\\td\t3"]),
        ("f", run(Op.DELETE, frames.delete(1, [b"c\td", b"3"], b"O"), of=table("f")), [b"a\t1", b"\\N\t2"]),
        ("d", run(Op.TRUNCATE, frames.truncate(1)), []),
    ],
)
def test_a_row_is_told_by_its_identity_before_and_after_the_change(
    identity: str, change: Run, left: list[bytes]
) -> None:
    it = window(identity)
    it.before(change)
    assert it.rest() == left


def test_a_backlog_comes_back_from_its_state_as_it_was() -> None:
    backlog = Backlog([TableTask("public", "a", (b"\xff\\", b"")), TableTask("public", "b", where="x", request="wish")])
    backlog.pause(True)
    again = Backlog.of_state(backlog.state)
    assert again.state == backlog.state
    assert [(r.name, r.after, r.where, r.request) for r in again] == [
        ("a", (b"\xff\\", b""), None, ""),
        ("b", None, "x", "wish"),
    ]
    assert again.paused
    assert again.current is None
    assert "xff" not in repr(list(again))

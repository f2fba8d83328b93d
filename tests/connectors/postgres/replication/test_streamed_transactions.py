"""Transactions that were streamed come as if they had been sent at their commit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.connectors.postgres.replication.control_message import PREFIX as SIGNALS
from pycdc.connectors.postgres.replication.streamed_transactions import StreamedTransactions
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.replication.transaction_spool import SpoolFolder
from pycdc.errors import ConnectionLost, PositionGap, ProtocolError
from pycdc.model.change import Batch, Change, Lsn
from pycdc.model.origin import MESSAGE_PREFIX
from pycdc.rows.tuples import ROW, split_tuple
from tests.connectors.postgres import frames
from tests.connectors.postgres.replication.test_transaction_assembler import OTHER, TABLE, table_of
from tests.connectors.postgres.replication.walsender_model import Row, Walsender
from tests.generated_examples import examples


class Sent:
    """What the server sent, read in slices."""

    def __init__(self, payloads: list[bytes], dice: random.Random | None = None) -> None:
        self.left = [frames.xlog(payload) for payload in payloads]
        self.dice = dice

    def read(self, max_messages: int, max_bytes: int, timeout: float) -> list[bytes]:
        most = max_messages if self.dice is None else self.dice.randint(1, max_messages)
        taken, self.left = self.left[:most], self.left[most:]
        return taken


def batches(source: Sent, streamed: StreamedTransactions, assembler: TransactionAssembler) -> Iterator[Batch]:
    most = 100 if source.dice is None else source.dice.randint(1, 50)
    while True:
        got = streamed.read(most, 1 << 20, 0.0)
        batch = Batch()
        assembler.feed(got, batch)
        yield batch
        if not got and not source.left:
            return


def delivered(*payloads: bytes, start: int = 0) -> list[tuple[str, str, int, int]]:
    source = Sent(list(payloads))
    streamed = StreamedTransactions(source, SpoolFolder(None), 1 << 20, Lsn(start))
    assembler = TransactionAssembler(table_of, Lsn(start))
    changes = [change for batch in batches(source, streamed, assembler) for change in batch]
    return [(c.op.value, str(c.table), int(c.frame[-1:]), c.index) for c in changes]


def row_of(change: Change) -> Row:
    """The version by which the row would be read, and what it has in all columns of that."""
    assert change.table is not None
    columns, end = split_tuple(change.frame, ROW)
    assert end == len(change.frame)
    assert len(columns) == len(change.table.columns), "a row of another version of the table"
    assert isinstance(columns[0], bytes)
    return change.table.oid, len(change.table.columns) - 1, int(columns[0])


@examples(200)
@given(st.integers(0, 1 << 32), st.integers(5, 80), st.sampled_from([0, 2000, 1 << 30]))
def test_what_is_committed_comes_once_and_in_the_order_of_commits(seed: int, steps: int, memory: int) -> None:
    dice = random.Random(seed)
    server = Walsender(dice)
    server.run(steps)
    source = Sent(server.sent, dice)
    folder = SpoolFolder(None)
    streamed = StreamedTransactions(source, folder, memory, Lsn(0))
    found: dict[int, list[Row]] = {}
    for batch in batches(source, streamed, TransactionAssembler(table_of, Lsn(0))):
        for change in batch:
            found.setdefault(change.transaction.commit_lsn, []).append(row_of(change))
    assert list(found.values()) == [rows for rows in server.committed if rows]
    assert list(found) == sorted(found)
    assert (streamed.count, folder.on_disk) == (0, 0)


BLOCK = [
    frames.stream_start(7, first=True),
    frames.within(TABLE, 7),
    frames.within(frames.insert(1, [b"1"]), 7),
    frames.within(frames.insert(1, [b"2"]), 8),
    frames.within(frames.insert(1, [b"3"]), 9),
    b"E",
]


def test_nothing_is_delivered_before_the_commit() -> None:
    assert delivered(*BLOCK) == []


def test_only_rows_of_the_aborted_subtransaction_are_dropped() -> None:
    found = delivered(*BLOCK, frames.stream_abort(7, 8), frames.stream_commit(7, 200, 210))
    assert found == [("c", "public.t", 1, 0), ("c", "public.t", 3, 1)]


def test_an_aborted_transaction_leaves_nothing_behind_also_of_what_it_said_of_tables() -> None:
    with pytest.raises(ProtocolError, match="which was not described"):
        delivered(
            *BLOCK,
            frames.stream_abort(7, 7),
            frames.begin(300),
            frames.insert(1, [b"4"]),
            frames.commit(300, 310),
        )


def test_rows_messages_and_truncates_keep_their_order_and_the_origin_comes_first() -> None:
    source = Sent(
        [
            frames.stream_start(7, first=True),
            b"O" + bytes(8) + b"theirs\0",
            frames.within(TABLE, 7),
            frames.within(OTHER, 7),
            frames.within(frames.insert(1, [b"1"]), 7),
            frames.within(frames.message("p", b"2"), 7),
            frames.within(frames.truncate(1, 2), 7),
            b"E",
            frames.stream_start(7, first=False),
            frames.within(frames.delete(2, [b"3"]), 7),
            b"E",
            frames.stream_commit(7, 200, 210, time=5),
        ]
    )
    streamed = StreamedTransactions(source, SpoolFolder(None), 0, Lsn(0))
    (batch, _) = [*batches(source, streamed, TransactionAssembler(table_of, Lsn(0)))]
    assert [(change.op.value, str(change.table)) for change in batch] == [
        ("c", "public.t"),
        ("m", "None"),
        ("t", "public.t"),
        ("t", "public.other"),
        ("d", "public.other"),
    ]
    transaction = batch.runs[0].transaction
    assert (transaction.xid, transaction.commit_lsn, transaction.end_lsn, transaction.origin) == (7, 200, 210, "theirs")
    assert transaction.commit_time == 5 + 946_684_800_000_000


@pytest.mark.parametrize(("prefix", "doubt"), [("theirs", True), (SIGNALS, False), (MESSAGE_PREFIX, False)])
def test_a_message_that_may_have_been_rolled_back_is_read_again_at_the_commit(prefix: str, doubt: bool) -> None:
    """It carries the id of the whole transaction, wherever it was written."""
    sent = [*BLOCK[:-1], frames.within(frames.message(prefix, b"2"), 7), b"E"]
    sent += [frames.stream_abort(7, 8), frames.stream_commit(7, 200, 210)]
    doubts: list[bool] = []
    streamed = StreamedTransactions(Sent(sent), SpoolFolder(None), 0, Lsn(0), lambda: doubts.append(True))
    with pytest.raises(ConnectionLost, match="read at its commit") if doubt else nullcontext():
        streamed.read(100, 1 << 20, 0.0)
    assert doubts == [True] * doubt


def test_a_message_behind_the_last_rollback_is_in_no_doubt() -> None:
    later = [frames.stream_start(7, first=False), frames.within(frames.message("theirs", b"2"), 7), b"E"]
    sent = [*BLOCK, frames.stream_abort(7, 8), *later, frames.stream_commit(7, 200, 210)]
    assert [op for op, *_ in delivered(*sent)] == ["c", "c", "m"]


def prepared(xid: int = 7, lsn: int = 200) -> list[bytes]:
    begin = frames.begin_prepare(xid, lsn, lsn + 5, "g")
    return [begin, TABLE, frames.insert(1, [b"1"]), frames.prepare(xid, lsn, lsn + 5, "g")]


def test_a_prepared_transaction_comes_at_its_commit_and_one_that_is_rolled_back_does_not() -> None:
    assert delivered(*prepared()) == []
    assert delivered(*prepared(), frames.commit_prepared(7, 300, 310, "g")) == [("c", "public.t", 1, 0)]
    assert delivered(*prepared(), frames.rollback_prepared(7, 205, 300, "g")) == []


def test_the_server_keeps_what_is_prepared_until_its_commit_is_stored() -> None:
    source = Sent([*prepared(), frames.begin(250), frames.insert(1, [b"2"]), frames.commit(250, 255)])
    streamed = StreamedTransactions(source, SpoolFolder(None), 0, Lsn(0))
    streamed.read(100, 1 << 20, 0.0)
    assert streamed.confirmable(Lsn(255)) == 200
    source.left = [frames.xlog(frames.commit_prepared(7, 300, 310, "g"))]
    streamed.read(100, 1 << 20, 0.0)
    assert streamed.confirmable(Lsn(255)) == 200
    assert streamed.confirmable(Lsn(310)) == 310


def test_what_is_rolled_back_holds_the_server_no_longer() -> None:
    source = Sent([*prepared(), frames.rollback_prepared(7, 205, 300, "g")])
    streamed = StreamedTransactions(source, SpoolFolder(None), 0, Lsn(0))
    streamed.read(100, 1 << 20, 0.0)
    assert streamed.confirmable(Lsn(290)) == 290


def test_a_commit_of_what_was_never_sent_is_refused_unless_it_is_delivered() -> None:
    """It was prepared while the slot was read without two_phase."""
    with pytest.raises(PositionGap, match="does not send its changes again"):
        delivered(frames.commit_prepared(7, 300, 310, "g"))
    assert delivered(frames.commit_prepared(7, 300, 310, "g"), start=305) == []


@pytest.mark.parametrize("payload", [frames.stream_start(7, first=False), frames.stream_commit(7, 1, 2), b"E", b""])
def test_what_the_protocol_does_not_allow_is_an_error(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        delivered(payload)


def test_memory_is_bounded_and_files_have_no_names(tmp_path: Path) -> None:
    rows = [frames.within(frames.insert(1, [b"x" * 1000]), 7) for _ in range(300)]
    source = Sent([frames.stream_start(7, first=True), frames.within(TABLE, 7), *rows, b"E"])
    folder = SpoolFolder(str(tmp_path))
    streamed = StreamedTransactions(source, folder, 100_000, Lsn(0))
    while source.left:
        streamed.read(50, 1 << 20, 0.0)
        assert sum(one.spool.size for one in streamed._transactions.values()) <= 100_000
    assert 0 < folder.on_disk < 100_000, "compressed"
    assert list(tmp_path.iterdir()) == []
    streamed.close()
    assert folder.on_disk == 0

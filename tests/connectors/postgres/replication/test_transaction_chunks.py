"""A transaction that is delivered in chunks: no change is left out and none comes again, wherever the cut was."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.connectors.postgres.replication.control_message import PREFIX as SIGNALS
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.replication.transaction_chunks import TransactionChunks, last_end
from pycdc.errors import PositionGap
from pycdc.model.change import Batch, Lsn
from pycdc.model.transaction_chunk import TransactionChunk
from tests.connectors.postgres import frames
from tests.connectors.postgres.replication.test_transaction_assembler import IGNORED, OTHER, TABLE, feed, table_of

CHANGES = [
    frames.insert(1, [b"1"]),
    frames.insert(1, [b"2"]),
    frames.insert(2, [b"3"]),
    frames.truncate(1, 2),
    frames.insert(1, [b"4"]),
    frames.delete(1, [b"5"]),
    frames.insert(2, [b"6"]),
    frames.insert(2, [b"7"]),
]
TRANSACTION = [frames.begin(200), TABLE, OTHER, *CHANGES, frames.commit(200, 210)]

SIGNALLED = [
    frames.begin(200),
    TABLE,
    OTHER,
    IGNORED,
    frames.message(SIGNALS, b"one"),
    frames.insert(3, [b"row"]),
    CHANGES[0],
    frames.message(SIGNALS, b"two"),
    CHANGES[1],
    CHANGES[2],
    frames.insert(3, [b"row"]),
    frames.insert(3, [b"row"]),
    CHANGES[3],
    frames.message(SIGNALS, b"six"),
    frames.insert(3, [b"row"]),
    CHANGES[4],
    CHANGES[6],
    frames.commit(200, 210),
]
"""With messages, and rows of two tables, either of which may be the one of signals."""


def rows(batch: Batch) -> list[tuple[str, str, bytes, int]]:
    return [(change.op.value, str(change.table), change.frame, change.index) for change in batch]


def assembler(chunk: TransactionChunk | None = None) -> TransactionAssembler:
    return TransactionAssembler(table_of, Lsn(110), chunks=TransactionChunks(chunk, counting=True))


def in_batches(subject: TransactionAssembler, cuts: list[int]) -> list[Batch]:
    places = [0, *sorted(cuts), len(TRANSACTION)]
    return [feed(subject, *TRANSACTION[begin:end]) for begin, end in pairwise(places)]


PLACES = st.lists(st.integers(0, len(TRANSACTION)), max_size=4)


@given(st.integers(4, len(TRANSACTION) - 1), PLACES, PLACES)
def test_what_was_delivered_is_left_out_and_nothing_else(cut: int, before: list[int], after: list[int]) -> None:
    """`cut` is behind the first change at least: there is no chunk before it."""
    whole = [row for batch in in_batches(assembler(), []) for row in rows(batch)]
    first = assembler()
    delivered: list[tuple[str, str, bytes, int]] = []
    places = [0, *sorted(place for place in before if place < cut), cut]
    for begin, end in pairwise(places):
        delivered += rows(feed(first, *TRANSACTION[begin:end]))
    resumed = in_batches(assembler(first.half_read), after)
    assert delivered + [row for batch in resumed for row in rows(batch)] == whole
    assert sum(batch.size for batch in resumed) == len(whole) - len(delivered)
    assert any(batch.position is not None for batch in resumed)


def test_a_second_chunk_says_what_it_would_without_a_restart() -> None:
    undisturbed = assembler()
    feed(undisturbed, *TRANSACTION[:5])
    between = undisturbed.half_read
    feed(undisturbed, *TRANSACTION[5:8])
    resumed = assembler(between)
    feed(resumed, *TRANSACTION[:8])
    assert resumed.half_read == undisturbed.half_read


def test_other_changes_than_those_that_were_delivered_are_refused() -> None:
    """As another row filter would make them."""
    subject = assembler(TransactionChunk(xid=7, commit_lsn=200, changes=2, crc32=1))
    with pytest.raises(PositionGap, match="comes otherwise now"):
        feed(subject, *TRANSACTION)


def test_fewer_changes_than_were_delivered_are_refused() -> None:
    first = assembler()
    feed(first, *TRANSACTION[:6])
    with pytest.raises(PositionGap):
        feed(assembler(first.half_read), *TRANSACTION[:4], TRANSACTION[-1])


def test_another_transaction_in_its_place_is_refused() -> None:
    subject = assembler(TransactionChunk(xid=7, commit_lsn=190, changes=2, crc32=1))
    with pytest.raises(PositionGap):
        feed(subject, *TRANSACTION)


@given(st.integers(1, len(SIGNALLED) - 1), st.booleans())
def test_a_signal_is_handled_once_wherever_the_cut_was(cut: int, captured: bool) -> None:
    """A cut behind a signal would have the same number of changes as one before it."""

    def noted(chunk: TransactionChunk | None, *sent: bytes) -> tuple[TransactionAssembler, list[bytes]]:
        chunks = TransactionChunks(chunk, counting=True)
        signals = ("public", "other" if captured else "ignored")
        subject = TransactionAssembler(table_of, Lsn(110), chunks=chunks, signals=signals)
        feed(subject, *sent)
        return subject, [note.content[-3:] for note in subject.notes]

    _, whole = noted(None, *SIGNALLED)
    first, before = noted(None, *SIGNALLED[:cut])
    if first.half_read is None:
        return
    _, after = noted(first.half_read, *SIGNALLED)
    assert before + after == whole


def test_a_chunk_does_not_end_behind_a_signal_also_where_nothing_new_came_since() -> None:
    subject = TransactionAssembler(table_of, Lsn(110), chunks=TransactionChunks(counting=True))
    feed(subject, frames.begin(200), TABLE, CHANGES[0])
    assert subject.half_read is not None
    feed(subject, frames.message(SIGNALS, b"one"))
    feed(subject, OTHER)
    assert subject.half_read is None
    feed(subject, CHANGES[1])
    assert subject.half_read is not None


def test_batches_end_behind_the_last_transaction_that_is_complete() -> None:
    sent = [frames.xlog(payload) for payload in [*TRANSACTION, frames.begin(300), CHANGES[0]]]
    assert last_end(sent) == len(TRANSACTION)
    assert last_end(sent[:-3]) == 0
    assert last_end([]) == 0

from __future__ import annotations

from struct import pack

import pytest

from pycdc.connectors.postgres.replication.pgoutput import Relation
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.errors import ProtocolError
from pycdc.model.change import Batch, Column, Lsn, Op, PgType, Position, Table
from pycdc.model.origin import MESSAGE_PREFIX, ChangeOrigin, mark, origin_name
from tests.connectors.postgres import frames

TABLE = frames.relation(1, "t", [("id", 23, True)])
OTHER = frames.relation(2, "other", [("id", 23, True)])
IGNORED = frames.relation(3, "ignored", [("id", 23, True)])


def table_of(relation: Relation) -> Table | None:
    if relation.name == "ignored":
        return None
    columns = tuple(Column(column.name, PgType(column.type_oid, "int4")) for column in relation.columns)
    return Table(relation.oid, relation.namespace, relation.name, columns)


def feed(assembler: TransactionAssembler, *payloads: bytes) -> Batch:
    batch = Batch()
    assembler.feed([frames.xlog(payload) for payload in payloads], batch)
    return batch


def rows(batch: Batch) -> list[tuple[str, str, int, int]]:
    return [(c.op.value, str(c.table), int(c.frame[-1:]), c.index) for c in batch]


def test_consecutive_rows_of_one_kind_share_a_run_and_order_is_kept() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)),
        frames.begin(100),
        TABLE,
        frames.insert(1, [b"1"]),
        frames.insert(1, [b"2"]),
        OTHER,
        frames.insert(2, [b"3"]),
        frames.insert(1, [b"4"]),
        frames.delete(1, [b"5"]),
        frames.commit(100, 110),
    )
    assert [len(run) for run in batch.runs] == [2, 1, 1, 1]
    assert rows(batch) == [
        ("c", "public.t", 1, 0),
        ("c", "public.t", 2, 1),
        ("c", "public.other", 3, 2),
        ("c", "public.t", 4, 3),
        ("d", "public.t", 5, 4),
    ]
    assert batch.position == Position(Lsn(110))
    assert batch.size == 5


def test_the_position_is_the_last_commit_even_when_another_transaction_has_begun() -> None:
    assembler = TransactionAssembler(table_of, Lsn(0))
    batch = feed(assembler, frames.begin(100), TABLE, frames.insert(1, [b"1"]), frames.commit(100, 110))
    assert assembler.idle
    batch = feed(assembler, frames.begin(200), frames.insert(1, [b"2"]))
    assert batch.position is None
    assert not assembler.idle
    batch = feed(assembler, frames.insert(1, [b"3"]), frames.commit(200, 210), frames.begin(300))
    assert batch.position == Position(Lsn(210))
    assert [change.index for change in batch] == [1]


def test_rows_that_share_an_lsn_have_different_positions() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)),
        frames.begin(100),
        TABLE,
        *[frames.insert(1, [b"%d" % n]) for n in range(4)],
    )
    assert len({change.lsn for change in batch}) == 1
    assert len({change.position for change in batch}) == 4


@pytest.mark.parametrize(("commit_lsn", "delivered"), [(99, 0), (100, 1), (101, 1)])
def test_a_transaction_is_skipped_iff_its_commit_lies_before_the_start(commit_lsn: int, delivered: int) -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(100)),
        frames.begin(commit_lsn),
        TABLE,
        frames.insert(1, [b"1"]),
        frames.commit(commit_lsn, commit_lsn + 10),
    )
    assert batch.size == delivered
    assert (batch.position is not None) == bool(delivered)


def test_rows_older_than_the_start_are_delivered_when_their_commit_is_newer() -> None:
    batch = Batch()
    TransactionAssembler(table_of, Lsn(500)).feed(
        [
            frames.xlog(frames.begin(900)),
            frames.xlog(TABLE, 0),
            frames.xlog(frames.insert(1, [b"1"]), 300),
            frames.xlog(frames.commit(900, 910)),
        ],
        batch,
    )
    assert [change.lsn for change in batch] == [300]


def test_rows_of_a_table_that_is_not_captured_are_dropped_but_the_position_moves() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)),
        frames.begin(100),
        IGNORED,
        frames.insert(3, [b"1"]),
        frames.commit(100, 110),
    )
    assert batch.runs == []
    assert batch.position == Position(Lsn(110))


def test_a_truncate_yields_a_change_a_table() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)), frames.begin(100), TABLE, OTHER, IGNORED, frames.truncate(1, 2, 3)
    )
    assert [(run.op, str(run.table)) for run in batch.runs] == [
        (Op.TRUNCATE, "public.t"),
        (Op.TRUNCATE, "public.other"),
    ]


def test_logical_messages_keep_their_transaction_or_stand_alone() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(50)),
        frames.message("old", b"", lsn=49, transactional=False),
        frames.message("alone", b"x", lsn=60, transactional=False),
        frames.begin(100, 7),
        frames.message("inside", b"y"),
        frames.commit(100, 110),
    )
    messages = [(run.message.prefix, run.transaction.xid) for run in batch.runs if run.message is not None]
    assert messages == [("alone", None), ("inside", 7)]


def test_a_trace_is_of_its_transaction_and_no_change_of_it() -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)),
        frames.message("pycdc.trace", trace, lsn=60, transactional=False),
        frames.begin(100, 7),
        frames.message("pycdc.trace", trace),
        TABLE,
        frames.insert(1, [b"1"]),
        frames.commit(100, 110),
        frames.begin(200, 8),
        frames.insert(1, [b"2"]),
        frames.commit(200, 210),
    )
    rows = [(run.transaction.xid, run.index, run.transaction.trace) for run in batch.runs if run.op is Op.CREATE]
    assert rows == [(7, 0, trace), (8, 0, None)]
    assert [run.message.transactional for run in batch.runs if run.message is not None] == [False]


def test_boundaries_are_marked_on_request() -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), marks=True)
    batch = feed(assembler, frames.begin(100), TABLE, frames.insert(1, [b"1"]), frames.commit(100, 110))
    assert [run.op for run in batch.runs] == [Op.BEGIN, Op.CREATE, Op.END]


def test_the_previous_commit_is_known_to_each_transaction() -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), Lsn(90))
    batch = feed(
        assembler,
        frames.begin(100),
        TABLE,
        frames.insert(1, [b"1"]),
        frames.commit(100, 110),
        frames.begin(200),
        frames.commit(200, 210),
        frames.begin(300),
        frames.insert(1, [b"2"]),
    )
    assert [run.transaction.previous_end for run in batch.runs] == [90, 110]


def test_an_origin_belongs_to_its_transaction() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)),
        frames.begin(100),
        b"O" + pack(">Q", 5) + b"elsewhere\0",
        TABLE,
        frames.insert(1, [b"1"]),
    )
    assert batch.runs[0].transaction.origin == "elsewhere"


ORIGIN = b"O" + pack(">Q", 5) + origin_name("back", 0).encode() + b"\0"
MARK = frames.message(MESSAGE_PREFIX, mark("back").encode())
MARK_OF_T = frames.message(MESSAGE_PREFIX, mark("back", ["public.t"]).encode())


@pytest.mark.parametrize("tag", [ORIGIN, MARK], ids=["origin", "message"])
def test_a_transaction_that_a_pipeline_wrote_is_dropped_and_the_position_moves_past_it(tag: bytes) -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), Lsn(90), marks=True, foreign=lambda name: name == "back")
    batch = feed(assembler, frames.begin(100), tag)
    rest = feed(assembler, TABLE, frames.insert(1, [b"1"]), frames.truncate(1), frames.commit(100, 110))
    assert (batch.runs, rest.runs) == ([], [])
    assert rest.position == Position(Lsn(110))
    assert rest.last_commit == Lsn(90), "the sequence of what follows tells of delivered transactions only"
    own = feed(assembler, frames.begin(200), frames.insert(1, [b"2"]), frames.commit(200, 210))
    assert [run.op for run in own.runs] == [Op.BEGIN, Op.CREATE, Op.END]
    assert assembler.hidden == {"back": 1}, "what is left out is counted"


@pytest.mark.parametrize("tag", [ORIGIN, MARK], ids=["origin", "message"])
def test_a_transaction_that_is_not_dropped_keeps_the_way_that_it_came(tag: bytes) -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), foreign=lambda name: name == "another")
    batch = feed(assembler, frames.begin(100), tag, TABLE, frames.insert(1, [b"1"]), frames.commit(100, 110))
    assert rows(batch) == [("c", "public.t", 1, 0)]
    assert batch.runs[0].transaction.change_origin == ChangeOrigin("back", 1)
    own = feed(assembler, frames.begin(200), frames.insert(1, [b"2"]), frames.commit(200, 210))
    assert own.runs[0].transaction.change_origin is None


def test_the_message_tells_more_of_the_way_than_the_origin_does() -> None:
    carried = frames.message(MESSAGE_PREFIX, mark("back", change_origin=ChangeOrigin("first", 1)).encode())
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)), frames.begin(100), ORIGIN, carried, TABLE, frames.insert(1, [b"1"])
    )
    assert batch.runs[0].transaction.change_origin == ChangeOrigin("first", 2)


@pytest.mark.parametrize("tags", [[MARK_OF_T], [ORIGIN, MARK_OF_T]], ids=["message", "both"])
def test_by_table_only_rows_of_the_pipeline_s_tables_are_dropped(tags: list[bytes]) -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), foreign=lambda name: True, by_table=True)
    changes = [frames.insert(1, [b"1"]), frames.insert(2, [b"2"]), frames.truncate(1, 2), frames.insert(1, [b"3"])]
    batch = feed(assembler, frames.begin(100), *tags, TABLE, OTHER, *changes, frames.commit(100, 110))
    assert [(run.op, str(run.table), run.index) for run in batch.runs] == [
        (Op.CREATE, "public.other", 0),
        (Op.TRUNCATE, "public.other", 1),
    ]
    assert batch.runs[0].transaction.change_origin == ChangeOrigin("back", 1)
    own = feed(assembler, frames.begin(200), frames.insert(1, [b"4"]), frames.commit(200, 210))
    assert rows(own) == [("c", "public.t", 4, 0)]


@pytest.mark.parametrize("tag", [ORIGIN, MARK], ids=["origin", "message"])
def test_by_table_a_mark_that_names_none_drops_the_transaction(tag: bytes) -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), foreign=lambda name: True, by_table=True)
    assert feed(assembler, frames.begin(100), tag, TABLE, frames.insert(1, [b"1"])).runs == []


def test_what_was_delivered_before_stays_so_whatever_its_mark_says() -> None:
    assembler = TransactionAssembler(table_of, Lsn(200), foreign=lambda name: True, by_table=True)
    batch = feed(assembler, frames.begin(100), MARK_OF_T, OTHER, frames.insert(2, [b"1"]), frames.commit(100, 110))
    assert batch.runs == []


def test_a_message_that_only_looks_like_a_mark_drops_nothing() -> None:
    for content in (b"", b"{", b"[]", b'{"pipeline": 1}', b"\xff", b'{"pipeline":"x","hops":1e999}', b"[" * 100_000):
        assembler = TransactionAssembler(table_of, Lsn(0), foreign=lambda name: True)
        tag = frames.message(MESSAGE_PREFIX, content)
        assert feed(assembler, frames.begin(100), tag, TABLE, frames.insert(1, [b"1"])).size == 1
        assert assembler.strange_marks == 1


def test_a_prefix_that_is_no_unicode_is_made_some() -> None:
    tag = frames.message("p", b"x").replace(b"p\0", b"\xff\xc3\0", 1)
    batch = feed(TransactionAssembler(table_of, Lsn(0)), frames.begin(100), tag, frames.commit(100, 110))
    assert batch.runs[0].message is not None
    assert batch.runs[0].message.prefix == "\ufffd\ufffd"


def test_messages_that_nobody_wants_are_read_for_their_marks_only() -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), messages=False)
    batch = feed(
        assembler,
        frames.message("alone", b"x", lsn=60, transactional=False),
        frames.begin(100),
        frames.message("inside", b"y"),
        frames.commit(100, 110),
    )
    assert batch.runs == []
    assert batch.position == Position(Lsn(110))


@pytest.mark.parametrize(
    "payloads",
    [
        [frames.insert(1, [b"1"])],
        [frames.begin(100), frames.insert(1, [b"1"])],
        [frames.begin(100), frames.begin(200)],
        [frames.begin(100), frames.commit(101, 110)],
        [frames.truncate(1)],
        [frames.message("x", b"")],
        [b"S" + pack(">IB", 9, 1)],
        [b"?"],
    ],
    ids=["row outside", "unknown relation", "nested begin", "other commit", "truncate", "message", "stream", "letter"],
)
def test_a_sequence_that_the_protocol_forbids_is_refused(payloads: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        feed(TransactionAssembler(table_of, Lsn(0)), *payloads)


def test_a_row_belongs_to_the_version_of_its_table_that_was_described_last() -> None:
    wider = frames.relation(1, "t", [("id", 23, True), ("more", 23, False)])
    batch = feed(
        TransactionAssembler(table_of, Lsn(0)),
        frames.begin(100),
        TABLE,
        frames.insert(1, [b"1"]),
        wider,
        frames.insert(1, [b"1", b"2"]),
        frames.commit(100, 110),
    )
    assert [len(run.table.columns) for run in batch.runs if run.table is not None] == [1, 2]


@pytest.mark.parametrize(
    ("message", "fact"),
    [
        (frames.begin(100)[:-1], "ends before its last field"),
        (frames.begin(100) + b"x", "bytes too many"),
        (frames.commit(100, 110)[:-1], "ends before its last field"),
        (frames.commit(100, 110) + b"x", "bytes too many"),
        (b"C\x01" + frames.commit(100, 110)[2:], "commit flags 0x01"),
        (b"", "empty message"),
    ],
)
def test_a_malformed_begin_or_commit_is_a_protocol_error(message: bytes, fact: str) -> None:
    assembler = TransactionAssembler(table_of, Lsn(0))
    if message[:1] == b"C":
        feed(assembler, frames.begin(100))
    with pytest.raises(ProtocolError, match=fact):
        feed(assembler, message)


def test_changes_are_counted_by_table_and_operation_over_all_runs() -> None:
    batch = feed(
        TransactionAssembler(table_of, Lsn(0), marks=True),
        frames.begin(100),
        TABLE,
        OTHER,
        *[frames.insert(1 + n % 2, [b"1"]) for n in range(5)],
        frames.delete(1, [b"1"]),
        frames.truncate(1),
        frames.message("note", b""),
        frames.commit(100, 110),
    )
    assert sorted(batch.counts()) == [
        ("message", "m", 1),
        ("public.other", "c", 2),
        ("public.t", "c", 3),
        ("public.t", "d", 1),
        ("public.t", "t", 1),
    ]


def test_rows_inserted_into_the_signal_table_are_notes_between_the_runs_and_nothing_of_it_is_delivered() -> None:
    """Those only: neither what is updated there, nor what came before the start, nor what an apply pipeline wrote."""
    assembler = TransactionAssembler(
        table_of, Lsn(50), marks=True, signals=("public", "ignored"), foreign=lambda pipeline: pipeline == "back"
    )
    written = [IGNORED, frames.insert(3, [b"1"]), frames.update(3, [b"2"]), frames.insert(3, [b"3"])]
    feed(assembler, frames.begin(40), *written, frames.commit(40, 50))
    feed(assembler, frames.begin(60), MARK, *written, frames.commit(60, 70))
    assert assembler.notes == []
    alone = feed(assembler, frames.begin(80), *written, frames.commit(80, 90))
    assert alone.runs == [], "a transaction of signals alone is not announced"
    assert [(note.run, note.content[-1:], note.inserted) for note in assembler.notes] == [
        (0, b"1", True),
        (0, b"3", True),
    ]
    assembler.notes.clear()
    both = feed(assembler, frames.begin(100), TABLE, frames.insert(1, [b"1"]), *written[1:], frames.insert(1, [b"4"]))
    both_end = feed(assembler, frames.insert(3, [b"5"]), frames.commit(100, 110))
    assert [run.op for run in (*both.runs, *both_end.runs)] == [Op.BEGIN, Op.CREATE, Op.CREATE, Op.END]
    assert [(note.run, note.content[-1:]) for note in assembler.notes] == [(2, b"1"), (2, b"3"), (0, b"5")]


def test_a_signal_table_that_is_captured_is_delivered_and_noted() -> None:
    assembler = TransactionAssembler(table_of, Lsn(0), signals=("public", "t"))
    batch = feed(assembler, frames.begin(80), TABLE, *[frames.insert(1, [b"%d" % n]) for n in range(3)])
    assert len(batch) == 3
    assert [(note.run, note.content[-1:]) for note in assembler.notes] == [(1, b"0"), (1, b"1"), (1, b"2")]

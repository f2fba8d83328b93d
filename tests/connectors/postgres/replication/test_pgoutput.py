from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.connectors.postgres.replication import pgoutput as p
from pycdc.errors import ProtocolError
from pycdc.model.change import UNCHANGED
from tests.connectors.postgres import frames

GID = b"gid-1\0"
MESSAGES: list[tuple[bytes, p.PgOutput]] = [
    (frames.begin(10, 7, 5), p.Begin(10, 5, 7)),
    (frames.message("pfx", b"hello", lsn=9), p.Message(True, 9, "pfx", b"hello")),
    (frames.message("", b"", lsn=9, transactional=False), p.Message(False, 9, "", b"")),
    (frames.commit(10, 20, 5), p.Commit(10, 20, 5)),
    (b"O" + pack(">Q", 77) + b"origin\0", p.OriginMessage(77, "origin")),
    (
        frames.relation(16384, "t", [("id", 23, True), ("ünï", 25, False)], "i"),
        p.Relation(
            16384,
            "public",
            "t",
            "i",
            (p.RelationColumn(True, "id", 23, -1), p.RelationColumn(False, "ünï", 25, -1)),
        ),
    ),
    (b"Y" + pack(">I", 5) + b"\0mood\0", p.Type(5, "pg_catalog", "mood")),
    (frames.insert(1, [b"1", None, b""]), p.Insert(1, [b"1", None, b""])),
    (frames.update(1, [b"1", UNCHANGED]), p.Update(1, None, None, [b"1", UNCHANGED])),
    (frames.update(1, [b"2"], [b"1"]), p.Update(1, [b"1"], None, [b"2"])),
    (frames.update(1, [b"2"], [b"1"], b"O"), p.Update(1, None, [b"1"], [b"2"])),
    (frames.delete(1, [b"1"]), p.Delete(1, [b"1"], None)),
    (frames.delete(1, [b"1"], b"O"), p.Delete(1, None, [b"1"])),
    (frames.truncate(1, 2, options=3), p.Truncate((1, 2), True, True)),
    (b"S" + pack(">IB", 9, 1), p.StreamStart(9, True)),
    (b"E", p.StreamStop()),
    (b"c" + pack(">IBQQq", 9, 0, 1, 2, 3), p.StreamCommit(9, 1, 2, 3)),
    (b"A" + pack(">II", 9, 10), p.StreamAbort(9, 10)),
    (b"A" + pack(">IIQq", 9, 10, 11, 12), p.StreamAbort(9, 10, 11, 12)),
    (b"b" + pack(">QQqI", 1, 2, 3, 9) + GID, p.BeginPrepare(1, 2, 3, 9, "gid-1")),
    (b"P" + pack(">BQQqI", 0, 1, 2, 3, 9) + GID, p.Prepare(1, 2, 3, 9, "gid-1")),
    (b"K" + pack(">BQQqI", 0, 1, 2, 3, 9) + GID, p.CommitPrepared(1, 2, 3, 9, "gid-1")),
    (b"r" + pack(">BQQqqI", 0, 1, 2, 3, 4, 9) + GID, p.RollbackPrepared(1, 2, 3, 4, 9, "gid-1")),
    (b"p" + pack(">BQQqI", 0, 1, 2, 3, 9) + GID, p.StreamPrepare(1, 2, 3, 9, "gid-1")),
]
STREAMED = [(data, message) for data, message in MESSAGES if data[0] in b"MRYIUDT"]


def test_every_message_of_the_manual_is_covered() -> None:
    assert {data[:1] for data, _ in MESSAGES} == {bytes((letter,)) for letter in p._DECODERS}


@pytest.mark.parametrize(("data", "expected"), MESSAGES, ids=lambda value: type(value).__name__)
def test_a_message_decodes_to_its_fields(data: bytes, expected: p.PgOutput) -> None:
    assert p.decode(data) == expected
    assert p.decode(b"header" + data, 6) == expected


@pytest.mark.parametrize(("data", "expected"), STREAMED, ids=lambda value: type(value).__name__)
def test_within_a_stream_the_transaction_id_comes_first(data: bytes, expected: p.PgOutput) -> None:
    message = p.decode(data[:1] + pack(">I", 4242) + data[1:], streamed=True)
    assert message.xid == 4242  # type: ignore[union-attr]
    assert type(message) is type(expected)


@pytest.mark.parametrize(("data", "expected"), MESSAGES, ids=lambda value: type(value).__name__)
def test_a_message_cut_short_or_too_long_is_refused(data: bytes, expected: p.PgOutput) -> None:
    for length in range(len(data)):
        # A stream abort of protocol 4 begins with the whole of protocol 2's.
        if data[:length] in [other for other, _ in MESSAGES]:
            continue
        with pytest.raises(ProtocolError):
            p.decode(data[:length])
    with pytest.raises(ProtocolError):
        p.decode(data + b"\0")


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_protocol_error(data: bytes, streamed: bool) -> None:
    try:
        p.decode(data, streamed=streamed)
    except ProtocolError:
        pass


@given(st.sampled_from(MESSAGES), st.data())
def test_a_flipped_byte_raises_nothing_but_a_protocol_error(
    case: tuple[bytes, p.PgOutput], data: st.DataObject
) -> None:
    raw = bytearray(case[0])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        p.decode(bytes(raw))
    except ProtocolError:
        pass


def test_a_column_that_announces_four_gigabytes_is_refused_without_reading_them() -> None:
    with pytest.raises(ProtocolError, match="exceeds its message"):
        p.decode(b"I" + pack(">I", 1) + b"N" + pack(">H", 1) + b"t" + pack(">I", 0xFFFFFFFF))

"""The pgoutput messages of protocol versions 1 to 4: bytes in, values out. No sockets, no state.

In the order of the PostgreSQL manual, "Logical Replication Message Formats", with its words for the fields. LSNs are
integers, timestamps microseconds since 2000-01-01 as on the wire. Everything malformed raises ProtocolError: a length
that does not fit, a missing terminator, bytes left over.

`decode` is complete and plain. The engine's hot path never calls it for rows: `assembler` groups row messages by
their first bytes, and compiled code in `rows` reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from pycdc.errors import ProtocolError
from pycdc.rows.tuples import ColumnBytes, split_tuple

POSTGRES_EPOCH: Final = 946_684_800_000_000
"""2000-01-01 in microseconds since the Unix epoch."""

BEGIN, MESSAGE, COMMIT, ORIGIN, RELATION, TYPE = b"BMCORY"
INSERT, UPDATE, DELETE, TRUNCATE = b"IUDT"
STREAM_START, STREAM_STOP, STREAM_COMMIT, STREAM_ABORT = b"SEcA"
BEGIN_PREPARE, PREPARE, COMMIT_PREPARED, ROLLBACK_PREPARED, STREAM_PREPARE = b"bPKrp"
KEY_TUPLE, OLD_TUPLE, NEW_TUPLE = b"KON"


class Begin(NamedTuple):
    final_lsn: int
    commit_time: int
    xid: int


@dataclass(frozen=True, slots=True)
class Message:
    transactional: bool
    lsn: int
    prefix: str
    content: bytes = field(repr=False)
    xid: int | None = None


class Commit(NamedTuple):
    commit_lsn: int
    end_lsn: int
    commit_time: int


@dataclass(frozen=True, slots=True)
class OriginMessage:
    commit_lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """`key`: part of the replica identity (all columns under FULL)."""

    key: bool
    name: str
    type_oid: int
    typmod: int


@dataclass(frozen=True, slots=True)
class Relation:
    oid: int
    namespace: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Type:
    oid: int
    namespace: str
    name: str
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Insert:
    oid: int
    new: list[ColumnBytes] = field(repr=False)
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """`key` is the old tuple under DEFAULT or INDEX (only where the key changed), `old` the one under FULL."""

    oid: int
    key: list[ColumnBytes] | None = field(repr=False)
    old: list[ColumnBytes] | None = field(repr=False)
    new: list[ColumnBytes] = field(repr=False)
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    oid: int
    key: list[ColumnBytes] | None = field(repr=False)
    old: list[ColumnBytes] | None = field(repr=False)
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class Truncate:
    oids: tuple[int, ...]
    cascade: bool
    restart_identity: bool
    xid: int | None = None


@dataclass(frozen=True, slots=True)
class StreamStart:
    xid: int
    first: bool


@dataclass(frozen=True, slots=True)
class StreamStop:
    pass


@dataclass(frozen=True, slots=True)
class StreamCommit:
    xid: int
    commit_lsn: int
    end_lsn: int
    commit_time: int


@dataclass(frozen=True, slots=True)
class StreamAbort:
    """`xid` is the top-level transaction; where `subxid` differs, only that subtransaction was rolled back."""

    xid: int
    subxid: int
    abort_lsn: int | None = None
    abort_time: int | None = None


@dataclass(frozen=True, slots=True)
class BeginPrepare:
    prepare_lsn: int
    end_lsn: int
    prepare_time: int
    xid: int
    gid: str


@dataclass(frozen=True, slots=True)
class Prepare(BeginPrepare):
    pass


@dataclass(frozen=True, slots=True)
class CommitPrepared:
    commit_lsn: int
    end_lsn: int
    commit_time: int
    xid: int
    gid: str


@dataclass(frozen=True, slots=True)
class RollbackPrepared:
    prepare_end_lsn: int
    rollback_end_lsn: int
    prepare_time: int
    rollback_time: int
    xid: int
    gid: str


@dataclass(frozen=True, slots=True)
class StreamPrepare(BeginPrepare):
    pass


PgOutput = (
    Begin
    | Message
    | Commit
    | OriginMessage
    | Relation
    | Type
    | Insert
    | Update
    | Delete
    | Truncate
    | StreamStart
    | StreamStop
    | StreamCommit
    | StreamAbort
    | BeginPrepare
    | Prepare
    | CommitPrepared
    | RollbackPrepared
    | StreamPrepare
)

_u8 = Struct(">B").unpack_from
_u16 = Struct(">H").unpack_from
_i32 = Struct(">i").unpack_from
_u32 = Struct(">I").unpack_from
_begin = Struct(">QqI").unpack_from
_commit = Struct(">BQQq").unpack_from
_message = Struct(">BQ").unpack_from
_pair = Struct(">II").unpack_from
_abort = Struct(">Qq").unpack_from
_prepared = Struct(">QQqI").unpack_from
_rollback = Struct(">BQQqqI").unpack_from


class _Cursor:
    """A place in a message, moved by what is read."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def u8(self) -> int:
        (value,) = _u8(self.data, self.at)
        self.at += 1
        return int(value)

    def u16(self) -> int:
        (value,) = _u16(self.data, self.at)
        self.at += 2
        return int(value)

    def u32(self) -> int:
        (value,) = _u32(self.data, self.at)
        self.at += 4
        return int(value)

    def i32(self) -> int:
        (value,) = _i32(self.data, self.at)
        self.at += 4
        return int(value)

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ProtocolError("string without its terminator")
        raw = self.data[self.at : end]
        self.at = end + 1
        return raw.decode("utf-8", "surrogateescape")

    def bytes(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise ProtocolError(f"content of {length} bytes exceeds its message")
        raw = self.data[self.at : end]
        self.at = end
        return raw

    def tuple(self) -> list[ColumnBytes]:
        columns, self.at = split_tuple(self.data, self.at)
        return columns


def _decode_begin(cursor: _Cursor, xid: int | None) -> PgOutput:
    fields = _begin(cursor.data, cursor.at)
    cursor.at += 20
    return Begin(*fields)


def _decode_message(cursor: _Cursor, xid: int | None) -> PgOutput:
    flags, lsn = _message(cursor.data, cursor.at)
    cursor.at += 9
    if flags > 1:
        raise ProtocolError(f"message flags {flags:#04x} are not 0 or 1")
    prefix = cursor.text()
    return Message(flags == 1, lsn, prefix, cursor.bytes(cursor.u32()), xid)


def _decode_commit(cursor: _Cursor, xid: int | None) -> PgOutput:
    flags, commit_lsn, end_lsn, time = _commit(cursor.data, cursor.at)
    cursor.at += 25
    if flags:
        raise ProtocolError(f"commit flags {flags:#04x} are not 0")
    return Commit(commit_lsn, end_lsn, time)


def _decode_origin(cursor: _Cursor, xid: int | None) -> PgOutput:
    high, low = _pair(cursor.data, cursor.at)
    cursor.at += 8
    return OriginMessage(high << 32 | low, cursor.text())


def _decode_relation(cursor: _Cursor, xid: int | None) -> PgOutput:
    oid, namespace, name, identity = cursor.u32(), cursor.text(), cursor.text(), chr(cursor.u8())
    if identity not in "dfni":
        raise ProtocolError(f"replica identity {identity!r} is not one of d, f, n, i")
    columns = tuple(
        RelationColumn(cursor.u8() & 1 == 1, cursor.text(), cursor.u32(), cursor.i32()) for _ in range(cursor.u16())
    )
    # An empty namespace stands for pg_catalog.
    return Relation(oid, namespace or "pg_catalog", name, identity, columns, xid)


def _decode_type(cursor: _Cursor, xid: int | None) -> PgOutput:
    return Type(cursor.u32(), cursor.text() or "pg_catalog", cursor.text(), xid)


def _decode_insert(cursor: _Cursor, xid: int | None) -> PgOutput:
    oid = cursor.u32()
    _expect_new(cursor.u8())
    return Insert(oid, cursor.tuple(), xid)


def _decode_update(cursor: _Cursor, xid: int | None) -> PgOutput:
    oid, kind = cursor.u32(), cursor.u8()
    key = cursor.tuple() if kind == KEY_TUPLE else None
    old = cursor.tuple() if kind == OLD_TUPLE else None
    _expect_new(kind if key is None and old is None else cursor.u8())
    return Update(oid, key, old, cursor.tuple(), xid)


def _expect_new(kind: int) -> None:
    if kind != NEW_TUPLE:
        raise ProtocolError(f"tuple kind {kind:#04x} where the new tuple should be")


def _decode_delete(cursor: _Cursor, xid: int | None) -> PgOutput:
    oid, kind = cursor.u32(), cursor.u8()
    if kind not in (KEY_TUPLE, OLD_TUPLE):
        raise ProtocolError(f"tuple kind {kind:#04x} where the old tuple should be")
    columns = cursor.tuple()
    return Delete(oid, columns if kind == KEY_TUPLE else None, columns if kind == OLD_TUPLE else None, xid)


def _decode_truncate(cursor: _Cursor, xid: int | None) -> PgOutput:
    count, options = cursor.u32(), cursor.u8()
    if options > 3 or count * 4 != len(cursor.data) - cursor.at:
        raise ProtocolError("truncate message does not hold the relations it announces")
    oids = tuple(cursor.u32() for _ in range(count))
    return Truncate(oids, bool(options & 1), bool(options & 2), xid)


def _decode_stream_start(cursor: _Cursor, xid: int | None) -> PgOutput:
    return StreamStart(cursor.u32(), cursor.u8() == 1)


def _decode_stream_stop(cursor: _Cursor, xid: int | None) -> PgOutput:
    return StreamStop()


def _decode_stream_commit(cursor: _Cursor, xid: int | None) -> PgOutput:
    top = cursor.u32()
    commit = _decode_commit(cursor, None)
    assert isinstance(commit, Commit)
    return StreamCommit(top, commit.commit_lsn, commit.end_lsn, commit.commit_time)


def _decode_stream_abort(cursor: _Cursor, xid: int | None) -> PgOutput:
    top, sub = _pair(cursor.data, cursor.at)
    cursor.at += 8
    if cursor.at == len(cursor.data):
        return StreamAbort(top, sub)
    lsn, time = _abort(cursor.data, cursor.at)  # protocol 4, streaming 'parallel'
    cursor.at += 16
    return StreamAbort(top, sub, lsn, time)


def _prepare_fields(cursor: _Cursor, *, flags: bool) -> tuple[int, int, int, int, str]:
    if flags and cursor.u8():
        raise ProtocolError("prepare flags are not 0")
    first, second, time, xid = _prepared(cursor.data, cursor.at)
    cursor.at += 28
    return first, second, time, xid, cursor.text()


def _decode_begin_prepare(cursor: _Cursor, xid: int | None) -> PgOutput:
    return BeginPrepare(*_prepare_fields(cursor, flags=False))


def _decode_prepare(cursor: _Cursor, xid: int | None) -> PgOutput:
    return Prepare(*_prepare_fields(cursor, flags=True))


def _decode_commit_prepared(cursor: _Cursor, xid: int | None) -> PgOutput:
    return CommitPrepared(*_prepare_fields(cursor, flags=True))


def _decode_rollback_prepared(cursor: _Cursor, xid: int | None) -> PgOutput:
    flags, prepare_end, rollback_end, prepared, rolled_back, top = _rollback(cursor.data, cursor.at)
    cursor.at += 37
    if flags:
        raise ProtocolError("rollback flags are not 0")
    return RollbackPrepared(prepare_end, rollback_end, prepared, rolled_back, top, cursor.text())


def _decode_stream_prepare(cursor: _Cursor, xid: int | None) -> PgOutput:
    return StreamPrepare(*_prepare_fields(cursor, flags=True))


_DECODERS: Final[dict[int, Callable[[_Cursor, int | None], PgOutput]]] = {
    BEGIN: _decode_begin,
    MESSAGE: _decode_message,
    COMMIT: _decode_commit,
    ORIGIN: _decode_origin,
    RELATION: _decode_relation,
    TYPE: _decode_type,
    INSERT: _decode_insert,
    UPDATE: _decode_update,
    DELETE: _decode_delete,
    TRUNCATE: _decode_truncate,
    STREAM_START: _decode_stream_start,
    STREAM_STOP: _decode_stream_stop,
    STREAM_COMMIT: _decode_stream_commit,
    STREAM_ABORT: _decode_stream_abort,
    BEGIN_PREPARE: _decode_begin_prepare,
    PREPARE: _decode_prepare,
    COMMIT_PREPARED: _decode_commit_prepared,
    ROLLBACK_PREPARED: _decode_rollback_prepared,
    STREAM_PREPARE: _decode_stream_prepare,
}
_IN_STREAM: Final = frozenset((MESSAGE, RELATION, TYPE, INSERT, UPDATE, DELETE, TRUNCATE))


def decode(data: bytes, start: int = 0, *, streamed: bool = False) -> PgOutput:
    """Decode the message at `start`, which must reach to the end of `data`.

    `streamed`: the message lies between Stream Start and Stream Stop, where row, relation, type, truncate and logical
    messages carry the transaction's id first. Raises ProtocolError.
    """
    if start >= len(data):
        raise ProtocolError("empty message")
    letter = data[start]
    decoder = _DECODERS.get(letter)
    if decoder is None:
        raise ProtocolError(f"message type {letter:#04x} is not part of the protocol")
    cursor = _Cursor(data, start + 1)
    try:
        xid = cursor.u32() if streamed and letter in _IN_STREAM else None
        message = decoder(cursor, xid)
    except StructError:
        raise ProtocolError(f"message {chr(letter)!r} ends before its last field") from None
    if cursor.at != len(data):
        raise ProtocolError(f"message {chr(letter)!r} has {len(data) - cursor.at} bytes too many")
    return message

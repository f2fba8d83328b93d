"""Builds messages as the server would, for tests that need no server."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from pycdc.model.change import UNCHANGED
from pycdc.rows.tuples import ColumnBytes


def tuple_data(columns: Sequence[ColumnBytes]) -> bytes:
    out = [pack(">H", len(columns))]
    for column in columns:
        if column is None:
            out.append(b"n")
        elif column is UNCHANGED:
            out.append(b"u")
        else:
            out.append(b"t" + pack(">I", len(column)) + column)
    return b"".join(out)


def xlog(payload: bytes, start: int = 1000, time: int = 0) -> bytes:
    return b"w" + pack(">QQq", start, start, time) + payload


def begin(commit_lsn: int, xid: int = 7, time: int = 0) -> bytes:
    return b"B" + pack(">QqI", commit_lsn, time, xid)


def commit(commit_lsn: int, end_lsn: int, time: int = 0) -> bytes:
    return b"C" + pack(">BQQq", 0, commit_lsn, end_lsn, time)


def relation(oid: int, name: str, columns: list[tuple[str, int, bool]], identity: str = "d") -> bytes:
    out = [b"R", pack(">I", oid), b"public\0", name.encode() + b"\0", identity.encode(), pack(">H", len(columns))]
    for column, type_oid, key in columns:
        out += [pack(">B", key), column.encode() + b"\0", pack(">Ii", type_oid, -1)]
    return b"".join(out)


def insert(oid: int, columns: Sequence[ColumnBytes]) -> bytes:
    return b"I" + pack(">I", oid) + b"N" + tuple_data(columns)


def update(oid: int, new: Sequence[ColumnBytes], old: Sequence[ColumnBytes] | None = None, kind: bytes = b"K") -> bytes:
    before = b"" if old is None else kind + tuple_data(old)
    return b"U" + pack(">I", oid) + before + b"N" + tuple_data(new)


def delete(oid: int, old: Sequence[ColumnBytes], kind: bytes = b"K") -> bytes:
    return b"D" + pack(">I", oid) + kind + tuple_data(old)


def truncate(*oids: int, options: int = 0) -> bytes:
    return b"T" + pack(">IB", len(oids), options) + b"".join(pack(">I", oid) for oid in oids)


def message(prefix: str, content: bytes, *, lsn: int = 1, transactional: bool = True) -> bytes:
    return b"M" + pack(">BQ", transactional, lsn) + prefix.encode() + b"\0" + pack(">I", len(content)) + content


def within(payload: bytes, xid: int) -> bytes:
    """Return a message as it is between Stream Start and Stream Stop."""
    return payload[:1] + pack(">I", xid) + payload[1:]


def stream_start(xid: int, *, first: bool) -> bytes:
    return b"S" + pack(">IB", xid, first)


def stream_commit(xid: int, commit_lsn: int, end_lsn: int, time: int = 0) -> bytes:
    return b"c" + pack(">IBQQq", xid, 0, commit_lsn, end_lsn, time)


def stream_abort(xid: int, subxid: int) -> bytes:
    return b"A" + pack(">II", xid, subxid)


def begin_prepare(xid: int, prepare_lsn: int, end_lsn: int, gid: str) -> bytes:
    return b"b" + pack(">QQqI", prepare_lsn, end_lsn, 0, xid) + gid.encode() + b"\0"


def prepare(xid: int, prepare_lsn: int, end_lsn: int, gid: str, letter: bytes = b"P") -> bytes:
    return letter + pack(">BQQqI", 0, prepare_lsn, end_lsn, 0, xid) + gid.encode() + b"\0"


def commit_prepared(xid: int, commit_lsn: int, end_lsn: int, gid: str) -> bytes:
    return b"K" + pack(">BQQqI", 0, commit_lsn, end_lsn, 0, xid) + gid.encode() + b"\0"


def rollback_prepared(xid: int, prepare_end: int, rollback_end: int, gid: str) -> bytes:
    return b"r" + pack(">BQQqqI", 0, prepare_end, rollback_end, 0, 0, xid) + gid.encode() + b"\0"

"""What a run means in Debezium's terms: which records, with which rows on which side. No bytes yet.

A primary-key change becomes delete, tombstone, create (debezium.md 1.4); a TOASTed value that was not sent is taken
from the old row where that tells it: all of it under FULL, else the identity's columns (postgres.md 1.2, pitfall 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pycdc.errors import ProtocolError
from pycdc.model.change import Op, Run
from pycdc.rows.encoder import RowEncoder, UnexpectedNull
from pycdc.rows.images import identity_row
from pycdc.rows.tuples import ROW, ColumnBytes, merge_unchanged

_KEY, _OLD, _NEW = b"KON"


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """One record to be: `key`, `before` and `after` are column texts in table order.

    `partial`: `before` holds the replica identity only. `other_key`: the columns of the new key on a delete, of the
    old key on a create, where an update changed the key.
    """

    op: Op
    lsn: int
    index: int
    key: list[ColumnBytes] | None = field(repr=False)
    before: list[ColumnBytes] | None = field(repr=False)
    after: list[ColumnBytes] | None = field(repr=False)
    partial: bool = False
    other_key: list[ColumnBytes] | None = field(default=None, repr=False)


def events(run: Run, encoder: RowEncoder) -> Iterator[RecordPlan]:
    """Yield the events of a run of rows or of a truncate, in order. Raises UnexpectedNull, with the row's index."""
    index = run.index
    try:
        for index, frame in enumerate(run.frames, run.index):
            if run.op is Op.READ:
                columns = encoder.line(frame)
                encoder.require_values(columns)
                yield RecordPlan(run.op, run.transaction.commit_lsn, index, columns, None, columns)
                continue
            if len(frame) < ROW:
                raise ProtocolError(f"row message of {encoder.plan.table} ends before its tuple")
            lsn = int.from_bytes(frame[1:9], "big")
            if run.op is Op.CREATE:
                new = _whole(encoder, frame, ROW, _NEW)
                yield RecordPlan(run.op, lsn, index, new, None, new)
            elif run.op is Op.UPDATE:
                yield from _update(encoder, frame, lsn, index)
            elif run.op is Op.DELETE:
                kind = frame[ROW - 1]
                old = _whole(encoder, frame, ROW, _OLD if kind == _OLD else _KEY)
                encoder.require_key(partial=kind == _KEY)
                yield RecordPlan(run.op, lsn, index, old, old, None, partial=kind == _KEY)
            elif run.op is Op.TRUNCATE:
                yield RecordPlan(run.op, lsn, index, None, None, None)
    except UnexpectedNull as found:
        found.index = index
        raise


def _whole(encoder: RowEncoder, frame: bytes, start: int, kind: int) -> list[ColumnBytes]:
    """Return the tuple at `start`, which must be of that kind and end the frame."""
    if frame[start - 1 : start] != bytes((kind,)):
        raise ProtocolError(f"row message of {encoder.plan.table} has no tuple of kind {kind:#04x} where one must be")
    columns, end = encoder.columns(frame, start)
    if end != len(frame):
        raise ProtocolError(f"row message of {encoder.plan.table} has {len(frame) - end} bytes too many")
    if kind != _KEY:
        encoder.require_values(columns)
    return columns


def _update(encoder: RowEncoder, frame: bytes, lsn: int, index: int) -> Iterator[RecordPlan]:
    kind = frame[ROW - 1]
    if kind not in (_KEY, _OLD):
        new = _whole(encoder, frame, ROW, _NEW)
        yield RecordPlan(Op.UPDATE, lsn, index, new, None, new)
        return
    old, end = encoder.columns(frame, ROW)
    sent = _whole(encoder, frame, end + 1, _NEW)
    partial = kind == _KEY
    if not partial:
        encoder.require_values(old)
    new = merge_unchanged(sent, identity_row(encoder.plan.table.columns, old) if partial else old)
    encoder.require_key(partial=partial)
    if encoder.keyed and encoder.key(old) != encoder.key(new):
        yield RecordPlan(Op.DELETE, lsn, index, old, old, None, partial, other_key=new)
        yield RecordPlan(Op.CREATE, lsn, index, new, None, new, other_key=old)
    else:
        yield RecordPlan(Op.UPDATE, lsn, index, new, old, new, partial)

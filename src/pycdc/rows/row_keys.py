"""Which message keys a row concerns, told from its frame without converting a value."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pycdc.model.change import UNCHANGED, Op, Table
from pycdc.model.parked_row import EVERY_KEY
from pycdc.rows.images import identity_row, old_and_new
from pycdc.rows.plan import TablePlan
from pycdc.rows.tuples import ROW, ColumnBytes, merge_unchanged, split_line, split_tuple

_OLD = 0x4F  # 'O': the old tuple has all columns


class RowKeys:
    """Tells digests of the keys of a table version's rows. Keys are compared as Postgres wrote them."""

    def __init__(self, plan: TablePlan) -> None:
        self._table: Table = plan.table
        self._places = [field.index for field in plan.key]

    def of(self, op: Op, frame: bytes) -> tuple[str, ...]:
        """Return the digests; none where the table has no key. Raises ProtocolError for a malformed frame."""
        if op is Op.TRUNCATE:
            return (EVERY_KEY,)
        if not self._places:
            return ()
        return tuple(dict.fromkeys(self._digest(row) for row in self._rows(op, frame)))

    def _rows(self, op: Op, frame: bytes) -> list[Sequence[ColumnBytes]]:
        if op is Op.READ:
            return [split_line(frame)]
        if op is Op.CREATE:
            return [split_tuple(frame, ROW)[0]]
        old, kind, new = old_and_new(frame, op)
        known = old if old is None or kind == _OLD else identity_row(self._table.columns, old)
        rows: list[Sequence[ColumnBytes]] = [] if known is None else [known]
        return rows if new is None else [*rows, merge_unchanged(new, known)]

    def _digest(self, row: Sequence[ColumnBytes]) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for place in self._places:
            text = row[place]
            if text is UNCHANGED:
                return EVERY_KEY
            digest.update(b"n" if text is None else b"t%d:%b" % (len(text), text))
        return digest.hexdigest()

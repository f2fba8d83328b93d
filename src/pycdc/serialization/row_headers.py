"""What the headers of one table version's records say.

The other key, which values are not in the record, and whether several rows may have one key within a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pycdc.config.envelope import Adjustment
from pycdc.model.absence_headers import DEFERRABLE, KNOWN, NEW_KEY, OLD_KEY, UNSENT, named
from pycdc.model.change import UNCHANGED, Op
from pycdc.rows.change_events import RecordPlan
from pycdc.rows.encoder import RowEncoder
from pycdc.rows.schema import Schema
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.headers import Header, key_text
from pycdc.serialization.names import field_name

_CHANGES: Final = (Op.CREATE, Op.UPDATE, Op.DELETE)


class RowHeaders:
    """`known` stands on records whose old row holds the replica identity only."""

    def __init__(self, encoder: RowEncoder, key: Schema | None, *, adjust: Adjustment) -> None:
        plan = encoder.plan
        self._encoder = encoder
        self._key = key
        self._fields = [(field.index, field_name(field.name, adjust=adjust)) for field in plan.fields]
        self._unsent: dict[int, list[Header]] = {}
        known = [field_name(field.name, adjust=adjust) for field in plan.fields if field.column.identity]
        marked = plan.compatibility.unknown_before == "marked" and plan.unknown_when_old
        self.known: list[Header] = [(KNOWN, named(known))] if marked else []
        # Without an old row that tells more than an immediate key, no row takes the key of another one. It must be told
        # how much of it is there.
        tells = plan.table.identity == "f" or (plan.table.identity == "i" and marked)
        deferrable = plan.table.deferrable and tells
        self._deferrable: dict[Op, list[Header]] = {
            op: [(DEFERRABLE, op.value.encode())] for op in _CHANGES if deferrable
        }

    def of(self, event: RecordPlan) -> list[Header]:
        headers: list[Header] = []
        if event.other_key is not None and self._key is not None:
            name = NEW_KEY if event.op is Op.DELETE else OLD_KEY
            headers.append((name, key_text(self._key, self._encoder.key_datums(event.other_key))))
        if event.partial:
            headers += self.known
        if event.after is not None and (event.op is Op.UPDATE or event.other_key is not None):
            headers += self._of_row(event.after)
        return headers + self.of_operation(event.op)

    def of_operation(self, op: Op) -> list[Header]:
        """Return the header of all records of an operation on a table with a deferrable key."""
        return self._deferrable.get(op, [])

    def _of_row(self, columns: Sequence[ColumnBytes]) -> list[Header]:
        if UNCHANGED not in columns:
            return []
        return self.unsent(sum(1 << index for index, text in enumerate(columns) if text is UNCHANGED))

    def unsent(self, mask: int) -> list[Header]:
        """Return the header of a row that lacks the columns whose bits are set."""
        known = self._unsent.get(mask)
        if known is None:
            names = [name for index, name in self._fields if mask >> index & 1]
            known = self._unsent[mask] = [(UNSENT, named(names))] if names else []
        return known

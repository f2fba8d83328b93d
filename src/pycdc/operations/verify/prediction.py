"""What the events between two vectors of offsets make of the rows of the target: one after-image a key.

A key that events touched is predicted, not excused. Whatever an event leaves as it was (a TOASTed value that was not
sent) is as in the source's snapshot: no event that was applied changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from pycdc.model.event import Event, Partition, Unwritable
from pycdc.operations.verify.spilling_map import SpillingMap
from pycdc.sinks.postgres.writing.writes import RowWrite

MOST_HELD: Final = 16 << 20
"""Bytes of predictions that are kept in memory, about."""
_ROW: Final = 1000
"""Bytes of a prediction beside its texts."""

RowKey = tuple[str, ...]
Place = tuple[Partition, int]


@dataclass(slots=True)
class Prediction:
    """The row of one key.

    `present`: True, False, or None for a row that an update met, if it was there. `columns` are texts that Postgres
    reads, None for NULL. `unknown` are columns whose value is not known: a default of the server's, a sum. `was` are
    keys under which the source's snapshot may have the row, `whole` that nothing is left to take from there. `marked`:
    the row is there, marked as deleted.
    """

    present: bool | None
    columns: dict[str, str | None] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    was: tuple[RowKey, ...] = ()
    whole: bool = False
    marked: bool = False

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return _ROW + sum(len(text) for text in self.columns.values() if text is not None)


class Predictions:
    """Folds the writes of events, in the order of their partitions, by table and key.

    `marks` are the columns by which rows of a table are marked as deleted.
    """

    def __init__(self, marks: Mapping[str, frozenset[str]] | None = None) -> None:
        self._marks = marks or {}
        self.tables: dict[str, SpillingMap[Prediction]] = {}
        self.emptied: set[str] = set()
        """Tables that a TRUNCATE emptied: rows that no event wrote since are gone."""
        self._held = 0

    def add(self, write: RowWrite) -> None:
        """Apply a write to what is known of its row."""
        rows = self.tables.setdefault(str(write.shape.table), SpillingMap())
        self._apply(rows, write)
        touched = {write.key, moved_to(write)} if write.shape.moves else {write.key}
        self._held += sum(rows[key].size for key in touched if key in rows)
        if self._held > MOST_HELD:
            self._held = 0
            for one in self.tables.values():
                one.spill()

    def _apply(self, rows: SpillingMap[Prediction], write: RowWrite) -> None:
        shape = write.shape
        if shape.moves:
            self._move(rows, write)
        elif shape.operation == "delete":
            rows[write.key] = Prediction(False, whole=True)
        elif shape.operation == "update" and shape.set and self._marks.get(str(shape.table)) == frozenset(shape.set):
            known = rows.setdefault(write.key, Prediction(None, was=(write.key,)))
            known.present, known.marked = False, known.present is not False or known.marked
        elif shape.operation == "update":
            self._update(rows, write)
        else:
            self._upsert(rows, write)

    def empty(self, table: str) -> None:
        """Apply a TRUNCATE."""
        self.tables[table] = SpillingMap()
        self.emptied.add(table)

    def _move(self, rows: SpillingMap[Prediction], write: RowWrite) -> None:
        """Give the row of the old key the new one, unless there is a row of that; a delete removes what is left."""
        old, new = write.key, moved_to(write)
        if write.shape.operation == "delete":
            if old != new:
                rows[old] = Prediction(False, whole=True)
            return
        there = rows.get(new)
        if there is not None and there.present:
            return
        known = rows.get(old)
        if known is None:
            rows[new] = Prediction(None, was=(old, new))
        elif known.present is not False:
            rows[new] = known
        rows[old] = Prediction(False, whole=True)

    def _update(self, rows: SpillingMap[Prediction], write: RowWrite) -> None:
        known = rows.get(write.key)
        if known is None:
            known = rows[write.key] = Prediction(None, was=(write.key,))
        if known.present is False and not known.marked:
            return
        if write.shape.must_exist:
            known.present = True
        self._set(known, write)

    def _upsert(self, rows: SpillingMap[Prediction], write: RowWrite) -> None:
        known = rows.get(write.key)
        if known is None:
            known = Prediction(True, was=(write.key,))
        elif (known.present is False and not known.marked) or write.shape.replaces:
            known = Prediction(True, whole=True)
        known.present, known.marked = True, False
        rows[write.key] = known
        self._set(known, write)

    @staticmethod
    def _set(known: Prediction, write: RowWrite) -> None:
        for column, text in zip(write.shape.set, write.set, strict=True):
            known.columns[column] = text
            known.unknown.discard(column)
        for column in (*write.shape.add, *write.shape.reset):
            known.columns.pop(column, None)
            known.unknown.add(column)


def moved_to(write: RowWrite) -> RowKey:
    """Return the key that a row gets by a move."""
    return tuple(text or "" for text in write.set)


@dataclass(slots=True)
class Folded:
    """The predictions, and how many events they come from. `left_out` counts events that write nothing, by reason."""

    predictions: Predictions
    events: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


_NOT_READ: Final = "parked"


def fold(
    events: Iterable[Event],
    writes: Callable[[Event], list[RowWrite]],
    emptied: Callable[[Event], list[str]],
    refused: Callable[[Event], bool],
    parked: Collection[Place],
    marks: Mapping[str, frozenset[str]] | None = None,
) -> Folded:
    """Fold events into predictions.

    `writes` and `emptied` are the route's own, `refused` returns whether the loop filter leaves an event out,
    `parked` are the records that were set aside in place of being applied, as the target's snapshot has them.
    """
    out = Folded(Predictions(marks))
    for event in events:
        out.events += 1
        reason = _apply(out.predictions, event, writes, emptied, refused, parked)
        if reason is not None:
            out.left_out[reason] = out.left_out.get(reason, 0) + 1
    return out


def _apply(
    predictions: Predictions,
    event: Event,
    writes: Callable[[Event], list[RowWrite]],
    emptied: Callable[[Event], list[str]],
    refused: Callable[[Event], bool],
    parked: Collection[Place],
) -> str | None:
    """Return why an event was left out, None where it was not."""
    if (event.partition, event.offset) in parked:
        return _NOT_READ
    if event.headers and refused(event):
        return "loop"
    try:
        if event.truncates:
            for table in emptied(event):
                predictions.empty(table)
            return None
        if event.problem:
            return "undecodable"
        for write in writes(event):
            predictions.add(write)
    except Unwritable:
        return "unwritable"
    return None

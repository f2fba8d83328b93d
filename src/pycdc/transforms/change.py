"""What a user's function gets and returns, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from pycdc.model.change import Op, Position, Row


class RecordPosition(NamedTuple):
    """A record's place in an apply pipeline: unique and, within a partition, sortable."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] offset {self.offset}"


def copied(value: Any) -> Any:
    """Copy with all dicts and lists inside: what is changed there in place is seen nowhere else."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return value


@dataclass(slots=True, repr=False)
class DecodedChange:
    """One change as Python values: a row of a table (capture), or a record of a topic (apply).

    A function may change its attributes and its rows in place, or make others with `copy`.

    op         `Op.CREATE`, `Op.UPDATE`, `Op.DELETE` or `Op.READ` (a snapshot's row). Apply: `Op.UPDATE` for a row or
               an event, `Op.DELETE` for a removal
    table      ``schema.table``; None in an apply pipeline
    topic      the record's topic in an apply pipeline; None in a capture, where setting it chooses another topic
    key        the message key. In a capture it is told, not taken: keys follow the row
    before     the old row as far as it is known, or None: all columns, or those of the replica identity
    after      the new row, or an event's fields; None for a delete
    headers    of the record: those that came (apply), or that are to be added (capture)
    timestamp  of the commit, or of the record; in UTC
    position   where the change stands in its source: unique, the same each time that the change is read

    NULL is None. A TOASTed value that was not sent is `pycdc.UNCHANGED`, and may stay it. In an apply pipeline a field
    that is not there was not sent. The repr holds no values.
    """

    op: Op
    table: str | None
    topic: str | None
    key: Any
    before: Row | None
    after: Row | None
    timestamp: datetime
    position: Position | RecordPosition
    headers: list[tuple[str, bytes | str | None]] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """`before` and `after`, without what is None: what must not be seen in one must not be seen in the other."""
        return [row for row in (self.before, self.after) if row is not None]

    def copy(self, **changes: Any) -> DecodedChange:
        """Another change that shares no key, row or headers with this one; with these attributes changed."""
        own = {
            "key": copied(self.key),
            "before": copied(self.before),
            "after": copied(self.after),
            "headers": list(self.headers),
        }
        return replace(self, **{**own, **changes})

    def __repr__(self) -> str:
        return f"DecodedChange({self.op.value} {self.table or self.topic} at {self.position})"


Returned = DecodedChange | Iterable[DecodedChange] | None
Transform = Callable[[DecodedChange], Returned]
"""A user's function. It must be pure: after a crash the same change is transformed again."""
RowFunction = Callable[[DecodedChange], Row | None]
"""A user's function under a route: from a change to the columns that are written."""

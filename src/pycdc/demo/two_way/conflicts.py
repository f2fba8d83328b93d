"""What the pipelines recorded of conflicts, in the database that they write to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from pycdc.demo.two_way.database import DemoDatabase
from pycdc.demo.two_way.tables import MONOLITH, SERVICE

_COUNTS: Final = "SELECT kind, decision, count(*) FROM pycdc.conflicts GROUP BY kind, decision"
_NEWEST: Final = """SELECT split_part("table", '.', 2), key, kind, decision, current, incoming, detected_at
  FROM pycdc.conflicts WHERE current IS NOT NULL AND incoming IS NOT NULL ORDER BY id DESC LIMIT 1"""
_OTHER: Final = {MONOLITH: SERVICE, SERVICE: MONOLITH}
_EVENT_WINS: Final = "apply_remote"
"""The decision by which the event's row was written."""


@dataclass(frozen=True, slots=True)
class ConflictRow:
    """`current` is what the row was, `incoming` what the event would make of it."""

    side: str
    """The database that it happened in."""
    table: str
    key: dict[str, Any]
    kind: str
    decision: str
    current: dict[str, Any]
    incoming: dict[str, Any]
    detected: datetime

    @property
    def values(self) -> dict[str, str]:
        """What each side has, by its name: of the first column that is not the same on both."""
        name = next((name for name, value in self.incoming.items() if self.current.get(name) != value), None)
        if name is None:
            return {}
        return {self.side: str(self.current.get(name)), _OTHER[self.side]: str(self.incoming[name])}

    @property
    def winner(self) -> str:
        """The side whose row is on both in the end."""
        return winner(self.side, self.decision)


@dataclass(frozen=True, slots=True)
class ConflictReader:
    """The conflicts of one side; `counts` by kind and the side that won."""

    counts: Counter[tuple[str, str]]
    newest: ConflictRow | None
    """Of those between two rows: a delete has none."""


def winner(side: str, decision: str) -> str:
    """Return who won a conflict that was decided on `side`."""
    return _OTHER[side] if decision == _EVENT_WINS else side


def read(side: DemoDatabase) -> ConflictReader:
    counts: Counter[tuple[str, str]] = Counter()
    try:
        for kind, decision, count in side.ask(_COUNTS):
            counts[kind, winner(side.name, decision)] += count
        newest = [ConflictRow(side.name, *row) for row in side.ask(_NEWEST)]
    except psycopg.errors.UndefinedTable:
        return ConflictReader(counts, None)  # the pipeline makes it when it starts
    return ConflictReader(counts, newest[0] if newest else None)

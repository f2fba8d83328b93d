"""What the pipelines recorded of conflicts, in the database that they write to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg

from pycdc.demo.two_way.tables import MONOLITH, SERVICE

_KEPT: Final = ("monolith", "kept")
_COUNTS: Final = "SELECT kind, decision, count(*) FROM pycdc.conflicts GROUP BY kind, decision"
_NEWEST: Final = """SELECT "table", key, kind, decision, current, incoming, detected_at
  FROM pycdc.conflicts ORDER BY detected_at DESC LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Conflict:
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
        other = SERVICE if self.side == MONOLITH else MONOLITH
        name = next((name for name, value in self.incoming.items() if self.current.get(name) != value), None)
        return {} if name is None else {self.side: str(self.current.get(name)), other: str(self.incoming[name])}

    @property
    def winner(self) -> str:
        """The side whose row is on both in the end."""
        other = SERVICE if self.side == MONOLITH else MONOLITH
        return self.side if self.decision in _KEPT else other


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Of one side; `counts` by kind and decision."""

    counts: Counter[tuple[str, str]]
    newest: Conflict | None


def read(connection: psycopg.Connection, side: str) -> Conflicts:
    try:
        counts = Counter({(kind, decision): count for kind, decision, count in connection.execute(_COUNTS)})
        row = connection.execute(_NEWEST).fetchone()
    except psycopg.errors.UndefinedTable:
        return Conflicts(Counter(), None)  # the pipeline makes it when it starts
    return Conflicts(counts, None if row is None else Conflict(side, *row))

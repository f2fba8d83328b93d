"""What is stored of a decommission, in the old database: since when its tables are watched, and what is gone already.

Once `removing` is stored, nobody is asked any more who uses the tables: what is gone cannot be used, and the archive's
own reading would count.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

_CREATE: Final = """CREATE TABLE IF NOT EXISTS pycdc_cutover.decommissions (
    name text PRIMARY KEY, progress jsonb NOT NULL)"""
_READ: Final = "SELECT progress FROM pycdc_cutover.decommissions WHERE name = %s"
_WRITE: Final = """INSERT INTO pycdc_cutover.decommissions AS d (name, progress) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET progress = excluded.progress"""
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"


@dataclass(frozen=True, slots=True)
class Counters:
    """How often a table was read and written, as the server counts since it began to."""

    reads: int
    writes: int


@dataclass(frozen=True, slots=True)
class DecommissionProgress:
    """`since` is in Unix seconds, of the database's clock. `done` names the remnants that are proved gone."""

    since: float
    counters: dict[str, Counters] = field(default_factory=dict)
    removing: bool = False
    done: tuple[str, ...] = ()

    @property
    def date(self) -> str:
        return datetime.fromtimestamp(self.since, UTC).isoformat(timespec="seconds")


def read_progress(connection: psycopg.Connection[Any], name: str) -> DecommissionProgress | None:
    """Return what is stored of a group; None before its first decommission."""
    try:
        row = connection.execute(_READ, (name,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    if row is None:
        return None
    kept = row[0]
    counters = {table: Counters(**counted) for table, counted in kept["counters"].items()}
    return DecommissionProgress(kept["since"], counters, kept["removing"], tuple(kept["done"]))


def write_progress(connection: psycopg.Connection[Any], name: str, progress: DecommissionProgress) -> None:
    connection.execute(_CREATE)
    connection.execute(_WRITE, (name, json.dumps(asdict(progress))))


def database_time(connection: psycopg.Connection[Any]) -> float:
    row = connection.execute(_NOW).fetchone()
    assert row is not None
    return float(row[0])

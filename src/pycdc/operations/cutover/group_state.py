"""Where a group stands, stored in both databases.

Every change has the next version and is written to one database after the other; what has the greater version holds. So
a process that is killed between the two leaves no doubt. The decision that moves ownership is one transaction of the
database that gets it: it takes the fence down there and stores the state, if nobody has changed the version meanwhile.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

import psycopg

from pycdc.errors import CheckpointCorrupt, EnvironmentNotReady

Stage = Literal["following", "reading", "ready", "fenced", "drained", "verified", "switched", "watching", "closed"]
HandoverDirection = Literal["forward", "back"]
IN_PAUSE: Final[frozenset[Stage]] = frozenset({"fenced", "drained", "verified"})
"""Stages in which writes are held."""

_CREATE: Final = """CREATE TABLE IF NOT EXISTS pycdc_cutover.groups (
    name text PRIMARY KEY, version bigint NOT NULL, state jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(), reports jsonb NOT NULL DEFAULT '{}')"""
_READ: Final = "SELECT version, state FROM pycdc_cutover.groups WHERE name = %s"
_WRITE: Final = """INSERT INTO pycdc_cutover.groups AS g (name, version, state) VALUES (%s, %s, %s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, state = excluded.state, changed_at = now()
WHERE g.version < excluded.version"""
_READ_REPORTS: Final = "SELECT reports FROM pycdc_cutover.groups WHERE name = %s"
_WRITE_REPORT: Final = "UPDATE pycdc_cutover.groups SET reports = reports || %s WHERE name = %s"
_ENDING: Final = 3.0
_PAUSE: Final = 0.05
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('pycdc cutover ' || %s, 0))"


@dataclass(frozen=True, slots=True)
class GroupState:
    """What is stored of a group of tables.

    `direction` is that of the last hand-over, `until` (ISO 8601) when the fence of one under way falls by itself,
    `pause` the seconds that writes were held at the last one, `shapes` digests of the tables when they were verified.
    Times are Unix seconds.
    """

    version: int = 0
    stage: Stage = "following"
    direction: HandoverDirection = "forward"
    until: str = ""
    held_at: float = 0.0
    verified_at: float = 0.0
    switched_at: float = 0.0
    pause: float | None = None
    note: str = ""
    shapes: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> Literal["old", "new"]:
        """Which system may write."""
        if self.direction == "forward":
            return "new" if self.stage in ("switched", "watching", "closed") else "old"
        return "old" if self.stage == "switched" else "new"

    def at(self, stage: Stage, **changes: Any) -> GroupState:
        """Return the state after this one."""
        return replace(self, version=self.version + 1, stage=stage, **changes)


def create_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_CREATE)


def lock_group(connection: psycopg.Connection[Any], name: str) -> None:
    """Keep other commands off this group until the session ends. Raises EnvironmentNotReady.

    Waits for a moment: the session of a command that was killed takes some time to end.
    """
    deadline = time.monotonic() + _ENDING
    while connection.execute(_LOCK, (name,)).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise EnvironmentNotReady(
                f"another command is at work on group {name}", hint="wait for it, or see pycdc cutover status"
            )
        time.sleep(_PAUSE)


def read_state(connections: tuple[psycopg.Connection[Any], ...], name: str) -> GroupState | None:
    """Return the state of the greatest version; None where the group was never started. Raises CheckpointCorrupt."""
    found = [state for connection in connections if (state := _read(connection, name)) is not None]
    return max(found, key=lambda state: state.version, default=None)


def _read(connection: psycopg.Connection[Any], name: str) -> GroupState | None:
    try:
        row = connection.execute(_READ, (name,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    try:
        return None if row is None else GroupState(**{**row[1], "version": row[0]})
    except TypeError:
        raise CheckpointCorrupt(
            f"the state of group {name} was written by another version of pycdc", hint="use that version"
        ) from None


def write_state(connection: psycopg.Connection[Any], name: str, state: GroupState) -> bool:
    """Store a state unless a later one is there; return whether it is stored."""
    cursor = connection.execute(_WRITE, (name, state.version, json.dumps(asdict(state))))
    return cursor.rowcount == 1


def read_reports(connection: psycopg.Connection[Any], name: str) -> dict[str, dict[str, Any]]:
    """Return the document of the last verification of each direction, as `write_report` stored it."""
    try:
        row = connection.execute(_READ_REPORTS, (name,)).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return {}
    return {} if row is None else row[0]


def write_report(
    connection: psycopg.Connection[Any], name: str, direction: HandoverDirection, report: dict[str, Any]
) -> None:
    """Store the document of a verification in the place of the one before. It holds keys, and no values."""
    connection.execute(_WRITE_REPORT, (json.dumps({direction: report}), name))

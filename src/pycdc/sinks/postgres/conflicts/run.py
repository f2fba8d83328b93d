"""Run a plan: the second of the resolver's three stages, one statement for a group.

The statement leaves rows alone that conflict (see `conflict_guards`). Nearly always it writes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.sinks.postgres.conflicts.plan import GroupPlan
from pycdc.sinks.postgres.writing.conflict_guards import FREE, Guard
from pycdc.sinks.postgres.writing.statements import (
    count_rows,
    execute,
    parameters,
    require_equal,
    spares_rows,
    statement,
)
from pycdc.sinks.postgres.writing.writes import RowWrite, WriteGroup, groups_of


@dataclass(slots=True)
class RunResult:
    """What the statement of a group did not write.

    `left` are writes that may conflict: `settle` decides about them. `written` are keys of rows that were written, as
    their columns print them; only an insert or an upsert returns them. `missing` counts rows that were not there, which
    is no conflict.
    """

    left: list[RowWrite] = field(default_factory=list)
    written: set[tuple[str, ...]] = field(default_factory=set)
    missing: int = 0


def run_plan(connection: Connection, plan: GroupPlan) -> RunResult:
    """Run the group's statement and return what it left alone.

    Raises RowMissing and NotWritten where a write must not be passed over.
    """
    group, guard = plan.group, plan.guard
    if guard is None:
        return RunResult(missing=execute(connection, group))
    cursor = connection.execute(statement(group.shape, guard), plan.parameters, prepare=True)
    if cursor.rowcount == len(group.writes) or spares_rows(group.shape, guard):
        return RunResult()
    if not guard.reports:
        require_equal(connection, group)
        return RunResult()
    return _left(group, cursor)


def run_unguarded(connection: Connection, writes: list[RowWrite]) -> None:
    """Write rows that are locked, or that were missing, whatever they are.

    A row that was missing cannot be locked: where somebody else made it meanwhile SerializationFailure is raised, and
    the transaction is repeated.
    """
    for group in groups_of(writes):
        inserts = group.shape.operation == "insert"
        query = statement(group.shape, Guard("absent") if inserts else FREE)
        done = connection.execute(query, parameters(group.shape, group.writes))
        if done.rowcount != len(group.writes) and not group.shape.moves:
            # The rows of all but inserts are locked, so nobody else is to blame.
            if not inserts or count_rows(connection, group) < len(group.writes):
                require_equal(connection, group)
                continue
            raise psycopg.errors.SerializationFailure("a row came or went in this moment")


def _left(group: WriteGroup, cursor: psycopg.Cursor[Any]) -> RunResult:
    if group.shape.operation in ("update", "delete"):
        done = {number for (number,) in cursor}
        return RunResult([write for number, write in enumerate(group.writes, 1) if number not in done])
    written = set(cursor.fetchall())
    return RunResult([write for write in group.writes if write.key not in written], written)

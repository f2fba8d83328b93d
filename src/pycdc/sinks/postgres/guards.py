"""Conditions under which a statement leaves a row alone: it conflicts with what the event expects.

A guard is part of the one statement that writes a group, so that rows without a conflict cost nothing more. It cannot
be overtaken: under READ COMMITTED, UPDATE, DELETE and ON CONFLICT DO UPDATE wait for whoever is writing the row, and
evaluate their condition again on what that left behind.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from psycopg import sql

from pycdc.sinks.postgres.names import Identifier
from pycdc.sinks.postgres.tables import TargetColumn


class Guard(NamedTuple):
    """`kind` says what a row must fulfil to be written:

    none        nothing
    origin      its last writer is this pipeline or unknown, or wrote before a certain time
    version     its `column` is less than the event's (for a delete: no more), or one of them is null
    before      it is the event's `before`, as far as the event tells it
    absent      it must not be there: only an insert is done

    `spared` are columns that are written with a new row only. `reports`: the statement returns what it wrote.
    """

    kind: Literal["none", "origin", "version", "before", "absent"] = "none"
    column: str = ""
    spared: frozenset[str] = frozenset()
    reports: bool = False

    @property
    def brings(self) -> bool:
        """Whether an update or a delete needs one more value of each event."""
        return self.kind in ("version", "before")


FREE: Final = Guard()

_ORIGIN: Final = """(coalesce((pg_catalog.pg_xact_commit_timestamp_origin({0}.xmin)).roident = ANY (ARRAY(
SELECT r.roident FROM pg_catalog.pg_replication_origin r WHERE starts_with(r.roname, %s::text))), true)
OR pg_catalog.pg_xact_commit_timestamp({0}.xmin) < %s::timestamptz)"""
"""A row that this transaction wrote itself has no commit timestamp yet, and passes. Parameters: what the names of the
pipeline's origins begin with, and the time. The origins are read anew each time: another process may have made one."""
_BEFORE: Final = "jsonb_populate_record({0}, u.g::jsonb) *= {0}"
"""Columns that the event does not name keep the row's values, those it names get the column's type and its precision;
`*=` compares types that have no `=`."""


def condition(
    guard: Guard, row: sql.SQL, column: TargetColumn | None, incoming: sql.Composable, *, removes: bool
) -> sql.Composable:
    """What `row`, an alias, must fulfil. `incoming` is the event's version."""
    if guard.kind == "origin":
        return sql.SQL(_ORIGIN).format(row)
    if guard.kind == "before":
        return sql.SQL(_BEFORE).format(row)
    assert column is not None
    return sql.SQL("coalesce({}.{} {} {}, true)").format(
        row, Identifier(column.name), sql.SQL("<=" if removes else "<"), incoming
    )

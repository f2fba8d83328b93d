"""Conditions under which a statement leaves a row alone: it conflicts with what the event expects.

A guard is part of the one statement that writes a group, so that rows without a conflict cost nothing more. It cannot
be overtaken: under READ COMMITTED, UPDATE, DELETE and ON CONFLICT DO UPDATE wait for whoever is writing the row, and
evaluate their condition again on what that left behind.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from typing import Literal as Word

from psycopg import sql

from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeIdentifier, ParameterSafeLiteral


class Guard(NamedTuple):
    """What a row must fulfil to be written, by `kind`.

    none nothing origin its last writer is this pipeline or unknown, or wrote before a certain time version its `column`
    is less than the event's (for a delete: no more), or one of them is null before it is the event's `before`, as far
    as the event holds it absent it must not be there: only an insert is done

    `spared` are columns that are written with a new row only. `reports`: the statement returns what it wrote.
    """

    kind: Word["none", "origin", "version", "before", "absent"] = "none"
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
_JSON: Final = ("json", "jsonb")
_SAME_IMAGE: Final = "jsonb_populate_record({0}, u.g::jsonb{1}) *= {0}"
_SAME_JSON: Final = """coalesce(nullif({0}.{1}::jsonb, 'null') IS NOT DISTINCT FROM nullif(u.g::jsonb -> {2}, 'null')
OR NOT u.g::jsonb ? {2}, true)"""
_SAME_NUMBER: Final = "{0}.{1} IS NOT DISTINCT FROM (jsonb_populate_record({0}, u.g::jsonb)).{1}"


def as_before(table: TargetTable) -> sql.Composed:
    """Return whether the table's row is the event's `before`, as far as `u.g` tells it.

    Columns that the event does not name keep the row's values, those it names get the column's type and its precision;
    `*=` compares types that have no `=`, by their bytes. That is too much for json, whose spaces and order are the
    writer's, and for numeric, whose digits behind the point may be zeros.
    """
    own = {name: _SAME_JSON for name, column in table.columns.items() if column.base in _JSON}
    own |= {name: _SAME_NUMBER for name, column in table.columns.items() if column.base == "numeric"}
    without = sql.SQL("").join(sql.SQL(" - {}::text").format(ParameterSafeLiteral(name)) for name in own)
    conditions = [sql.SQL(_SAME_IMAGE).format(table.alias, without)]
    conditions += [
        sql.SQL(text).format(table.alias, ParameterSafeIdentifier(name), ParameterSafeLiteral(name))
        for name, text in own.items()
    ]
    return sql.SQL("({})").format(sql.SQL(" AND ").join(conditions))


def condition(
    guard: Guard, table: TargetTable, column: TargetColumn | None, incoming: sql.Composable, *, removes: bool
) -> sql.Composable:
    """Return what the table's row must fulfil. `incoming` is the event's version."""
    if guard.kind == "origin":
        return sql.SQL(_ORIGIN).format(table.alias)
    if guard.kind == "before":
        return as_before(table)
    assert column is not None
    return sql.SQL("coalesce({}.{} {} {}, true)").format(
        table.alias, ParameterSafeIdentifier(column.name), sql.SQL("<=" if removes else "<"), incoming
    )

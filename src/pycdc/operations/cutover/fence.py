"""The fence: triggers that refuse what another system owns, with an SQLSTATE of our own.

Sessions with a replication origin pass: they are the apply side's, and having one needs a privilege. A trigger is made,
replaced and disabled under SHARE ROW EXCLUSIVE, which waits for every open transaction that wrote, and lets readers
pass. So once the fence is committed, no write without it can come, whatever its snapshot. A fence `until` a time falls
by itself: a process that dies meanwhile does not hold writers up for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from pycdc.errors import EnvironmentNotReady

SQLSTATE: Final = "PC001"
SCHEMA: Final = "pycdc_cutover"
_TRIGGER: Final = "zzz_pycdc_fence"
"""Triggers fire by name: this one sees what all others made of the row."""
_KINDS: Final = ("rows", "update", "truncate")

_ATTEMPT: Final = "200ms"
"""Less than deadlock_timeout: nobody else's transaction is ended for ours."""
_PAUSE: Final = 0.02

_PRESENT: Final = """SELECT tgname, tgenabled <> 'D' FROM pg_trigger
WHERE tgrelid = to_regclass(%s) AND tgname = ANY (%s) AND tgparentid = 0"""
_CALLED: Final = """SELECT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regproc('pycdc_cutover.refuse'))"""
_OPEN: Final = "SELECT EXISTS (SELECT FROM pycdc_cutover.groups WHERE state ->> 'stage' <> 'closed')"

_FUNCTION: Final = """CREATE OR REPLACE FUNCTION pycdc_cutover.refuse() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $function$
BEGIN
    IF pg_replication_origin_session_is_setup()
            OR (TG_ARGV[1] <> '' AND clock_timestamp() >= TG_ARGV[1]::timestamptz) THEN
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'PC001',
        MESSAGE = format('%s of %s.%s is refused: %s', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_ARGV[0]),
        HINT = 'Write through the system that owns it; pycdc cutover status tells which one.';
END $function$"""


@dataclass(frozen=True, slots=True)
class Fence:
    """What is refused at a table.

    It is everything; or with `columns` updates that change them; or with `but` everything except updates of these
    columns. `reason` is the message's, and says who owns it.
    """

    table: tuple[str, str]
    reason: str
    columns: tuple[str, ...] = ()
    but: tuple[str, ...] = ()


def install(connection: psycopg.Connection[Any]) -> None:
    """Make the schema and the trigger's function."""
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
    connection.execute(_FUNCTION)


@contextmanager
def locked(
    connection: psycopg.Connection[Any],
    tables: Sequence[tuple[str, str]],
    seconds: float,
    mode: Literal["SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"] = "SHARE ROW EXCLUSIVE",
) -> Iterator[None]:
    """Begin a transaction once all others that wrote to `tables` have ended, and keep new ones waiting.

    It waits for a moment and lets go again: an application may write to the tables in another order, and would be in a
    deadlock with who holds one of them and waits for the next. Raises EnvironmentNotReady after `seconds`.
    """
    names = sql.SQL(", ").join(sql.Identifier(*table) for table in sorted(tables))
    statement = sql.SQL("LOCK TABLE {} IN {} MODE").format(names, sql.SQL(mode))
    deadline = time.monotonic() + seconds
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (_ATTEMPT,))
        while True:
            try:
                with connection.transaction():
                    connection.execute(statement)
                break
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                if time.monotonic() > deadline:
                    raise EnvironmentNotReady(
                        f"open transactions hold {', '.join('.'.join(one) for one in tables)} for over {seconds:.1f} s",
                        hint="end them (pg_stat_activity, xact_start), and try again",
                    ) from None
                time.sleep(_PAUSE)
        yield


def put_up(connection: psycopg.Connection[Any], fences: Sequence[Fence], until: str = "") -> None:
    """Refuse, `until` a timestamp or for good; whatever was refused at these tables before."""
    for fence in fences:
        columns = fence.columns or _other_columns(connection, fence)
        table, arguments = sql.Identifier(*fence.table), (sql.Literal(fence.reason), sql.Literal(until))
        if not fence.columns:
            _create(connection, "rows", "INSERT OR DELETE", table, sql.SQL(""), arguments)
            _create(connection, "truncate", "TRUNCATE", table, sql.SQL(""), arguments)
        changed = sql.SQL(" OR ").join(
            sql.SQL("OLD.{0} IS DISTINCT FROM NEW.{0}").format(sql.Identifier(column)) for column in columns
        )
        when = sql.SQL("WHEN ({})").format(changed) if columns else sql.SQL("")
        _create(connection, "update", "UPDATE", table, when, arguments)


def take_down(connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]]) -> None:
    """Refuse nothing any more. The triggers stay, disabled: to drop one would lock out readers."""
    for table in tables:
        for kind in present(connection, table):
            statement = sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}")
            connection.execute(statement.format(sql.Identifier(*table), sql.Identifier(kind)))


def remove(
    connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]], seconds: float, *, idle: bool = False
) -> None:
    """Drop the triggers, with `idle` those that refuse nothing; one table after the other: it locks out readers too.

    Raises EnvironmentNotReady where a table's transactions do not end in `seconds`; again, it goes on.
    """
    for table in tables:
        if not (kinds := present(connection, table, idle=idle)):
            continue
        with locked(connection, [table], seconds, "ACCESS EXCLUSIVE"):
            for kind in kinds:
                statement = sql.SQL("DROP TRIGGER {} ON {}")
                connection.execute(statement.format(sql.Identifier(kind), sql.Identifier(*table)))


def installed(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the triggers' function is there."""
    row = connection.execute("SELECT to_regproc('pycdc_cutover.refuse') IS NOT NULL").fetchone()
    return row == (True,)


def needed(connection: psycopg.Connection[Any]) -> bool:
    """Return whether a trigger calls the function, or a group that is not closed will make one."""
    called = connection.execute(_CALLED).fetchone() == (True,)
    there = connection.execute("SELECT to_regclass('pycdc_cutover.groups') IS NOT NULL").fetchone() == (True,)
    return called or (there and connection.execute(_OPEN).fetchone() == (True,))


def uninstall(connection: psycopg.Connection[Any]) -> None:
    """Drop the triggers' function, unless it is needed."""
    if not needed(connection):
        connection.execute("DROP FUNCTION IF EXISTS pycdc_cutover.refuse()")


def present(connection: psycopg.Connection[Any], table: tuple[str, str], *, idle: bool = False) -> list[str]:
    """Return the names of the triggers that a table has; with `idle` of those that refuse nothing."""
    name = sql.Identifier(*table).as_string(connection)
    found = connection.execute(_PRESENT, (name, [f"{_TRIGGER}_{kind}" for kind in _KINDS])).fetchall()
    return [trigger for trigger, enabled in found if not (idle and enabled)]


def _other_columns(connection: psycopg.Connection[Any], fence: Fence) -> tuple[str, ...]:
    if not fence.but:
        return ()
    query = """SELECT attname FROM pg_attribute
        WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%s)"""
    name = sql.Identifier(*fence.table).as_string(connection)
    return tuple(row[0] for row in connection.execute(query, (name, list(fence.but))))


def _create(
    connection: psycopg.Connection[Any],
    kind: str,
    events: str,
    table: sql.Identifier,
    when: sql.Composable,
    arguments: tuple[sql.Literal, sql.Literal],
) -> None:
    level = "STATEMENT" if kind == "truncate" else "ROW"
    connection.execute(
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {} BEFORE {} ON {} FOR EACH {} {} EXECUTE FUNCTION {}.refuse({}, {})"
        ).format(
            sql.Identifier(f"{_TRIGGER}_{kind}"),
            sql.SQL(events),
            table,
            sql.SQL(level),
            when,
            sql.Identifier(SCHEMA),
            *arguments,
        )
    )

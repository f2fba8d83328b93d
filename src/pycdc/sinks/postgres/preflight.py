"""What `pycdc doctor` asks of the database that is written to. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_sessions import connected, path_problems
from pycdc.clients.search_path import PathProblem
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.patterns import is_user_table
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.conflicts.preflight import ConflictInspection, inspect_conflicts
from pycdc.sinks.postgres.read_only import read_only
from pycdc.sinks.postgres.route_checks import cautions, mismatches, untenable, waiting
from pycdc.sinks.postgres.routing.key_changes import asked_of_old_rows
from pycdc.sinks.postgres.sequences import read_sequences
from pycdc.sinks.postgres.target_tables import TargetTable, key_columns, read_table

_RIGHTS: Final = """SELECT array_agg(kind) FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS r(kind)
WHERE NOT has_table_privilege(format('%%I.%%I', %s::text, %s::text), kind)"""
_TABLES: Final = """SELECT n.nspname, c.relname, n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2"""
_MAY_CREATE: Final = "SELECT has_database_privilege(current_database(), 'CREATE')"


@dataclass(frozen=True, slots=True)
class RouteInspection:
    """What a route needs and lacks.

    `wrong` are facts and remedies; `lacking` the rights on the table that the role does not have. `asked` are the
    fields that a delete's old row has to hold, `key` the paths of the route's key. `reused`: values of that may pass
    from row to row of the source, as far as the route says.
    """

    index: int
    table: str
    topic: str
    wrong: tuple[tuple[str, str], ...]
    lacking: tuple[str, ...]
    cautions: tuple[tuple[str, str], ...] = ()
    asked: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    reused: bool = False


@dataclass(frozen=True, slots=True)
class TargetInspection:
    """`bookkeeping_sql` is what an owner has to run, None where the tables are there or can be made.

    `lagging` are sequences that would make values which are there, with their columns; `path` is what is wrong with the
    search_path. `untenable` and `waiting` are what foreign keys and triggers do to the order of events, with remedies:
    the former is refused.
    """

    role: str
    version: int
    routes: tuple[RouteInspection, ...]
    bookkeeping_sql: str | None
    conflicts: ConflictInspection
    lagging: tuple[tuple[str, str], ...] = ()
    path: tuple[PathProblem, ...] = ()
    superuser: bool = False
    read_only: tuple[str, str] | None = None
    untenable: tuple[tuple[str, str], ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()


def all_tables(dsn: str) -> list[TargetTable]:
    """Return tables that rows can be written into, without partitions and pycdc's own. Raises PycdcError."""
    with connected(dsn) as connection:
        names = [name for schema, table, name in connection.execute(_TABLES) if is_user_table([], schema, table)]
        found = (read_table(connection, name) for name in names)
        return [table for table in found if table is not None]


def inspect_target(settings: PostgresSinkConfig, pipeline: str) -> TargetInspection:
    """Inspect the target of a pipeline. Raises PycdcError where the database cannot be asked."""
    dsn = settings.dsn.get_secret_value()
    with connected(dsn) as connection:
        apply_offsets = ApplyOffsets.of(settings, pipeline)
        row = connection.execute(_MAY_CREATE).fetchone()
        ready = apply_offsets.tables_exist(connection) or bool(row and row[0])
        tables = _tables(connection, settings)
        there = settings.model_copy(update={"routes": [route for route in settings.routes if route.table in tables]})
        return TargetInspection(
            connection.info.user,
            connection.info.server_version,
            tuple(_route(connection, settings, index) for index in range(len(settings.routes))),
            None if ready else apply_offsets.create_sql(connection),
            inspect_conflicts(connection, settings, pipeline, tables),
            tuple(
                (one.sequence_name, f"{one.table_name}.{one.column}") for one in read_sequences(settings) if one.behind
            ),
            tuple(path_problems(settings)),
            _is_superuser(connection),
            read_only(connection),
            tuple(untenable(connection, there, tables)),
            tuple(waiting(connection, there, tables)),
        )


def _is_superuser(connection: Connection) -> bool:
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    return row is not None and bool(row[0])


def _tables(connection: Connection, settings: PostgresSinkConfig) -> dict[str, TargetTable]:
    found = {route.table: read_table(connection, route.table) for route in settings.routes}
    return {name: table for name, table in found.items() if table is not None}


def _route(connection: Connection, settings: PostgresSinkConfig, index: int) -> RouteInspection:
    route = settings.routes[index]
    table = read_table(connection, route.table)
    lacking: tuple[str, ...] = ()
    if table is not None:
        row = connection.execute(_RIGHTS, (table.schema, table.name)).fetchone()
        lacking = tuple(row[0] or ()) if row is not None else ()
    found = () if table is None else tuple(cautions(route, table))
    asked = () if table is None else asked_of_old_rows(route, table)
    key = () if table is None else tuple(route.key.get(column, column) for column in key_columns(route, table))
    wrong = tuple(mismatches(route, table))
    name, reused = str(table or route.table), route.key_reuse == "possible"
    return RouteInspection(index, name, route.topic, wrong, lacking, found, asked, key, reused)

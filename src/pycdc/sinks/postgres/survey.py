"""What `pycdc doctor` asks of the database that is written to. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from pycdc.config import PostgresSink
from pycdc.sinks.postgres.conflict_survey import ConflictFacts, survey_conflicts
from pycdc.sinks.postgres.ledger import Ledger
from pycdc.sinks.postgres.session import Connection, connect, translate
from pycdc.sinks.postgres.tables import TargetTable, mismatches, read_table

_RIGHTS: Final = """SELECT array_agg(kind) FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS r(kind)
WHERE NOT has_table_privilege(format('%%I.%%I', %s::text, %s::text), kind)"""
_MAY_CREATE: Final = "SELECT has_database_privilege(current_database(), 'CREATE')"


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """`wrong` are facts and remedies; `lacking` the rights on the table that the role does not have."""

    index: int
    table: str
    topic: str
    wrong: tuple[tuple[str, str], ...]
    lacking: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """`bookkeeping_sql` is what an owner has to run, None where the tables are there or can be made."""

    role: str
    version: int
    routes: tuple[RouteFacts, ...]
    bookkeeping_sql: str | None
    conflicts: ConflictFacts


def survey_target(settings: PostgresSink, pipeline: str) -> TargetFacts:
    """Raises PycdcError where the database cannot be asked."""
    dsn = settings.dsn.get_secret_value()
    with _connected(dsn) as connection:
        ledger = Ledger.of(settings, pipeline)
        row = connection.execute(_MAY_CREATE).fetchone()
        ready = ledger.tables_exist(connection) or bool(row and row[0])
        return TargetFacts(
            connection.info.user,
            connection.info.server_version,
            tuple(_route(connection, settings, index) for index in range(len(settings.routes))),
            None if ready else ledger.create_sql(connection),
            survey_conflicts(connection, settings, _tables(connection, settings)),
        )


def _tables(connection: Connection, settings: PostgresSink) -> dict[str, TargetTable]:
    found = {route.table: read_table(connection, route.table) for route in settings.routes}
    return {name: table for name, table in found.items() if table is not None}


@contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    connection = connect(dsn)
    try:
        yield connection
    except psycopg.Error as error:
        raise translate(error) from None
    finally:
        connection.close()


def _route(connection: Connection, settings: PostgresSink, index: int) -> RouteFacts:
    route = settings.routes[index]
    table = read_table(connection, route.table)
    lacking: tuple[str, ...] = ()
    if table is not None:
        row = connection.execute(_RIGHTS, (table.schema, table.name)).fetchone()
        lacking = tuple(row[0] or ()) if row is not None else ()
    return RouteFacts(index, str(table or route.table), route.topic, tuple(mismatches(route, table)), lacking)

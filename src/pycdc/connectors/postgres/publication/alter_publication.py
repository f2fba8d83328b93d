"""Tables into and out of a publication while a stream is read.

Postgres decides for each change by the publication as it was when the change was written, also within a transaction:
of one that was open when a table was added, the stream has what the table saw afterwards, and what it saw before only
by chance. A table that is taken out loses nothing of what was written before.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set

import psycopg

from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.clients.quoting import published, quoted
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.catalog.slots_and_publications import add_tables_sql
from pycdc.errors import PycdcError
from pycdc.observability.logger import get_logger

log = get_logger()


def drop_tables_sql(name: str, tables: Sequence[TableRef]) -> str:
    listed = ", ".join(quoted(table.schema, table.name) for table in tables)
    return f"ALTER PUBLICATION {quoted(name)} DROP TABLE {listed}"


def publish_sql(name: str, operations: Set[str]) -> str:
    """Return the statement that sets what is published. `operations` are first letters."""
    return f"ALTER PUBLICATION {quoted(name)} SET (publish = '{published(operations)}')"


def change_tables(
    dsn: str,
    name: str,
    *,
    add: Sequence[TableRef],
    drop: Sequence[TableRef],
    stopping: threading.Event | None = None,
) -> None:
    """Add and drop tables in one statement for all, or in one for each where that fails, so that none hinders another.

    A table may be gone by now, or locked for long. What fails is logged, for somebody who looks again later.
    """
    for tables, statement in ((add, add_tables_sql), (drop, drop_tables_sql)):
        if not tables:
            continue
        try:
            run(dsn, statement(name, tables), stopping)
        except PycdcError as error:
            if len(tables) == 1:
                log.warning("the publication could not be changed", statement=statement(name, tables), fact=error.fact)
                continue
            for table in tables:
                added, dropped = ([table], []) if tables is add else ([], [table])
                change_tables(dsn, name, add=added, drop=dropped, stopping=stopping)


def run(dsn: str, statement: str, stopping: threading.Event | None = None) -> None:
    """Run a statement. Raises PycdcError, also where a lock is not to be had soon."""
    with connect_to_source(dsn, stopping=stopping) as connection:
        try:
            connection.execute(statement.encode())
        except psycopg.Error as error:
            raise source_error(error) from None


def current_transaction(dsn: str, stopping: threading.Event | None = None) -> int:
    """Return the id, with its epoch, of a transaction that begins now: those that wrote before have smaller ones."""
    with connect_to_source(dsn, stopping=stopping) as connection:
        try:
            row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        except psycopg.Error as error:
            raise source_error(error) from None
    assert row is not None
    return int(row[0])

"""Rows that exist: COPY text, line by line, as of an exported snapshot. Lines stay bytes.

Any number of readers may import the same snapshot, each on a connection of its own, and all see the same rows.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from pycdc.connectors.postgres.facts import CopySource
from pycdc.connectors.postgres.session import Connection, Meaning, connect, leave_text_raw, translate
from pycdc.errors import ConnectionLost, EnvironmentNotReady

_POLL_MS: Final = 100
_GONE: Final = Meaning(ConnectionLost, "take the snapshot again", "the exported snapshot is gone")
_AT_IMPORT: Final = {"22023": _GONE, "42704": _GONE}
_SPECIAL: Final = {
    "42501": Meaning(
        EnvironmentNotReady,
        "GRANT SELECT ON the table TO the role; where row level security hides rows: ALTER ROLE … BYPASSRLS",
    ),
}


def copy_command(source: CopySource) -> sql.Composed:
    """COPY of the publication's columns and rows. A table without columns still yields one empty line a row."""
    columns = sql.SQL(", ").join(map(sql.Identifier, source.columns))
    query = sql.SQL("SELECT {} FROM {}").format(columns, sql.Identifier(source.schema, source.name))
    if source.row_filter is not None:
        # pg_get_expr wrote it, and it is the table's owner's: there is nothing to quote.
        query += sql.SQL(" WHERE ") + sql.SQL(source.row_filter)
    return sql.SQL("COPY ({}) TO STDOUT").format(query)


def copy_rows(
    dsn: str,
    snapshot: str | None,
    source: CopySource,
    *,
    max_rows: int = 4096,
    max_bytes: int = 4 * 1024 * 1024,
    raw_text: bool = False,
) -> Iterator[list[bytes]]:
    """Yield chunks of lines of COPY text, newline removed, of at most `max_rows` lines or about `max_bytes`.

    `snapshot` is the name under which a snapshot was exported; None reads the present. Rows that row level security
    would hide are an error, since the stream does not hide them. `raw_text`: see `leave_text_raw`. Raises
    ConnectionLost where the snapshot is gone, EnvironmentNotReady where the table may not be read. Closing the iterator
    cancels the COPY.
    """
    connection = connect(dsn)
    try:
        _begin(connection, snapshot)
        command = copy_command(source).as_bytes(connection)
        if raw_text:
            leave_text_raw(connection)
        connection.pgconn.send_query(command)
        yield from _lines(connection, max_rows, max_bytes)
        connection.execute("COMMIT")
    except psycopg.Error as error:
        raise translate(error, _SPECIAL) from None
    finally:
        connection.close()


def _begin(connection: Connection, snapshot: str | None) -> None:
    connection.execute("SET row_security = off")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if snapshot is None:
        return
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    except psycopg.Error as error:
        raise translate(error, _AT_IMPORT) from None


def _lines(connection: Connection, max_rows: int, max_bytes: int) -> Iterator[list[bytes]]:
    pg = connection.pgconn
    poll = select.poll()
    poll.register(pg.socket, select.POLLIN)
    _await_result(connection, poll)
    get, consume = pg.get_copy_data, pg.consume_input
    lines: list[bytes] = []
    space = max_bytes
    while True:
        length, data = get(1)
        while length > 0:
            lines.append(bytes(data[:-1]))
            space -= length
            if len(lines) >= max_rows or space <= 0:
                yield lines
                lines, space = [], max_bytes
            length, data = get(1)
        if length < 0:
            break
        poll.poll(_POLL_MS)
        consume()
    if lines:
        yield lines
    _finish(connection)


def _await_result(connection: Connection, poll: select.poll) -> None:
    pg = connection.pgconn
    while pg.flush():
        pg.consume_input()
    while pg.is_busy():
        poll.poll(_POLL_MS)
        pg.consume_input()
    result = pg.get_result()
    if result is not None and result.status == ExecStatus.FATAL_ERROR:
        _drain(connection)
        raise psycopg.errors.error_from_result(result)


def _finish(connection: Connection) -> None:
    result = connection.pgconn.get_result()
    _drain(connection)
    if result is not None and result.status == ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)


def _drain(connection: Connection) -> None:
    while connection.pgconn.get_result() is not None:
        pass

"""Rows that exist: COPY text, line by line, as of an exported snapshot. Lines stay bytes.

Any number of readers may import the same snapshot, each on a connection of its own, and all see the same rows.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from pycdc.connectors.postgres.facts import CopySource
from pycdc.connectors.postgres.keyset import Key
from pycdc.connectors.postgres.session import Connection, Meaning, connect, leave_text_raw, translate
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady

_POLL_MS: Final = 100
_GONE: Final = Meaning(ConnectionLost, "take the snapshot again", "the exported snapshot is gone")
_AT_IMPORT: Final = {"22023": _GONE, "42704": _GONE}
READING: Final = {
    "42501": Meaning(
        EnvironmentNotReady,
        "GRANT SELECT ON the table TO the role; where row level security hides rows: ALTER ROLE … BYPASSRLS",
    ),
}


_LIKE_THEN: Final = """WITH RECURSIVE family AS (SELECT to_regclass(%s)::oid AS oid
UNION SELECT i.inhrelid FROM pg_inherits i JOIN family f ON i.inhparent = f.oid)
SELECT bool_and(c.oid IS NOT NULL AND (c.relkind <> 'r' OR c.relfilenode = pg_relation_filenode(c.oid)))
FROM family f LEFT JOIN pg_class c ON c.oid = f.oid"""
"""pg_class is read as of the snapshot, pg_relation_filenode() tells the present."""


class Rewritten(Exception):
    """The table was truncated, rewritten or made anew since the snapshot was exported, which sees none of its rows now.

    Source: the manual, "Caveats" of MVCC (13.6).
    """


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a table by the order of its key: those behind `after`, `limit` of them at most, that fulfil `where`."""

    after: Key | None = field(default=None, repr=False)
    limit: int | None = None
    where: str | None = field(default=None, repr=False)


def copy_command(source: CopySource, part: Part | None = None) -> sql.Composed:
    """COPY of the publication's columns and rows. A table without columns still yields one empty line a row."""
    columns = sql.SQL(", ").join(map(sql.Identifier, source.columns))
    query = sql.SQL("SELECT {} FROM {}").format(columns, table_name(source))
    # What pg_get_expr or an operator wrote is SQL: there is nothing to quote. It may end in a comment.
    written = [source.row_filter, None if part is None else part.where]
    conditions = [sql.SQL("({}\n)").format(sql.SQL(text)) for text in written if text is not None]
    if part is not None and part.after is not None and source.keyset is not None:
        conditions.append(source.keyset.behind(part.after))
    if conditions:
        query += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions)
    if part is not None and source.keyset is not None:
        query += sql.SQL(" ORDER BY ") + source.keyset.order()
    if part is not None and part.limit is not None:
        query += sql.SQL(" LIMIT {}").format(sql.Literal(part.limit))
    return sql.SQL("COPY ({}) TO STDOUT").format(query)


def table_name(source: CopySource) -> sql.Composed:
    only = "ONLY " if source.only else ""
    return sql.SQL("{}{}").format(sql.SQL(only), sql.Identifier(source.schema, source.name))


def copy_rows(
    dsn: str,
    snapshot: str | None,
    source: CopySource,
    part: Part | None = None,
    *,
    max_rows: int = 4096,
    max_bytes: int = 4 * 1024 * 1024,
    raw_text: bool = False,
) -> Iterator[list[bytes]]:
    """Yield chunks of lines of COPY text, newline removed, of at most `max_rows` lines or about `max_bytes`.

    Without `part` it is all rows, in the order that is cheapest.

    `snapshot` is the name under which a snapshot was exported; None reads the present. Rows that row level security
    would hide are an error, since the stream does not hide them. `raw_text`: see `leave_text_raw`. Raises
    ConnectionLost where the snapshot is gone, EnvironmentNotReady where the table may not be read, Rewritten before
    anything was yielded. Closing the iterator cancels the COPY.
    """
    connection = connect(dsn)
    try:
        _begin(connection, snapshot)
        if snapshot is not None:
            _require_its_rows(connection, source)
        command = copy_command(source, part).as_bytes(connection)
        if raw_text:
            leave_text_raw(connection)
        yield from copied_lines(connection, command, max_rows, max_bytes)
        connection.execute("COMMIT")
    except psycopg.Error as error:
        raise translate(error, READING) from None
    finally:
        connection.close()


def check_condition(dsn: str, schema: str, name: str, where: str) -> None:
    """Raise PycdcError where `where` is no condition on the table's rows."""
    query = sql.SQL("EXPLAIN SELECT FROM {} WHERE ({}\n)").format(sql.Identifier(schema, name), sql.SQL(where))
    with connect(dsn) as connection:
        try:
            connection.execute("SET default_transaction_read_only = on")
            connection.execute(query)
        except psycopg.Error as error:
            if translate(error).retry:
                raise translate(error) from None
            raise ConfigError(
                f"the condition does not fit {schema}.{name} (SQLSTATE {error.sqlstate}): {error.diag.message_primary}",
                hint="write what may follow WHERE; functions and types that are not built in need their schema",
            ) from None


def _begin(connection: Connection, snapshot: str | None) -> None:
    connection.execute("SET row_security = off")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if snapshot is None:
        return
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
    except psycopg.Error as error:
        raise translate(error, _AT_IMPORT) from None


def _require_its_rows(connection: Connection, source: CopySource) -> None:
    # Planning locks the table and its partitions until the transaction ends: from here on it stays as it is.
    connection.execute(sql.SQL("SELECT FROM {} LIMIT 0").format(table_name(source)))
    name = sql.Identifier(source.schema, source.name).as_string(connection)
    if connection.execute(_LIKE_THEN, (name,)).fetchone() != (True,):
        raise Rewritten


def copied_lines(connection: Connection, command: bytes, max_rows: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Run a COPY on a connection that does nothing else. Raises psycopg.Error."""
    pg = connection.pgconn
    pg.send_query(command)
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

"""Rows that exist: COPY text, line by line, as of an exported snapshot. Lines stay bytes.

Any number of readers may import the same snapshot, each on a connection of its own, and all see the same rows. A
reader locks a table for as long as it reads one range of it, and no longer; whether the table is still the same is
looked at each time. So no session of ours holds what another waits for, and nobody waits long for ours.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import ErrorMeaning, TableLocked, source_error
from pycdc.clients.postgres_sessions import READING_SECONDS, connect_to_source, leave_text_raw
from pycdc.connectors.postgres.catalog.keyset import KeyValues
from pycdc.connectors.postgres.catalog.metadata import CopySource
from pycdc.connectors.postgres.snapshot.block_ranges import (
    BlockRange,
    Delivered,
    Rewritten,
    TableBlocks,
    heap_of,
    oldest_unseen,
)
from pycdc.connectors.postgres.snapshot.lock_yield import marking
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PycdcError

_POLL_MS: Final = 100
_GONE: Final = ErrorMeaning(ConnectionLost, "take the snapshot again", "the exported snapshot is gone")
_AT_IMPORT: Final = {"22023": _GONE, "42704": _GONE}
READING: Final = {
    "42501": ErrorMeaning(
        EnvironmentNotReady,
        "GRANT SELECT ON the table TO the role; where row level security hides rows: ALTER ROLE … BYPASSRLS",
    ),
}


_SETTINGS: Final = """SELECT pg_catalog.set_config('row_security', 'off', false),
pg_catalog.set_config('enable_tidscan', 'on', false),
pg_catalog.set_config('max_parallel_workers_per_gather', '0', false)"""
"""Without the second, each range of blocks would be looked for in the whole table. More processes do not help a range.
"""
_ENDED: Final = ErrorMeaning(TableLocked, "", "the session that read a table was ended")
_GIVING_WAY: Final = {"57P01": _ENDED}
_CHANGED: Final = ("42P01", "42703", "3F000")
"""The table, a column of it or its schema is gone, or has another name."""


@dataclass(frozen=True, slots=True)
class HeldLocks:
    """A table as a transaction keeps it: its OID, the types of its columns, and where its rows are."""

    oid: int
    types: tuple[tuple[int, int], ...]
    heap: TableBlocks

    def like(self, other: HeldLocks) -> bool:
        """Return whether what was read of the one can go on with the other."""
        return (self.oid, self.types, self.heap.files) == (other.oid, other.types, other.heap.files)


@dataclass(frozen=True, slots=True)
class CopiedPart:
    """Rows of a table by the order of its key.

    They are those behind `after`, `limit` of them at most, that fulfil `where` and were not `delivered` already.
    """

    after: KeyValues | None = field(default=None, repr=False)
    limit: int | None = None
    where: str | None = field(default=None, repr=False)
    delivered: Delivered | None = None

    def conditions(self, source: CopySource) -> list[sql.Composable]:
        out: list[sql.Composable] = [] if self.where is None else [written(self.where)]
        if self.after is not None and source.keyset is not None:
            out.append(source.keyset.behind(self.after))
        return out if self.delivered is None else [*out, self.delivered.others()]

    def ending(self, source: CopySource) -> sql.Composable:
        order = sql.SQL("") if source.keyset is None else sql.SQL(" ORDER BY ") + source.keyset.order()
        return order if self.limit is None else order + sql.SQL(" LIMIT {}").format(sql.Literal(self.limit))


def written(condition: str) -> sql.Composable:
    """Return what pg_get_expr or an operator wrote as SQL: there is nothing to quote. It may end in a comment."""
    return sql.SQL("({}\n)").format(sql.SQL(condition))


def _conditions(source: CopySource, part: CopiedPart | BlockRange | None) -> sql.Composable:
    """WHERE, with what the publication and the part ask for."""
    conditions = [] if source.row_filter is None else [written(source.row_filter)]
    if part is not None:
        conditions += part.conditions(source)
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")


def counted(source: CopySource, where: str | None) -> sql.Composed:
    """Return a query for how many rows there are."""
    return sql.SQL("SELECT count(*) FROM {}{}").format(table_name(source), _conditions(source, CopiedPart(where=where)))


def last_key(source: CopySource, where: str | None) -> sql.Composed:
    """Return a query for the texts of the last key, with commas between."""
    assert source.keyset is not None
    names = [sql.Identifier(column.name) for column in source.keyset.columns]
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names)
    order = sql.SQL(", ").join(sql.SQL("{} DESC").format(name) for name in names)
    return sql.SQL("SELECT pg_catalog.concat_ws(',', {}) FROM {}{} ORDER BY {} LIMIT 1").format(
        texts, table_name(source), _conditions(source, CopiedPart(where=where)), order
    )


def copy_command(source: CopySource, part: CopiedPart | BlockRange | None = None) -> sql.Composed:
    """COPY of the publication's columns and rows. A table without columns still yields one empty line a row."""
    columns = sql.SQL(", ").join(map(sql.Identifier, source.columns))
    query = sql.SQL("SELECT {} FROM {}").format(columns, table_name(source))
    query += _conditions(source, part)
    if part is not None:
        query += part.ending(source)
    return sql.SQL("COPY ({}) TO STDOUT").format(query)


def table_name(source: CopySource) -> sql.Composed:
    only = "ONLY " if source.only else ""
    return sql.SQL("{}{}").format(sql.SQL(only), sql.Identifier(source.schema, source.name))


class SnapshotReader:
    """Reads rows as of one snapshot, on a connection of its own, a table or a range of it in each transaction.

    `snapshot` is the name under which it was exported; None begins one of the present. `mark` tells sessions that read
    for one pipeline (`yielding`). Rows that row level security would hide are an error, since the stream does not hide
    them. `raw_text`: see `leave_text_raw`. Raises ConnectionLost where the snapshot is gone.
    """

    def __init__(self, dsn: str, snapshot: str | None, *, mark: int = 0, raw_text: bool = False) -> None:
        self._raw_text = raw_text
        self._snapshot = snapshot
        self._mark = mark
        self._connection = connect_to_source(dsn, seconds=READING_SECONDS)
        try:
            self._connection.execute(_SETTINGS)
            self.begin()
        except psycopg.Error as error:
            self.close()
            raise source_error(error, READING) from None
        except PycdcError:
            self.close()
            raise

    def begin(self) -> None:
        """Begin a transaction. The constructor has begun one."""
        try:
            if self._raw_text:
                self._connection.execute("SELECT pg_catalog.set_config('client_encoding', 'UTF8', false)")
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            if self._snapshot is not None:
                begin += f"; SET TRANSACTION SNAPSHOT {sql.Literal(self._snapshot).as_string(None)}"
            self._connection.execute(begin.encode())
        except psycopg.Error as error:
            raise source_error(error, _AT_IMPORT) from None

    def hold(self, source: CopySource, known: HeldLocks | None = None) -> HeldLocks:
        """Keep the table and its partitions as they are until the transaction ends.

        Raises Rewritten where it is too late, or it is not like `known` any more; TableLocked where somebody has it.
        """
        try:
            held = self._held(source)
        except psycopg.Error as error:
            if error.sqlstate in _CHANGED:
                raise Rewritten from None
            raise source_error(error, READING | _GIVING_WAY) from None
        if not held.heap.seen or (known is not None and not held.like(known)):
            raise Rewritten
        return held

    def _held(self, source: CopySource) -> HeldLocks:
        name, connection = table_name(source), self._connection
        if not source.only:
            # With some of the locks nobody may wait for the others: whoever has those may want these.
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT").format(name))
        columns = sql.SQL(", ").join(map(sql.Identifier, source.columns))
        # Planning locks, and tells the types as they are now.
        result = connection.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(columns, name)).pgresult
        assert result is not None
        types = tuple((result.ftype(number), result.fmod(number)) for number in range(result.nfields))
        quoted = sql.Identifier(source.schema, source.name).as_string(connection)
        query = f"SELECT to_regclass(%s)::oid::int8, {marking(self._mark)}"
        row = connection.execute(query.encode(), (quoted,)).fetchone()
        assert row is not None
        if row[0] is None:
            raise Rewritten
        return HeldLocks(row[0], types, heap_of(connection, row[0], parted=not source.only))

    def oldest(self) -> int:
        """Return the oldest transaction that is not seen."""
        try:
            return oldest_unseen(self._connection)
        except psycopg.Error as error:
            raise source_error(error) from None

    def lines(
        self,
        source: CopySource,
        part: CopiedPart | BlockRange | None = None,
        *,
        max_rows: int = 4096,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> Iterator[list[bytes]]:
        """Yield lines of COPY text, newline removed, at most `max_rows` or about `max_bytes` at once.

        There are none where the server takes its time. Without `part` it is all rows, in the order that is cheapest.
        Raises EnvironmentNotReady where the table may not be read, TableLocked where somebody else wants it. A reader
        whose lines were not read to the end can only be closed, which cancels the COPY.
        """
        try:
            command = copy_command(source, part).as_bytes(None)
            if self._raw_text:
                leave_text_raw(self._connection)
            yield from copied_lines(self._connection, command, max_rows, max_bytes)
        except psycopg.Error as error:
            raise source_error(error, READING | _GIVING_WAY) from None

    def end(self) -> None:
        """End the transaction, which lets go of its tables. Raises ConnectionLost."""
        try:
            self._connection.execute("ROLLBACK")
        except psycopg.Error as error:
            raise source_error(error) from None

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()


def copy_rows(
    dsn: str,
    snapshot: str | None,
    source: CopySource,
    part: CopiedPart | BlockRange | None = None,
    *,
    max_rows: int = 4096,
    max_bytes: int = 4 * 1024 * 1024,
    raw_text: bool = False,
) -> Iterator[list[bytes]]:
    """Yield the lines of one table, by a `SnapshotReader` of their own. Raises Rewritten before anything was yielded.

    Closing the iterator cancels the COPY.
    """
    with closing(SnapshotReader(dsn, snapshot, raw_text=raw_text)) as reader:
        if snapshot is not None:
            reader.hold(source)
        yield from filter(None, reader.lines(source, part, max_rows=max_rows, max_bytes=max_bytes))


def copied_lines(connection: Connection, command: bytes, max_rows: int, max_bytes: int) -> Iterator[list[bytes]]:
    """Run a COPY on a connection that does nothing else. Raises psycopg.Error.

    It yields no lines where there are none for a while.
    """
    pg = connection.pgconn
    # With parameters, if none: then what was written into it by others cannot be a second statement.
    pg.send_query_params(command, None)
    poll = select.poll()
    poll.register(pg.socket, select.POLLIN)
    yield from _await_result(connection, poll)
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
        if not poll.poll(_POLL_MS):
            yield []
        consume()
    if lines:
        yield lines
    _finish(connection)


def _await_result(connection: Connection, poll: select.poll) -> Iterator[list[bytes]]:
    pg = connection.pgconn
    while pg.flush():
        pg.consume_input()
    while pg.is_busy():
        if not poll.poll(_POLL_MS):
            yield []
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

"""Reading a chunk of rows while the stream goes on: a short transaction of its own, and a mark in the WAL behind it.

The order matters. The table is locked against DDL first, because a table that is rewritten or truncated looks empty to
a snapshot taken before. Then the snapshot is taken, and at once the mark is written: every transaction that the
snapshot sees has its commit before the mark, and few that it does not see have. Then the rows are read.

While the lock is held, nothing is asked that waits for a lock of another table: whoever has that may want this one.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import ErrorMeaning, TableLocked, source_error
from pycdc.clients.postgres_sessions import READING_SECONDS, connect_to_source, leave_text_raw
from pycdc.clients.quoting import quoted
from pycdc.connectors.postgres.catalog.metadata import CopySource, TableRef
from pycdc.connectors.postgres.catalog.row_filter import confine, require_condition
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.connectors.postgres.snapshot.block_ranges import Delivered, heap_of
from pycdc.connectors.postgres.snapshot.copy_reader import (
    READING,
    CopiedPart,
    copied_lines,
    copy_command,
    counted,
    last_key,
)
from pycdc.connectors.postgres.snapshot.lock_yield import mark_of, marking
from pycdc.connectors.postgres.snapshot.notifications import Extent
from pycdc.connectors.postgres.snapshot.pg_snapshot import PgSnapshot
from pycdc.model.change import Lsn

_ENDED: Final = {"57P01": ErrorMeaning(TableLocked, "", "the session that read a table was ended")}
_LINES: Final = 4096
_SMALL: Final = 8 * 1024 * 1024
"""Bytes of a table whose rows are counted."""
CopyLines = Generator[list[bytes], None, None]


@dataclass(slots=True)
class ChunkReader:
    """Two connections, opened when first needed: one reads rows, one writes marks."""

    dsn: str
    slot: str
    raw_text: bool
    max_bytes: int
    stopping: threading.Event | None = None
    _reader: Connection | None = None
    _writer: Connection | None = None

    def begin(self, ref: TableRef) -> PgSnapshot | None:
        """Begin a transaction that sees the rows of a table as they are now.

        Returns None where its lock cannot be had, or the table has another name by now.
        """
        try:
            reader = self._reader = self._reader or self._open_reader()
            reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # With some of its partitions' locks nobody may wait for the others: whoever has those may want these.
            lock = (
                "LOCK TABLE {} IN ACCESS SHARE MODE NOWAIT"
                if ref.kind == "p"
                else "LOCK TABLE ONLY {} IN ACCESS SHARE MODE"
            )
            reader.execute(sql.SQL(lock).format(sql.Identifier(ref.schema, ref.name)))
            query = f"SELECT pg_current_snapshot()::text, to_regclass(%s)::oid::int8, {marking(mark_of(self.slot))}"
            row = reader.execute(query.encode(), (quoted(ref.schema, ref.name),)).fetchone()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            self.end()
            return None
        except psycopg.Error as error:
            raise source_error(error, READING | _ENDED) from None
        assert row is not None
        if row[1] != ref.oid:
            self.end()
            return None
        # A connection that leaves text raw returns bytes.
        return PgSnapshot.parse(row[0] if isinstance(row[0], str) else bytes(row[0]).decode())

    def _open_reader(self) -> Connection:
        connection = connect_to_source(self.dsn, seconds=READING_SECONDS, stopping=self.stopping)
        connection.execute("SET row_security = off")
        if self.raw_text:
            leave_text_raw(connection)
        return connection

    def still_there(self, ref: TableRef, delivered: Delivered) -> bool:
        """Return whether the table has the files that `delivered` speaks of. The transaction begun keeps it so."""
        assert self._reader is not None
        try:
            return heap_of(self._reader, ref.oid, parted=ref.kind == "p").files == delivered.files
        except psycopg.Error as error:
            raise source_error(error, READING | _ENDED) from None

    def confine(self, ref: TableRef, where: str, role: str | None, seconds: float) -> None:
        """Read under a condition of others, with a role's rights and within a time. Raises ConfigError for no SQL."""
        assert self._reader is not None
        try:
            confine(self._reader, role, seconds)
            require_condition(self._reader, ref.schema, ref.name, where)
        except psycopg.Error as error:
            raise source_error(error, READING | _ENDED) from None

    def mark(self, chunk: str) -> Lsn:
        """Write the mark of a chunk into the WAL; return its place."""
        try:
            if self._writer is None:
                self._writer = connect_to_source(self.dsn, stopping=self.stopping)
            return signals.emit(self._writer, signals.mark(self.slot, chunk))
        except psycopg.Error as error:
            raise source_error(error) from None

    def extent(self, source: CopySource, ref: TableRef, where: str | None) -> Extent:
        """Return how many rows the transaction sees, and the key of the last.

        Both are exact where the table is small, else what the planner estimates, and the key where no condition stands
        in the way of an index.
        """
        assert self._reader is not None
        try:
            size = self._reader.execute(f"SELECT pg_relation_size({ref.oid})").fetchone()
            small = ref.kind != "p" and size is not None and size[0] <= _SMALL
            if where is not None and not small:
                return Extent()
            rows = self._value(counted(source, where)) if small else ref.rows_estimate
            last = None if source.keyset is None else self._value(last_key(source, where))
        except psycopg.Error as error:
            raise source_error(error, READING | _ENDED) from None
        return Extent(None if rows is None else int(rows), last if isinstance(last, str | None) else last.decode())

    def _value(self, query: sql.Composed) -> Any:
        assert self._reader is not None
        row = self._reader.execute(query).fetchone()
        return None if row is None else row[0]

    def lines(self, source: CopySource, part: CopiedPart) -> CopyLines:
        """Return the rows of the transaction begun; none, where the server takes its time.

        Leaving early costs the connection. Raises TableLocked where somebody else wants the table.
        """
        reader = self._reader
        assert reader is not None
        complete = False
        try:
            command = copy_command(source, part).as_bytes(reader)
            yield from copied_lines(reader, command, _LINES, self.max_bytes)
            complete = True
        except psycopg.Error as error:
            raise source_error(error, READING | _ENDED) from None
        finally:
            if not complete:
                self._close_reader()

    def end(self) -> None:
        """End the transaction. Idempotent."""
        if self._reader is None:
            return
        try:
            self._reader.execute("ROLLBACK")
        except psycopg.Error:
            # It only read; the next chunk takes another connection.
            self._close_reader()

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def close(self) -> None:
        self._close_reader()
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()


def some(chunks: CopyLines, max_bytes: int) -> Generator[None, None, tuple[list[bytes], bool]]:
    """Lines up to about `max_bytes`, and whether there may be more. Yields while there are none yet."""
    lines: list[bytes] = []
    size = 0
    for more in chunks:
        if not more:
            yield None
        lines += more
        size += sum(map(len, more))
        if size > max_bytes:
            chunks.close()
            return lines, True
    return lines, False

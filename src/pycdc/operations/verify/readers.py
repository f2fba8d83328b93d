"""Sessions that read both snapshots, a range of a table in each transaction, so that no lock outlives a range."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import described, source_error, target_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PycdcError
from pycdc.operations.verify.canonical import pin
from pycdc.operations.verify.cut import BEGIN, VerifiedEnds, target_session

_REWRITTEN: Final = """SELECT c.oid::regclass::text FROM pg_class c
WHERE (c.oid = ANY (%(oids)s::oid[])
    OR c.oid IN (SELECT t.relid FROM unnest(%(oids)s::oid[]) AS u(o), pg_partition_tree(u.o::regclass) AS t))
    AND c.relfilenode <> coalesce(pg_relation_filenode(c.oid), 0)"""
_CHANGED: Final = ("42P01", "42703", "3F000", "42804", "42883")
"""The table, a column of it or its schema is not there, or has another type."""


class TableRewritten(ConnectionLost):
    """A table was rewritten, emptied or altered after the snapshot, which does not see it as it was any more."""


class SnapshotSession:
    """A session that imports a snapshot in each of its transactions."""

    def __init__(self, connection: Connection, translate: Callable[[psycopg.Error], PycdcError]) -> None:
        self.connection = connection
        self._translate = translate
        self._begin = ""
        self.snapshot = ""

    def use(self, snapshot: str) -> None:
        """Read in the snapshot of that name from here on."""
        self.snapshot = snapshot
        self._begin = f"{BEGIN}; SET TRANSACTION SNAPSHOT {sql.Literal(snapshot).as_string(None)}"

    @contextmanager
    def transaction(self, oids: Sequence[int] = ()) -> Iterator[Connection]:
        """Read in the snapshot. Raises TableRewritten where it does not hold one of the tables, PycdcError."""
        try:
            self.connection.execute(self._begin.encode())
            yield self.connection
            if oids:
                self._require_unchanged(oids)
        except psycopg.Error as error:
            if error.sqlstate in _CHANGED:
                raise rewritten("a table") from None
            if isinstance(error, psycopg.DataError):
                raise EnvironmentNotReady(
                    f"a value of a row cannot be compared: {described(error)}",
                    hint="see whether the pipeline has parked the row, or leave the column out with --column",
                ) from None
            raise self._translate(error) from None
        finally:
            self._end()

    def _end(self) -> None:
        """End the transaction, also where what was read in it failed: the next one begins in another snapshot."""
        if self.connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):  # a connection that is lost fails at the next question
                self.connection.execute("ROLLBACK")

    def _require_unchanged(self, oids: Sequence[int]) -> None:
        found = self.connection.execute(_REWRITTEN, {"oids": list(oids)}).fetchone()
        if found is not None:
            raise rewritten(f"table {found[0]}")

    def close(self) -> None:
        """Idempotent."""
        self.connection.close()


@dataclass(frozen=True, slots=True)
class Readers:
    """The readers of both snapshots, one for texts that need none, and a thread for the target's queries.

    `workers` add up ranges of large tables, if there are any.
    """

    ends: VerifiedEnds
    source: SnapshotSession
    target: SnapshotSession
    texts: Connection
    executor: Executor
    workers: Executor | None = None


def source_reader(ends: VerifiedEnds) -> SnapshotSession:
    """Return a reader of the source's snapshots. Raises PycdcError."""
    connection = connect_to_source(ends.source_dsn, seconds=0.0)
    try:
        pin(connection)
    except psycopg.Error as error:
        connection.close()
        raise source_error(error) from None
    return SnapshotSession(connection, source_error)


def target_reader(ends: VerifiedEnds) -> SnapshotSession:
    """Return a reader of the target's snapshots. Raises PycdcError."""
    return SnapshotSession(target_session(ends), target_error)


def rewritten(what: str) -> TableRewritten:
    """Return the error for a table that a snapshot does not hold any more."""
    return TableRewritten(f"{what} was altered, emptied or rewritten after the snapshot was taken", hint="verify again")

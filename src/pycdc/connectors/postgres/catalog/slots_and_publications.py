"""Changes at the source: publication and slot. Each failure names the SQL that an owner can run instead.

The publication comes first: WAL that was written before it existed cannot be decoded through it, and creating it
afterwards does not help.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.clients import walsender_commands as walsender
from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import ErrorMeaning, TableLocked, source_error
from pycdc.clients.postgres_sessions import connect_to_source, in_recovery
from pycdc.clients.quoting import OPERATIONS, published, quoted
from pycdc.connectors.postgres.catalog.exported_snapshot import CreatedSlot, ExportedSnapshot, take_over
from pycdc.connectors.postgres.catalog.metadata import PublicationMetadata, TableRef, missing_tables, topmost
from pycdc.errors import ConnectionLost, EnvironmentNotReady, SlotActive
from pycdc.model.change import Lsn
from pycdc.observability.logger import get_logger

log = get_logger()

_PATIENCE: Final = 5.0
"""Seconds that creating a slot may take before what it waits for is named."""
_TURN: Final = 0.1
"""Seconds until it is known that nobody wants the slot any more."""
_CANCEL_SECONDS: Final = 3.0
_FAILOVER_SINCE: Final = 170_000
# The catalog had the table a moment ago: whoever asks again finds it gone, or under its new name.
_GONE: Final = ErrorMeaning(TableLocked, "a table was renamed or dropped meanwhile: its new name is read again")
_MEANWHILE: Final = {"42P01": _GONE, "3F000": _GONE}

_BLOCKERS: Final = """
SELECT pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8
  FROM unnest(pg_blocking_pids(%s)) pid LEFT JOIN pg_stat_activity a USING (pid)
"""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A transaction that the creation of a slot waits for. Pid 0 stands for one in pg_prepared_xacts.

    `age` is in seconds, None where this role may not see it.
    """

    pid: int
    age: float | None = None

    def __str__(self) -> str:
        name = f"pid {self.pid}" if self.pid else "a prepared transaction"
        return name if self.age is None else f"{name}, open for {self.age:.0f} s"


@dataclass(frozen=True, slots=True)
class _SlotRequest:
    """A slot that is to be made, and how long that may take."""

    name: str
    failover: bool
    timeout: float
    on_wait: Callable[[list[Blocker]], None]
    given_up: threading.Event
    temporary: bool = False


# -- the statements, for us to run or an owner to copy


def create_publication_sql(
    name: str,
    tables: Sequence[TableRef],
    *,
    via_partition_root: bool = False,
    operations: Set[str] = OPERATIONS.keys(),
) -> str:
    """CREATE PUBLICATION for exactly these tables: ONLY keeps the children of an inheritance parent out.

    A partition is not listed where its root is, which publishes it and those to come.
    """
    parts = [f"CREATE PUBLICATION {quoted(name)}"]
    if listed := topmost(tables):
        parts.append(f"FOR TABLE {_listed(listed)}")
    options = [f"publish = '{published(operations)}'"] if operations < OPERATIONS.keys() else []
    options += ["publish_via_partition_root = true"] if via_partition_root else []
    if options:
        parts.append(f"WITH ({', '.join(options)})")
    return " ".join(parts)


def add_tables_sql(name: str, tables: Sequence[TableRef]) -> str:
    return f"ALTER PUBLICATION {quoted(name)} ADD TABLE {_listed(tables)}"


def create_slot_sql(name: str, *, failover: bool = False) -> str:
    more = ", failover => true" if failover else ""
    return f"SELECT pg_create_logical_replication_slot({_string(name)}, 'pgoutput'{more})"


def drop_slot_sql(name: str) -> str:
    return f"SELECT pg_drop_replication_slot({_string(name)})"


def drop_publication_sql(name: str) -> str:
    return f"DROP PUBLICATION IF EXISTS {quoted(name)}"


def _string(text: str) -> str:
    return sql.Literal(text).as_string(None).strip()


def _listed(tables: Sequence[TableRef]) -> str:
    return ", ".join(("" if table.kind == "p" else "ONLY ") + quoted(table.schema, table.name) for table in tables)


# -- running them


class Admin:
    """Runs each statement on a connection of its own. None takes long once `stopping` is set."""

    def __init__(self, dsn: str, stopping: threading.Event | None = None) -> None:
        self._dsn = dsn
        self._stopping = stopping

    def create_publication(
        self,
        name: str,
        tables: Sequence[TableRef],
        *,
        via_partition_root: bool = False,
        operations: Set[str] = OPERATIONS.keys(),
    ) -> None:
        self._run(create_publication_sql(name, tables, via_partition_root=via_partition_root, operations=operations))

    def add_tables(self, name: str, tables: Sequence[TableRef]) -> None:
        if tables:
            self._run(add_tables_sql(name, tables))

    def ensure_publication(
        self,
        name: str,
        tables: Sequence[TableRef],
        present: PublicationMetadata | None,
        *,
        via_partition_root: bool = False,
        operations: Set[str] = OPERATIONS.keys(),
    ) -> list[TableRef]:
        """Create the publication, or add the tables that `present` lacks. Returns what was added.

        Tables are never taken out: the rows written in between would be lost without a trace.
        """
        if present is None:
            self.create_publication(name, tables, via_partition_root=via_partition_root, operations=operations)
            return list(tables)
        missing = missing_tables(tables, present)
        self.add_tables(name, missing)
        return missing

    def drop_publication(self, name: str) -> None:
        """Idempotent. Drop the slot first: without its publication it can never be read again."""
        self._run(drop_publication_sql(name))

    def drop_slot(self, name: str) -> None:
        """Idempotent. Raises SlotActive while somebody reads it."""
        statement = drop_slot_sql(name)
        with self._session(statement) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.errors.UndefinedObject:
                log.debug("slot was gone already", slot=name)

    def create_slot(
        self,
        name: str,
        *,
        failover: bool = False,
        timeout: float = 300.0,
        on_wait: Callable[[list[Blocker]], None] | None = None,
        given_up: threading.Event | None = None,
    ) -> CreatedSlot:
        """Create the slot; wait up to `timeout` seconds for older transactions, or until `given_up` is set.

        See `create_slot_with_snapshot`.
        """
        request = _SlotRequest(name, failover, timeout, on_wait or _announce_once(name), given_up or threading.Event())
        with self._replication(request) as connection:
            return self._create(connection, request, export=False)[0]

    def create_slot_with_snapshot(
        self,
        name: str,
        *,
        failover: bool = False,
        timeout: float = 300.0,
        on_wait: Callable[[list[Blocker]], None] | None = None,
        given_up: threading.Event | None = None,
    ) -> ExportedSnapshot:
        """Create the slot and keep the rows as they are at its consistent point.

        Creating waits for every transaction that is open; after 5 seconds and then each 5 seconds `on_wait` gets those
        (without it they are logged once), and after `timeout`, or when `given_up` is set, it gives up and leaves no
        slot behind.
        """
        request = _SlotRequest(name, failover, timeout, on_wait or _announce_once(name), given_up or threading.Event())
        with self._replication(request) as connection:
            slot, exported = self._create(connection, request, export=True)
            try:
                holder = connect_to_source(self._dsn, stopping=self._stopping)
                try:
                    return ExportedSnapshot(slot, take_over(holder, exported), holder)
                except BaseException:
                    holder.close()
                    raise
            except BaseException:
                # Nobody knows of the slot yet, and it would hold back WAL for good.
                connection.close()
                self.drop_slot(name)
                raise

    def temporary_snapshot(
        self, name: str, *, timeout: float, on_wait: Callable[[list[Blocker]], None]
    ) -> ExportedSnapshot:
        """Return the rows as they are at the consistent point of a slot that is gone when this returns.

        Raises EnvironmentNotReady that names the transactions it waits for, PycdcError.
        """
        request = _SlotRequest(name, False, timeout, on_wait, threading.Event(), temporary=True)
        with self._replication(request) as connection:
            slot, exported = self._create(connection, request, export=True)
            holder = connect_to_source(self._dsn, stopping=self._stopping)
            try:
                return ExportedSnapshot(slot, take_over(holder, exported), holder)
            except BaseException:
                holder.close()
                raise

    def export_snapshot(self, slot: str) -> ExportedSnapshot:
        """Export the rows as they are now, for a slot that was made before. The point is the WAL's end at that time."""
        holder = connect_to_source(self._dsn, stopping=self._stopping)
        try:
            holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            row = holder.execute("SELECT pg_export_snapshot(), pg_current_wal_lsn()::text").fetchone()
            assert row is not None
            return ExportedSnapshot(CreatedSlot(slot, Lsn.parse(row[1])), str(row[0]), holder)
        except psycopg.Error as error:
            holder.close()
            raise source_error(error) from None

    def _create(self, connection: Connection, request: _SlotRequest, *, export: bool) -> tuple[CreatedSlot, str]:
        version, name = connection.info.server_version, request.name
        if request.failover and version < _FAILOVER_SINCE:
            raise EnvironmentNotReady(
                f"failover slots need Postgres 17, and the server is {version // 10_000}", hint="remove `failover`"
            )
        command = walsender.create_slot(
            name, version=version, export=export, failover=request.failover, temporary=request.temporary
        )
        with ThreadPoolExecutor(1, thread_name_prefix="pycdc-create-slot") as executor:
            running = executor.submit(lambda: connection.execute(command.encode()).fetchone())
            try:
                row = self._await(running, connection, request)
            finally:
                if not running.done():
                    connection.cancel_safe(timeout=_CANCEL_SECONDS)
        return CreatedSlot(name, Lsn.parse(row[1])), row[2] or ""

    def _await(self, running: Future[Any], connection: Connection, request: _SlotRequest) -> Any:
        deadline, look = time.monotonic() + request.timeout, time.monotonic() + _PATIENCE
        blockers: list[Blocker] = []
        while True:
            try:
                return running.result(min(_TURN, max(deadline - time.monotonic(), 0.0)))
            except NotDone:
                now = time.monotonic()
            except psycopg.errors.DuplicateObject:
                raise SlotActive(
                    f"another session made slot {request.name} just now",
                    hint=f"run one instance of a pipeline; to begin anew: {drop_slot_sql(request.name)}",
                ) from None
            if now >= min(look, deadline):
                blockers, look = self._blockers(connection.info.backend_pid), now + _PATIENCE
                request.on_wait(blockers)
            if now >= deadline or request.given_up.is_set():
                return self._cancelled(running, connection, request, blockers)

    def _cancelled(
        self, running: Future[Any], connection: Connection, request: _SlotRequest, blockers: list[Blocker]
    ) -> Any:
        """Return what was made in the last moment, if it was. Raises EnvironmentNotReady, ConnectionLost."""
        connection.cancel_safe(timeout=_CANCEL_SECONDS)
        if running.exception() is None:
            return running.result()
        if request.given_up.is_set():
            raise ConnectionLost(f"closed while slot {request.name} was made")
        if not blockers and in_recovery(self._dsn):
            raise EnvironmentNotReady(
                f"slot {request.name} could not be created within {request.timeout:g} s: "
                "the primary of this standby is idle",
                hint="run on the primary: SELECT pg_log_standby_snapshot()",
            )
        raise EnvironmentNotReady(
            f"slot {request.name} could not be created within {request.timeout:g} s: it waits for {_named(blockers)}",
            hint="end these transactions, or start again when they are done: "
            + "; ".join(f"SELECT pg_terminate_backend({blocker.pid})" for blocker in blockers if blocker.pid),
        )

    def _blockers(self, pid: int) -> list[Blocker]:
        with connect_to_source(self._dsn, stopping=self._stopping) as connection:
            return [Blocker(*row) for row in connection.execute(_BLOCKERS, [pid]).fetchall()]

    def _run(self, statement: str) -> None:
        with self._session(statement) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def _session(self, statement: str) -> Iterator[Connection]:
        connection = connect_to_source(self._dsn, stopping=self._stopping)
        try:
            yield connection
        except psycopg.Error as error:
            raise _with_remedy(error, statement) from None
        finally:
            connection.close()

    @contextmanager
    def _replication(self, request: _SlotRequest) -> Iterator[Connection]:
        connection = connect_to_source(self._dsn, replication=True, seconds=0.0, stopping=request.given_up)
        try:
            yield connection
        except psycopg.Error as error:
            raise _with_remedy(error, create_slot_sql(request.name, failover=request.failover)) from None
        finally:
            connection.close()


def _with_remedy(error: psycopg.Error, statement: str) -> Exception:
    ours = source_error(error, _MEANWHILE)
    if isinstance(ours, EnvironmentNotReady):
        ours.hint = "; ".join(filter(None, [ours.hint, f"or let an owner run: {statement};"]))
    return ours


def _named(blockers: Sequence[Blocker]) -> str:
    return ", ".join(map(str, blockers)) or "transactions that ended meanwhile"


def _announce_once(name: str) -> Callable[[list[Blocker]], None]:
    said = False

    def announce(blockers: list[Blocker]) -> None:
        nonlocal said
        if not said:
            log.warning("creating the slot waits for open transactions", slot=name, blockers=_named(blockers))
            said = True

    return announce

"""Connections that notice a silent peer, have a limit for each call, and hear when the pipeline is stopped."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo

from pycdc.clients import postgres_errors as faults
from pycdc.clients.postgres_sqlstate import sqlstates
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.observability.outages import Outages

Connection = psycopg.Connection[Any]
T = TypeVar("T")
_Silent = Callable[[float], None]

OLDEST_VERSION: Final = 140_000
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A silent peer is noticed within a minute. What the DSN sets stays."""
_SLOW: Final = "check that the server is up and reachable, and look in pg_stat_activity for what it waits for"
STOP_GRACE: Final = 3.0
"""Seconds that a call may still take once the pipeline is stopped."""
_CANCEL_SECONDS: Final = 1.0


_HEARD: ContextVar[threading.Event | None] = ContextVar("pycdc_stopping", default=None)
_LIMIT: ContextVar[tuple[float, _Silent] | None] = ContextVar("pycdc_limit", default=None)
_REPORTED_AFTER: Final = 3.0
"""Seconds without an answer after which it is said."""


@contextmanager
def stopped_by(stopping: threading.Event | None) -> Iterator[None]:
    """Let connections that this thread opens meanwhile end with `stopping`, where they are not given another."""
    token = _HEARD.set(stopping)
    try:
        yield
    finally:
        _HEARD.reset(token)


@contextmanager
def within(seconds: float, silent: _Silent) -> Iterator[None]:
    """Let calls that this thread makes meanwhile take at most `seconds`; `silent` is called with how long one takes."""
    token = _LIMIT.set((seconds, silent))
    try:
        yield
    finally:
        _LIMIT.reset(token)


class Unanswered(psycopg.OperationalError):
    """A call took longer than it may, or the pipeline was stopped meanwhile. The connection is closed."""


class Client(psycopg.Connection[Any]):
    """A connection whose calls take at most `seconds`, 0: as long as they like; and not long once `stopping` is set.

    `commit_seconds` is the same for COMMIT, which no timeout of the server's ends: it waits for a synchronous standby.
    """

    seconds: float = 0.0
    commit_seconds: float = 0.0
    stopping: threading.Event | None = None
    outages: Outages | None = None
    """Where it is said that a call is without an answer, under the server's `name`."""
    name: str = ""

    def commit(self) -> None:
        """Commit. Raises Unanswered where it is unknown whether the transaction is there; it can be read back."""
        seconds = self.seconds
        self.seconds = self.commit_seconds or seconds
        try:
            super().commit()
        except Unanswered as error:
            raise Unanswered(f"COMMIT got {error}") from None
        finally:
            self.seconds = seconds

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """See `psycopg.Connection.wait`, which asks the generator again at least every tenth of a second."""
        seconds, silent = _LIMIT.get() or (self.seconds, self._silent)
        if not seconds and self.stopping is None:
            return super().wait(gen, *args, **options)
        try:
            answer = super().wait(_watched(gen, seconds, self.stopping, silent), *args, **options)
            if self.outages is not None:
                self.outages.end(self.name)
            return answer
        except Unanswered:
            self._abandon()
            raise

    def _silent(self, seconds: float) -> None:
        if self.outages is not None:
            self.outages.begin(self.name, "a statement has no answer yet", _SLOW, seconds=seconds)

    @classmethod
    def _connect_gen(cls, *args: Any, **options: Any) -> Any:
        """Connect as psycopg does, whose own way has a time limit and would not end with the pipeline."""
        return _watched(super()._connect_gen(*args, **options), 0.0, _HEARD.get())

    def _abandon(self) -> None:
        """Cancel the statement, so that the server lets go of what it holds, where it can be reached.

        What becomes of it is awaited for a moment: those who read it back then find what stays.
        """
        try:
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.cancel_safe(timeout=_CANCEL_SECONDS)
                self._await_answer(time.monotonic() + _CANCEL_SECONDS)
        except psycopg.Error:
            pass  # it is as silent as before, and its own timeouts end the session
        self.close()

    def _await_answer(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        while self.pgconn.is_busy() and (left := deadline - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                self.pgconn.consume_input()


def _watched(
    gen: Generator[Any, Any, T],
    seconds: float,
    stopping: threading.Event | None,
    silent: _Silent = lambda seconds: None,
) -> Generator[Any, Any, T]:
    """`gen`, which is asked again at least every tenth of a second, with a limit; `silent` hears how long it takes."""
    began = time.monotonic()
    stopped_at: float | None = None
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            now = time.monotonic()
            if seconds and now - began > seconds:
                raise Unanswered(f"no answer within {seconds:g} s")
            if now - began > _REPORTED_AFTER:
                silent(now - began)
            if stopped_at is None and stopping is not None and stopping.is_set():
                stopped_at = now
            if stopped_at is not None and now - stopped_at > STOP_GRACE:
                raise Unanswered(f"no answer within {STOP_GRACE:g} s after the pipeline was stopped")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def place(dsn: str) -> str:
    """Host and port, as far as the DSN tells; nothing else of it."""
    try:
        given = conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return ""
    host = given.get("host") or given.get("hostaddr")
    return f" at {host}, port {given.get('port') or 5432}" if host else ""


def parameters(dsn: str, option: str) -> dict[str, Any]:
    """libpq's, with the timeouts. Raises ConfigError that names `option`, and does not quote the DSN."""
    try:
        return {**_DEFAULTS, **conninfo.conninfo_to_dict(dsn), "client_encoding": "UTF8"}
    except psycopg.ProgrammingError:
        # libpq's message quotes the DSN, and with it the password.
        raise ConfigError(
            f"{option} is not a connection string that libpq understands",
            hint="write `host=… dbname=… user=…` or `postgresql://user@host/database`, special characters %-encoded",
        ) from None


def connect(
    dsn: str,
    option: str,
    *,
    seconds: float = 0.0,
    stopping: threading.Event | None = None,
    defaults: dict[str, str] | None = None,
    **options: Any,
) -> Client:
    """Open a connection. Raises ConfigError, EnvironmentNotReady for a server too old, psycopg.OperationalError.

    `option` is the DSN's name, `defaults` are libpq's parameters that the DSN may override. `stopping`: without one,
    the event of this thread's `stopped_by`.
    """
    stopping = stopping or _HEARD.get()
    given = {**(defaults or {}), **parameters(dsn, option)}
    try:
        with stopped_by(stopping):
            connection = Client.connect(**given, **options)
    except psycopg.OperationalError as error:
        if faults.is_unclear_refusal(error) and (states := sqlstates(str(error), given)):
            error.sqlstate = faults.hopeful(states)
        raise
    except psycopg.ProgrammingError as error:
        if error.sqlstate is not None:
            raise
        raise ConfigError(
            f"{option} has a value that the driver does not take",
            hint="correct connect_timeout, host and port in it",
        ) from None
    version = connection.info.server_version
    if version < OLDEST_VERSION:
        connection.close()
        raise EnvironmentNotReady(
            f"the server is Postgres {version // 10_000}, and 14 is the oldest that will do", hint="upgrade the server"
        )
    connection.seconds, connection.stopping = seconds, stopping
    return connection

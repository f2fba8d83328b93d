"""Connections that notice a silent peer, have a limit for each call, and hear when the pipeline is stopped."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo

from pycdc.errors import ConfigError, EnvironmentNotReady

T = TypeVar("T")

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
STOP_GRACE: Final = 3.0
"""Seconds that a call may still take once the pipeline is stopped."""
_CANCEL_SECONDS: Final = 1.0


class Unanswered(psycopg.OperationalError):
    """A call took longer than it may, or the pipeline was stopped meanwhile. The connection is closed."""


class Client(psycopg.Connection[Any]):
    """A connection whose calls take at most `seconds`, 0: as long as they like; and not long once `stopping` is set.

    `commit_seconds` is the same for COMMIT, which no timeout of the server's ends: it waits for a synchronous standby.
    """

    seconds: float = 0.0
    commit_seconds: float = 0.0
    stopping: threading.Event | None = None

    def commit(self) -> None:
        """Raises Unanswered, where nobody knows whether the transaction is there: whoever needs to, reads it back."""
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
        if not self.seconds and self.stopping is None:
            return super().wait(gen, *args, **options)
        try:
            return super().wait(self._watched(gen), *args, **options)
        except Unanswered:
            self._abandon()
            raise

    def _watched(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        began = time.monotonic()
        stopped_at: float | None = None
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if self.seconds and now - began > self.seconds:
                    raise Unanswered(f"no answer within {self.seconds:g} s")
                if stopped_at is None and self.stopping is not None and self.stopping.is_set():
                    stopped_at = now
                if stopped_at is not None and now - stopped_at > STOP_GRACE:
                    raise Unanswered(f"no answer within {STOP_GRACE:g} s after the pipeline was stopped")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result

    def _abandon(self) -> None:
        """So that the server lets go of what the statement holds, where it can hear. What becomes of it is awaited for
        a moment: whoever reads it back then finds what stays."""
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
    """Open a connection. `option` is the DSN's name, `defaults` are libpq's parameters that the DSN may override.

    Raises ConfigError, EnvironmentNotReady for a server that is too old, psycopg.OperationalError.
    """
    try:
        connection = Client.connect(**{**(defaults or {}), **parameters(dsn, option)}, **options)
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

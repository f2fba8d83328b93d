"""Who reads tables gives way: nobody waits long for a table's lock because rows are read from it.

Every session that reads rows holds an advisory lock of its pipeline, whatever process it belongs to. One more session
looks twice a second whether somebody waits for one of those, and cancels what it is at; a session that does not hear
that, because nobody takes its rows, is ended. Whoever read gets TableLocked, and reads that part again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from hashlib import sha256
from typing import Final

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.errors import PycdcError
from pycdc.observability.logger import get_logger

log = get_logger()

_LOOK: Final = 0.5
"""Seconds between looks."""
_CANCEL: Final = 1.0
"""Seconds that somebody may wait before reading a table is cancelled."""
_END: Final = 2.5
"""Seconds before its session is ended."""
_SPACE: Final = 1886347364
"""Of advisory locks: "pycd"."""

_HOLDING: Final = f"""
SELECT reader.pid, max(extract(epoch FROM clock_timestamp() - w.waitstart))::float8 AS seconds
  FROM pg_locks w, unnest(pg_blocking_pids(w.pid)) blocker (pid)
  JOIN pg_locks reader ON reader.pid = blocker.pid AND reader.locktype = 'advisory' AND reader.classid = {_SPACE}
                      AND reader.objid = %s AND reader.objsubid = 2 AND reader.granted
 WHERE NOT w.granted AND w.locktype = 'relation'
 GROUP BY reader.pid
"""  # noqa: S608 - a number of our own


def mark_of(slot: str) -> int:
    """Return the number of the advisory lock of a pipeline's readers."""
    return int.from_bytes(sha256(slot.encode()).digest()[:4], "big") >> 1


def marking(mark: int) -> str:
    """Return an expression that marks the session that evaluates it until its transaction ends."""
    return f"pg_try_advisory_xact_lock_shared({_SPACE}, {mark})"


class Yielding:
    """A thread, from `begin` to `close`; both may be called again."""

    def __init__(self, dsn: str, slot: str) -> None:
        self._dsn = dsn
        self._mark = mark_of(slot)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name="pycdc-yielding", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._ended.wait(_LOOK):
            try:
                connection = connection or connect_to_source(self._dsn, stopping=self._ended)
                self._look(connection)
            except (psycopg.Error, PycdcError) as error:
                # The reader will find out what is the matter, if it is.
                log.debug("cannot see who waits for tables", error=type(error).__name__)
                if connection is not None:
                    connection.close()
                    connection = None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _look(self, connection: Connection) -> None:
        for pid, seconds in connection.execute(_HOLDING, (self._mark,)).fetchall():
            if seconds is None or seconds < _CANCEL:
                continue
            end = seconds >= _END
            log.info("giving way to a session that waits for a table", pid=pid, seconds=round(seconds, 1))
            connection.execute(f"SELECT pg_{'terminate_backend' if end else 'cancel_backend'}(%s)".encode(), (pid,))

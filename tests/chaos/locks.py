"""Watches from the side who waits for whom in a database: nobody may wait long for a session of the pipeline."""

from __future__ import annotations

import threading
import time

import psycopg

APPLICATION = "pycdc-chaos"
"""The name of the pipeline's sessions, in its dsn."""
LIMIT = 5.0

_WAITING = """
SELECT w.pid, blocker, a.query, b.query
  FROM pg_stat_activity a JOIN LATERAL (SELECT a.pid) w ON true, unnest(pg_blocking_pids(a.pid)) blocker
  JOIN pg_stat_activity b ON b.pid = blocker
 WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
   AND a.application_name <> %(name)s AND b.application_name = %(name)s
"""


class LockWatch:
    """Notes each statement of others that waited longer than the limit for one of the pipeline's sessions."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._end = threading.Event()
        self._since: dict[tuple[int, int], float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.violations: dict[tuple[int, int], str] = {}
        self.longest = 0.0
        self.blocked = False
        """Somebody waits too long at this moment: a deadlock that no server sees, most likely."""

    def __enter__(self) -> LockWatch:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._end.wait(0.1):
                try:
                    self._look(connection)
                except psycopg.OperationalError:
                    return

    def _look(self, connection: psycopg.Connection[tuple[int, int, str, str]]) -> None:
        rows = connection.execute(_WAITING, {"name": APPLICATION}).fetchall()
        now = time.monotonic()
        pairs = {(waiter, blocker): (theirs, ours) for waiter, blocker, theirs, ours in rows}
        self._since = {pair: self._since.get(pair, now) for pair in pairs}
        waited = {pair: now - since for pair, since in self._since.items()}
        self.longest = max([self.longest, *waited.values()])
        self.blocked = any(seconds > LIMIT for seconds in waited.values())
        for pair, seconds in waited.items():
            if seconds > LIMIT:
                theirs, ours = (" ".join(query.split())[:90] for query in pairs[pair])
                self.violations[pair] = f"waited {seconds:.1f} s: {theirs!r} for {ours!r}"

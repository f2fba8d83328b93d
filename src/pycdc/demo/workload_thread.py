"""The clerk: a thread that does a business' deals at a rate."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import psycopg

from pycdc.demo.workload import Business, ChangeCounts
from pycdc.errors import ConnectionLost

B = TypeVar("B", bound=Business)

_MAX_DEBT: Final = 1.0
"""Seconds that a clerk who fell behind makes up for; the rest is forgiven, so that a pause brings no flood."""


class WorkloadThread(Generic[B]):
    """`rate` is in row changes a second, 0 for as many as go. `open` first; then `start`, `stop`."""

    def __init__(
        self,
        dsn: str,
        rate: float,
        business: Callable[[psycopg.Connection, random.Random], B],
        *,
        seed: int | None = None,
    ) -> None:
        self.rate = rate
        self.started_at: float | None = None
        """Monotonic time; None before."""
        self.stopped_at: float | None = None
        self.error: ConnectionLost | None = None
        """Why the thread ended by itself."""
        self._connection = psycopg.connect(dsn, autocommit=True, application_name="pycdc demo")
        self.business = business(self._connection, random.Random(seed))  # noqa: S311  (a game, no secret)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def written(self) -> ChangeCounts:
        return self.business.written

    @property
    def transactions(self) -> set[int]:
        return self.business.transactions

    def open(self) -> None:
        """Create the tables and their first rows."""
        self.business.open()

    def start(self) -> None:
        self.started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the deal at hand. `written` is final afterwards. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._connection.close()

    def _run(self) -> None:
        try:
            self._work()
        except psycopg.Error as exc:
            self.error = ConnectionLost(f"the sample cannot write any more: {type(exc).__name__} {exc.sqlstate or ''}")
        finally:
            self.stopped_at = time.monotonic()

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            changes = self.business.trade()
            if self.rate:
                now = time.monotonic()
                due = max(due, now - _MAX_DEBT) + changes / self.rate
                self._stop.wait(max(0.0, due - now))

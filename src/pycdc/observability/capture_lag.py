"""How far a capture is behind its server, computed when somebody asks: it grows while nothing is delivered.

The server's end of WAL is measured now and then. All of it counts as delivered once the position that is durable in the
sink has reached it, so the lag is the time since the newest such measurement, and never more than the age of the newest
commit that is durable. What was read and is not durable is behind from when it came. Without fresh measurements,
because the server is away, nobody can say that nothing is missing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

FRESH: Final = 3.0
"""Seconds for which a measurement says something of the present."""
_KEPT: Final = 1024


class CaptureLag:
    """`measured` and `reached` may be called by different threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic, clock: Callable[[], float] = time.time) -> None:
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, float]] = deque()
        self._spacing = 0.0
        self._end: tuple[int, float] | None = None
        self._current = False
        self._passed: float | None = None
        self._durable: int | None = None
        self._commit: float | None = None

    def measured(self, end: int) -> None:
        """Take note of where the server's WAL ends now."""
        with self._lock:
            self._end = (end, self._now())
            self._current = True
            if self._durable is not None and end <= self._durable:
                self._passed = self._end[1]
                self._waiting.clear()
                self._spacing = 0.0
                return
            if self._waiting and self._end[1] - self._waiting[-1][1] < self._spacing:
                return
            self._waiting.append(self._end)
            if len(self._waiting) > _KEPT:
                # Where they are thinned out, the lag is told by as much too great.
                self._waiting = deque(list(self._waiting)[::2])
                self._spacing = (self._end[1] - self._waiting[0][1]) / len(self._waiting)

    def arrived(self, end: int) -> None:
        """Take note that changes up to `end` were read, and wait to be delivered."""
        with self._lock:
            if self._durable is None or end <= self._durable or self._waiting:
                return
            now = self._now()
            self._waiting.append((end, now))
            self._end = (end if self._end is None else max(end, self._end[0]), now)

    def interrupted(self) -> None:
        """Forget where the WAL ends: the stream broke, so that is unknown until it is measured again."""
        with self._lock:
            self._current = False

    def reached(self, position: int, commit: float | None = None) -> None:
        """Take note that all up to `position` is durable.

        `commit` is when the newest of it was committed, by the server's clock.
        """
        with self._lock:
            self._durable = position
            self._commit = commit if commit is not None else self._commit
            while self._waiting and self._waiting[0][0] <= position:
                self._passed = self._waiting.popleft()[1]
            if not self._waiting:
                self._spacing = 0.0

    @property
    def known(self) -> bool:
        return self._durable is not None and self._end is not None

    def bytes(self) -> int | None:
        """Return the lag as of the last measurement. None instead of nothing, where that is old."""
        with self._lock:
            if self._end is None or self._durable is None:
                return None
            behind = max(0, self._end[0] - self._durable)
            return behind if behind or self._fresh(self._end[1]) else None

    def seconds(self) -> float | None:
        with self._lock:
            if self._end is None or self._durable is None:
                return None
            now = self._now()
            if not self._waiting and self._fresh(self._end[1]):
                return 0.0
            since = self._passed if self._passed is not None else self._waiting[0][1] if self._waiting else self._end[1]
            lag = now - since
            return lag if self._commit is None else max(0.0, min(lag, self._clock() - self._commit))

    def _fresh(self, measured_at: float) -> bool:
        return self._current and self._now() - measured_at <= FRESH

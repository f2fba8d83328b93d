"""A line that repeats itself is told a few times, then counted: an outage must not fill the disk with its log.

Two records say the same if logger, level and text are alike but for numbers (ports, times, sizes). What differs within
one says of what (a table, a topic) and stays apart, up to a bound.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

REPEATED: Final = "repeated"
"""The field that says how many more lines like this one there were since the last one."""
_SHOWN: Final = 5
"""Lines alike that are written in a period."""
_PERIOD: Final = 60.0
_MOST: Final = 1_000
"""Texts that are remembered."""
_NUMBERS: Final = re.compile(r"\d+")


@dataclass(slots=True)
class _Repeated:
    since: float
    shown: int = 0
    held: int = 0
    last: logging.LogRecord | None = None


class RepeatedLines(logging.Filter):
    """Lets the first lines of a kind pass, and one a period after that, with the number of those held back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._kinds: dict[tuple[str, int, str], _Repeated] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.levelno, _NUMBERS.sub("#", record.getMessage())[:500])
        now = self._now()
        with self._lock:
            kind = self._kinds.get(key)
            if kind is None or (now - kind.since >= _PERIOD and not kind.held):
                self._forget(now)
                kind = self._kinds[key] = _Repeated(now)
            elif now - kind.since >= _PERIOD:
                setattr(record, REPEATED, kind.held)
                self._kinds[key] = kind = _Repeated(now, shown=_SHOWN - 1)
            kind.shown += 1
            if kind.shown <= _SHOWN:
                return True
            kind.held += 1
            kind.last = record
            return False

    def overdue(self) -> list[logging.LogRecord]:
        """Return the last line of each kind that was held back and did not come again, with how many there were."""
        now = self._now()
        with self._lock:
            ended = [key for key, kind in self._kinds.items() if kind.held and now - kind.since >= _PERIOD]
            return [self._record(self._kinds.pop(key)) for key in ended]

    def rest(self) -> list[logging.LogRecord]:
        """Return all lines that are held back, at the end."""
        with self._lock:
            held = [kind for kind in self._kinds.values() if kind.held]
            self._kinds.clear()
        return [self._record(kind) for kind in held]

    @staticmethod
    def _record(kind: _Repeated) -> logging.LogRecord:
        assert kind.last is not None
        setattr(kind.last, REPEATED, kind.held)
        return kind.last

    def _forget(self, now: float) -> None:
        if len(self._kinds) >= _MOST:
            old = [key for key, kind in self._kinds.items() if not kind.held and now - kind.since >= _PERIOD]
            for key in old or list(self._kinds)[: _MOST // 2]:
                del self._kinds[key]

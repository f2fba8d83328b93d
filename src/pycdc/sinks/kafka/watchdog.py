"""Ends the process where a call into librdkafka does not come back: a crash loses nothing, a hang helps nobody."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


class Watchdog:
    """Counts `tick` after `tick` of seconds, so that the time that the process was frozen for does not count."""

    def __init__(self, end: Callable[[int], object] = os._exit, tick: float = 1.0) -> None:
        self._end = end
        self._tick = tick
        self._left: float | None = None
        self._what = ""
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float, what: str) -> Iterator[None]:
        """End the process with code 1 where what is inside takes longer."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="pycdc-watchdog", daemon=True)
            self._thread.start()
        self._what, self._left = what, seconds
        try:
            yield
        finally:
            self._left = None

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._closed.wait(self._tick):
            left = self._left
            if left is None:
                continue
            self._left = left - self._tick
            if left <= self._tick:
                log.critical("%s does not come back: the process ends, and the next start goes on", self._what)
                self._end(1)

"""Probes: messages committed at a steady rate, whatever becomes of those before, and when each arrived."""

from __future__ import annotations

import threading
import time
import uuid
from types import TracebackType
from typing import Final

from pycdc.connectors.postgres.signals.lag_probe import PREFIX, Prober
from pycdc.errors import PycdcError

INTERVAL: Final = 0.05
"""Seconds between probes: a burden that no server notices, and enough of them for a p99 in ten seconds."""


class Probes:
    """A thread with a connection of its own, from entering to leaving the context."""

    def __init__(self, dsn: str) -> None:
        self._prober = Prober(dsn)
        self._token = uuid.uuid4().hex[:12]
        self._committed: dict[int, float] = {}
        self._arrived: dict[int, float] = {}
        self._counted_from = 0
        self._stop = threading.Event()
        self._failure: PycdcError | None = None
        self._thread = threading.Thread(target=self._run, name="pycdc-probes", daemon=True)

    def __enter__(self) -> Probes:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._prober.close()

    def stop(self) -> None:
        """Emit no more. Raises what kept them from being emitted."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def arrived(self, message: tuple[str, bytes] | None, now: float) -> int | None:
        """Take note of a message; the number of the probe that it is, None for somebody else's."""
        prefix, content = message or ("", b"")
        token, _, number = content.decode("utf-8", "replace").partition(":")
        if prefix != PREFIX or token != self._token:
            return None
        self._arrived.setdefault(int(number), now)
        return int(number)

    @property
    def any_arrived(self) -> bool:
        if self._failure is not None:
            raise self._failure
        return bool(self._arrived)

    @property
    def all_arrived(self) -> bool:
        return len(self._arrived) >= len(self._committed)

    def count_from_here(self) -> None:
        """Count from here: those emitted until now only made the pipeline ready, its topic for instance."""
        self._counted_from = len(self._committed) + 1

    def committed_at(self, number: int, otherwise: float) -> float:
        """Monotonic. A probe can arrive before its thread is told that it is committed."""
        return self._committed.get(number, otherwise)

    def delays(self) -> list[float]:
        return [
            at - self._committed.get(number, at) for number, at in self._arrived.items() if number >= self._counted_from
        ]

    def waiting(self, now: float) -> list[float]:
        return [
            now - at
            for number, at in list(self._committed.items())
            if number >= self._counted_from and number not in self._arrived
        ]

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self._committed[number] = self._prober.emit(f"{self._token}:{number}")
                number, due = number + 1, due + INTERVAL
        except PycdcError as error:
            self._failure = error

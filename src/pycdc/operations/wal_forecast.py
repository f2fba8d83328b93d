"""How soon the WAL that a slot holds back reaches a limit, at the present rate."""

from __future__ import annotations

from collections import deque

_WINDOW = 600.0
"""Seconds that the rate is taken over: longer than a checkpoint's interval, shorter than a day's changes of load."""
_SHORTEST = 10.0
"""Seconds between the first and the last measurement without which there is no rate."""


class WalForecast:
    """Measurements of the last ten minutes, and the rate that they grow by."""

    def __init__(self) -> None:
        self._measured: deque[tuple[float, int]] = deque()

    def add(self, now: float, retained: int) -> None:
        """Add a measurement: `now` in monotonic seconds, `retained` in bytes. One that shrank begins anew."""
        if self._measured and retained < self._measured[-1][1]:
            self._measured.clear()
        self._measured.append((now, retained))
        while self._measured[0][0] < now - _WINDOW:
            self._measured.popleft()

    @property
    def rate(self) -> float | None:
        """Bytes a second, None while there are too few measurements."""
        if not self._measured:
            return None
        (began, first), (ended, last) = self._measured[0], self._measured[-1]
        return (last - first) / (ended - began) if ended - began >= _SHORTEST else None

    def seconds_until(self, remaining: int | None) -> float | None:
        """Return the seconds until `remaining` more bytes are held back; None where that is not to be foreseen."""
        rate = self.rate
        if remaining is None or not rate or rate < 0:
            return None
        return max(0, remaining) / rate

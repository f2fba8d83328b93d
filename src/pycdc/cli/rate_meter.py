"""Events per second, over the last few seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW = 5.0


class RateMeter:
    """Feed it the total now and then; it tells the rate over the window."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._samples: deque[tuple[float, int]] = deque()

    def rate(self, total: int) -> float:
        """Events a second; 0 until there is something to compare with."""
        now = self._now()
        self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW:
            self._samples.popleft()
        since, before = self._samples[0]
        return (total - before) / (now - since) if now > since else 0.0

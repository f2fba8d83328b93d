"""How long something takes, as a histogram with fixed bounds: constant memory, and what Prometheus adds up."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds; what takes longer is counted behind the last."""


class Durations:
    """Written by one thread, read by any."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound, the last being infinity, with how many took no longer."""
        reached, out = 0, []
        for bound, count in zip((*BOUNDS, float("inf")), self._counts.copy(), strict=True):
            reached += count
            out.append((bound, reached))
        return out

    def quantile(self, share: float) -> float | None:
        """Seconds within which `share` (0 to 1) stayed, between two bounds by proportion; None without any.

        What lies behind the last bound is told as that bound: it takes at least so long.
        """
        buckets = self.cumulative()
        wanted, below, lower = share * buckets[-1][1], 0, 0.0
        for bound, reached in buckets:
            if reached > below and reached >= wanted:
                within = (wanted - below) / (reached - below)
                return lower if bound == float("inf") else lower + (bound - lower) * within
            below, lower = reached, bound
        return None

"""Latencies, exactly: every sample is kept, so no bucket rounds a percentile."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

LEVELS = (50.0, 90.0, 99.0, 99.9)
CURVE = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)


class Samples:
    """Seconds."""

    def __init__(self) -> None:
        self._values = array("d")
        self._sorted = False

    def __len__(self) -> int:
        return len(self._values)

    def add(self, seconds: float) -> None:
        self._values.append(seconds)
        self._sorted = False

    def at(self, percent: float) -> float:
        """The least value that `percent` of the samples do not exceed."""
        if not self._sorted:
            self._values = array("d", sorted(self._values))
            self._sorted = True
        rank = max(0, min(len(self._values) - 1, -(-len(self._values) * percent // 100) - 1))
        return self._values[int(rank)]

    def milliseconds(self, levels: Sequence[float] = LEVELS) -> dict[str, float]:
        found = {f"p{level:g}": round(self.at(level) * 1000, 2) for level in levels}
        return {**found, "max": round(self.at(100.0) * 1000, 2)}

    def curve(self) -> list[tuple[float, float]]:
        """Percent and milliseconds, for a plot."""
        return [(level, round(self.at(level) * 1000, 3)) for level in CURVE]

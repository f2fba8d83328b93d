"""How long things took. What is awaited still counts as soon as it has waited longer than all others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_DECISIVE = ("applied", "probe", "delivered", "stored")
"""Which of the delays answers "how late is my data", where there are several."""


@dataclass(frozen=True, slots=True)
class DelaySummary:
    """Seconds."""

    samples: int
    p50: float
    p90: float
    p99: float
    max: float


class Delays:
    """Keeps every sample, in seconds; clocks that disagree a little make none of them negative."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, seconds: Iterable[float]) -> None:
        self._seconds += [max(0.0, one) for one in seconds]

    def add_overdue(self, waiting: Iterable[float]) -> int:
        """Count what waits still, where it is late by what was seen; how many that are."""
        slowest = max(self._seconds, default=0.0)
        late = [one for one in waiting if one > slowest]
        self._seconds += late
        return len(late)

    def summary(self) -> DelaySummary | None:
        if not self._seconds:
            return None
        ordered = sorted(self._seconds)
        p50, p90, p99 = (ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 90, 99))
        return DelaySummary(len(ordered), p50, p90, p99, ordered[-1])


class Marks:
    """Places of one stream and the time at which each was known; a reader that is at a place has passed all before."""

    def __init__(self) -> None:
        self._open: deque[tuple[int, float]] = deque()

    def put(self, place: int, at: float) -> None:
        """Places come in ascending order; one that is known already is not put again."""
        if not self._open or place > self._open[-1][0]:
            self._open.append((place, at))

    def passed(self, place: int, now: float) -> list[float]:
        """Return how long each mark took that a reader at `place` has passed since this was last asked."""
        out = []
        while self._open and self._open[0][0] <= place:
            out.append(now - self._open.popleft()[1])
        return out

    def waiting(self, now: float) -> list[float]:
        """Return how long each mark waits that nobody has passed."""
        return [now - at for _, at in self._open]


@dataclass(frozen=True, slots=True)
class LagMeasurement:
    """What a measurement found. `behind` and `most_behind` are bytes of WAL, or records of topics.

    delays      probe: from a probe's commit to Kafka; applied: to the other database, or for an apply pipeline from a
                record's timestamp to the row; delivered: from commit to Kafka of records that came anyway; stored:
                until the slot was told
    unanswered  what was awaited when the measurement ended, and was late
    running     whether somebody reads the slot; None where nobody can tell
    """

    name: str
    seconds: float
    unit: Literal["bytes", "records"]
    behind: int
    most_behind: int
    delays: Mapping[str, DelaySummary] = field(default_factory=dict)
    unanswered: int = 0
    running: bool | None = None

    @property
    def decisive(self) -> str | None:
        """The name of the delays that a limit is held against; None where there are none."""
        return next((name for name in _DECISIVE if name in self.delays), None)

    def as_dict(self) -> dict[str, Any]:
        decisive = self.decisive
        return {
            "name": self.name,
            "running": self.running,
            "measured_seconds": round(self.seconds, 3),
            f"{self.unit}_behind": self.behind,
            f"{self.unit}_behind_max": self.most_behind,
            "lag": decisive,
            "delays": {name: _shown(found) for name, found in self.delays.items()},
            "unanswered": self.unanswered,
        }


def _shown(summary: DelaySummary) -> dict[str, float]:
    seconds = {name: round(getattr(summary, name), 6) for name in ("p50", "p90", "p99", "max")}
    return {"samples": summary.samples, **seconds}

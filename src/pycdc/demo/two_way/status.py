"""What the two-way demonstration shows while it runs, and what it says at its end."""

from __future__ import annotations

from dataclasses import dataclass

from pycdc.demo.event_stats import ConsumedEvent, ConsumedLag
from pycdc.demo.two_way.comparison import ComparisonResult
from pycdc.demo.two_way.conflicts import ConflictReader, ConflictRow
from pycdc.demo.two_way.direction import DirectionStatus


@dataclass(frozen=True, slots=True)
class TwoWayAddresses:
    """Where to look with other tools."""

    monolith: str
    service: str
    brokers: str
    registry: str


@dataclass(frozen=True, slots=True)
class TwoWayStatus:
    """One moment. `conflicts` by the side that they happened in."""

    addresses: TwoWayAddresses
    elapsed: float
    seconds: float
    """0: until it is ended."""
    directions: tuple[DirectionStatus, DirectionStatus]
    conflicts: dict[str, ConflictReader]
    newest: tuple[ConsumedEvent, ...]

    @property
    def newest_conflict(self) -> ConflictRow | None:
        return _newest(self.conflicts)


@dataclass(frozen=True, slots=True)
class TwoWaySummary:
    """The end. `lags` are of all rows that were measured, by direction."""

    directions: tuple[DirectionStatus, DirectionStatus]
    exact: bool
    """Every write was captured exactly once, and none came back."""
    lags: tuple[ConsumedLag | None, ConsumedLag | None]
    conflicts: dict[str, ConflictReader]
    outcomes: tuple[ComparisonResult, ...]
    seconds: float

    @property
    def newest_conflict(self) -> ConflictRow | None:
        return _newest(self.conflicts)

    @property
    def equal(self) -> bool:
        """Both sides have the same rows."""
        return all(outcome.equal for outcome in self.outcomes)

    @property
    def matches(self) -> bool:
        return self.exact and self.equal


def _newest(sides: dict[str, ConflictReader]) -> ConflictRow | None:
    found = [each.newest for each in sides.values() if each.newest is not None]
    return max(found, key=lambda conflict: conflict.detected, default=None)

"""What a transaction does, told to `Progress` once it is committed: one that is rolled back did nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pycdc.observability.progress import Progress


@dataclass(slots=True)
class BatchCounters:
    """Counts what one attempt at a transaction does. The names are `Progress`'."""

    applied: Counter[tuple[str, str]] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    conflicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, other: BatchCounters) -> None:
        self.applied.update(other.applied)
        self.parked.update(other.parked)
        self.skipped.update(other.skipped)
        self.duplicates.update(other.duplicates)
        self.conflicts.update(other.conflicts)

    def add_to(self, progress: Progress, seconds: float, committing: float) -> None:
        progress.transactions += 1
        progress.applied.update(self.applied)
        progress.parked.update(self.parked)
        progress.skipped.update(self.skipped)
        progress.duplicates.update(self.duplicates)
        progress.conflicts.update(self.conflicts)
        progress.applying.observe(seconds)
        progress.committing.observe(committing)

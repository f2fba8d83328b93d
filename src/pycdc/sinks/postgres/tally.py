"""What a transaction does, told to `Progress` once it is committed: one that is rolled back did nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pycdc.observability.progress import Progress


@dataclass(slots=True)
class Tally:
    """Of one attempt at a transaction. The names are `Progress`'."""

    applied: Counter[tuple[str, str]] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add_to(self, progress: Progress, seconds: float, committing: float) -> None:
        progress.transactions += 1
        progress.applied.update(self.applied)
        progress.parked.update(self.parked)
        progress.skipped.update(self.skipped)
        progress.applying.observe(seconds)
        progress.committing.observe(committing)

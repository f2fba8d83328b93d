"""What `pycdc verify --watch` has found, for whoever asks meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class VerifyProgress:
    """The last verification.

    `began_at` is monotonic: what was committed before is covered. `differences` are counted by table and kind, 0 for
    those that there are none of. `rows` were compared by it, `seconds` it took. `full` and `partial` count
    verifications of everything and of what events had touched, `failures` those that came to no end.
    """

    began_at: float | None = None
    seconds: float = 0.0
    rows: int = 0
    tables_not_compared: int = 0
    differences: dict[tuple[str, str], int] = field(default_factory=dict)
    full: int = 0
    partial: int = 0
    failures: int = 0

    @property
    def age(self) -> float | None:
        """Seconds since the last verification began; None before the first has ended."""
        return None if self.began_at is None else time.monotonic() - self.began_at


def verify_report(progress: VerifyProgress) -> dict[str, Any]:
    """Return the same for `/status`."""
    differences: dict[str, dict[str, int]] = {}
    for (table, kind), count in progress.differences.copy().items():
        if count:
            differences.setdefault(table, {})[kind] = count
    age = progress.age
    return {
        "age_seconds": None if age is None else round(age, 3),
        "seconds": round(progress.seconds, 3),
        "rows": progress.rows,
        "tables_not_compared": progress.tables_not_compared,
        "differences": differences,
        "full": progress.full,
        "touched": progress.partial,
        "failures": progress.failures,
    }

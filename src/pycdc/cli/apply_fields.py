"""What the log lines say of a pipeline that writes into tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pycdc.observability.progress import Progress


def fields(progress: Progress) -> dict[str, object]:
    """Return the fields of a log line. The caller leaves None out."""
    slow = progress.applying.quantile(0.99)
    counts: dict[str, Counter[Any]] = {
        "rows": progress.applied,
        "retries": progress.retried,
        "parked": progress.parked,
        "skipped": progress.skipped,
        "duplicates": progress.duplicates,
        "conflicts": progress.conflicts,
    }
    return {
        "lag_records": behind(progress),
        "transactions": progress.transactions or None,
        **{name: sum(counter.copy().values()) or None for name, counter in counts.items()},
        "apply_p99_ms": None if slow is None else round(slow * 1000, 1),
        "halted": sorted(progress.halted) or None,
    }


def behind(progress: Progress) -> int | None:
    """Return how many records are still to be applied in this process's partitions; None where that is not known."""
    counts = [progress.place_behind(place) for place in progress.partitions.copy().values()]
    known = [behind for behind in counts if behind is not None]
    return sum(known) if known and (sum(known) or len(known) == len(counts)) else None

"""The view of a running pipeline where there is no terminal: a line now and then."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pycdc.cli.rate_meter import RateMeter
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.operations.stored_position import shown

log = get_logger()

_EVERY = 10.0
_IDLE_EVERY = 60.0


class ProgressLog:
    """A line every 10 seconds while something happens, every minute otherwise, and when the state changes."""

    interval = 0.25

    def __init__(self, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._now = now
        self._meter = RateMeter(now)
        self._said_at = now()
        self._said = (progress.state, progress.events)

    def __enter__(self) -> ProgressLog:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to put away."""

    def update(self) -> None:
        progress, waited = self._progress, self._now() - self._said_at
        rate = self._meter.rate(progress.events)
        changed = (progress.state, progress.events) != self._said
        if progress.state != self._said[0] or waited >= (_EVERY if changed else _IDLE_EVERY):
            self._said_at, self._said = self._now(), (progress.state, progress.events)
            log.info("progress", **_values(progress, rate))

    def say(self, text: str) -> None:
        log.info(text)


def _values(progress: Progress, rate: float) -> dict[str, object]:
    values: dict[str, object] = {
        "state": progress.state,
        "events": progress.events,
        "per_second": round(rate),
        "lag_seconds": None if progress.lag_seconds is None else round(progress.lag_seconds, 3),
        "lag_bytes": progress.lag_bytes,
        "position": shown(progress.position),
        "slot_retained_bytes": progress.slot_retained,
        **apply_fields(progress),
    }
    tables = list(progress.snapshot)
    unfinished = [table for table in tables if not table.finished]
    if progress.state == "snapshot" or unfinished:
        values["snapshot_rows"] = sum(table.done for table in tables)
        values["snapshot_tables"] = f"{len(tables) - len(unfinished)}/{len(tables)}"
    current = next((table for table in unfinished if table.rate), None)
    if current is not None:
        values["snapshot_table"] = current.table
        values["snapshot_per_second"] = round(current.rate or 0)
        values["snapshot_percent"] = None if current.share is None else round(100 * current.share, 1)
        values["snapshot_seconds_left"] = None if current.seconds_left is None else round(current.seconds_left)
    return {name: value for name, value in values.items() if value is not None}


def apply_fields(progress: Progress) -> dict[str, object]:
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
        "lag_records": progress.records_behind,
        "transactions": progress.transactions or None,
        **{name: sum(counter.copy().values()) or None for name, counter in counts.items()},
        "apply_p99_ms": None if slow is None else round(slow * 1000, 1),
        "halted": sorted(progress.halted) or None,
    }

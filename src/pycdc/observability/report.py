"""All of a pipeline's progress as one document, for people and for scripts that do not read Prometheus' form."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeVar

from pycdc.observability.durations import Durations
from pycdc.observability.outages import Outage
from pycdc.observability.progress import Progress
from pycdc.observability.verify_progress import verify_report

Names = TypeVar("Names", bound=tuple[str, ...])


def report(progress: Progress) -> dict[str, Any]:
    """Counters since the process started. What is not known, or was never met, is left out."""
    document = {
        "state": progress.state,
        "events": progress.events,
        "batches": progress.batches,
        "checkpoints": progress.checkpoints,
        "reconnects": progress.reconnects,
        "position": None if progress.position is None else str(progress.position),
        "lag_seconds": progress.lag_seconds,
        "lag_bytes": progress.lag_bytes,
        "last_error": progress.last_error,
        "events_by_table": progress.tables.copy() or None,
        "dead_letters": progress.dead_letters.copy() or None,
        "refused_schemas": progress.refused.copy() or None,
        "parked_rows": progress.parked_rows.copy() or None,
        "snapshot": [
            {"table": one.table, "rows": one.done, "estimated": one.estimated, "finished": one.finished}
            for one in list(progress.snapshot)
        ]
        or None,
        "slot": _slot(progress),
        "outages": _outages(progress.outages.lasting),
        **_applied(progress),
        "verification": None if progress.verification is None else verify_report(progress.verification),
    }
    return {name: value for name, value in document.items() if value is not None}


def _applied(progress: Progress) -> dict[str, Any]:
    """Return what an apply pipeline reports."""
    return {
        "transactions": progress.transactions or None,
        "columnar": progress.columnar or None,
        "applied": _nested(progress.applied.copy()),
        "retried": dict(progress.retried) or None,
        "parked": dict(progress.parked) or None,
        "has_origin": progress.has_origin,
        "skipped": _nested(progress.skipped.copy()),
        "duplicates": dict(progress.duplicates) or None,
        "conflicts": _nested(progress.conflicts.copy()),
        "halted": progress.halted.copy() or None,
        "partitions": _places(progress),
        "apply_seconds": _quantiles(progress.applying),
        "commit_seconds": _quantiles(progress.committing),
    }


def _slot(progress: Progress) -> dict[str, Any] | None:
    """Return what a capture whose slot is watched reports of it."""
    if progress.slot_retained is None:
        return None
    measured = {
        "state": progress.slot_state,
        "retained_bytes": progress.slot_retained,
        "safe_bytes": progress.slot_safe,
        "full_in_seconds": progress.slot_full_in,
        "over_budget": progress.over_wal_budget,
    }
    return {name: value for name, value in measured.items() if value is not None}


def _nested(counts: Mapping[Names, int]) -> dict[str, Any] | None:
    """Return counts as dicts within dicts, a level for each part of the key."""
    out: dict[str, Any] = {}
    for names, count in counts.items():
        level = out
        for name in names[:-1]:
            level = level.setdefault(name, {})
        level[names[-1]] = count
    return out or None


def _places(progress: Progress) -> dict[str, Any] | None:
    return {
        str(partition): {
            "next": place.next,
            "end": place.end,
            "lag_records": progress.place_behind(place),
            "lag_seconds": progress.place_lag(place),
        }
        for partition, place in progress.partitions.copy().items()
    } or None


def _outages(lasting: list[Outage]) -> list[dict[str, Any]] | None:
    now = time.monotonic()
    return [
        {"what": one.what, "reason": one.reason, "hint": one.hint, "seconds": round(now - one.since, 1)}
        for one in lasting
    ] or None


def _quantiles(durations: Durations) -> dict[str, float | None] | None:
    if not durations.count:
        return None
    return {f"p{share * 100:g}": durations.quantile(share) for share in (0.5, 0.95, 0.99)}

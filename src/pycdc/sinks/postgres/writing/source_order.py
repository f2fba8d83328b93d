"""In which order events of several partitions happened, where they tell it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pycdc.model.event import Event, Partition

SourcePlace = tuple[Any, ...]


def source_order(events: Sequence[Event]) -> Sequence[int] | None:
    """Return the events' numbers in the order in which one source made them; None where that is not known.

    The order of each partition stays. A null value behind its delete has no place of its own, and stays there.
    """
    if len({event.partition for event in events}) <= 1:
        return range(len(events))
    furthest: dict[Partition, SourcePlace] = {}
    places: list[SourcePlace] = []
    sources = set()
    before: dict[Partition, Event] = {}
    for event in events:
        if _repeats(before.get(event.partition), event):
            places.append(furthest.get(event.partition, ()))
            continue
        before[event.partition] = event
        source, place = _place(event)
        if place is None:
            return None
        sources.add(source)
        # What was sent again, or read by a snapshot, stays behind what was sent before it.
        furthest[event.partition] = max(place, furthest.get(event.partition, place))
        places.append(furthest[event.partition])
    return sorted(range(len(events)), key=places.__getitem__) if len(sources) == 1 else None


def _repeats(before: Event | None, event: Event) -> bool:
    """Return whether it says nothing but what the delete before it said. That of the first one was applied."""
    if event.raw_value is not None or not event.deleted:
        return False
    return before is None or (before.deleted and before.raw_key == event.raw_key)


def likely_order(events: Sequence[Event]) -> Sequence[int]:
    """Return the source's order; where it is not known, that of the records' times."""
    known = source_order(events)
    if known is not None:
        return known
    latest: dict[Partition, int] = {}
    times = []
    for event in events:
        latest[event.partition] = max(event.timestamp, latest.get(event.partition, event.timestamp))
        times.append(latest[event.partition])
    return sorted(range(len(events)), key=times.__getitem__)


def _place(event: Event) -> tuple[Any, SourcePlace | None]:
    """Return the source, and what grows with each of its changes.

    Of Postgres that is the end of the transaction before, and the change's LSN: conflicting changes wait for each other
    in the source, so their LSNs are in its order. Those of a changed key are one: the delete comes first.
    """
    source_block = event.source or _flattened(event)
    lsn, file, place = source_block.get("lsn"), source_block.get("file"), source_block.get("pos")
    if isinstance(lsn, int):
        return (source_block.get("name"), source_block.get("db")), (
            _end_before(source_block.get("sequence")),
            lsn,
            not event.deleted,
        )
    if isinstance(file, str) and isinstance(place, int):  # MySQL's binlog
        return source_block.get("name"), (len(file), file, place, source_block.get("row") or 0)
    return None, None


def _flattened(event: Event) -> dict[str, Any]:
    """Return what a flattened record holds of its source: fields that were asked for (`add_fields`)."""
    added = event.added or {}
    source_block = {
        name.removeprefix("__source_"): value for name, value in added.items() if name.startswith("__source_")
    }
    return {"lsn": added.get("__lsn"), **source_block}


def _end_before(sequence: Any) -> int:
    """Return the end before, from Debezium's `sequence`, which is optional; the LSN alone is nearly as good."""
    try:
        return int(json.loads(sequence)[0])
    except (ValueError, TypeError, LookupError):
        return 0

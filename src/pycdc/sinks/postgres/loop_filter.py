"""Changes that pycdc carried before: which are taken, and which would go round.

A mark holds for a transaction, so events that came different ways are applied in different ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pycdc.config.postgres_sink import LoopsConfig
from pycdc.model.event import Event
from pycdc.model.origin import ChangeOrigin, read_headers
from pycdc.model.patterns import names_any
from pycdc.observability.logger import get_logger

log = get_logger()


@dataclass(slots=True)
class ApplyChunk:
    """Events that one transaction applies, in order. `came` is their way so far; `refused` are places of `events`."""

    came: ChangeOrigin | None
    events: list[Event] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)

    def halves(self) -> tuple[ApplyChunk, ApplyChunk]:
        middle = len(self.events) // 2
        first = {place for place in self.refused if place < middle}
        second = {place - middle for place in self.refused if place >= middle}
        return (
            ApplyChunk(self.came, self.events[:middle], first),
            ApplyChunk(self.came, self.events[middle:], second),
        )


class LoopFilter:
    """Of one pipeline."""

    def __init__(self, loops: LoopsConfig, pipeline: str) -> None:
        self._loops = loops
        self._pipeline = pipeline
        self._told: set[str] = set()

    def portions(self, events: list[Event], most: int) -> Iterator[ApplyChunk]:
        """`most` events each."""
        if len(events) <= most and not any(event.headers for event in events):
            if events:
                yield ApplyChunk(None, events)
            return
        portion = ApplyChunk(None)
        for event in events:
            came = read_headers(event.headers) if event.headers else None
            refused = came is not None and self._refuses(came)
            starts = not refused and came != portion.came and len(portion.refused) < len(portion.events)
            if starts or len(portion.events) >= most:
                yield portion
                portion = ApplyChunk(came)
            if refused:
                portion.refused.add(len(portion.events))
            else:
                portion.came = came
            portion.events.append(event)
        if portion.events:
            yield portion

    def _refuses(self, came: ChangeOrigin) -> bool:
        loops = self._loops
        own = came.origin == self._pipeline or names_any(loops.refuse_origins, came.origin)
        if not own and came.hops < loops.max_hops:
            return False
        if came.origin not in self._told:
            self._told.add(came.origin)
            log.warning("leaves out changes that came here by pycdc", origin=came.origin, hops=came.hops)
        return True


def set_apart(events: list[Event]) -> list[list[Event]]:
    """Give an event that empties a table a transaction of its own, between those of the events before and behind it."""
    out: list[list[Event]] = [[]]
    for event in events:
        if event.row is None and event.truncates:
            out += [[event], []]
        else:
            out[-1].append(event)
    return [run for run in out if run]

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
    """Events that one transaction applies, in order.

    `change_origin` is where their changes come from; `refused` are places of `events`.
    """

    change_origin: ChangeOrigin | None
    events: list[Event] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)

    def halves(self) -> tuple[ApplyChunk, ApplyChunk]:
        middle = len(self.events) // 2
        first = {place for place in self.refused if place < middle}
        second = {place - middle for place in self.refused if place >= middle}
        return (
            ApplyChunk(self.change_origin, self.events[:middle], first),
            ApplyChunk(self.change_origin, self.events[middle:], second),
        )


class LoopFilter:
    """Leaves out events of one pipeline that came here by pycdc already."""

    def __init__(self, loops: LoopsConfig, pipeline: str) -> None:
        self._loops = loops
        self._pipeline = pipeline
        self._warned: set[str] = set()

    def portions(self, events: list[Event], most: int) -> Iterator[ApplyChunk]:
        """Yield chunks of at most `most` events."""
        if len(events) <= most and not any(event.headers for event in events):
            if events:
                yield ApplyChunk(None, events)
            return
        chunk = ApplyChunk(None)
        for event in events:
            change_origin = read_headers(event.headers) if event.headers else None
            refused = change_origin is not None and self._refuses(change_origin)
            starts = not refused and change_origin != chunk.change_origin and len(chunk.refused) < len(chunk.events)
            if starts or len(chunk.events) >= most:
                yield chunk
                chunk = ApplyChunk(change_origin)
            if refused:
                chunk.refused.add(len(chunk.events))
            else:
                chunk.change_origin = change_origin
            chunk.events.append(event)
        if chunk.events:
            yield chunk

    def _refuses(self, change_origin: ChangeOrigin) -> bool:
        loops = self._loops
        own = change_origin.origin == self._pipeline or names_any(loops.refuse_origins, change_origin.origin)
        if not own and change_origin.hops < loops.max_hops:
            return False
        if change_origin.origin not in self._warned:
            self._warned.add(change_origin.origin)
            log.warning(
                "leaves out changes that came here by pycdc", origin=change_origin.origin, hops=change_origin.hops
            )
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

"""What the sink could not apply yet: it comes again together with what follows it, so that both are one transaction.

An event may need what another partition brings, or its own a little later: a parent's row, a unique value that is given
up, the delete of a child. Two partitions may even need each other's. So:

1. The events are kept and their partitions are read on, unlike one that is held.
2. They come again once as many have followed, when nothing follows for a moment, or after a while: the attempts at a
   batch that grows cost in all no more than a few at the whole of it.
3. When they are too many, their partitions are read no further, while others are.
4. A partition that began anew is left out: what was read of it before counts no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pycdc.model.event import Event, EventBatch, Partition, PartitionOffsets

_REST: Final = 4
"""An attempt that took a second is repeated after so many."""


class Unapplied:
    """`most` and `most_bytes` bound what is kept; `generations` count how often partitions began anew."""

    def __init__(
        self,
        most: int,
        most_bytes: int,
        generations: Mapping[Partition, int],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._now = generations
        self._clock = now
        self._events: list[Event] = []
        self._kept = 0
        self._generations: dict[Partition, int] = {}
        self._starts: dict[Partition, int] = {}
        self._due = 0.0
        self._taken = 0.0

    def __bool__(self) -> bool:
        return bool(self._events)

    @property
    def partitions(self) -> frozenset[Partition]:
        """Those that have something here."""
        return frozenset(event.partition for event in self._events)

    @property
    def full(self) -> bool:
        size = sum(len(event.raw_key or b"") + len(event.raw_value or b"") for event in self._events)
        return len(self._events) >= self._most or size >= self._most_bytes

    def keep(self, events: Sequence[Event], position: PartitionOffsets, seconds: float) -> None:
        """Keep what of the batch that was taken last is to come again, after so many seconds if nothing follows."""
        now = self._clock()
        self._events, self._kept = list(events), len(events)
        self._starts = {event.partition: position.next[event.partition] for event in events}
        self._generations = {partition: self._now[partition] for partition in self._starts}
        self._due = now + max(seconds, _REST * (now - self._taken))

    def grown(self, batch: EventBatch | None) -> EventBatch | None:
        """Return all that is kept, and `batch` behind it; None while more is awaited.

        `batch` is None when nothing came.
        """
        if self._events:
            if batch is not None:
                self._add(batch)
            batch = self._all() if self._is_due(quiet=batch is None) else None
        self._taken = self._clock()
        return batch

    def _add(self, batch: EventBatch) -> None:
        batch.decode()
        for partition, start in batch.starts.items():
            generation = self._now[partition]
            if self._generations.get(partition) != generation:
                self._forget(partition)
                self._starts[partition], self._generations[partition] = start, generation
        self._events += batch.events

    def _forget(self, partition: Partition) -> None:
        if partition in self._generations:
            self._events = [event for event in self._events if event.partition != partition]

    def _is_due(self, *, quiet: bool) -> bool:
        followed = len(self._events) - self._kept
        return self._clock() >= self._due or followed >= self._kept or bool(quiet and followed)

    def _all(self) -> EventBatch | None:
        for partition, generation in self._generations.items():
            if self._now[partition] != generation:
                self._forget(partition)
        events, self._events = self._events, []
        if not events:
            return None
        ends = {event.partition: event.offset + 1 for event in events}
        return EventBatch(
            events, PartitionOffsets(ends), starts={partition: self._starts[partition] for partition in ends}
        )

"""How far each partition of a batch is taken: to its end, or to an event that cannot be applied now.

A partition that has a limit keeps its order: nothing behind the event is applied, and the stored offset is the
event's. What lies behind comes again, when the source reads on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pycdc.errors import ApplyError
from pycdc.model.event import Event, Partition


@dataclass(frozen=True, slots=True)
class PartitionLimit:
    """`pause`: seconds until the partition is read again; `error`: it is not, the pipeline ends with this.

    `grows`: what follows may help the event, so that it comes again together with that.
    """

    offset: int
    pause: float = 0.0
    error: ApplyError | None = None
    grows: bool = False


class PartitionLimits:
    """The limits of one batch: for a partition, the event that is not applied now."""

    def __init__(self) -> None:
        self._at: dict[Partition, PartitionLimit] = {}
        self.changes = 0

    def __len__(self) -> int:
        return len(self._at)

    def add(self, event: Event, *, pause: float = 0.0, error: ApplyError | None = None, grows: bool = False) -> None:
        """Take nothing of the event's partition from `event` on."""
        if self.includes(event):
            self._at[event.partition] = PartitionLimit(event.offset, pause, error, grows)
            self.changes += 1

    def includes(self, event: Event) -> bool:
        limit = self._at.get(event.partition)
        return limit is None or event.offset < limit.offset

    def unapplied(self, events: Iterable[Event]) -> list[Event]:
        """Return the events that come again together with what follows."""
        return [event for event in events if not self.includes(event) and self._at[event.partition].grows]

    def limit(self, offsets: Mapping[Partition, int]) -> dict[Partition, int]:
        return {
            one: min(offset, self._at[one].offset) if one in self._at else offset for one, offset in offsets.items()
        }

    @property
    def error(self) -> ApplyError | None:
        return next((limit.error for limit in self._at.values() if limit.error is not None), None)

    @property
    def pauses(self) -> dict[Partition, float]:
        return {partition: limit.pause for partition, limit in self._at.items()}


def offsets_behind(events: Iterable[Event]) -> dict[Partition, int]:
    """Return the next offset of each partition once `events`, in their order, are applied."""
    return {event.partition: event.offset + 1 for event in events}

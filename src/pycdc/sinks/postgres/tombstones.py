"""Null values behind deletes, where the message key does not tell which row of the table it was: they say nothing new.

One that stands alone is a delete of its own, and is refused where nobody can tell of which row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pycdc.events import Event, Partition


class Tombstones:
    """Survives batches: a null value may be the first record of one."""

    def __init__(self) -> None:
        self._ends: dict[Partition, Event] = {}

    def repeats(self, event: Event, events: Sequence[Event]) -> bool:
        """Whether the record before it in its partition is the delete of its key; `events` are those of its batch."""
        if event.raw_value is not None or event.raw_key is None:
            return False
        before = self._ends.get(event.partition)
        for other in events:
            if other.partition == event.partition and other.offset < event.offset:
                before = other
        return (
            before is not None
            and before.deleted
            and (before.raw_key, before.offset + 1)
            == (
                event.raw_key,
                event.offset,
            )
        )

    def applied(self, events: Iterable[Event]) -> None:
        """What is applied, in its order."""
        self._ends.update({event.partition: event for event in events})

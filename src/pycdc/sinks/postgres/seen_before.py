"""Events that were applied before, by whatever they are known: an id of their own, or their position in the log."""

from __future__ import annotations

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.model.event import Event
from pycdc.rows.column_presence import ColumnPresence
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.bookkeeping.deduplication import Inbox
from pycdc.sinks.postgres.bookkeeping.redelivery import Redelivery, adding
from pycdc.sinks.postgres.failures.failure_policy import Routed


class SeenBefore:
    """Knows the events that a pipeline has applied."""

    def __init__(self, settings: PostgresSinkConfig, pipeline: str) -> None:
        presence = ColumnPresence(settings.unavailable)
        self.inbox = Inbox(settings.inbox, pipeline, settings.bookkeeping, presence) if settings.inbox else None
        self._adding = adding(settings)
        self._repeats = Redelivery(pipeline, settings.bookkeeping)

    def problem(self, event: Event) -> str | None:
        """Why it cannot be told whether the event was applied."""
        return None if self.inbox is None else self.inbox.problem(event)

    def new(self, connection: Connection, events: list[Routed], counters: BatchCounters) -> list[Routed]:
        """Return the events that were not applied before; some are marked as a problem."""
        repeated: set[int] = set()
        if self.inbox is not None:
            repeated |= self.inbox.repeated(connection, [routed.event for routed in events])
        if self._adding:
            repeated |= self._repeated(connection, events)
        if not repeated:
            return events
        counters.duplicates.update(events[place].event.partition.topic for place in repeated)
        return [routed for place, routed in enumerate(events) if place not in repeated]

    def _repeated(self, connection: Connection, events: list[Routed]) -> set[int]:
        places = [place for place, routed in enumerate(events) if self._adds(routed)]
        repeated, strange = self._repeats.repeated(connection, [events[place].event for place in places])
        for index, problem in strange.items():
            events[places[index]].problem = problem
        return {places[index] for index in repeated}

    def _adds(self, routed: Routed) -> bool:
        return any(str(write.shape.table) in self._adding for write in routed.writes)

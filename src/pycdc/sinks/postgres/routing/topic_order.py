"""Whether the records of a topic have one order: those of several partitions have none."""

from __future__ import annotations

from pycdc.clients.postgres import Connection
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets


class TopicOrder:
    """Called with a topic: whether one partition holds all its records. What is applied of another has an offset."""

    def __init__(self, apply_offsets: ApplyOffsets, connection: Connection) -> None:
        self._apply_offsets = apply_offsets
        self._connection = connection
        self._ordered: dict[str, bool] = {}

    def look_again(self) -> None:
        """Forget what may have changed since: a topic gets partitions, and never loses one."""
        self._ordered = {topic: False for topic, ordered in self._ordered.items() if not ordered}

    def __call__(self, topic: str) -> bool:
        if topic not in self._ordered:
            self._ordered[topic] = self._apply_offsets.partitions_of(self._connection, topic) <= 1
        return self._ordered[topic]

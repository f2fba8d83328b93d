"""The records of a batch by topic. Within a topic they are in commit order; between topics Kafka knows no order.

That freedom is used: runs of one table and operation are gathered for as long as nothing else comes for their topic, so
that many small transactions, or tables that take turns, cost one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pycdc.model.change import Op, Run, Table
from pycdc.rows.encoder import Append, EncodedParts
from pycdc.serialization.headers import Header
from pycdc.serialization.record_format import TableEncoder
from pycdc.serialization.records import TopicRecordList


class TopicBuffer:
    """A topic's records.

    `runs` are gathered and not written yet: all of `target` and `op`, with the same `headers` behind each record (None
    for none).
    """

    __slots__ = ("_groups", "_headed", "_mark", "_records", "headers", "op", "runs", "table", "target", "topic")

    def __init__(self, topic: str, groups: list[TopicRecordList]) -> None:
        self.topic = topic
        self.target: TableEncoder | None = None
        self.table: Table | None = None
        self.op: Op | None = None
        self.headers: list[Header] | None = None
        self.runs: list[tuple[Run, Any]] = []
        self._groups = groups
        self._records: list[EncodedParts] = []
        self._headed: bool | None = None
        self._mark = 0

    def into(self, *, headed: bool) -> list[EncodedParts]:
        """Return the list for the next records: those with headers stand apart from those without."""
        if headed is not self._headed:
            if self._headed is None or self._records:
                self._records = []
                self._groups.append((self.topic, self._records))
            self._headed = headed
        return self._records

    def alone(self, record: EncodedParts) -> None:
        """Write a group of one record: the end of a transaction comes behind the records of all topics."""
        self._headed = None
        self.into(headed=False).append(record)
        self._headed = None

    def start(self) -> Append:
        """Return where the records of `runs` are appended."""
        records = self.into(headed=self.headers is not None)
        self._mark = len(records)
        return records.append

    def undo(self) -> None:
        """Forget what was written since `start`."""
        del self._records[self._mark :]

    def finish(self) -> None:
        """Give what was written since `start` its headers."""
        if self.headers is not None:
            for record in self._records[self._mark :]:
                record["headers"] = self.headers


class TopicBuffers:
    """The buffers of one batch. `groups` come in the order of their first record and may be empty."""

    def __init__(self) -> None:
        self.groups: list[TopicRecordList] = []
        self._buffers: dict[str, TopicBuffer] = {}

    def of(self, topic: str) -> TopicBuffer:
        buffer = self._buffers.get(topic)
        if buffer is None:
            buffer = self._buffers[topic] = TopicBuffer(topic, self.groups)
        return buffer

    def __iter__(self) -> Iterator[TopicBuffer]:
        """Iterate over the buffers there are now: writing one may make others, which it then writes."""
        return iter([*self._buffers.values()])

"""An apply pipeline, from outside: how long after a record came to its topic the database has it. Writes nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import Final

from pycdc.clients.kafka_settings import consumer_settings
from pycdc.config.pipeline import ApplyPipeline
from pycdc.connectors.kafka.topic_tail import TopicTail, written_at
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Partition
from pycdc.model.patterns import names_any
from pycdc.operations.lag.delays import Delays, LagMeasurement, Marks
from pycdc.sinks.postgres.bookkeeping.applied_offsets import AppliedOffsets

_WAIT: Final = 0.005
_ENDS: Final = 0.5
"""Seconds between questions for the topics' ends."""


def measure_reverse(config: ApplyPipeline, *, seconds: float) -> LagMeasurement:
    """Watch for that long. A record counts from its timestamp, by the clock of whoever wrote it. Raises PycdcError."""
    source, sink = config.source.kafka, config.sink.postgres
    with ExitStack() as opened:
        applied = opened.enter_context(closing(AppliedOffsets(sink, config.name)))
        if not applied.read():
            raise EnvironmentNotReady(
                f"pipeline {config.name} has never claimed a partition", hint="start it with `pycdc run`"
            )
        client = consumer_settings(source, "-")
        tail = opened.enter_context(closing(TopicTail(client, lambda topic: names_any(source.topics, topic))))
        watch = _Watch(tail, applied)
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            watch.read()
        return watch.result(config.name, time.monotonic() - started)


class _Watch:
    def __init__(self, tail: TopicTail, applied: AppliedOffsets) -> None:
        self._tail, self._applied = tail, applied
        self._marks: dict[Partition, Marks] = {}
        self._delays = Delays()
        self._next_ends = 0.0
        self._behind = self._most_behind = 0

    def read(self) -> None:
        for record in self._tail.read(_WAIT):
            partition = Partition(record.topic() or "", record.partition() or 0)
            self._marks.setdefault(partition, Marks()).put((record.offset() or 0) + 1, written_at(record))
        offsets = self._applied.read()
        now = time.time()
        for partition, marks in self._marks.items():
            self._delays.add(marks.passed(offsets.get(partition, 0), now))
        if time.monotonic() >= self._next_ends:
            self._next_ends = time.monotonic() + _ENDS
            self._compare(offsets)

    def _compare(self, offsets: dict[Partition, int]) -> None:
        """Count records between the topics' ends and what is applied; a transaction's marker counts as one."""
        ends = self._tail.ends()
        self._behind = sum(max(0, end - offsets.get(partition, 0)) for partition, end in ends.items())
        self._most_behind = max(self._most_behind, self._behind)

    def result(self, name: str, seconds: float) -> LagMeasurement:
        now = time.time()
        waiting = [one for marks in self._marks.values() for one in marks.waiting(now)]
        unanswered = self._delays.add_overdue(waiting)
        summary = self._delays.summary()
        delays = {} if summary is None else {"applied": summary}
        return LagMeasurement(name, seconds, "records", self._behind, self._most_behind, delays, unanswered)

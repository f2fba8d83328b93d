"""What the topics hold: their ends as of now, and the events between two vectors of offsets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Final

from pycdc.clients.kafka_inspection import OffsetSpan, TopicInspection
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.connectors.kafka.offset_range_reader import read_events
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.model.event import Event, Partition

Vector = Mapping[Partition, int]
"""The next offset of each partition."""

_BEFORE: Final = 3
"""Offsets that are read before a window: a null value at its start repeats the delete before it."""


class StreamWindow:
    """The topics that a pipeline reads, as far as `wanted` takes them. One client for all questions."""

    def __init__(
        self, settings: KafkaSourceConfig, group: str, decoder: Decoder, wanted: Callable[[str], bool]
    ) -> None:
        self._settings = settings
        self._group = group
        self._decoder = decoder
        self._wanted = wanted
        self._survey = TopicInspection(settings, timeout=20.0)

    def ends(self) -> dict[Partition, OffsetSpan]:
        """Return the first offset and the end of each partition. Raises PycdcError.

        What a transaction has not committed lies behind the end.
        """
        return self._survey.spans(one for one in self._survey.partitions() if self._wanted(one.topic))

    def events(self, low: Vector, vector: Vector, spans: Mapping[Partition, OffsetSpan]) -> Generator[Event]:
        """Yield the events of `[low, vector)`, and a few before. Raises PycdcError."""
        window = {
            partition: OffsetSpan(max(_first(spans, partition), low.get(partition, 0) - _BEFORE), end)
            for partition, end in vector.items()
            if end > low.get(partition, 0)
        }
        yield from read_events(self._settings, self._group, self._decoder, window)

    def is_empty(self, partition: Partition, first: int, end: int) -> bool:
        """Whether no record lies there, but markers of transactions. Raises PycdcError."""
        events = read_events(self._settings, self._group, self._decoder, {partition: OffsetSpan(first, end)})
        try:
            return next(events, None) is None
        finally:
            events.close()


def lies_before(event: Event, low: Vector) -> bool:
    """Whether an event is none of those that `events` yields from `low` on."""
    return event.offset < low.get(event.partition, 0) - _BEFORE


def are_kept(since: Vector, spans: Mapping[Partition, OffsetSpan]) -> bool:
    """Whether the topics still hold everything from `since` on."""
    return all(_first(spans, partition) <= offset for partition, offset in since.items())


def _first(spans: Mapping[Partition, OffsetSpan], partition: Partition) -> int:
    span = spans.get(partition)
    return 0 if span is None else span.first

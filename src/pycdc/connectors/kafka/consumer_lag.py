"""How far behind each partition is, from what the consumer knows anyway: nothing here asks the brokers.

Behind the last record there may be offsets without one (a transaction's end, what was rolled back). The broker says
when the end was reached, so that these do not count as records that are still to come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from confluent_kafka import TopicPartition

from pycdc.model.event import Partition
from pycdc.observability.progress import PartitionPlace, Progress

_EVERY: Final = 1.0
"""Seconds between two looks at partitions of which nothing is applied."""


class Watermarks(Protocol):
    """What is needed of a consumer."""

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int] | None: ...


class _Tail(NamedTuple):
    """Between `read`, behind the last record, and `end` there is none."""

    read: int
    end: int


class ConsumerLag:
    """Keeps `progress.partitions` and `progress.reverse_lag`. For the consumer's thread.

    `answered` tells the monotonic time of the last answer about a partition, 0 where nobody knows.
    """

    def __init__(
        self, consumer: Any, progress: Progress, answered: Callable[[Partition], float] = lambda partition: 0.0
    ) -> None:
        self._consumer: Watermarks = consumer
        self._answered = answered
        self._progress = progress
        self._applied: dict[Partition, int] = {}
        self._newest: dict[Partition, int] = {}
        self._tails: dict[Partition, _Tail] = {}
        self._looked_at = 0.0

    def claimed(self, begin: Mapping[Partition, int]) -> None:
        self._applied.update(begin)
        self._progress.unreported.update(begin)

    def released(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._progress.unreported.discard(partition)
            for known in (self._applied, self._newest, self._tails, self._progress.partitions):
                known.pop(partition, None)
        if not self._applied:
            self._progress.reverse_lag = None

    def read(self, newest: Mapping[Partition, int]) -> None:
        """Take note that records are behind from here on. `newest` are the timestamps of the last ones."""
        self._newest.update(newest)
        self._report(newest.keys() & self._applied.keys())

    def end(self, partition: Partition, read: int, end: int) -> None:
        """Take note that the end of a partition was reached at `end`; `read` is the offset behind its last record."""
        self._tails[partition] = _Tail(read, end)

    def applied(self, offsets: Mapping[Partition, int]) -> None:
        self._applied.update(offsets)
        self._report(offsets)
        self.idle()

    def idle(self) -> None:
        """Partitions of which nothing is applied get older, if they are behind."""
        if time.monotonic() - self._looked_at >= _EVERY:
            self._looked_at = time.monotonic()
            self._report(self._applied)

    def _report(self, partitions: Iterable[Partition]) -> None:
        places = self._progress.partitions
        found = {partition: place for partition in partitions if (place := self._place(partition)) is not None}
        places.update(found)
        self._progress.unreported.difference_update(found)
        known = [place.lag_seconds for place in places.values() if place.lag_seconds is not None]
        self._progress.reverse_lag = max(known, default=None)

    def _place(self, partition: Partition) -> PartitionPlace | None:
        known = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        following, tail = self._applied[partition], self._tails.get(partition)
        if tail is not None and following >= tail.read:
            following = max(following, tail.end)
        if known is None or known[1] < 0:  # not fetched from yet
            return None if tail is None else self._caught_up(partition, following, max(following, tail.end))
        place = self._caught_up(partition, following, max(following, known[1]))
        if not place.behind:
            return place
        return PartitionPlace(place.next, place.end, self._age(partition), time.monotonic())

    def _caught_up(self, partition: Partition, following: int, end: int) -> PartitionPlace:
        """Return the place as of when the broker last answered, or was heard of at least: there may be more by now."""
        now = time.monotonic()
        heard = self._answered(partition) or self._progress.last_message or now
        return PartitionPlace(following, end, 0.0, min(now, heard))

    def _age(self, partition: Partition) -> float | None:
        newest = self._newest.get(partition, 0)
        return max(0.0, time.time() - newest / 1000) if newest > 0 else None

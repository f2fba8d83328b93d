"""Keep the partitions that a process has: where each is read on, and which of them wait.

A partition begins anew whenever it is claimed, held or taken away: its generation changes then, so that what was read
of it before is left out of every batch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pycdc.clients.kafka_errors import unreadable
from pycdc.connectors.kafka.prefetch import Prefetch
from pycdc.model.event import Partition


class AssignedPartitions:
    """The partitions that the consumer reads. `generations` counts how often each began anew."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.generations: Counter[Partition] = Counter()
        self._next: dict[Partition, int] = {}
        self._known: dict[tuple[str | None, int | None], Partition] = {}
        self._held: dict[Partition, float] = {}
        self._paused: frozenset[Partition] = frozenset()

    @property
    def any_paused(self) -> bool:
        """Whether `pause_full` has paused any."""
        return bool(self._paused)

    def claim(self, offsets: Mapping[Partition, int]) -> None:
        """Take note that partitions begin anew at these offsets: what was read of them before does not count."""
        self._next.update(offsets)
        self.generations.update(offsets.keys())
        self._known.update((partition, partition) for partition in offsets)

    def read_from(self, offsets: Mapping[Partition, int]) -> None:
        """Read assigned partitions from these offsets on."""
        self.claim(offsets)
        places = [TopicPartition(p.topic, p.number, offset) for p, offset in offsets.items()]
        if not places:
            return
        try:
            # Assigned again, not sought: seeking fails where fetching has not begun yet.
            self._consumer.incremental_unassign(places)
            self._consumer.incremental_assign(places)
            self._consumer.resume(places)
        except KafkaException as error:
            raise unreadable(error.args[0], listed(offsets)) from None

    def reset(self) -> None:
        """Forget which partitions wait: all of them are about to be read from their claims."""
        self._held.clear()
        self._paused = frozenset()

    def forget(self, gone: Collection[Partition]) -> None:
        """Forget partitions that the group took away."""
        for partition in gone:
            self._next.pop(partition, None)
            self._held.pop(partition, None)
            self._known.pop(partition, None)
            self.generations[partition] += 1
        self._paused -= set(gone)

    def hold(self, partition: Partition, offset: int, seconds: float) -> None:
        """Read a partition no further for so many seconds, and then from `offset` on."""
        if partition in self._next:
            self._consumer.pause([TopicPartition(*partition)])
            self.claim({partition: offset})
            self._held[partition] = time.monotonic() + seconds

    def release_held(self) -> None:
        """Read those on whose time is over."""
        due = [partition for partition, when in self._held.items() if time.monotonic() >= when]
        for partition in due:
            del self._held[partition]
        self.read_from({partition: self._next[partition] for partition in due})

    def pause_full(self, full: frozenset[Partition]) -> None:
        """Read partitions no further that have too much that is not applied, until they have less."""
        resumed = {one for one in self._paused - full if one in self._next and one not in self._held}
        self._consumer.pause([TopicPartition(*one) for one in full - self._paused])
        self._consumer.resume([TopicPartition(*one) for one in resumed])
        self._paused = full

    def add_to(self, prefetch: Prefetch, messages: list[Message]) -> None:
        """Add records to `prefetch`, but for those that were fetched before their partition began anew."""
        first = 0
        for place, run in groupby([(message.topic(), message.partition()) for message in messages]):
            last = first + len(list(run))
            partition = self._known.get(place)
            # Else fetched before the partition changed hands or was held.
            if partition is not None and partition not in self._held:
                # So that those stay out which were fetched before it began anew.
                self._next[partition] = prefetch.add(partition, self._next[partition], messages[first:last])
            first = last

    def next_of(self, partition: Partition) -> int | None:
        """Return the offset behind what was read of a partition; None where it is held, or not this process's."""
        return None if partition in self._held else self._next.get(partition)


def listed(partitions: Iterable[Partition]) -> str:
    """Return the partitions as text."""
    return ", ".join(map(str, sorted(partitions)))

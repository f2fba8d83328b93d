"""Claim the partitions that the consumer group assigns, in the target's database, and give up those that it revokes.

The group's callbacks run within a read. An exception must not run through librdkafka's frames, so it is kept, and
raised by the read that called back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from pycdc.clients.kafka_errors import unreadable
from pycdc.connectors.kafka.assigned_partitions import AssignedPartitions, listed
from pycdc.connectors.kafka.consumer_group import ConsumerGroup
from pycdc.connectors.kafka.consumer_lag import ConsumerLag
from pycdc.connectors.kafka.source_topics import SourceTopics
from pycdc.engine_interfaces import Claims
from pycdc.errors import ConnectionLost, PycdcError
from pycdc.model.event import Partition, PartitionOffsets
from pycdc.observability.logger import get_logger

log = get_logger()

_CLAIM_PAUSE: Final = 5.0
"""Seconds after which partitions that the database did not give are asked for again."""


class PartitionClaims:
    """Claims partitions for one process of a group, and tells those who keep something of each."""

    def __init__(
        self,
        claims: Claims,
        topics: SourceTopics,
        partitions: AssignedPartitions,
        lag: ConsumerLag,
        group: ConsumerGroup,
    ) -> None:
        self._claims = claims
        self._topics = topics
        self._partitions = partitions
        self._lag = lag
        self._group = group
        self._unclaimed: set[Partition] = set()
        self._claim_at = 0.0
        self._failure: PycdcError | None = None

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Claim what the group assigns; called by librdkafka."""
        self._guard(lambda: self._assign(consumer, partitions))

    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Give up what the group takes away; called by librdkafka."""
        self._guard(lambda: self._release(partitions))

    def raise_failure(self) -> None:
        """Raise what a callback of the group met."""
        if self._failure is not None:
            raise self._failure

    def retry(self) -> None:
        """Claim what could not be claimed when it was assigned, where that is due."""
        if not self._unclaimed or time.monotonic() < self._claim_at:
            return
        self._claim_at = time.monotonic() + _CLAIM_PAUSE
        try:
            begin = self._claim(sorted(self._unclaimed))
        except ConnectionLost as error:
            log.debug("partitions are still not claimed", reason=error.fact)
            return
        self._unclaimed.clear()
        self._claimed(begin)
        self._partitions.read_from(begin)

    def claim_again(self, assigned: list[Partition]) -> None:
        """Claim everything, and read from there. This shuts out a transaction whose end nobody heard of."""
        begin = self._claim(assigned)
        self._partitions.reset()
        self._unclaimed.clear()
        self._lag.claimed(begin)
        self._partitions.read_from(begin)
        log.info("goes on", offsets=str(PartitionOffsets(begin)))

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        wanted = [Partition(one.topic, one.partition) for one in partitions]
        try:
            begin = self._claim(wanted)
        except ConnectionLost as error:
            # The group must not wait for the database: the partitions are this process's, and are claimed later.
            log.warning("partitions are claimed later", partitions=listed(wanted), reason=error.fact)
            self._unclaimed.update(wanted)
            consumer.incremental_assign([TopicPartition(*one, OFFSET_END) for one in wanted])
            consumer.pause([TopicPartition(*one) for one in wanted])
            return
        self._claimed(begin)
        consumer.incremental_assign([TopicPartition(p.topic, p.number, begin[p]) for p in wanted])

    def _release(self, partitions: list[TopicPartition]) -> None:
        gone = [Partition(one.topic, one.partition) for one in partitions]
        self._partitions.forget(gone)
        self._unclaimed.difference_update(gone)
        self._lag.released(gone)
        self._group.released(gone)
        self._claims.release(gone)
        if gone:
            log.info("gave partitions up", partitions=listed(gone))

    def _claim(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        if not partitions:
            return {}
        ids = self._topics.ids(partitions)
        begin = self._claims.claim(partitions, lambda one: self._topics.firsts([one])[one], ids)
        self._topics.claimed(ids)
        return begin

    def _claimed(self, begin: Mapping[Partition, int]) -> None:
        self._partitions.claim(begin)
        self._lag.claimed(begin)
        self._group.claimed(begin)
        if begin:
            log.info("took partitions over", offsets=str(PartitionOffsets(begin)))

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except PycdcError as error:
            self._failure = self._failure or error
        except KafkaException as error:
            self._failure = self._failure or unreadable(error.args[0], "a partition that was assigned")

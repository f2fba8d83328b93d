"""Read records from the brokers, and tell errors that pass from those that do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from pycdc.clients.kafka_errors import GONE, unreadable
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.connectors.kafka.assigned_partitions import AssignedPartitions
from pycdc.connectors.kafka.consumer_lag import ConsumerLag
from pycdc.connectors.kafka.source_topics import subscription
from pycdc.model.event import Partition
from pycdc.observability.logger import get_logger

log = get_logger()

_LINGER: Final = 0.005
"""Seconds that a batch waits for more once it has a record."""
_PASSING: Final = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}
"""librdkafka mends these by itself."""


class RecordReader:
    """Reads what the consumer has. `raise_failure` raises what a callback of the group met meanwhile."""

    def __init__(
        self,
        consumer: Consumer,
        source: KafkaSourceConfig,
        partitions: AssignedPartitions,
        lag: ConsumerLag,
        raise_failure: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._source = source
        self._partitions = partitions
        self._lag = lag
        self._raise_failure = raise_failure
        self._patterns = {subscription(topic): topic for topic in source.topics if "*" in topic}

    def read(self, seconds: float) -> list[Message]:
        """Return what came within the poll time, errors included; the group's callbacks run in here."""
        messages = self._consume(1, seconds)
        if messages and self._source.max_batch_events > 1:
            messages += self._consume(self._source.max_batch_events - 1, _LINGER)
        return messages

    def records(self, messages: list[Message]) -> Iterator[list[Message]]:
        """Yield the records, in lists, and judge the errors between them in their order. Raises what lasts.

        What is yielded has to be taken at once: the end of a partition counts from the last record that was taken.
        """
        errors = [message.error() for message in messages]
        if not [error for error in errors if error is not None]:  # comparing one with None is an error of its own
            yield messages
            return
        for message, error in zip(messages, errors, strict=True):
            if error is None:
                yield [message]
            else:
                self._check(error, _partition(message), message.offset())

    def discard(self, seconds: float) -> None:
        """Serve the group for so long; what comes all the same is read again later."""
        for message in self._consume(1, seconds):
            if message.error() is not None:
                self._check(message.error(), _partition(message), None)

    def _consume(self, count: int, seconds: float) -> list[Message]:
        try:
            messages: list[Message] = self._consumer.consume(count, seconds)
        except KafkaException as error:
            self._raise_failure()
            raise unreadable(error.args[0], f"topic {', '.join(self._source.topics)}") from None
        self._raise_failure()
        return messages

    def _check(self, error: KafkaError, partition: Partition, offset: int | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            # Of a partition that is held or paused, records before its end are still to be read again.
            read = self._partitions.next_of(partition)
            if offset is not None and read is not None:
                self._lag.end(partition, read, offset)
            return
        if error.code() in _PASSING and not error.fatal():
            log.debug("the brokers have a moment", reason=error.str())
            return
        pattern = self._patterns.get(partition.topic)
        if pattern is not None and error.code() in GONE:
            log.info("no topic matches yet", pattern=pattern)
            return
        where = str(partition) if partition.topic else "a topic"
        raise unreadable(error, where if pattern is None else f"what matches {pattern}")


def _partition(message: Message) -> Partition:
    return Partition(message.topic() or "", message.partition() or 0)

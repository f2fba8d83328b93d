"""Read all committed records of a partition, from the first to the last that there is."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pycdc.clients.kafka_errors import DENIED
from pycdc.clients.kafka_wait import StoppableLimit, patiently
from pycdc.errors import ConnectionLost, EnvironmentNotReady

_POLL: Final = 0.2
_AT_ONCE: Final = 500


class CommittedRecords:
    """Those of one topic. `client` holds librdkafka settings; `timeout` is seconds without an answer from the brokers.

    Each method raises ConnectionLost or EnvironmentNotReady.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        *,
        timeout: float = 30.0,
        stopping: threading.Event | None = None,
    ) -> None:
        self.topic = topic
        self._client = dict(client)
        self._timeout = timeout
        self._stopping = stopping

    def all(self, *, settled: bool = False) -> Iterator[Message]:
        """Yield the records of all partitions, one after the other; none where there is no such topic.

        `settled`: wait until transactions that are open now have ended.
        """
        consumer = Consumer(
            {
                **self._client,
                "group.id": f"pycdc-{self.topic}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": False,
            }
        )
        try:
            for number in self._partitions(consumer):
                partition = TopicPartition(self.topic, number)
                spec = IsolationLevel.READ_UNCOMMITTED if settled else IsolationLevel.READ_COMMITTED
                end = self._offset(partition, OffsetSpec.latest(), spec)
                if end > 0:
                    yield from self._read(consumer, number, end)
        except KafkaException as error:
            raise self._unreadable(error.args[0]) from None
        finally:
            consumer.close()

    def newest(self) -> int | None:
        """Return the time of the newest record, in milliseconds since the Unix epoch; None where there is none."""
        consumer = Consumer({**self._client, "group.id": f"pycdc-{self.topic}", "allow.auto.create.topics": False})
        try:
            times = [self._time(TopicPartition(self.topic, number)) for number in self._partitions(consumer)]
        except KafkaException as error:
            raise self._unreadable(error.args[0]) from None
        finally:
            consumer.close()
        return max((time for time in times if time >= 0), default=None)

    def _read(self, consumer: Consumer, number: int, end: int) -> Iterator[Message]:
        first = self._offset(TopicPartition(self.topic, number), OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED)
        if first >= end:
            return
        consumer.assign([TopicPartition(self.topic, number, first)])
        patience = StoppableLimit(self._timeout, self._stopping)
        while True:
            messages = consumer.consume(_AT_ONCE, _POLL)
            if not messages and not patience.left:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for message in messages:
                error, offset = message.error(), message.offset() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if error is None:
                    patience = StoppableLimit(self._timeout, self._stopping)
                    if offset < end:
                        yield message
                # A transaction's markers take offsets too, so only the end of the partition is sure to come.
                if offset + (error is None) >= end:
                    return

    def _partitions(self, consumer: Consumer) -> list[int]:
        found = patiently(
            lambda seconds: consumer.list_topics(self.topic, timeout=seconds), self._timeout, self._stopping
        ).topics[self.topic]
        if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(found.error)
        return [] if found.error is not None else sorted(found.partitions)

    def _offset(self, partition: TopicPartition, spec: OffsetSpec, isolation: IsolationLevel) -> int:
        # The client must outlive the answer: a forgotten one cancels what was asked.
        admin = AdminClient(self._client)
        answers = admin.list_offsets({partition: spec}, isolation_level=isolation, request_timeout=self._timeout)
        return int(answers[partition].result(self._timeout + 1).offset)

    def _time(self, partition: TopicPartition) -> int:
        admin = AdminClient(self._client)
        answers = admin.list_offsets({partition: OffsetSpec.max_timestamp()}, request_timeout=self._timeout)
        return int(answers[partition].result(self._timeout + 1).timestamp)

    def _unreadable(self, error: KafkaError) -> ConnectionLost | EnvironmentNotReady:
        fact = f"topic {self.topic} cannot be read: {error.str()}"
        if error.code() in DENIED:
            return EnvironmentNotReady(fact, hint="give the user Read and Describe on the topic")
        return ConnectionLost(fact, hint="check that the brokers are up and that the user may read the topic")

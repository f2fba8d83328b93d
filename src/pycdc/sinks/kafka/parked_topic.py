"""The topic of parked rows: compacted, of one partition. What it holds is what is parked.

Rows are written to it by the sink, beside the records of the other rows, so that they share their Kafka transaction.
Here they are read: what is known of each without its values, and those that are asked for.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pycdc.clients.kafka_errors import DENIED
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.clients.kafka_wait import StoppableLimit, patiently
from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.model.parked_row import ParkedEntry, ParkedRow
from pycdc.serialization.parked_records import entry_of, place_of, row_of

PARTITION: Final = 0
SETTINGS: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "86400000"}
"""How the topic is to be created."""
_POLL: Final = 0.2
_AT_ONCE: Final = 500


@dataclass(slots=True)
class _Stored:
    """Where the newest records of a row are: offsets by the number of the piece."""

    entry: ParkedEntry
    offsets: dict[int, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.offsets) == self.entry.parts


class ParkedTopic:
    """`client` holds librdkafka settings; `timeout` is seconds without an answer from the brokers."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        topics: TopicAdmin,
        *,
        timeout: float = 30.0,
        stopping: threading.Event | None = None,
    ) -> None:
        self.topic = topic
        self._client = dict(client)
        self._topics = topics
        self._timeout = timeout
        self._stopping = stopping

    def prepare(self) -> None:
        """Make sure that the topic is there, and that it forgets nothing that is parked."""
        self._topics.ensure(self.topic)
        policy = self._topics.setting(self.topic, "cleanup.policy")
        if policy is not None and policy != "compact":
            raise EnvironmentNotReady(
                f"the topic of parked rows {self.topic} has cleanup.policy={policy}, which forgets rows",
                hint=f"kafka-configs --alter --topic {self.topic} --add-config cleanup.policy=compact",
            )

    def close(self) -> None:
        self._topics.close()

    def entries(self, *, settled: bool = False) -> dict[str, ParkedEntry]:
        """Return what is parked by id, in its order; `settled`: once no transaction is open in the topic.

        Raises ConnectionLost or EnvironmentNotReady.
        """
        return {identity: found.entry for identity, found in self._stored(settled=settled).items()}

    def rows(self, ids: Collection[str]) -> Iterator[ParkedRow]:
        """Yield rows that were parked, and are committed, in the order in which they were."""
        stored = {identity: found for identity, found in self._stored(settled=False).items() if identity in ids}
        pieces: dict[str, dict[int, bytes]] = defaultdict(dict)
        last = max((max(found.offsets.values()) for found in stored.values()), default=-1)
        for message in self._messages(lambda: last + 1):
            identity, number = place_of(message.key() or b"")
            found = stored.get(identity)
            if found is None or found.offsets.get(number) != message.offset():
                continue
            pieces[identity][number] = message.value() or b""
            if len(pieces[identity]) == found.entry.parts:
                parts = pieces.pop(identity)
                yield row_of(found.entry, b"".join(parts[number] for number in range(found.entry.parts)))

    def _stored(self, *, settled: bool) -> dict[str, _Stored]:
        isolation = IsolationLevel.READ_UNCOMMITTED if settled else IsolationLevel.READ_COMMITTED
        stored: dict[str, _Stored] = {}
        for message in self._messages(lambda: self._end(isolation)):
            identity, number = place_of(message.key() or b"")
            if message.value() is None:
                stored.pop(identity, None)
                continue
            if number == 0 or identity not in stored:
                # One that is parked anew is the last again. A piece 0 may be compacted away before the others are.
                known = stored.pop(identity, None)
                headers = [
                    (name, value if isinstance(value, bytes) else None) for name, value in message.headers() or []
                ]
                stored[identity] = _Stored(entry_of(identity, headers), {} if known is None else known.offsets)
            stored[identity].offsets[number] = message.offset() or 0
        # What was cut short by a crash comes again.
        return {identity: found for identity, found in stored.items() if found.complete}

    def _messages(self, end_of: Callable[[], int]) -> Iterator[Message]:
        """Yield the committed records up to an offset."""
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
            if self._exists(consumer) and (end := end_of()) > 0:
                yield from self._read(consumer, end)
        except KafkaException as error:
            raise self._unreadable(error.args[0]) from None
        finally:
            consumer.close()

    def _read(self, consumer: Consumer, end: int) -> Iterator[Message]:
        consumer.assign([TopicPartition(self.topic, PARTITION, 0)])
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

    def _exists(self, consumer: Consumer) -> bool:
        found = patiently(
            lambda seconds: consumer.list_topics(self.topic, timeout=seconds), self._timeout, self._stopping
        ).topics[self.topic]
        if found.error is not None and found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(found.error)
        return found.error is None

    def _end(self, isolation: IsolationLevel) -> int:
        # The client must outlive the answer: a forgotten one cancels what was asked.
        admin = AdminClient(self._client)
        partition = TopicPartition(self.topic, PARTITION)
        answers = admin.list_offsets(
            {partition: OffsetSpec.latest()}, isolation_level=isolation, request_timeout=self._timeout
        )
        return int(answers[partition].result(self._timeout + 1).offset)

    def _unreadable(self, error: KafkaError) -> ConnectionLost | EnvironmentNotReady:
        fact = f"the topic of parked rows {self.topic} cannot be read: {error.str()}"
        if error.code() in DENIED:
            return EnvironmentNotReady(
                fact, hint="give the user the ACLs Read, Write, Describe and Create on the topic"
            )
        return ConnectionLost(fact, hint="check that the brokers are up and that the user may read the topic")

"""The checkpoint in a compacted Kafka topic of one partition, under the pipeline's name as key.

Reading goes back from the last stable offset in growing strides until a record of ours is met, so that it does not
matter how many positions the topic holds: compaction leaves the newest segments alone. The leader is asked for that
offset first: the end that a fetch reports may lag behind what was acknowledged while a new leader catches up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import wait
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pycdc.clients.kafka_errors import DENIED, refused_tls
from pycdc.clients.kafka_topics import TopicAdmin, TopicDurability
from pycdc.clients.kafka_wait import StoppableLimit, patiently
from pycdc.errors import ConnectionLost, DeliveryError, EnvironmentNotReady
from pycdc.interfaces import Checkpoint
from pycdc.offsets.encoding import dump, load, require_forward

PARTITION: Final = 0
SETTINGS: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "86400000"}
"""How the topic is to be created."""
_POLL: Final = 0.2
_PAUSE: Final = 0.05
_STRIDE, _GROWTH = 500, 20
"""Offsets that are read first, and how many times as many next."""
_AT_ONCE: Final = 10_000
"""Records taken from librdkafka by one call."""


class KafkaOffsetStore:
    """`client` holds librdkafka settings (bootstrap.servers, security …); `timeout` is seconds for each operation.

    Moving backward is refused against what this instance loaded or stored; two instances that run at the same time are
    not told apart.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        name: str,
        topics: TopicAdmin,
        *,
        timeout: float = 30.0,
        stopping: threading.Event | None = None,
    ) -> None:
        self._client = dict(client)
        self.topic = topic
        self._key = name.encode()
        self._topics = topics
        self._timeout = timeout
        self._stopping = stopping
        self._producer: Producer | None = None
        self._newest: Checkpoint | None = None
        self._loaded = False
        self.cluster = ""
        """Its id, known after `load`."""
        self._error: KafkaError | None = None
        self._trouble: KafkaError | None = None

    def load(self, *, settled: bool = False) -> Checkpoint | None:
        """`settled`: wait until no transaction is open in the topic, behind which a newer position may hide."""
        try:
            data = self._newest_record(settled=settled)
        except KafkaException as error:
            raise self._unreadable(self._trouble or error.args[0]) from None
        self._newest = None if data is None else load(data, f"the newest record of the offset topic {self.topic}")
        if self._newest is not None and self._newest.cluster not in ("", self.cluster):
            raise self._of_another_cluster(self._newest.cluster)
        self._loaded = True
        return self._newest

    def store(self, checkpoint: Checkpoint) -> None:
        if not self._loaded:
            self.load()
        require_forward(self._newest, checkpoint, f"the offset topic {self.topic}")
        self._produce(dump(checkpoint))
        self._newest = checkpoint

    def prepare(self) -> None:
        """Make sure that the topic is there, and that it keeps positions."""
        self._topics.ensure(self.topic)
        self._require_compaction()

    def record(self, checkpoint: Checkpoint) -> tuple[str, dict[str, Any]]:
        """Topic and record of a position that somebody else stores, in a transaction. It counts as stored."""
        checkpoint = replace(checkpoint, cluster=self.cluster)
        require_forward(self._newest, checkpoint, f"the offset topic {self.topic}")
        self._newest = checkpoint
        return self.topic, {"key": self._key, "value": dump(checkpoint), "partition": PARTITION}

    def clear(self) -> None:
        if self.load() is not None:
            self._produce(None)
            self._newest = None

    def require_room(self) -> None:
        """Raise PycdcError where the topic is not there and cannot be made. Changes nothing."""
        self._topics.require_creatable(self.topic)

    def durability(self) -> TopicDurability | None:
        """Return how safe positions are in the topic, None where it is not there. Changes nothing."""
        return self._topics.durability(self.topic)

    def close(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer.close()
            self._producer = None

    def _produce(self, value: bytes | None) -> None:
        producer = self._ready_producer()
        self._error = None
        try:
            producer.produce(self.topic, value, self._key, partition=PARTITION)
            left, patience = 1, StoppableLimit(self._timeout, self._stopping)
            while left and (seconds := patience.left):
                left = producer.flush(min(_POLL, seconds))
        except KafkaException as error:
            self.close()
            raise self._undelivered(error.args[0]) from None
        if left or self._error is not None:
            self.close()
            raise self._undelivered(self._error)

    def _ready_producer(self) -> Producer:
        if self._producer is None:
            self.prepare()
            self._producer = Producer(
                {
                    **self._client,
                    # One record at a time, each waited for: a retry can only repeat it. An idempotent producer that
                    # has to send at once often waits 500 ms for its id first.
                    "enable.idempotence": False,
                    "max.in.flight": 1,
                    "acks": "all",
                    "linger.ms": 0,
                    # 18,000 tables that wait for their snapshot take 1.4 MB, and brokers count compressed bytes.
                    "compression.type": "gzip",
                    "message.max.bytes": 50_000_000,
                    "message.timeout.ms": int(self._timeout * 1000),
                    "on_delivery": self._delivered,
                }
            )
        return self._producer

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._error = error or self._error

    def _require_compaction(self) -> None:
        policy = self._topics.setting(self.topic, "cleanup.policy")
        if policy is not None and policy != "compact":
            raise EnvironmentNotReady(
                f"the offset topic {self.topic} has cleanup.policy={policy}, which forgets positions",
                hint=f"kafka-configs --alter --topic {self.topic} --add-config cleanup.policy=compact",
            )

    def _newest_record(self, *, settled: bool) -> bytes | None:
        """Return the value of the last record with this pipeline's key, None for none or a tombstone."""
        consumer = Consumer(
            {
                **self._client,
                "group.id": f"pycdc-{self.topic}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": False,
                "error_cb": self._on_trouble,
            }
        )
        self._trouble = None
        try:
            if not self._exists(consumer):
                return None
            end = self._settled_end() if settled else self._end(IsolationLevel.READ_COMMITTED)
            return self._newest_before(consumer, end)
        finally:
            consumer.close()

    def _exists(self, consumer: Consumer) -> bool:
        try:
            found = patiently(
                lambda seconds: consumer.list_topics(self.topic, timeout=seconds), self._timeout, self._stopping
            )
            topic, self.cluster = found.topics[self.topic], found.cluster_id or ""
        except KafkaException:
            # The answer that did not come says only that; why is what the callback hears of the connections.
            consumer.poll(0)
            raise
        if topic.error is None:
            return True
        if topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return False
        raise KafkaException(topic.error)

    def _settled_end(self) -> int:
        """Behind the last record there is now, once no transaction is open before it."""
        patience = StoppableLimit(self._timeout, self._stopping)
        end = self._end(IsolationLevel.READ_UNCOMMITTED)
        while (stable := self._end(IsolationLevel.READ_COMMITTED)) < end:
            if not patience.left:
                raise ConnectionLost(
                    f"a transaction of another pipeline stays open in the offset topic {self.topic}",
                    hint="give each pipeline an offset topic of its own, or wait until brokers end that transaction",
                )
            time.sleep(_PAUSE)
        return stable

    def _end(self, isolation: IsolationLevel) -> int:
        # The client must outlive the answer: a forgotten one cancels what was asked.
        admin = AdminClient(self._client)
        partition = TopicPartition(self.topic, PARTITION)
        answers = admin.list_offsets(
            {partition: OffsetSpec.latest()}, isolation_level=isolation, request_timeout=self._timeout
        )
        patience = StoppableLimit(self._timeout, self._stopping)
        while not answers[partition].done() and (seconds := patience.left):
            wait([answers[partition]], min(_POLL, seconds))
        if not answers[partition].done():
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return int(answers[partition].result().offset)

    def _newest_before(self, consumer: Consumer, end: int) -> bytes | None:
        stride = _STRIDE
        while end > 0:
            begin = max(0, end - stride)
            consumer.assign([TopicPartition(self.topic, PARTITION, begin)])
            found = self._newest_within(consumer, end)
            if found is not None:
                value: bytes | None = found.value()
                return value
            end, stride = begin, stride * _GROWTH
        return None

    def _newest_within(self, consumer: Consumer, end: int) -> Message | None:
        """Return the last of this pipeline's records from where the consumer is assigned to `end`."""
        newest: Message | None = None
        patience = StoppableLimit(self._timeout, self._stopping)
        while True:
            messages = consumer.consume(_AT_ONCE, _POLL)
            if messages:
                patience = StoppableLimit(self._timeout, self._stopping)
            elif not patience.left:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            for message in messages:
                error, offset = message.error(), message.offset() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                if error is None and offset < end and message.key() == self._key:
                    newest = message
                # A transaction's markers take offsets too, so only the end of the partition is sure to come.
                if offset + (error is None) >= end:
                    return newest

    def _of_another_cluster(self, cluster: str) -> EnvironmentNotReady:
        return EnvironmentNotReady(
            f"the stored position belongs to records in Kafka cluster {cluster}, and this is {self.cluster}",
            hint="correct `sink.kafka.brokers`; for another cluster on purpose start over: `pycdc teardown`, then run",
        )

    def _on_trouble(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error

    def _unreadable(self, error: KafkaError) -> ConnectionLost | EnvironmentNotReady:
        tls = refused_tls(error.str(), f"the offset topic {self.topic}", "the options")
        if tls is not None:
            return tls
        if error.code() in DENIED:
            return EnvironmentNotReady(
                f"the brokers refuse reading the offset topic {self.topic}: {error.str()}",
                hint="check `security.protocol` and `sasl.*` in the options, and give the user the ACLs Read, Write, "
                "Describe and Create on the topic",
            )
        return ConnectionLost(
            f"the offset topic {self.topic} cannot be read: {error.str()}",
            hint="check that the brokers are up and that the user may read the topic",
        )

    def _undelivered(self, error: KafkaError | None) -> DeliveryError:
        reason = "no broker confirmed it in time" if error is None else error.str()
        return DeliveryError(
            f"the position could not be stored in the offset topic {self.topic}: {reason}",
            hint="check that the brokers are up and that the user may write the topic",
        )

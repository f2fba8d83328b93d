"""The at-least-once Kafka sink: an idempotent producer that never goes on past a record that failed.

Strategy: records go out in the order of the batches. A full queue holds the writer back, and the records it refused are
sent again in their order before anything else. The first record that cannot be delivered purges the queue and ends the
sink: later records of the same keys must not overtake it. The pipeline then rewinds to the stored checkpoint and builds
a new sink, so whatever is in doubt is sent again.

Speed or delay: a batch behind which more is waiting lingers for company (`linger.ms`), which saves requests. A
`flush_now` one is flushed: librdkafka lets nothing linger meanwhile, and its settings cannot be changed while it runs.

Facts about librdkafka 2.16 that this rests on (tests/sinks/kafka pins them):

- `produce_batch` raises nothing when the queue is full: it marks the refused messages, which are a suffix of the list.
- It marks a message that is too large too, but accepts those after it: so sizes are checked before.
- It ignores a message's headers and partition: records that have some go through `produce`.
- `flush` returns what is left and never raises; delivery reports of failures come through `poll` and `flush`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pycdc.clients.kafka_errors import SINK_OPTIONS, disappeared, refused_option, undelivered
from pycdc.clients.kafka_settings import LINGER, client_settings, producer_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import ConfigError, DeliveryError, PycdcError
from pycdc.interfaces import Checkpoint, OffsetStore
from pycdc.model.change import Batch, Run
from pycdc.observability.outages import Outages
from pycdc.serialization.records import BatchSerializer, Record, TopicRecordList
from pycdc.sinks.kafka.confirmations import Confirmations
from pycdc.sinks.kafka.oversized import Oversized
from pycdc.sinks.kafka.record_sizes import RecordSizes

log = logging.getLogger(__name__)

_SLICE: Final = 0.05
"""Seconds between looks at failures and at the stop signal."""
_AT_ONCE: Final = 0.001
"""Seconds that a prompt batch is waited for: the least that librdkafka knows, and enough that nothing lingers."""
_STOP_GRACE: Final = 3.0
"""Seconds that a stopped pipeline still waits for the brokers."""
_MISSING_TIMEOUT: Final = 2.0
"""Seconds for the question which topics are still there, after a failure."""
_RETRIED: Final = 512
"""Records offered at once to a queue that was full: what does not fit is parsed in vain."""
_SPARE: Final = 256
"""Bytes by which a record may grow after it was tried out: its place in the transaction is told then."""
_BATCH_SIZE: Final = 1_000_000
"""librdkafka's default for batch.size."""


class KafkaPublisher:
    """Publish batches.

    `stopping` ends the wait for brokers that do not answer; `outages` tells of it. `beside` is closed with the sink.
    `oversized` says where records go that their topic does not take; of other topics these are errors. After an
    exception the sink is dead.
    """

    def __init__(
        self,
        serializer: BatchSerializer,
        settings: KafkaSinkConfig,
        *,
        topics: TopicAdmin | None = None,
        stopping: threading.Event | None = None,
        oversized: Oversized | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._serializer = serializer
        self._settings = producer_settings(settings)
        self._confirmed = Confirmations(settings.brokers, outages or Outages())
        self._delivery_timeout = settings.delivery_timeout
        self._hastens = not LINGER.intersection(settings.options)
        self._stopping = stopping or threading.Event()
        self.beside = ExitStack()
        self._stop_deadline: float | None = None
        self.sizes = RecordSizes(self._settings)
        self._oversized = oversized
        self._refusals: list[tuple[bytes | None, bytes | None]] = []
        self._failure: PycdcError | None = None
        self._trouble = ""
        self._dead: BaseException | None = None
        self._closed = False
        self._producer = self._connect()
        self._topics = topics or TopicAdmin(
            client_settings(settings.brokers, settings.options), settings.topics, stopping=stopping
        )

    @property
    def queued(self) -> int:
        """Records that no broker has confirmed yet."""
        return 0 if self._closed else len(self._producer)

    def write(self, batch: Batch) -> None:
        with self._fatal():
            self._publish(self.prepared(batch), batch)

    def prepared(self, batch: Batch, *, apart: bool = False) -> list[TopicRecordList]:
        """Return the records of a batch, all of which may fit their topics; nothing is sent yet.

        `apart`: outside of their transaction. After ConversionError or RecordTooLarge, the sink can go on.
        """
        return self._fitting((self._serializer.serialize_apart if apart else self._serializer.serialize)(batch), batch)

    def try_out(self, runs: list[Run], *, surely: bool = False) -> None:
        """Raise what `prepared` would for a batch of these rows; `surely`: also for what only compression may save."""
        self._fitting(self._serializer.serialize_apart(batch := Batch(runs)), batch, _SPARE, surely=surely)

    def publish(self, groups: list[TopicRecordList], batch: Batch) -> None:
        """Send records, those of `batch` among them."""
        with self._fatal():
            self._publish(groups, batch)

    def settle(self) -> None:
        """Return once all that was published is durable, where it does not become so by one transaction."""
        with self._fatal():
            self._flush()

    def takes(self, topic: str) -> int:
        """Return how many bytes a record for `topic` may have, headers included."""
        if topic not in self.sizes.limits:
            self._admit(topic, Batch())
        return self.sizes.most(topic)

    def _publish(self, groups: list[TopicRecordList], batch: Batch) -> None:
        for topic, records in groups:
            self._begin()
            self._send(topic, records)
        if batch.dropped:
            self.sizes.forget(batch.dropped)
        if batch.flush_now and self._hastens:
            self._flush_slice(_AT_ONCE)
        else:
            self._poll(0)

    def close(self) -> None:
        """Drop what is still on its way and release the connections. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._dead = self._dead or DeliveryError("the sink is closed")
        self.beside.close()
        self._topics.close()
        try:
            self._producer.purge()
            self._producer.close()
        except KafkaException as error:
            # Reports that were still to come, of records that are dropped here anyway.
            log.debug("on closing the producer: %s", error.args[0].str())

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves records in doubt, so it is the sink's end."""
        if self._dead is not None:
            raise DeliveryError(
                "the sink cannot go on after an error",
                hint="build a new sink and rewind the source to the stored checkpoint",
            ) from self._dead
        try:
            yield
        except BaseException as error:
            self._dead = error
            self._producer.purge()
            if isinstance(error, DeliveryError) and not self._stopping.is_set():
                self._require_topics(error)
            raise

    def _require_topics(self, failure: DeliveryError) -> None:
        """Raise that a topic disappeared where that may be why records were not delivered in time.

        The client asks about a topic from time to time only. A new sink would make the topic anew, and what consumers
        had not read of it would be missing.
        """
        for topic in self._topics.missing(self.sizes.limits, _MISSING_TIMEOUT):
            raise disappeared(topic) from failure

    def _begin(self) -> None:
        """Make ready for records: a transactional producer begins a transaction."""

    def _connect(self) -> Producer:
        callbacks = {"on_delivery": self._on_delivery, "error_cb": self._on_trouble}
        try:
            return Producer({**self._settings, **callbacks})
        except KafkaException as error:
            raise refused_option(error, SINK_OPTIONS) from None
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"librdkafka refuses the options ({type(error).__name__})", hint="correct sink.kafka.options"
            ) from None

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        # What is purged is reported too, and says nothing new.
        if error is None or self._failure is not None or self._dead is not None:
            return
        topic = message.topic()
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and self._sets_aside(topic):
            self._refusals.append((message.key(), message.value()))
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and topic is not None:
            self._failure = self.sizes.refusal(topic, message.key(), message.value())
        else:
            self._failure = undelivered(error, topic, self._trouble)
        # Here and not later, so that the records behind this one have no time to leave.
        self._producer.purge()

    def _on_trouble(self, error: KafkaError) -> None:
        """Remember what the client says of its brokers: a delivery that times out does not know why."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error.str()
        if error.fatal() and self._failure is None:
            self._failure = undelivered(error, None)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _poll(self, timeout: float) -> None:
        """Serve delivery reports, for `timeout` seconds if there are none yet; raise what they say."""
        try:
            self._producer.poll(timeout)
        except KafkaException as error:
            self._check()
            raise undelivered(error.args[0], None, self._trouble) from None
        self._check()
        self._set_aside()

    def _wait(self) -> None:
        """Until the queue takes more, for a moment."""
        self._poll(_SLICE)
        self._check_stop()
        self._confirmed.wait(self.queued, self._trouble)

    def _check_stop(self) -> None:
        if not self._stopping.is_set():
            return
        now = time.monotonic()
        if self._stop_deadline is None:
            self._stop_deadline = now + _STOP_GRACE
        elif now > self._stop_deadline:
            raise DeliveryError(
                f"the pipeline was stopped while brokers did not answer: {self._trouble or 'no reason given'}",
                hint="start it again once the brokers are up; it resumes at the stored checkpoint",
            )

    def _flush(self) -> None:
        deadline = time.monotonic() + self._delivery_timeout
        while left := self._flush_slice():
            self._confirmed.wait(left, self._trouble)
            self._check_stop()
            if time.monotonic() > deadline:
                raise DeliveryError(
                    f"{left} records were not confirmed within {self._delivery_timeout:g} s: "
                    f"{self._trouble or 'no reason given'}",
                    hint="check that the brokers are up, reachable and have enough replicas",
                )
        self._trouble = ""
        self._confirmed.all()

    def _flush_slice(self, seconds: float = _SLICE) -> int:
        """Return how many records are still on their way after that time. None of them lingers meanwhile."""
        try:
            left: int = self._producer.flush(seconds)
        except KafkaException as error:
            self._check()
            raise undelivered(error.args[0], None, self._trouble) from None
        self._check()
        return left + self._set_aside()

    def _sets_aside(self, topic: str | None) -> bool:
        return self._oversized is not None and topic == self._oversized.source

    def _set_aside(self) -> int:
        """Send what the brokers found too large in parts; return how many."""
        sent = 0
        while self._refusals:
            topic, parts = self._parts(*self._refusals.pop(0))
            self._send_singly(topic, parts)
            sent += len(parts)
        return sent

    def _parts(self, key: bytes | None, value: bytes | None) -> TopicRecordList:
        oversized = self._oversized
        assert oversized is not None
        most, limit = self.takes(oversized.target), self.sizes.limits.get(oversized.source, 0)
        return oversized.target, list(oversized.parts(key, value, limit, most))

    def _send(self, topic: str, records: list[Record]) -> None:
        # Two entries are key and value; whoever has more needs `produce`.
        if set(map(len, records)) <= {2}:
            self._send_batch(topic, records)
        else:
            self._send_singly(topic, records)

    def _send_batch(self, topic: str, records: list[Record]) -> None:
        done = self._offer(topic, records)
        while done < len(records):
            self._wait()
            done += self._offer(topic, records[done : done + _RETRIED])

    def _offer(self, topic: str, records: list[Record]) -> int:
        """Return how many records, from the first on, the queue took."""
        try:
            taken: int = self._producer.produce_batch(topic, records)
        except KafkaException as error:
            raise undelivered(error.args[0], topic, self._trouble) from None
        if taken < len(records):
            for record in records:
                refusal = record.pop("_error", None)
                if refusal is not None and refusal.code() != KafkaError._QUEUE_FULL:
                    self._check()
                    raise self._refused(refusal, topic, record)
        return taken

    def _send_singly(self, topic: str, records: list[Record]) -> None:
        produce = self._producer.produce
        for record in records:
            while True:
                try:
                    produce(
                        topic,
                        record["value"],
                        record["key"],
                        partition=record.get("partition", -1),
                        timestamp=record.get("timestamp", 0),
                        headers=record.get("headers"),
                    )
                except BufferError:
                    self._wait()
                except KafkaException as error:
                    self._check()
                    raise self._refused(error.args[0], topic, record) from None
                else:
                    break

    def _refused(self, error: KafkaError, topic: str, record: Record) -> PycdcError:
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return self.sizes.too_large(topic, record["key"], record["value"])
        if error.code() == KafkaError._FATAL:
            # The refusal does not say why; the callback that does may not have been served yet.
            self._poll(0)
        return undelivered(error, topic, self._trouble)

    def _admit(self, topic: str, batch: Batch) -> None:
        """Make sure that `topic` is there, and learn what it takes."""
        self._topics.ensure(topic)
        setting = self._topics.setting(topic, "max.message.bytes")
        limit = int(setting) if setting else int(self._settings["message.max.bytes"])
        if limit < int(self._settings.get("batch.size", _BATCH_SIZE)):
            self._shrink_batches(limit)
        self.sizes.admit(topic, limit, batch)

    def _shrink_batches(self, limit: int) -> None:
        """Shrink batches to the least limit of a topic.

        A topic's limit holds for whole batches, and librdkafka's batch size for all topics.
        """
        log.info("a topic takes batches of %d bytes at most: sending smaller batches from now on", limit)
        self._flush()
        self._producer.close()
        self._settings["batch.size"] = limit
        self._producer = self._connect()

    def _fitting(
        self, groups: list[TopicRecordList], batch: Batch, spare: int = 0, *, surely: bool = False
    ) -> list[TopicRecordList]:
        """Return the records with what is too large set aside; what may not be is an error."""
        out: list[TopicRecordList] = []
        for topic, records in groups:
            if topic not in self.sizes.limits:
                self._admit(topic, batch)
            fit, large = self.sizes.split(topic, records, spare, surely=surely)
            out.append((topic, fit))
            for record in large:
                if not self._sets_aside(topic):
                    raise self.sizes.too_large(topic, record["key"], record["value"])
                out.append(self._parts(record["key"], record["value"]))
        return out


class KafkaSink(KafkaPublisher):
    """`commit` makes what was published durable, then stores the position in `offsets`, which stays open."""

    def __init__(self, serializer: BatchSerializer, settings: KafkaSinkConfig, offsets: OffsetStore, **kw: Any) -> None:
        super().__init__(serializer, settings, **kw)
        self._offsets = offsets

    def commit(self, checkpoint: Checkpoint) -> None:
        with self._fatal():
            self._flush()
            self._offsets.store(checkpoint)

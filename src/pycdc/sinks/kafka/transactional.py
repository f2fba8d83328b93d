"""The exactly-once Kafka sink: records and the position behind them are one Kafka transaction.

Strategy: a pipeline has one transactional id. Whoever begins fences first, and reads the position only then: from there
on an older instance can write nothing that counts, and what it had not ended is aborted. Each commit adds the position,
as the transaction's last record. Readers of committed records see both or neither.

A producer is never used again after an error, nor after an end whose outcome is not known: the sink dies, the pipeline
makes a new one, which fences, and the position that it then reads says what the outcome was. That matters more than it
should: librdkafka 2.16 does not take part in KIP-890, so a late request to end one transaction can end the next one of
the same producer (KAFKA-17754). So a commit during which a connection broke counts as unknown too.

Facts about librdkafka 2.16 that this rests on (tests/sinks/kafka/test_transactional.py pins them):

- A record that is refused by `produce` does not make a commit fail: each of our own errors must end the sink.
- `commit_transaction` flushes, and fails where any delivery failed.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from pycdc.clients.kafka_transaction_errors import unended
from pycdc.clients.kafka_wait import StoppableLimit
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import DeliveryError, PycdcError, SinkFenced
from pycdc.interfaces import Checkpoint
from pycdc.serialization.records import BatchSerializer, Record
from pycdc.sinks.kafka.producer import KafkaPublisher
from pycdc.sinks.kafka.watchdog import Watchdog

log = logging.getLogger(__name__)

_FENCING: Final = 60.0
"""Seconds that brokers have to fence: they first end what an older instance left."""
_SLICE: Final = 1.0
_PAUSE: Final = 0.05
_ENDING: Final = 0.8
"""Part of `socket.timeout.ms` that they have to end a transaction: after all of that librdkafka would ask once more,
without telling."""
_LONGEST: Final = 60.0
"""Seconds after which a call that should be over is taken for one that never comes back."""
_GIVING_UP: Final = 3.0


class PositionTopic(Protocol):
    """Where positions are: `offsets.kafka.KafkaOffsetStore`."""

    def load(self, *, settled: bool) -> Checkpoint | None: ...
    def prepare(self) -> None: ...
    def record(self, checkpoint: Checkpoint) -> tuple[str, Record]: ...
    def close(self) -> None: ...


class FencedOffsets:
    """The positions of a pipeline: reading one fences first, by the sink that will write behind it."""

    def __init__(self, topic: PositionTopic, transactional_id: str) -> None:
        self.topic = topic
        self.transactional_id = transactional_id
        self.sink: TransactionalKafkaSink | None = None
        self.batch_size: int | None = None
        """What a topic's limit makes of librdkafka's batch size, once that is known."""

    def load(self) -> Checkpoint | None:
        assert self.sink is not None
        self.sink.fence()
        return self.topic.load(settled=True)

    def close(self) -> None:
        self.topic.close()


class TransactionalKafkaSink(KafkaPublisher):
    """`commit` makes what was published visible, together with the position. It takes nothing before `fence`."""

    def __init__(
        self, serializer: BatchSerializer, settings: KafkaSinkConfig, offsets: FencedOffsets, **options: Any
    ) -> None:
        self._fenced_offsets = offsets
        self._timeout = settings.transaction_timeout
        self._watchdog = Watchdog()
        self._began: float | None = None
        self._unknown = False
        super().__init__(serializer, settings, **options)
        if self._oversized is not None:
            # What brokers refuse would be the end of the transaction.
            self.sizes.strict = frozenset((self._oversized.source,))
        # What is waited for is the end of the transaction.
        self._hastens = False
        offsets.sink = self

    @property
    def uncommitted(self) -> bool:
        return self._began is not None

    def settle(self) -> None:
        """Do nothing: what is published becomes visible together."""

    def fence(self) -> None:
        """End whatever an older instance has begun, and keep it from beginning more."""
        with self._fatal(), self._watchdog.limit(_FENCING + _LONGEST, "fencing older instances"):
            patience = StoppableLimit(_FENCING, self._stopping)
            while not self._fences(patience):
                time.sleep(_PAUSE)
            self._fenced_offsets.topic.prepare()

    def _fences(self, patience: StoppableLimit) -> bool:
        """Return whether that is done. It may be asked for again, which goes on with it."""
        try:
            self._producer.init_transactions(min(_SLICE, max(_PAUSE, patience.left)))
        except KafkaException as error:
            self._poll(0)
            # Brokers that are still ending what an older instance had begun say so.
            if error.args[0].retriable() and patience.left:
                return False
            raise self._unended(error.args[0]) from None
        return True

    def commit(self, checkpoint: Checkpoint) -> None:
        with self._fatal():
            topic, record = self._fenced_offsets.topic.record(checkpoint)
            self._begin()
            self._send_singly(topic, [record])
            self._flush()
            self._end()

    def close(self) -> None:
        if not self._closed and self._began is not None and not self._unknown:
            self._abort()
        with self._watchdog.limit(_LONGEST, "closing a Kafka producer"), warnings.catch_warnings():
            # The client tries to abort once more, and warns where that fails, as it does once another has taken over.
            warnings.simplefilter("ignore", RuntimeWarning)
            super().close()
        self._watchdog.close()

    def _connect(self) -> Producer:
        milliseconds = int(self._timeout * 1000)
        self._settings |= {
            "transactional.id": self._fenced_offsets.transactional_id,
            "transaction.timeout.ms": milliseconds,
            "message.timeout.ms": min(self._settings["message.timeout.ms"], milliseconds),
            "socket.timeout.ms": min(int(self._settings["socket.timeout.ms"]), milliseconds),
        }
        self._ending = self._settings["socket.timeout.ms"] / 1000 * _ENDING
        if self._fenced_offsets.batch_size is not None:
            self._settings["batch.size"] = self._fenced_offsets.batch_size
        return super()._connect()

    def _begin(self) -> None:
        if self._began is not None:
            return
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            self._poll(0)
            raise self._unended(error.args[0]) from None
        self._began = time.monotonic()

    def _end(self) -> None:
        """Make visible what was written. Raises DeliveryError where the outcome is not known."""
        self._unknown = True
        with self._watchdog.limit(_LONGEST, "the commit of a Kafka transaction"):
            try:
                self._producer.commit_transaction(self._ending)
            except KafkaException as error:
                self._poll(0)
                raise self._unended(error.args[0]) from None
        self._poll(0)
        if self._trouble:
            raise DeliveryError(
                f"a connection broke while a Kafka transaction was committed: {self._trouble}",
                hint="nothing is to be done: the stored position says whether it was committed",
            )
        self._unknown, self._began = False, None

    def _abort(self) -> None:
        """Give the transaction up, so that readers need not wait for the brokers to do it."""
        try:
            with self._watchdog.limit(_LONGEST, "the abort of a Kafka transaction"):
                self._producer.purge()
                self._producer.abort_transaction(_GIVING_UP)
        except KafkaException as error:
            log.debug("a Kafka transaction is left to the brokers to abort: %s", error.args[0].str())

    def _unended(self, error: KafkaError) -> PycdcError:
        return unended(error, self._fenced_offsets.transactional_id, self._trouble)

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        with super()._fatal():
            try:
                yield
            except SinkFenced as fenced:
                raise self._late() or fenced from None

    def _late(self) -> DeliveryError | None:
        """Return the error where brokers gave the transaction up, for which they fence its producer too."""
        if self._began is None or time.monotonic() - self._began < self._timeout:
            return None
        return DeliveryError(
            f"a Kafka transaction was not ended within {self._timeout:g} s, and the brokers gave it up",
            hint="raise sink.kafka.transaction_timeout where brokers or registry are slow",
        )

    def _shrink_batches(self, limit: int) -> None:
        self._fenced_offsets.batch_size = limit
        raise DeliveryError(
            f"a topic takes batches of {limit} bytes at most, so smaller ones are sent from now on",
            hint="nothing is to be done: the pipeline goes on at the stored position",
        )

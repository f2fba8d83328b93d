"""Topics of Kafka as a source: one process of a consumer group, resumed where the database says.

Invariants:

1. A partition begins at the offset that `claims` tells, never at the group's own. The group's offsets are kept for
   those who look at them (lag), and decide nothing but that the group works for this database.
2. Whoever claims a partition shuts out its former owner, in the database, before the first record is read.
3. When the group takes a partition away, nothing of it is in flight: batches are applied and committed one by one, and
   the group only speaks while the next one is asked for. What was read ahead of a partition that went, was held or
   began anew is left out: its turn has changed.
4. A partition that the sink cannot take further, and every partition while the sink is away, is paused: the group is
   served on, and nothing that was fetched meanwhile is kept. One that needs what others bring is read on: see
   `Unapplied`.

Partitions move one by one (cooperative-sticky): the eager protocol takes all of them away whenever a process comes or
goes, and every claim costs a transaction and what was fetched.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Final, Protocol

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pycdc.clients.kafka_consumer_errors import LastError, refused_option, unreadable
from pycdc.clients.kafka_consumer_settings import consumer_settings
from pycdc.config.pipeline import PipelineConfig
from pycdc.connectors.kafka.broker_liveness import BrokerLiveness
from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.consumer_group import ConsumerGroup
from pycdc.connectors.kafka.consumer_lag import ConsumerLag
from pycdc.connectors.kafka.offset_range_reader import event_at
from pycdc.connectors.kafka.prefetch import MANY, Prefetch, portions
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.connectors.kafka.source_topics import SourceTopics
from pycdc.connectors.kafka.unapplied import Unapplied
from pycdc.errors import ConfigError, ConnectionLost, PycdcError
from pycdc.interfaces import Claims, ColumnarTargets
from pycdc.model.event import Applied, EventBatch, Partition, PartitionOffsets
from pycdc.model.patterns import expression
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress

log = get_logger()

_POLL: Final = 0.1
"""Seconds without records after which the pipeline gets its turn."""
_LINGER: Final = 0.005
"""Seconds that a batch waits for more once it has a record."""
_WAITING: Final = 4
"""Times `max_batch_bytes`: how much is kept of events that wait for others."""
_CLAIM_PAUSE: Final = 5.0
"""Seconds after which partitions that the database did not give are asked for again."""


class SchemaById(Protocol):
    """What is needed of a schema registry."""

    def text_for(self, schema_id: int) -> str: ...
    def close(self) -> None: ...


class KafkaConnector:
    """A `Source` of `EventBatch`. `registry` is closed with it; None: no record is read as Avro.

    `lanes` are the sink's, where it has any.
    """

    def __init__(
        self,
        config: PipelineConfig,
        claims: Claims,
        registry: SchemaById | None,
        progress: Progress | None = None,
        lanes: ColumnarTargets | None = None,
    ) -> None:
        source = config.source.kafka
        assert source is not None
        self._source = source
        self._topics = SourceTopics(source)
        self._claims = claims
        self._registry = registry
        forms = (None if registry is None else registry.text_for, source.format, source.key_format, source.values)
        # One of its own: it is asked by another thread than the one that decodes.
        record_at = partial(event_at, source, source.group or config.name, Decoder(*forms))
        self._decoder = Decoder(*forms, record_at)
        self._lanes = None if lanes is None else ColumnarDecoder(self._decoder, lanes)
        self._progress = progress or Progress()
        self._next: dict[Partition, int] = {}
        self._held: dict[Partition, float] = {}
        self._unclaimed: set[Partition] = set()
        self._claim_at = 0.0
        self._partitions: dict[tuple[str | None, int | None], Partition] = {}
        self._turns: Counter[Partition] = Counter()
        self._unapplied = Unapplied(source.max_waiting_events, _WAITING * source.max_batch_bytes, self._turns)
        self._resting: frozenset[Partition] = frozenset()
        self._failure: PycdcError | None = None
        self._trouble = LastError()
        self._closed = False
        hearing = BrokerLiveness(self._progress, f"the brokers of source.kafka at {source.brokers}", self._trouble)
        settings = consumer_settings(source, source.group or config.name)
        try:
            self._consumer = Consumer({**settings, "error_cb": self._trouble, "stats_cb": hearing})
        except KafkaException as error:
            raise refused_option(error) from None
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"librdkafka refuses the options ({type(error).__name__})", hint="correct source.kafka.options"
            ) from None
        self._lag = ConsumerLag(self._consumer, self._progress)
        self._group = ConsumerGroup(self._consumer, self._topics.survey, source.group or config.name, source.brokers)

    def batches(self, start: Applied | None) -> Iterator[EventBatch | None]:
        """See `Source.batches`. `start` is not needed: each partition's is told by its claim."""
        self._topics.require()
        self._group.begin(self._claims.database())
        self._topics.begin(self._claims)
        self._consumer.subscribe(
            [_subscription(topic) for topic in self._source.topics],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        self._progress.state = "streaming"
        ahead: deque[Prefetch] = deque()
        with ThreadPoolExecutor(1, "pycdc-decode") as executor:
            while True:
                read = self._read(_POLL if not ahead else 0.0)
                for messages in portions(read, self._source.max_batch_bytes):
                    ahead.append(self._fetched(messages))
                    ahead[-1].decode_ahead(self._decoder, executor)
                if not ahead:
                    self._lag.idle()
                    yield self._unapplied.grown(None)
                while len(ahead) > (1 if len(read) >= MANY else 0):
                    yield self._unapplied.grown(self._batch(ahead.popleft()))

    def checkpoint(self, batch: EventBatch) -> Applied:
        assert batch.position is not None
        return Applied(batch.position)

    def acknowledge(self, checkpoint: Applied) -> None:
        """Tell the group, for whoever watches its lag."""
        unapplied = {event.partition for event in checkpoint.unapplied}
        for partition, seconds in checkpoint.held.items():
            if partition not in unapplied:
                self._hold(partition, checkpoint.position.next[partition], seconds)
        if unapplied or self._resting:
            pause = min((checkpoint.held[partition] for partition in unapplied), default=0.0)
            self._unapplied.keep(checkpoint.unapplied, checkpoint.position, pause)
            self._rest()
        self._lag.applied(checkpoint.position.next)
        self._group.applied(checkpoint.position.next)

    def wait(self, seconds: float) -> None:
        """See `Patient.wait`. What comes all the same is read again after `rewind`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._consumer.pause(self._consumer.assignment())
            for message in self._consume(1, left):
                if message.error() is not None:
                    self._check(message.error(), _partition(message), None)

    def rewind(self) -> None:
        """See `Patient.rewind`. Claiming again shuts out a transaction whose end nobody heard of."""
        begin = self._claim([Partition(one.topic, one.partition) for one in self._consumer.assignment()])
        self._held.clear()
        self._unclaimed.clear()
        self._resting = frozenset()
        self._lag.claimed(begin)
        self._begin(begin)
        self._progress.state = "streaming"
        log.info("goes on", offsets=str(PartitionOffsets(begin)))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._consumer.close()
            if self._registry is not None:
                self._registry.close()

    # Records.

    def _read(self, seconds: float) -> list[Message]:
        """What came within the poll time; the group's callbacks run in here."""
        self._claim_again()
        self._release_held()
        self._topics.check()
        self._group.check()
        messages = self._consume(1, seconds)
        if messages and self._source.max_batch_events > 1:
            messages += self._consume(self._source.max_batch_events - 1, _LINGER)
        return messages

    def _consume(self, count: int, seconds: float) -> list[Message]:
        try:
            messages: list[Message] = self._consumer.consume(count, seconds)
        except KafkaException as error:
            self._raise_failure()
            raise unreadable(error.args[0], f"topic {', '.join(self._source.topics)}") from None
        self._raise_failure()
        return messages

    def _fetched(self, messages: list[Message]) -> Prefetch:
        """Take note of what was read."""
        fetched = Prefetch(self._turns, self._lanes)
        errors = [message.error() for message in messages]
        if not [error for error in errors if error is not None]:  # comparing one with None is an error of its own
            self._take(messages, fetched)
            return fetched
        for message, error in zip(messages, errors, strict=True):
            if error is None:
                self._take([message], fetched)
            else:
                self._check(error, _partition(message), message.offset())
        return fetched

    def _take(self, messages: list[Message], fetched: Prefetch) -> None:
        """Records come in runs of a partition."""
        first = 0
        for spot, run in groupby([(message.topic(), message.partition()) for message in messages]):
            last = first + len(list(run))
            partition = self._partitions.get(spot)
            # Else fetched before the partition changed hands or was held.
            if partition is not None and partition not in self._held:
                # So that those stay out which were fetched before it began anew.
                self._next[partition] = fetched.add(partition, self._next[partition], messages[first:last])
            first = last

    def _batch(self, fetched: Prefetch) -> EventBatch | None:
        batch = fetched.batch(self._decoder, self._turns)
        if batch is None:
            self._lag.idle()
        else:
            self._lag.read(batch.newest())
        return batch

    def _check(self, error: KafkaError, partition: Partition, offset: int | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            # Of a partition that is held or paused, records before its end are still to be read again.
            if offset is not None and partition in self._next and partition not in self._held:
                self._lag.end(partition, self._next[partition], offset)
            return
        if error.code() in _PASSING and not error.fatal():
            log.debug("the brokers have a moment", reason=error.str())
            return
        raise unreadable(error, str(partition) if partition.topic else "a topic")

    # The group.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(lambda: self._assign(consumer, partitions))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._guarded(lambda: self._release(partitions))

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        wanted = [Partition(one.topic, one.partition) for one in partitions]
        try:
            begin = self._claim(wanted)
        except ConnectionLost as error:
            # The group must not wait for the database: they are ours, and are claimed once it is back.
            log.warning("partitions are claimed later", partitions=_listed(wanted), reason=error.fact)
            self._unclaimed.update(wanted)
            consumer.incremental_assign([TopicPartition(*one, OFFSET_END) for one in wanted])
            consumer.pause([TopicPartition(*one) for one in wanted])
            return
        self._claimed(begin)
        consumer.incremental_assign([TopicPartition(p.topic, p.number, begin[p]) for p in wanted])

    def _release(self, partitions: list[TopicPartition]) -> None:
        gone = [Partition(one.topic, one.partition) for one in partitions]
        for partition in gone:
            self._next.pop(partition, None)
            self._held.pop(partition, None)
            self._partitions.pop(partition, None)
            self._turns[partition] += 1
        self._resting -= set(gone)
        self._unclaimed.difference_update(gone)
        self._lag.released(gone)
        self._group.released(gone)
        self._claims.release(gone)
        if gone:
            log.info("gave partitions up", partitions=_listed(gone))

    def _claim(self, partitions: list[Partition]) -> Mapping[Partition, int]:
        if not partitions:
            return {}
        ids = self._topics.ids(partitions)
        begin = self._claims.claim(partitions, lambda one: self._topics.firsts([one])[one], ids)
        self._topics.claimed(ids)
        return begin

    def _claimed(self, begin: Mapping[Partition, int]) -> None:
        self._turn(begin)
        self._lag.claimed(begin)
        self._group.claimed(begin)
        if begin:
            log.info("took partitions over", offsets=str(PartitionOffsets(begin)))

    def _claim_again(self) -> None:
        """What could not be claimed when it was assigned."""
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
        self._begin(begin)

    # Partitions that wait.

    def _hold(self, partition: Partition, offset: int, seconds: float) -> None:
        if partition in self._next:
            self._consumer.pause([TopicPartition(*partition)])
            self._turn({partition: offset})
            self._held[partition] = time.monotonic() + seconds

    def _release_held(self) -> None:
        due = [partition for partition, when in self._held.items() if time.monotonic() >= when]
        for partition in due:
            del self._held[partition]
        self._begin({partition: self._next[partition] for partition in due})

    def _rest(self) -> None:
        """Read partitions no further that have too much that is not applied, until they have less."""
        full = self._unapplied.partitions if self._unapplied.full else frozenset()
        rested = {one for one in self._resting - full if one in self._next and one not in self._held}
        self._consumer.pause([TopicPartition(*one) for one in full - self._resting])
        self._consumer.resume([TopicPartition(*one) for one in rested])
        self._resting = full

    def _turn(self, offsets: Mapping[Partition, int]) -> None:
        """Partitions begin anew there: what was read of them before counts no more."""
        self._next.update(offsets)
        self._turns.update(offsets.keys())
        self._partitions.update((partition, partition) for partition in offsets)

    def _begin(self, offsets: Mapping[Partition, int]) -> None:
        """Read assigned partitions from there on."""
        self._turn(offsets)
        places = [TopicPartition(p.topic, p.number, offset) for p, offset in offsets.items()]
        if not places:
            return
        try:
            # Assigned anew, not sought: seeking fails where fetching has not begun yet.
            self._consumer.incremental_unassign(places)
            self._consumer.incremental_assign(places)
            self._consumer.resume(places)
        except KafkaException as error:
            raise unreadable(error.args[0], _listed(offsets)) from None

    def _guarded(self, work: Callable[[], None]) -> None:
        """An exception must not run through librdkafka's frames: it is raised by the read that called back."""
        try:
            work()
        except PycdcError as error:
            self._failure = self._failure or error
        except KafkaException as error:
            self._failure = self._failure or unreadable(error.args[0], "a partition that was assigned")

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def _partition(message: Message) -> Partition:
    return Partition(message.topic() or "", message.partition() or 0)


def _listed(partitions: Iterable[Partition]) -> str:
    return ", ".join(map(str, sorted(partitions)))


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


def _subscription(topic: str) -> str:
    """librdkafka takes a name that begins with ``^`` as a regular expression."""
    return f"^{expression(topic).pattern}$" if "*" in topic else topic

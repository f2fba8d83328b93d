"""Topics of Kafka as a source: one process of a consumer group, resumed where the database says.

`KafkaConnector` puts these together: `PartitionClaims` answers the group, `AssignedPartitions` knows where each
partition is read on, `RecordReader` reads, `Prefetch` decodes.

Invariants:

1. A partition begins at the offset that `claims` tells, never at the group's own. The group's offsets are kept for
   those who look at them (lag), and decide nothing but that the group works for this database.
2. Whoever claims a partition shuts out its former owner, in the database, before the first record is read.
3. When the group takes a partition away, nothing of it is in flight: batches are applied and committed one by one, and
   the group only speaks while the next one is asked for. What was read ahead of a partition that went, was held or
   began anew is left out: its generation has changed.
4. A partition that the sink cannot take further, and every partition while the sink is away, is paused: the group is
   served on, and nothing that was fetched meanwhile is kept. One that needs what others bring is read on: see
   `Unapplied`.

Partitions move one by one (cooperative-sticky): the eager protocol takes all of them away whenever a process comes or
goes, and every claim costs a transaction and what was fetched.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message

from pycdc.clients.kafka_errors import SOURCE_OPTIONS, LastError, refused_option
from pycdc.clients.kafka_settings import consumer_settings
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.config.pipeline import ApplyPipeline
from pycdc.connectors.kafka.assigned_partitions import AssignedPartitions
from pycdc.connectors.kafka.broker_liveness import BrokerLiveness
from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.consumer_group import ConsumerGroup
from pycdc.connectors.kafka.consumer_lag import ConsumerLag
from pycdc.connectors.kafka.offset_range_reader import event_at
from pycdc.connectors.kafka.partition_claims import PartitionClaims
from pycdc.connectors.kafka.prefetch import MANY, Prefetch, portions
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.connectors.kafka.record_reader import RecordReader
from pycdc.connectors.kafka.source_topics import SourceTopics, subscription
from pycdc.connectors.kafka.unapplied import Unapplied
from pycdc.engine_interfaces import Claims, ColumnarTargets
from pycdc.errors import ConfigError
from pycdc.model.event import Applied, EventBatch, Partition
from pycdc.observability.progress import Progress

_POLL: Final = 0.1
"""Seconds without records after which the pipeline gets its turn."""
_WAITING: Final = 4
"""Times `max_batch_bytes`: how much is kept of events that wait for others."""


class KafkaConnector:
    """A `Source` of `EventBatch`. `registry` is closed with it; None: no record is read as Avro.

    `columnar_targets` are the sink's, where it has any.
    """

    def __init__(
        self,
        config: ApplyPipeline,
        claims: Claims,
        registry: SchemaRegistry | None,
        progress: Progress | None = None,
        columnar_targets: ColumnarTargets | None = None,
    ) -> None:
        source = config.source.kafka
        group = config.group
        self._source = source
        self._claims = claims
        self._registry = registry
        self._progress = progress = progress or Progress()
        self._topics = topics = SourceTopics(source)
        forms = (None if registry is None else registry.text_for, source.format, source.key_format, source.values)
        # One of its own: it is asked by another thread than the one that decodes.
        record_at = partial(event_at, source, group, Decoder(*forms))
        self._decoder = Decoder(*forms, record_at)
        self._columnar_decoder = None if columnar_targets is None else ColumnarDecoder(self._decoder, columnar_targets)
        trouble = LastError()
        liveness = BrokerLiveness(progress, f"the brokers of source.kafka at {source.brokers}", trouble)
        self._consumer = consumer = _consumer(source, group, trouble, liveness)
        self._partitions = partitions = AssignedPartitions(consumer)
        self._lag = lag = ConsumerLag(consumer, progress, liveness.answered)
        self._group = ConsumerGroup(consumer, topics.inspection, group, source.brokers)
        self._partition_claims = PartitionClaims(claims, topics, partitions, lag, self._group)
        self._reader = RecordReader(consumer, source, partitions, lag, self._partition_claims.raise_failure)
        kept = _WAITING * source.max_batch_bytes
        self._unapplied = Unapplied(source.max_waiting_events, kept, partitions.generations)
        self._closed = False

    def batches(self, start: Applied | None) -> Iterator[EventBatch | None]:
        """See `Source.batches`. `start` is not needed: each partition's is told by its claim."""
        self._topics.require()
        self._group.begin(self._claims.database())
        self._topics.begin(self._claims)
        self._consumer.subscribe(
            [subscription(topic) for topic in self._source.topics],
            on_assign=self._partition_claims.on_assign,
            on_revoke=self._partition_claims.on_revoke,
            on_lost=self._partition_claims.on_revoke,
        )
        self._progress.state = "streaming"
        ahead: deque[Prefetch] = deque()
        with ThreadPoolExecutor(1, "pycdc-decode") as executor:
            while True:
                read = self._read(_POLL if not ahead else 0.0)
                for messages in portions(read, self._source.max_batch_bytes):
                    ahead.append(self._prefetch(messages))
                    ahead[-1].decode_ahead(self._decoder, executor)
                if not ahead:
                    self._lag.idle()
                    yield self._unapplied.grown(None)
                while len(ahead) > (1 if len(read) >= MANY else 0):
                    yield self._unapplied.grown(self._batch(ahead.popleft()))

    def checkpoint(self, batch: EventBatch) -> Applied:
        """Return the position behind the batch."""
        assert batch.position is not None
        return Applied(batch.position)

    def acknowledge(self, checkpoint: Applied) -> None:
        """Commit to the group, for whoever watches its lag, and let partitions wait that cannot be taken further."""
        unapplied = {event.partition for event in checkpoint.unapplied}
        for partition, seconds in checkpoint.held.items():
            if partition not in unapplied:
                self._partitions.hold(partition, checkpoint.position.next[partition], seconds)
        if unapplied or self._partitions.any_paused:
            pause = min((checkpoint.held[partition] for partition in unapplied), default=0.0)
            self._unapplied.keep(checkpoint.unapplied, checkpoint.position, pause)
            self._partitions.pause_full(self._unapplied.partitions if self._unapplied.full else frozenset())
        self._lag.applied(checkpoint.position.next)
        self._group.applied(checkpoint.position.next)

    def wait(self, seconds: float) -> None:
        """See `ReconnectableSource.wait`. What comes all the same is read again after `rewind`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._consumer.pause(self._consumer.assignment())
            self._reader.discard(left)

    def rewind(self) -> None:
        """See `ReconnectableSource.rewind`."""
        self._partition_claims.claim_again([Partition(one.topic, one.partition) for one in self._consumer.assignment()])
        self._progress.state = "streaming"

    def close(self) -> None:
        """Leave the group and close the registry. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._consumer.close()
            if self._registry is not None:
                self._registry.close()

    def _read(self, seconds: float) -> list[Message]:
        """Return what came within the poll time, after what is due of partitions, topics and the group."""
        self._partition_claims.retry()
        self._partitions.release_held()
        self._topics.check()
        self._group.check()
        return self._reader.read(seconds)

    def _prefetch(self, messages: list[Message]) -> Prefetch:
        """Take note of what was read."""
        prefetch = Prefetch(self._partitions.generations, self._columnar_decoder)
        for records in self._reader.records(messages):
            self._partitions.add_to(prefetch, records)
        return prefetch

    def _batch(self, prefetch: Prefetch) -> EventBatch | None:
        batch = prefetch.batch(self._decoder, self._partitions.generations)
        if batch is None:
            self._lag.idle()
        else:
            self._lag.read(batch.newest())
        return batch


def _consumer(source: KafkaSourceConfig, group: str, trouble: LastError, liveness: BrokerLiveness) -> Consumer:
    settings = consumer_settings(source, group)
    try:
        return Consumer({**settings, "error_cb": trouble, "stats_cb": liveness})
    except KafkaException as error:
        raise refused_option(error, SOURCE_OPTIONS) from None
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"librdkafka refuses the options ({type(error).__name__})", hint="correct source.kafka.options"
        ) from None

"""Records and position become visible together or not at all, whoever else writes and whatever goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig, TopicsConfig
from pycdc.errors import DeliveryError, PycdcError, RecordTooLarge, SinkFenced
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.kafka import SETTINGS, KafkaOffsetStore
from pycdc.sinks.kafka.transactional import FencedOffsets, TransactionalKafkaSink
from tests.reading import PATIENCE, wait_for
from tests.services.kafka import KafkaAddress
from tests.sinks.kafka.records import GivenRecords, Groups, numbered

Instance = tuple[TransactionalKafkaSink, FencedOffsets]
Open = Callable[..., Instance]


def checkpoint(lsn: int) -> Checkpoint:
    return Checkpoint(Position(Lsn(lsn)), source={"slot": "s"})


@pytest.fixture
def open_sink(kafka: KafkaAddress, topic_prefix: str) -> Iterator[Open]:
    """Instances of one pipeline: `open_sink(*batches, **settings)`; not fenced yet."""
    opened: list[Instance] = []

    def open_one(*batches: Groups, bootstrap: str = kafka.bootstrap, **more: Any) -> Instance:
        more.setdefault("topics", TopicsConfig(replication=1))
        settings = KafkaSinkConfig(brokers=bootstrap, format="json", delivery="exactly_once", **more)
        client = {"bootstrap.servers": bootstrap, "log_level": 0}
        topics = TopicAdmin(client, TopicsConfig(replication=1, settings=dict(SETTINGS)))
        offsets = FencedOffsets(
            KafkaOffsetStore(client, f"{topic_prefix}-offsets", topic_prefix, topics), f"pycdc-{topic_prefix}"
        )
        opened.append((TransactionalKafkaSink(GivenRecords(*batches), settings, offsets), offsets))
        return opened[-1]

    yield open_one
    for sink, offsets in opened:
        sink.close()
        offsets.close()


def values(kafka: KafkaAddress, topic: str) -> list[bytes]:
    return [message.value() for message in kafka.consume_all(topic)]


def test_nothing_is_visible_before_the_position_is(kafka: KafkaAddress, topic_prefix: str, open_sink: Open) -> None:
    sink, offsets = open_sink([(topic_prefix, numbered(0, 3))], [(topic_prefix, numbered(3, 5))])
    assert offsets.load() is None
    sink.write(Batch())
    sink.write(Batch())
    assert sink.uncommitted
    wait_for(lambda: len(kafka.consume_all(topic_prefix, isolation="read_uncommitted")) == 5)
    assert values(kafka, topic_prefix) == []
    sink.commit(checkpoint(100))
    assert not sink.uncommitted
    assert values(kafka, topic_prefix) == [b"%d " % n for n in range(5)]
    stored = open_sink()[1].load()
    assert stored is not None
    assert stored.position == Position(Lsn(100))
    assert stored.cluster == kafka.admin().list_topics(timeout=60).cluster_id


def test_a_newer_instance_ends_an_older_one_and_what_it_had_begun(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    older, first = open_sink([(topic_prefix, numbered(0, 3))], [(topic_prefix, numbered(3, 6))])
    first.load()
    older.write(Batch())
    older.commit(checkpoint(100))
    older.write(Batch())
    newer, second = open_sink([(topic_prefix, numbered(3, 6))])
    stored = second.load()
    assert stored is not None
    assert stored.position == Position(Lsn(100))
    with pytest.raises(SinkFenced):
        older.commit(checkpoint(200))
    newer.write(Batch())
    newer.commit(checkpoint(200))
    assert values(kafka, topic_prefix) == [b"%d " % n for n in range(6)]


@pytest.mark.parametrize("fault", ["the serializer", "a record that is too large"])
def test_after_a_fault_nothing_of_the_transaction_is_visible_and_it_can_come_again(
    fault: str, kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    """librdkafka would commit a transaction without a record that it refused."""
    kafka.create_topic(topic_prefix)
    good = [(topic_prefix, numbered(0, 3))]
    large = [(topic_prefix, [{"key": b"k", "value": b"x" * 60_000}])]
    given = [good, large] if fault == "a record that is too large" else [good]
    sink, offsets = open_sink(*given, options={"message.max.bytes": 50_000})
    offsets.load()
    sink.write(Batch())
    with pytest.raises((IndexError, RecordTooLarge)):
        sink.write(Batch())
    with pytest.raises(DeliveryError, match="cannot go on"):
        sink.commit(checkpoint(200))
    sink.close()
    heir, again = open_sink(good)
    assert again.load() is None
    heir.write(Batch())
    heir.commit(checkpoint(100))
    assert values(kafka, topic_prefix) == [b"%d " % n for n in range(3)]


def test_librdkafka_commits_a_transaction_without_the_record_that_it_refused(
    kafka: KafkaAddress, topic_prefix: str
) -> None:
    """The fact that the rule above is for."""
    kafka.create_topic(topic_prefix)
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "transactional.id": topic_prefix,
            "message.max.bytes": 2000,
            "log_level": 0,
        }
    )
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce(topic_prefix, b"one")
    with pytest.raises(KafkaException):
        producer.produce(topic_prefix, b"x" * 5000)
    producer.commit_transaction(PATIENCE)
    assert values(kafka, topic_prefix) == [b"one"]


def test_a_transaction_that_brokers_gave_up_is_no_other_instance(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open
) -> None:
    """Brokers fence its producer all the same; but nobody took over, so the pipeline goes on."""
    sink, offsets = open_sink([(topic_prefix, numbered(0, 3))], transaction_timeout=1.0)
    offsets.load()
    sink.write(Batch())
    _, second = open_sink()

    def given_up() -> bool:
        # Read from outside: fencing would end the transaction by itself.
        return kafka.consume_all(topic_prefix, isolation="read_uncommitted") != [] and _stable(kafka, topic_prefix)

    wait_for(given_up)
    with pytest.raises(PycdcError) as caught:
        sink.commit(checkpoint(100))
    assert caught.value.retry
    assert second.load() is None


def _stable(kafka: KafkaAddress, topic: str) -> bool:
    """Whether no transaction is open: a marker's offset lies behind the records."""
    admin = kafka.admin()
    ends: list[int] = []
    for isolation in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
        partition = TopicPartition(topic, 0)
        answer = admin.list_offsets({partition: OffsetSpec.latest()}, isolation_level=isolation)[partition]
        ends.append(answer.result(PATIENCE).offset)
    return ends[0] == ends[1]


@pytest.mark.exclusive
def test_a_commit_that_is_not_answered_ends_the_sink_and_the_stored_position_decides(
    kafka: KafkaAddress, topic_prefix: str, open_sink: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, offsets = open_sink([(topic_prefix, numbered(0, 3))], options={"socket.timeout.ms": 2000})
    offsets.load()
    sink.write(Batch())
    flush = sink._flush

    def flush_and_pause() -> None:
        flush()
        kafka.pause()

    monkeypatch.setattr(sink, "_flush", flush_and_pause)
    try:
        with pytest.raises(DeliveryError, match="not known"):
            sink.commit(checkpoint(100))
        with pytest.raises(DeliveryError, match="cannot go on"):
            sink.write(Batch())
    finally:
        kafka.resume()
    sink.close()
    heir, again = open_sink([(topic_prefix, numbered(0, 3))])
    if again.load() is None:
        heir.write(Batch())
        heir.commit(checkpoint(100))
    assert values(kafka, topic_prefix) == [b"%d " % n for n in range(3)]

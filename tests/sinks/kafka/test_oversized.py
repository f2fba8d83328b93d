"""A logical message of any size ends nothing: what Kafka does not take goes to the dead letters in parts."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from pycdc.config.kafka import KafkaSinkConfig, TopicsConfig
from pycdc.errors import RecordTooLarge
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.kafka.oversized import Oversized
from pycdc.sinks.kafka.producer import KafkaSink
from tests.services.kafka import KafkaAddress
from tests.sinks.kafka.records import GivenRecords, is_complete_and_ordered, numbered, numbers


def sink_of(records: GivenRecords, kafka: KafkaAddress, oversized: Oversized, **options: str | int) -> KafkaSink:
    settings = KafkaSinkConfig(
        brokers=kafka.bootstrap, format="json", topics=TopicsConfig(replication=1), options=dict(options)
    )
    return KafkaSink(records, settings, MemoryOffsetStore(), oversized=oversized)


def deliver(sink: KafkaSink) -> None:
    sink.write(Batch())
    sink.commit(Checkpoint(Position(Lsn(1))))


@pytest.mark.parametrize("how", ["the broker", "the client"])
def test_a_logical_message_that_is_too_large_goes_to_the_dead_letters_in_parts_and_the_rest_goes_on(
    kafka: KafkaAddress, topic_prefix: str, how: str
) -> None:
    source, target = f"{topic_prefix}.message", f"{topic_prefix}.dead-letter"
    kafka.create_topic(source, config={"max.message.bytes": "20000"})
    kafka.create_topic(target, config={"max.message.bytes": "30000"})
    counted: list[str] = []
    large = random.Random(1).randbytes(150_000)
    records = [*numbered(0, 20), {"key": b"k0", "value": large}, *numbered(20, 40)]
    options = {"message.max.bytes": 100_000} if how == "the client" else {}
    groups = [(source, records), (f"{topic_prefix}.t", numbered(0, 40))], [(source, numbered(40, 60))]
    with closing(sink_of(GivenRecords(*groups), kafka, Oversized(source, target, counted.append), **options)) as sink:
        deliver(sink)
        deliver(sink)
    assert is_complete_and_ordered(numbers(kafka, source), 60)
    assert is_complete_and_ordered(numbers(kafka, f"{topic_prefix}.t"), 40)
    parts = kafka.consume_all(target)
    assert b"".join(part.value() for part in parts) == large
    assert {part.key() for part in parts} == {b"k0"}
    headers = dict(parts[0].headers())
    assert headers["__pycdc.error"] == b"RecordTooLarge"
    assert headers["__pycdc.part"] == b"1/%d" % len(parts)
    assert headers["__pycdc.topic"] == source.encode()
    assert counted == [source]


def test_a_row_that_is_too_large_still_ends_the_sink_where_messages_are_set_aside(
    kafka: KafkaAddress, topic_prefix: str
) -> None:
    kafka.create_topic(topic_prefix, config={"max.message.bytes": "10000"})
    record = {"key": b"k", "value": random.Random(1).randbytes(60_000)}
    oversized = Oversized(f"{topic_prefix}.message", f"{topic_prefix}.dead-letter", lambda topic: None)
    given = GivenRecords([(topic_prefix, [record])])
    with closing(sink_of(given, kafka, oversized)) as sink, pytest.raises(RecordTooLarge):
        deliver(sink)

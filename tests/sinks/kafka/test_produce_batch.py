"""The facts about librdkafka that the sink rests on. If one of these fails after an upgrade, read producer.py again."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

from tests.services.kafka import KafkaAddress

pytestmark = pytest.mark.kafka_mock_ok


def producer_for(kafka: KafkaAddress, **options: Any) -> Producer:
    settings = {name.replace("_", "."): value for name, value in options.items()}
    return Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0, **settings})


def codes(records: list[dict[str, Any]]) -> list[int]:
    return [record["_error"].code() if "_error" in record else 0 for record in records]


def test_a_full_queue_refuses_a_suffix_and_raises_nothing(kafka: KafkaAddress, topic_prefix: str) -> None:
    kafka.create_topic(topic_prefix)
    producer = producer_for(kafka, queue_buffering_max_messages=10, linger_ms=5000)
    records: list[dict[str, Any]] = [{"key": None, "value": b"%d" % n} for n in range(25)]
    assert producer.produce_batch(topic_prefix, records) == 10
    assert codes(records) == [0] * 10 + [KafkaError._QUEUE_FULL] * 15
    assert producer.flush(10) == 0
    assert [message.value() for message in kafka.consume_all(topic_prefix)] == [b"%d" % n for n in range(10)]


def test_a_record_that_is_too_large_is_marked_and_those_after_it_are_taken(
    kafka: KafkaAddress, topic_prefix: str
) -> None:
    producer = producer_for(kafka, message_max_bytes=1000)
    records: list[dict[str, Any]] = [{"key": None, "value": b"x" * size} for size in (10, 2000, 10)]
    assert producer.produce_batch(topic_prefix, records) == 2
    assert codes(records) == [0, KafkaError.MSG_SIZE_TOO_LARGE, 0]
    producer.purge()


def test_headers_and_partitions_of_a_batch_are_ignored(kafka: KafkaAddress, topic_prefix: str) -> None:
    kafka.create_topic(topic_prefix, partitions=4)
    producer = producer_for(kafka)
    for partition in range(4):
        record = {"key": b"same", "value": b"", "partition": partition, "headers": [("h", b"1")]}
        assert producer.produce_batch(topic_prefix, [record]) == 1
    assert producer.flush(10) == 0
    found = kafka.consume_all(topic_prefix)
    assert len({message.partition() for message in found}) == 1
    assert {message.headers() for message in found} == {None}


def test_a_null_value_is_a_tombstone_and_an_empty_one_is_not(kafka: KafkaAddress, topic_prefix: str) -> None:
    kafka.create_topic(topic_prefix)
    producer = producer_for(kafka)
    producer.produce_batch(topic_prefix, [{"key": b"k", "value": None}, {"key": b"k", "value": b""}])
    assert producer.flush(10) == 0
    assert [message.value() for message in kafka.consume_all(topic_prefix)] == [None, b""]


def test_keys_go_where_javas_partitioner_puts_them(kafka: KafkaAddress, topic_prefix: str) -> None:
    """org.apache.kafka.clients.producer.internals.BuiltInPartitioner: toPositive(murmur2(key)) % partitions."""
    kafka.create_topic(topic_prefix, partitions=4)
    producer = producer_for(kafka, partitioner="murmur2_random")
    keys = [b"\0\0\0\0\x01" + bytes([n]) for n in range(32)]
    producer.produce_batch(topic_prefix, [{"key": key, "value": b""} for key in keys])
    assert producer.flush(10) == 0
    found = {message.key(): message.partition() for message in kafka.consume_all(topic_prefix)}
    assert found == {key: (murmur2(key) & 0x7FFFFFFF) % 4 for key in keys}


def murmur2(data: bytes) -> int:
    """Kafka's variant: seed 0x9747b28c, little-endian words, 32 bits."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if tail := data[whole:]:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15

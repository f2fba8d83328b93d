"""Reads topics as a plain consumer does: from the broker, decoded by registry id."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def wait_for(condition: Callable[[], Any], timeout: float = 60.0) -> None:
    """Return once `condition` holds; fail when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


@dataclass(frozen=True)
class Read:
    offset: int
    key: Any
    value: Any
    headers: list[tuple[str, bytes]]
    size: int


class Reader:
    """Keeps what was read of each topic, so that asking again only reads what is new."""

    def __init__(self, brokers: str, registry: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": brokers, "group.id": "reader", "enable.auto.commit": False, "log_level": 3}
        )
        self._registry = SchemaRegistryClient({"url": registry})
        self._decode = AvroDeserializer(self._registry)
        self._records: dict[str, list[Read]] = {}

    def read(self, topic: str) -> list[Read]:
        """All records of the topic's first partition, as far as the broker has them now."""
        records = self._records.setdefault(topic, [])
        if topic not in self._consumer.list_topics(timeout=10).topics:
            return records
        partition = TopicPartition(topic, 0, records[-1].offset + 1 if records else 0)
        _, high = self._consumer.get_watermark_offsets(partition, timeout=10)
        if high <= partition.offset:
            return records
        self._consumer.assign([partition])
        while not records or records[-1].offset < high - 1:
            for message in self._consumer.consume(min(500, high - partition.offset), 0.2):
                assert message.error() is None, message.error()
                records.append(self._read(message))
        return records

    def close(self) -> None:
        self._consumer.close()
        self._registry.close()

    def _read(self, message: Any) -> Read:
        key = self._decode(message.key(), SerializationContext(message.topic(), MessageField.KEY))
        value = self._decode(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
        size = len(message.value() or b"")
        return Read(message.offset(), key, value, message.headers() or [], size)

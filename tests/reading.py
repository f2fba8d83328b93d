"""Reads topics as a plain consumer does: from the broker, decoded by registry id.

With fastavro, because Confluent's deserialiser walks the whole schema for each record, which these volumes do not bear;
`test_end_to_end` reads with theirs.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient

PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._UNKNOWN_PARTITION,
}
"""What is answered of a topic that is just being made, or whose broker is just coming back."""
PATIENCE = 180.0
"""Seconds after which what is waited for counts as missing: what a test that passes needs on a machine ten times too
busy. It costs nothing but where something is wrong."""
_STUCK = 20.0
"""Seconds after which a reader connects anew: once, a client never found its broker again that had been stopped.

A broker that was stopped for longer than its session with the controller answers for a moment that there are topics
and no brokers. librdkafka 2.16 gives up the broker that it knows then and begins anew from `bootstrap.servers`. By its
issue tracker ("Stops Rebootstrap and Clears Brokers on 0 brokers but topic>0") that can end before it found one."""


def wait_for(condition: Callable[[], Any], timeout: float = PATIENCE) -> None:
    """Return once `condition` holds; fail when it does not within `timeout` seconds.

    What takes long to find out (a new connection, a topic that is read whole) is asked for a quarter of the time at
    most: the other tests want the machine too.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if condition():
            return
        answered = time.monotonic()
        assert answered < deadline, "nothing happened in time"
        time.sleep(min(1.0, max(0.02, 3 * (answered - asked))))


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
        self._settings = {
            "bootstrap.servers": brokers,
            "group.id": "reader",
            "enable.auto.commit": False,
            "log_level": 3,
        }
        self._consumer = Consumer(self._settings)
        self._registry = SchemaRegistryClient({"url": registry})
        self._schemas: dict[int, Any] = {}
        self._records: dict[str, list[Read]] = {}

    def read(self, topic: str) -> list[Read]:
        """All records of the topic's first partition, as far as the broker has them now."""
        records = self._records.setdefault(topic, [])
        began = anew = time.monotonic()
        while True:
            try:
                self._read_on(topic, records)
                return records
            except KafkaException as error:
                now = time.monotonic()
                if error.args[0].code() not in PASSING or now > began + PATIENCE:
                    raise
                if now > anew + _STUCK:
                    self._consumer.close()
                    self._consumer, anew = Consumer(self._settings), now
            time.sleep(0.05)

    def _read_on(self, topic: str, records: list[Read]) -> None:
        if topic not in self._consumer.list_topics(timeout=60).topics:
            return
        partition = TopicPartition(topic, 0, records[-1].offset + 1 if records else 0)
        _, high = self._consumer.get_watermark_offsets(partition, timeout=60)
        if high <= partition.offset:
            return
        self._consumer.assign([partition])
        while not records or records[-1].offset < high - 1:
            for message in self._consumer.consume(min(500, high - partition.offset), 0.2):
                if message.error() is not None:
                    raise KafkaException(message.error())
                records.append(self._read(message))

    def close(self) -> None:
        self._consumer.close()
        self._registry.close()

    def _read(self, message: Any) -> Read:
        key, value = self.decode(message.key()), self.decode(message.value())
        return Read(message.offset(), key, value, message.headers() or [], len(message.value() or b""))

    def decode(self, data: bytes | None) -> Any:
        """Decode a key or a value by the schema whose id it begins with."""
        if data is None:
            return None
        assert data[0] == 0
        number = int.from_bytes(data[1:5], "big")
        if number not in self._schemas:
            self._schemas[number] = fastavro.parse_schema(
                json.loads(self._registry.get_schema(number).schema_str or "")
            )
        return fastavro.schemaless_reader(io.BytesIO(data[5:]), self._schemas[number], None)

"""The events as they are in their topics, beside the schemas that were registered for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from fastavro.validation import validate


class RecordedEvents(NamedTuple):
    """How many came of each type, how many came again, and the ids of those that are unlike their schema."""

    kinds: Counter[str]
    repeated: int
    unlike: list[str]


def recorded_events(brokers: str, topics: list[str], schemas: Mapping[str, dict[str, Any]]) -> RecordedEvents:
    """Read all events of `topics`; those that have no schema, commands for instance, are left out."""
    seen: set[str] = set()
    kinds: Counter[str] = Counter()
    repeated, unlike = 0, []
    for headers, value in _records(brokers, topics):
        kind = headers["type"]
        if kind not in schemas:
            continue
        if headers["id"] in seen:
            repeated += 1
            continue
        seen.add(headers["id"])
        kinds[kind] += 1
        payload = json.loads(json.loads(value))
        fields = {field["name"] for field in schemas[kind]["fields"]}
        if not validate(payload, schemas[kind], raise_errors=False) or set(payload) != fields:
            unlike.append(headers["id"])
    return RecordedEvents(kinds, repeated, unlike)


def _records(brokers: str, topics: list[str]) -> list[tuple[dict[str, str], bytes]]:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "recorded-events", "enable.auto.commit": False})
    found = []
    try:
        for topic in topics:
            for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
                partition = TopicPartition(topic, number, OFFSET_BEGINNING)
                left = consumer.get_watermark_offsets(partition, timeout=30)[1]
                consumer.assign([partition])
                while left and (message := consumer.poll(30.0)) is not None:
                    if message.error() is None:
                        headers = message.headers() or []
                        found.append(({name: bytes(value or b"").decode() for name, value in headers}, message.value()))
                        if (message.offset() or 0) + 1 >= left:
                            break
    finally:
        consumer.close()
    return found

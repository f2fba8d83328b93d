"""Reads a topic as a consumer does and tells, of each record, how long ago its row was committed."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from typing import Any

import fastavro
from confluent_kafka import Consumer, TopicPartition

from benchmarks.percentiles import Samples


class Arrivals:
    """Of a topic with one partition, from its beginning. The server's clock has to be this machine's."""

    def __init__(self, brokers: str, registry: str, topic: str, *, every: int = 1) -> None:
        self._every = every
        self._registry = registry
        self._schemas: dict[int, Any] = {}
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "arrivals",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def read(self, samples: Samples | None) -> int:
        """Take what is there, waiting a moment for the first record; how many. Latencies go into `samples`."""
        # `consume` with a timeout waits until it has all that it was asked for, which would be measured too.
        first = self._consumer.poll(0.1)
        if first is None:
            return 0
        now = time.time()
        messages = [first, *self._consumer.consume(1000, 0)]
        if samples is not None:
            for message in messages:
                if message.offset() % self._every:
                    continue
                samples.add(now - self._committed(message.value()))
        return len(messages)

    def _committed(self, value: bytes) -> float:
        """Seconds since the Unix epoch."""
        number = int.from_bytes(value[1:5], "big")
        if number not in self._schemas:
            with urllib.request.urlopen(f"{self._registry}/schemas/ids/{number}") as answer:
                self._schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        record = fastavro.schemaless_reader(io.BytesIO(value[5:]), self._schemas[number], None)
        return float(record["source"]["ts_us"]) / 1e6

    def close(self) -> None:
        self._consumer.close()

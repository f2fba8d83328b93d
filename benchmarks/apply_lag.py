"""From the moment that a record is due at Kafka to the moment that its row is visible, at a fixed rate.

Open loop: a record is due at its place in the schedule, whatever happened to those before it, so that a stall counts
for all that had to wait.
"""

from __future__ import annotations

import threading
import time

import psycopg
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks.figures import Figure, note
from benchmarks.percentiles import Samples
from benchmarks.pipelines import Pipeline, back
from benchmarks.rig import Rig, wait_until
from benchmarks.workload import NARROW

WARM_SECONDS = 2.0


def measure(rig: Rig, filled: str, *, rate: int, seconds: float, limit: int) -> list[Figure]:
    """`filled` is a topic of inserts of ids 1 to `limit`: its records are sent again, at the rate."""
    records = min(limit, int(rate * (seconds + WARM_SECONDS)))
    messages = _first(rig, filled, records)
    topic = rig.kafka.create_topic(f"{rig.name}.paced")
    dsn = rig.database(NARROW.table)
    document = back(rig, f"{rig.name}paced", topic, dsn)
    with Pipeline(rig, document) as pipeline, psycopg.connect(dsn, autocommit=True) as connection:
        wait_until(pipeline, lambda: _claimed(connection), "the pipeline claims its partition")
        sender = _Sender(rig, topic, messages, rate)
        samples = _watch(connection, pipeline, sender, records)
    note(f"apply lag at {rate}/s: {samples.milliseconds()}")
    return [
        Figure(
            f"reverse: due at Kafka to visible, p{level:g}, {rate}/s",
            "ms",
            round(samples.at(level) * 1000, 2),
            better="less",
            points={"pycdc": samples.curve()} if level == 99.0 else {},
        )
        for level in (50.0, 99.0)
    ]


class _Sender:
    """Sends one record each 1/rate seconds, from a thread."""

    def __init__(self, rig: Rig, topic: str, messages: list[Message], rate: int) -> None:
        self._producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "linger.ms": 0})
        self._topic, self._messages, self._rate = topic, messages, rate
        self.started = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def due(self, number: int) -> float:
        return self.started + number / self._rate

    def _run(self) -> None:
        for number, message in enumerate(self._messages):
            wait = self.due(number) - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._producer.produce(self._topic, message.value(), message.key())
            self._producer.poll(0)
        self._producer.flush(30)


def _watch(connection: psycopg.Connection[tuple[int]], pipeline: Pipeline, sender: _Sender, records: int) -> Samples:
    """Ids are in order, so the greatest one tells all that are visible. Looked at as fast as the server answers."""
    samples, seen = Samples(), 0

    def look() -> bool:
        nonlocal seen
        row = connection.execute("SELECT coalesce(max(id), 0) FROM orders", prepare=True).fetchone()
        now, highest = time.monotonic(), row[0] if row else 0
        for number in range(seen, highest):
            if sender.due(number) > sender.started + WARM_SECONDS:
                samples.add(max(0.0, now - sender.due(number)))
        seen = max(seen, highest)
        return seen >= records

    wait_until(pipeline, look, "all records are applied")
    return samples


def _claimed(connection: psycopg.Connection[tuple[int]]) -> bool:
    made = connection.execute("SELECT to_regclass('pycdc.apply_offsets') IS NOT NULL").fetchone()
    if not made or not made[0]:
        return False
    return connection.execute("SELECT 1 FROM pycdc.apply_offsets").fetchone() is not None


def _first(rig: Rig, topic: str, count: int) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": rig.kafka.bootstrap, "group.id": "paced", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages: list[Message] = []
    while len(messages) < count:
        messages += consumer.consume(min(1000, count - len(messages)), 1.0)
    consumer.close()
    return messages

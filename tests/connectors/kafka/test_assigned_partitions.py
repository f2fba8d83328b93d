"""Which partitions are read, from where, and what counts of what was fetched before one began anew."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import KafkaError

from pycdc.config.pipeline import ApplyPipeline
from pycdc.connectors.kafka.assigned_partitions import AssignedPartitions
from pycdc.connectors.kafka.prefetch import Prefetch
from pycdc.connectors.kafka.record_reader import RecordReader
from pycdc.model.event import Partition

A, B = Partition("t", 0), Partition("t", 1)


class Consumer:
    """What a consumer was asked to do with partitions, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[tuple[int, int]]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda places: self.calls.append((name, [(one.partition, one.offset) for one in places]))


class Record:
    def __init__(self, partition: Partition, offset: int, error: KafkaError | None = None) -> None:
        self._partition, self._offset, self._error = partition, offset, error

    def topic(self) -> str:
        return self._partition.topic

    def partition(self) -> int:
        return self._partition.number

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def partitions(consumer: Consumer) -> AssignedPartitions:
    made = AssignedPartitions(consumer)
    made.claim({A: 5, B: 7})
    return made


def taken(partitions: AssignedPartitions, *records: Any) -> int | None:
    partitions.add_to(Prefetch(partitions.generations), list(records))
    return partitions.next_of(A)


def test_records_are_taken_from_where_the_partition_was_claimed(partitions: AssignedPartitions) -> None:
    assert taken(partitions, Record(A, 3), Record(A, 5), Record(A, 6), Record(B, 9)) == 7
    assert partitions.next_of(B) == 10
    assert taken(partitions, Record(Partition("other", 0), 0)) == 7


def test_a_held_partition_is_paused_and_nothing_of_it_counts_until_its_time_is_over(
    partitions: AssignedPartitions, consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = partitions.generations[A]
    partitions.hold(A, 5, 60.0)
    assert partitions.generations[A] == before + 1
    assert taken(partitions, Record(A, 5)) is None
    partitions.release_held()
    assert [name for name, _ in consumer.calls] == ["pause"]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    partitions.release_held()
    assert consumer.calls[1:] == [
        ("incremental_unassign", [(0, 5)]),
        ("incremental_assign", [(0, 5)]),
        ("resume", [(0, 5)]),
    ]
    assert taken(partitions, Record(A, 5)) == 6


def test_partitions_with_too_much_are_paused_once_and_resumed_unless_they_are_held(
    partitions: AssignedPartitions, consumer: Consumer
) -> None:
    partitions.pause_full(frozenset({A, B}))
    partitions.hold(A, 5, 60.0)
    consumer.calls.clear()
    partitions.pause_full(frozenset())
    assert [(name, [number for number, _ in places]) for name, places in consumer.calls] == [
        ("pause", []),
        ("resume", [1]),
    ]


def test_a_partition_that_was_taken_away_is_another_generation_and_is_not_read(partitions: AssignedPartitions) -> None:
    before = partitions.generations[A]
    partitions.forget([A])
    assert partitions.generations[A] > before
    assert taken(partitions, Record(A, 5)) is None


class Ends:
    def __init__(self) -> None:
        self.found: list[tuple[Partition, int, int]] = []

    def end(self, partition: Partition, read: int, end: int) -> None:
        self.found.append((partition, read, end))


def test_the_end_of_a_partition_counts_from_the_last_record_before_it(partitions: AssignedPartitions) -> None:
    ends, reached = Ends(), KafkaError(KafkaError._PARTITION_EOF)
    source = ApplyPipeline.model_validate(
        {
            "name": "back",
            "source": {"kafka": {"brokers": "b:9092", "topics": ["t"], "format": "json"}},
            "sink": {"postgres": {"dsn": "postgresql://x", "routes": [{"topic": "t", "table": "t"}]}},
        }
    ).source.kafka
    reader = RecordReader(Consumer(), source, partitions, ends, lambda: None)  # type: ignore[arg-type]
    prefetch = Prefetch(partitions.generations)
    messages: list[Any] = [Record(A, 5), Record(A, 6), Record(A, 9, reached), Record(B, 7)]
    for records in reader.records(messages):
        partitions.add_to(prefetch, records)
    assert ends.found == [(A, 7, 9)]

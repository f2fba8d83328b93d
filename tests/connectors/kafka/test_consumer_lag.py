from __future__ import annotations

import time

import pytest
from confluent_kafka import TopicPartition

from pycdc.connectors.kafka.consumer_lag import ConsumerLag
from pycdc.model.event import Event, Partition
from pycdc.observability.progress import PartitionPlace, Progress

ZERO, ONE = Partition("items", 0), Partition("items", 1)


class Watermarks:
    """A consumer that has heard of these ends; -1001 is librdkafka's word for not knowing."""

    def __init__(self, **ends: int) -> None:
        self.ends = ends

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self.ends.get(f"{partition.topic}{partition.partition}", -1001)


def event(partition: Partition, age: float) -> Event:
    return Event(partition, 0, int((time.time() - age) * 1000))


def test_a_partition_is_behind_by_the_records_to_its_end() -> None:
    progress = Progress()
    lag = ConsumerLag(Watermarks(items0=10, items1=5), progress)
    lag.claimed({ZERO: 0, ONE: 5})
    lag.read({ZERO: event(ZERO, age=30).timestamp})
    lag.applied({ZERO: 4})
    lag.idle()
    assert progress.partitions[ZERO].behind == 6
    assert progress.partitions[ONE] == PartitionPlace(5, 5, 0.0)
    assert progress.lag_seconds == pytest.approx(30, abs=5)


def test_what_follows_the_last_record_is_no_lag() -> None:
    """A transaction's mark takes an offset, and no record ever comes for it."""
    progress = Progress()
    lag = ConsumerLag(Watermarks(items0=10), progress)
    lag.claimed({ZERO: 0})
    lag.end(ZERO, 9, 10)
    lag.applied({ZERO: 5})
    assert progress.partitions[ZERO].behind == 5
    lag.applied({ZERO: 9})
    assert progress.partitions[ZERO] == PartitionPlace(10, 10, 0.0)
    assert progress.lag_seconds == 0


def test_the_lag_of_an_empty_partition_is_known_as_soon_as_its_end_is() -> None:
    progress = Progress()
    lag = ConsumerLag(Watermarks(), progress)
    lag.claimed({ZERO: 0})
    lag.idle()
    assert progress.lag_seconds is None
    lag.end(ZERO, 0, 0)
    lag.applied({ZERO: 0})
    assert progress.lag_seconds == 0


def test_a_partition_that_was_given_up_is_not_told_any_more() -> None:
    progress = Progress()
    lag = ConsumerLag(Watermarks(items0=10), progress)
    lag.claimed({ZERO: 0})
    lag.applied({ZERO: 4})
    lag.released([ZERO, ONE])
    assert not progress.partitions


def test_a_partition_whose_broker_did_not_answer_for_long_is_not_told_to_have_caught_up() -> None:
    """A large record may be on its way; the bytes of it, and of heartbeats, say nothing of the end."""
    progress = Progress(last_message=time.monotonic())
    lag = ConsumerLag(Watermarks(items0=4), progress, {ZERO: time.monotonic() - 30}.__getitem__)
    lag.claimed({ZERO: 0})
    lag.applied({ZERO: 4})
    assert progress.lag_seconds == pytest.approx(30, abs=5)
    assert progress.place_behind(progress.partitions[ZERO]) is None

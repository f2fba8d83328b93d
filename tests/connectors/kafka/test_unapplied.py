"""Events that could not be applied alone: when they come again, with what, and what is left out of them."""

from __future__ import annotations

from collections import Counter

import pytest

from pycdc.connectors.kafka.unapplied import Unapplied
from pycdc.model.event import Event, EventBatch, Partition, PartitionOffsets

A, B = Partition("a", 0), Partition("b", 0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def generations() -> Counter[Partition]:
    return Counter()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unapplied(generations: Counter[Partition], clock: Clock) -> Unapplied:
    return Unapplied(100, 1000, generations, clock)


def events(partition: Partition, *offsets: int, size: int = 1) -> list[Event]:
    return [Event(partition, offset, 0, raw_value=b"x" * size) for offset in offsets]


def batch(partition: Partition, *offsets: int) -> EventBatch:
    return EventBatch(
        events(partition, *offsets), PartitionOffsets({partition: offsets[-1] + 1}), starts={partition: offsets[0]}
    )


def places(batch: EventBatch | None) -> list[str]:
    return [] if batch is None else [str(event) for event in batch.events]


def test_a_batch_passes_while_nothing_waits(unapplied: Unapplied) -> None:
    passing = batch(A, 0)
    assert unapplied.grown(passing) is passing
    assert unapplied.grown(None) is None


def test_what_waits_comes_again_with_what_follows_from_where_it_is_stored(unapplied: Unapplied) -> None:
    unapplied.keep(events(A, 3), PartitionOffsets({A: 3, B: 9}), 1.0)
    grown = unapplied.grown(batch(B, 9))
    assert places(grown) == ["a[0] offset 3", "b[0] offset 9"]
    assert grown is not None
    assert grown.position is not None
    assert (grown.starts, grown.position.next) == ({A: 3, B: 9}, {A: 4, B: 10})
    assert not unapplied


def test_its_own_partition_is_read_on_behind_it(unapplied: Unapplied) -> None:
    unapplied.keep(events(A, 3), PartitionOffsets({A: 3}), 1.0)
    grown = unapplied.grown(batch(A, 4, 6))
    assert grown is not None
    assert grown.position is not None
    assert (grown.starts, grown.position.next) == ({A: 3}, {A: 7})


def test_many_come_again_once_as_many_followed_or_nothing_follows(unapplied: Unapplied) -> None:
    unapplied.keep(events(A, 1, 2, 3), PartitionOffsets({A: 1}), 1.0)
    assert unapplied.grown(None) is None
    assert unapplied.grown(batch(B, 1)) is None
    assert len(places(unapplied.grown(batch(B, 2, 3)))) == 6
    unapplied.keep(events(A, 1, 2, 3), PartitionOffsets({A: 1}), 1.0)
    assert unapplied.grown(batch(B, 4)) is None
    assert len(places(unapplied.grown(None))) == 4


def test_though_nothing_follows_it_comes_again_after_its_seconds_and_a_rest(unapplied: Unapplied, clock: Clock) -> None:
    unapplied.keep(events(A, 1), PartitionOffsets({A: 1}), 1.0)
    clock.now = 0.9
    assert unapplied.grown(None) is None
    clock.now = 1.0
    assert len(places(unapplied.grown(None))) == 1
    clock.now = 3.0  # the attempt took two seconds
    unapplied.keep(events(A, 1), PartitionOffsets({A: 1}), 1.0)
    clock.now = 10.9
    assert unapplied.grown(None) is None
    clock.now = 11.0
    assert len(places(unapplied.grown(None))) == 1


def test_a_partition_that_began_anew_is_left_out(unapplied: Unapplied, generations: Counter[Partition]) -> None:
    unapplied.keep(events(A, 1) + events(B, 5), PartitionOffsets({A: 1, B: 5}), 1.0)
    generations[A] += 1
    grown = unapplied.grown(batch(B, 6, 7))
    assert places(grown) == ["b[0] offset 5", "b[0] offset 6", "b[0] offset 7"]
    unapplied.keep(events(A, 1), PartitionOffsets({A: 1}), 1.0)
    generations[A] += 1
    grown = unapplied.grown(batch(A, 1, 2))
    assert grown is not None
    assert grown.starts == {A: 1}
    assert places(grown) == ["a[0] offset 1", "a[0] offset 2"]
    unapplied.keep(events(A, 1), PartitionOffsets({A: 1}), 0.0)
    generations[A] += 1
    assert unapplied.grown(None) is None


@pytest.mark.parametrize(("count", "size", "full"), [(99, 1, False), (100, 1, True), (1, 999, False), (1, 1000, True)])
def test_it_is_full_by_events_and_by_bytes(unapplied: Unapplied, count: int, size: int, full: bool) -> None:
    unapplied.keep(events(A, *range(count), size=size), PartitionOffsets({A: 0}), 1.0)
    assert unapplied.full is full
    assert unapplied.partitions == {A}

"""A null value behind the delete of its key says nothing new; one that stands alone is a delete."""

from __future__ import annotations

from pycdc.events import Event, Partition
from pycdc.sinks.postgres.tombstones import Tombstones

A, B = Partition("a", 0), Partition("a", 1)


def removal(partition: Partition, offset: int, key: bytes) -> Event:
    return Event(partition, offset, 0, deleted=True, raw_key=key, raw_value=b"{}")


def null(partition: Partition, offset: int, key: bytes | None) -> Event:
    return Event(partition, offset, 0, deleted=True, raw_key=key)


def test_it_repeats_the_delete_right_before_it_in_its_partition() -> None:
    batch = [removal(A, 4, b"1"), removal(B, 9, b"2"), null(A, 5, b"1"), null(B, 10, b"3"), null(A, 6, b"1")]
    tombstones = Tombstones()
    assert [tombstones.repeats(event, batch) for event in batch] == [False, False, True, False, True]


def test_its_delete_may_be_the_last_record_of_the_batch_before() -> None:
    tombstones = Tombstones()
    alone = [null(A, 5, b"1")]
    assert not tombstones.repeats(alone[0], alone)
    tombstones.applied([removal(A, 3, b"2"), removal(A, 4, b"1")])
    assert tombstones.repeats(alone[0], alone)
    assert not tombstones.repeats(null(A, 7, b"1"), [])
    assert not tombstones.repeats(null(A, 5, None), [])
    assert not tombstones.repeats(null(B, 5, b"1"), [])

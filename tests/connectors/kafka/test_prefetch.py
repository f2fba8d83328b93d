"""What was read ahead: split by bytes, decoded by a thread, and left out where a partition began anew meanwhile."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pycdc.connectors.kafka.prefetch import MANY, Prefetch, portions
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.model.event import Partition

A, B = Partition("t", 0), Partition("t", 1)


class Record:
    """A message, as far as it is looked at."""

    def __init__(self, size: int = 0, value: bytes = b"{}", offset: int = 0) -> None:
        self._size = size
        self._offset = offset
        self._value = value

    def __len__(self) -> int:
        return self._size

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 17

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[Any] | None:
        return [("h", b"1")]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([3, 3, 3], [[3, 3, 3]]),
        ([5, 5, 1], [[5, 5], [1]]),
        ([50, 1, 9, 1], [[50], [1, 9], [1]]),
        ([1, 50], [[1], [50]]),
    ],
)
def test_a_batch_has_so_many_bytes_at_most_unless_one_message_alone_has_more(
    sizes: list[int], expected: list[list[int]]
) -> None:
    messages: list[Any] = [Record(size) for size in sizes]
    assert [[len(message) for message in portion] for portion in portions(messages, 10)] == expected


def fetched(count: int, turns: Counter[Partition]) -> Prefetch:
    """`count` records of each of two partitions, read from offset 5 on with gaps."""

    def record(offset: int) -> Any:
        return Record(value=b'{"id": 1}', offset=offset)

    made = Prefetch(turns)
    for number in range(count):
        for partition, start in ((A, 5), (B, 4)):
            made.add(partition, start, [record(5 + 2 * number)])
    return made


@pytest.mark.parametrize("count", [1, MANY])
def test_events_are_the_same_whoever_decodes_them(count: int) -> None:
    turns, decoder = Counter({A: 1, B: 1}), Decoder(None)
    made = fetched(count, turns)
    with ThreadPoolExecutor(1) as executor:
        made.decode_ahead(decoder, executor)
        batch = made.batch(decoder, turns)
    assert batch is not None
    assert [(e.partition, e.offset) for e in batch.events][:2] == [(A, 5), (B, 5)]
    assert (batch.events[0].row, batch.events[0].timestamp, batch.events[0].headers) == ({"id": 1}, 17, (("h", b"1"),))
    assert (batch.starts, str(batch.position)) == ({A: 5, B: 4}, f"t[0]@{4 + 2 * count}, t[1]@{4 + 2 * count}")


def test_what_was_read_of_a_partition_that_began_anew_is_left_out() -> None:
    turns, decoder = Counter({A: 1, B: 1}), Decoder(None)
    made = fetched(3, turns)
    turns[A] += 1
    batch = made.batch(decoder, turns)
    assert batch is not None
    assert {event.partition for event in batch.events} == {B}
    assert (batch.starts, str(batch.position)) == ({B: 4}, "t[1]@10")
    turns[B] += 1
    assert made.batch(decoder, turns) is None

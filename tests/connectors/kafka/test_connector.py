"""What needs no broker: batches by bytes, and what statistics tell of the brokers."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from pycdc.connectors.kafka.fetched import portions
from pycdc.connectors.kafka.hearing import Hearing
from pycdc.observability.progress import Progress


class Sized:
    """A message."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


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
    messages: list[Any] = [Sized(size) for size in sizes]
    assert [[len(message) for message in portion] for portion in portions(messages, 10)] == expected


def statistics(**brokers: tuple[str, int]) -> str:
    return json.dumps({"brokers": {name: {"state": state, "rxidle": idle} for name, (state, idle) in brokers.items()}})


def test_the_last_message_is_that_of_the_broker_that_was_heard_last() -> None:
    progress = Progress()
    Hearing(progress)(statistics(a=("UP", 9_000_000), b=("UP", 2_000_000), c=("DOWN", 0)))
    assert time.monotonic() - progress.last_message == pytest.approx(2, abs=0.5)


def test_brokers_that_are_down_or_were_never_heard_move_nothing() -> None:
    progress = Progress(last_message=5.0)
    Hearing(progress)(statistics(a=("DOWN", 10), b=("UP", -1), c=("TRY_CONNECT", 0)))
    Hearing(progress)("{}")
    assert progress.last_message == 5.0

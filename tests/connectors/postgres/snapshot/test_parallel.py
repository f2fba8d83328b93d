"""Ranges read elsewhere: handed on in order, repeated where a worker failed, given up loudly where that is in vain."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any

import pytest

from pycdc.clients.postgres_errors import TableLocked
from pycdc.connectors.postgres.snapshot import parallel as workers
from pycdc.connectors.postgres.snapshot.block_ranges import BlockRange, Rewritten
from pycdc.connectors.postgres.snapshot.parallel import (
    Chunk,
    ParallelReader,
    Task,
    TopicRecords,
    Workers,
    packed,
    unpacked,
)
from pycdc.errors import ConnectionLost, ConversionError, EnvironmentNotReady, PycdcError

COUNT = 3


def chunk(task: Task, rows: int = 1) -> Chunk:
    return Chunk(rows, b"", None, [], task.range)


def jobs(count: int, end: bool = True) -> Iterator[tuple[str, Task | None]]:
    for block in range(count):
        yield "orders", Task(b"", "snapshot", BlockRange(block, block + 1))
    if end:
        yield "orders", None


def reader_of(read: Callable[[Task], Chunk], executor: Callable[[], Executor] | None = None) -> ParallelReader:
    make = executor or (lambda: ThreadPoolExecutor(COUNT))
    return ParallelReader(Workers(COUNT, make, lambda *args: b"", read))


def collected(reader: ParallelReader, made: Iterator[tuple[str, Task | None]]) -> list[Any]:
    try:
        return [result for result in reader.results(made) if result is not None]
    finally:
        reader.close()


def test_ranges_are_handed_on_in_order_whatever_is_read_first() -> None:
    later = threading.Event()

    def read(task: Task) -> Chunk:
        if task.range.first == 0:
            assert later.wait(120)
        elif task.range.first == 2:
            later.set()
        return chunk(task, task.range.first)

    results = collected(reader_of(read), jobs(9))
    assert [task and task.range.first for _, task, _ in results] == [*range(9), None]
    assert [read and read.rows for _, _, read in results] == [*range(9), None]


def test_no_more_are_under_way_than_workers_can_take_twice() -> None:
    begun, free = Counter[str](), threading.Event()

    def made() -> Iterator[tuple[str, Task | None]]:
        for job in jobs(20):
            begun["jobs"] += 1
            yield job

    def read(task: Task) -> Chunk:
        assert free.wait(120)
        return chunk(task)

    reader = reader_of(read)
    results = reader.results(made())
    assert next(results) is None, "nothing is ready, and the pipeline gets its turn"
    assert begun["jobs"] == 2 * COUNT
    free.set()
    assert len([result for result in results if result is not None]) == 21
    reader.close()


def test_a_range_that_is_too_large_comes_in_parts_before_the_next() -> None:
    def read(task: Task) -> Chunk:
        large = task.range.first == 1 and task.range.item < 20
        part = BlockRange(1, 1, task.range.item, task.range.item + 10) if large else task.range
        return Chunk(10, b"", None, [], part)

    results = collected(reader_of(read), jobs(3, end=False))
    assert [(task.range.first, task.range.item) for _, task, _ in results] == [(0, 0), (1, 0), (1, 10), (1, 20), (2, 0)]


def test_a_range_whose_table_is_locked_for_a_while_is_read_later_and_less_of_it_at_once() -> None:
    tries = Counter[BlockRange]()

    def read(task: Task) -> Chunk:
        tries[task.range] += 1
        if task.range.first == 1 and tries[task.range] < 3 and sum(tries.values()) < 12:
            raise TableLocked("somebody has it")
        return chunk(task)

    made = iter([("orders", Task(b"", "snapshot", BlockRange(first, first + 8))) for first in (1, 9)])
    ranges = [came.range for _, _, came in collected(reader_of(read), made)]
    assert (ranges[0].first, ranges[-1].end) == (1, 17)
    assert all((one.end, one.end_item) == (two.first, two.item) for one, two in pairwise(ranges))
    assert len(ranges) > 2


@pytest.mark.parametrize("error", [TableLocked("somebody has it"), Rewritten()])
def test_of_a_table_that_is_locked_for_long_or_was_changed_no_more_is_read(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_PATIENCE", 0.0)

    def read(task: Task) -> Chunk:
        if task.range.first == 1:
            raise error
        return chunk(task)

    others = [("items", Task(b"", "snapshot", BlockRange(7, 8))), ("items", None)]
    results = collected(reader_of(read), chain(jobs(4), others))
    told = [(owner, task and task.range.first, came is error) for owner, task, came in results]
    assert told == [
        ("orders", 0, False),
        ("orders", 1, True),
        ("orders", None, False),
        ("items", 7, False),
        ("items", None, False),
    ]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), BrokenExecutor("gone"), OSError("gone")])
def test_a_range_whose_worker_failed_is_read_again(error: Exception) -> None:
    tries = Counter[int]()

    def read(task: Task) -> Chunk:
        tries[task.range.first] += 1
        if task.range.first % 4 == 1 and task.attempt < 2:
            raise error
        return chunk(task, task.range.first)

    results = collected(reader_of(read), jobs(10, end=False))
    assert [read.rows for _, _, read in results] == list(range(10))
    assert tries[1] >= 3


@pytest.mark.parametrize(
    ("error", "raised", "tries"),
    [
        (ConversionError("cannot be written"), ConversionError, 1),
        (ConnectionLost("gone"), ConnectionLost, 3),
        (BrokenExecutor("killed"), EnvironmentNotReady, 3),
        (KeyError("a row's value"), EnvironmentNotReady, 3),
    ],
)
def test_what_fails_again_and_again_ends_it(error: Exception, raised: type[PycdcError], tries: int) -> None:
    counted = Counter[int]()

    def read(task: Task) -> Chunk:
        counted[task.range.first] += 1
        if task.range.first == 2:
            raise error
        return chunk(task)

    with pytest.raises(raised) as caught:
        collected(reader_of(read), jobs(3))
    assert counted[2] == tries
    assert "a row's value" not in str(caught.value)
    assert raised is not EnvironmentNotReady or "orders" in caught.value.fact


def test_a_range_that_the_executor_cancelled_is_read_again() -> None:
    class Cancelling(ThreadPoolExecutor):
        left = 1

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if not self.left:
                return super().submit(fn, *args, **kwargs)
            self.left -= 1
            future: Future[Any] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    results = collected(
        reader_of(lambda task: chunk(task, task.range.first), lambda: Cancelling(1)), jobs(4, end=False)
    )
    assert [read.rows for _, _, read in results] == list(range(4))


class Breaking(ThreadPoolExecutor):
    """Takes two tasks, then is broken for good, like a pool of processes."""

    made = 0

    def __init__(self) -> None:
        super().__init__(1)
        Breaking.made += 1
        self._left = 2

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._left:
            raise BrokenExecutor("broken")
        self._left -= 1
        return super().submit(fn, *args, **kwargs)


def test_an_executor_that_broke_is_replaced() -> None:
    Breaking.made = 0
    results = collected(reader_of(lambda task: chunk(task, task.range.first), Breaking), jobs(6, end=False))
    assert [read.rows for _, _, read in results] == list(range(6))
    assert Breaking.made == 3


def test_closing_does_not_wait_for_what_has_not_begun() -> None:
    started: list[int] = []
    free = threading.Event()

    def read(task: Task) -> Chunk:
        started.append(task.range.first)
        assert free.wait(120)
        return chunk(task)

    executor = ThreadPoolExecutor(1)
    reader = reader_of(read, lambda: executor)
    assert next(reader.results(jobs(5))) is None
    reader.close()
    free.set()
    executor.shutdown()
    assert started == [0]


GROUPS: list[TopicRecords] = [
    ("shop.public.orders", [{"key": b"\x001", "value": b"one"}, {"key": None, "value": None}]),
    ("shop.events", [{"key": b"2", "value": b"", "headers": [("id", b"7"), ("none", None)]}]),
]


def test_records_come_out_as_they_were_packed() -> None:
    assert unpacked(packed(GROUPS)) == GROUPS

"""Ranges read elsewhere: handed on in order, repeated where a worker failed, given up loudly where that is in vain."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from pycdc.connectors.postgres.physical import Range
from pycdc.connectors.postgres.workers import Chunk, Crew, Group, Task, Workers, packed, unpacked
from pycdc.errors import ConnectionLost, ConversionError, EnvironmentNotReady, PycdcError

COUNT = 3


def chunk(rows: int = 1, *, done: bool = True) -> Chunk:
    return Chunk(rows, b"", None, [], done)


def jobs(count: int, end: bool = True) -> Iterator[tuple[str, Task | None]]:
    for block in range(count):
        yield "orders", Task(b"", "snapshot", Range(block, block + 1))
    if end:
        yield "orders", None


def crew_of(read: Callable[[Task], Chunk], executor: Callable[[], Executor] | None = None) -> Crew:
    make = executor or (lambda: ThreadPoolExecutor(COUNT))
    return Crew(Workers(COUNT, make, lambda *args: b"", read))


def collected(crew: Crew, made: Iterator[tuple[str, Task | None]]) -> list[Any]:
    try:
        return [result for result in crew.results(made) if result is not None]
    finally:
        crew.close()


def test_ranges_are_handed_on_in_order_whatever_is_read_first() -> None:
    later = threading.Event()

    def read(task: Task) -> Chunk:
        if task.range.first == 0:
            assert later.wait(30)
        elif task.range.first == 2:
            later.set()
        return chunk(task.range.first)

    results = collected(crew_of(read), jobs(9))
    assert [task and task.range.first for _, task, _ in results] == [*range(9), None]
    assert [read and read.rows for _, _, read in results] == [*range(9), None]


def test_no_more_are_under_way_than_workers_can_take_twice() -> None:
    begun, free = Counter[str](), threading.Event()

    def made() -> Iterator[tuple[str, Task | None]]:
        for job in jobs(20):
            begun["jobs"] += 1
            yield job

    def read(task: Task) -> Chunk:
        assert free.wait(30)
        return chunk()

    crew = crew_of(read)
    results = crew.results(made())
    assert next(results) is None, "nothing is ready, and the pipeline gets its turn"
    assert begun["jobs"] == 2 * COUNT
    free.set()
    assert len([result for result in results if result is not None]) == 21
    crew.close()


def test_a_range_that_is_too_large_comes_in_parts_before_the_next() -> None:
    def read(task: Task) -> Chunk:
        return chunk(10, done=task.range.first != 1 or task.range.skip == 20)

    results = collected(crew_of(read), jobs(3, end=False))
    assert [(task.range.first, task.range.skip) for _, task, _ in results] == [(0, 0), (1, 0), (1, 10), (1, 20), (2, 0)]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), BrokenExecutor("gone"), OSError("gone")])
def test_a_range_whose_worker_failed_is_read_again(error: Exception) -> None:
    tries = Counter[int]()

    def read(task: Task) -> Chunk:
        tries[task.range.first] += 1
        if task.range.first % 4 == 1 and task.attempt < 2:
            raise error
        return chunk(task.range.first)

    results = collected(crew_of(read), jobs(10, end=False))
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
        return chunk()

    with pytest.raises(raised) as caught:
        collected(crew_of(read), jobs(3))
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

    results = collected(crew_of(lambda task: chunk(task.range.first), lambda: Cancelling(1)), jobs(4, end=False))
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
    results = collected(crew_of(lambda task: chunk(task.range.first), Breaking), jobs(6, end=False))
    assert [read.rows for _, _, read in results] == list(range(6))
    assert Breaking.made == 3


def test_closing_does_not_wait_for_what_has_not_begun() -> None:
    started: list[int] = []
    free = threading.Event()

    def read(task: Task) -> Chunk:
        started.append(task.range.first)
        assert free.wait(30)
        return chunk()

    executor = ThreadPoolExecutor(1)
    crew = crew_of(read, lambda: executor)
    assert next(crew.results(jobs(5))) is None
    crew.close()
    free.set()
    executor.shutdown()
    assert started == [0]


GROUPS: list[Group] = [
    ("shop.public.orders", [{"key": b"\x001", "value": b"one"}, {"key": None, "value": None}]),
    ("shop.events", [{"key": b"2", "value": b"", "headers": [("id", b"7"), ("none", None)]}]),
]


def test_records_come_out_as_they_were_packed() -> None:
    assert unpacked(packed(GROUPS)) == GROUPS

"""Ranges of a snapshot that are read and encoded elsewhere, and come back in their order.

Strategy: a bounded number of ranges is under way; whatever finishes first, what is handed on is the next range of the
table. So progress stays one place in a table, and a crash repeats what was not handed on. Of a range that holds more
than a worker may return comes its beginning, by places and not by a count of rows, whose order nobody promises. A range
whose table is locked by somebody is read later; the pipeline is told where that lasts, or the table was changed.
"""

from __future__ import annotations

import marshal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from pycdc.clients.postgres_errors import TableLocked
from pycdc.connectors.postgres.catalog.metadata import CopySource
from pycdc.connectors.postgres.snapshot.block_ranges import BlockRange, Rewritten
from pycdc.connectors.postgres.snapshot.copy_reader import HeldLocks
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.model.change import Table, Transaction
from pycdc.observability.logger import get_logger

log = get_logger()

_POLL: Final = 0.1
"""Seconds without a result after which the pipeline gets its turn."""
_TRIES: Final = 3
_PAUSE: Final = 0.1
"""Seconds until a range is asked for again whose table was locked."""
_PATIENCE: Final = 5.0
"""Seconds after which the pipeline is told."""
_FORMAT: Final = 2
"""Of marshal: the last that does not look for what it wrote before, which would cost as much as the writing."""

EncodedRecord = dict[str, Any]
TopicRecords = tuple[str, list[EncodedRecord]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Task:
    """A range to be read. `plan` is what `Workers.plan` made of its table.

    `attempt` makes equal tasks different, for executors that remember what they did.
    """

    plan: bytes = field(repr=False)
    snapshot: str
    range: BlockRange
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a worker made of a range, or of its beginning: of `range`.

    `rows` counts all. The first and the last stay lines, because only their neighbours tell how they are marked; the
    rows between are `records`, packed, with their number. `nulled` and `dead_letters` are `Progress`' counters.
    """

    rows: int
    head: bytes | None = field(repr=False)
    tail: bytes | None = field(repr=False)
    records: list[tuple[int, bytes]] = field(repr=False)
    range: BlockRange
    nulled: dict[tuple[str, str], int] = field(default_factory=dict)
    dead_letters: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the records."""
        return sum(len(data) for _, data in self.records)


Result = tuple[T, Task | None, Chunk | PycdcError | Rewritten | None]
"""A job's owner, its task, and what came of it."""


def packed(groups: list[TopicRecords]) -> bytes:
    """Return a serializer's groups as bytes that are cheap to carry to another process: lists of plain values."""
    return marshal.dumps([_columns(topic, records) for topic, records in groups], _FORMAT)


def _columns(topic: str, records: list[EncodedRecord]) -> tuple[str, list[bytes | None], list[bytes | None], Any]:
    # Either all records of a group have headers or none has.
    headers = [record["headers"] for record in records] if "headers" in records[0] else None
    return topic, [record["key"] for record in records], [record["value"] for record in records], headers


def unpacked(data: bytes) -> list[TopicRecords]:
    """Return the groups that `packed` was given."""
    out: list[TopicRecords] = []
    for topic, keys, values, headers in marshal.loads(data):  # noqa: S302 - from whoever runs our code
        records = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
        for record, own_headers in zip(records, headers or (), strict=False):
            record["headers"] = own_headers
        out.append((topic, records))
    return out


@dataclass(frozen=True, slots=True)
class Workers:
    """`count` tasks run at the same time in what `executor` makes: `read` each.

    `plan` returns all that a worker must know of a table: its source, the moment of its rows, and its database's name.
    """

    count: int
    executor: Callable[[], Executor]
    plan: Callable[[Table, CopySource, HeldLocks, Transaction, str], bytes]
    read: Callable[[Task], Chunk]


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    owner: T
    task: Task | None
    future: Future[Chunk] | None = None
    locked_since: float | None = None


class ParallelReader:
    """An executor at work, replaced where it broke."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._executor: Executor | None = None
        self._waiting: deque[_Job[Any]] = deque()

    def results(self, jobs: Iterator[tuple[T, Task | None]]) -> Iterator[Result[T] | None]:
        """Each job with its chunk, in order; one without a task when its turn has come. None where nothing is ready.

        A job whose table is not as its plan says, or is locked for long, comes with that error, and no more of its
        owner's tasks do after it. Raises what a worker raised otherwise, if that is final; EnvironmentNotReady where a
        task failed time and again.
        """
        waiting: deque[_Job[T]] = self._waiting
        while True:
            while len(waiting) < 2 * self._workers.count and (found := next(jobs, None)) is not None:
                waiting.append(self._submitted(_Job(*found)))
            if not waiting:
                return
            job = waiting[0]
            if job.future is not None and not wait([job.future], _POLL).done:
                yield None
            elif job.task is None or job.future is None:
                waiting.popleft()
                yield job.owner, None, None
            elif (error := _failure(job.future)) is not None:
                yield from self._refused(job, error)
            else:
                waiting.popleft()
                chunk = job.future.result()
                if chunk.range != job.task.range:
                    rest = replace(job.task, range=job.task.range.until(chunk.range), attempt=0)
                    waiting.appendleft(self._submitted(_Job(job.owner, rest)))
                yield job.owner, job.task, chunk

    def _refused(self, job: _Job[Any], error: BaseException) -> Iterator[Result[Any] | None]:
        assert job.task is not None
        if isinstance(error, TableLocked) and self._later(job):
            yield None
        elif isinstance(error, (TableLocked, Rewritten)):
            refused = [other for other in self._waiting if other.owner is job.owner and other.task is not None]
            for other in refused:
                self._waiting.remove(other)
                if other.future is not None:
                    other.future.cancel()
            yield job.owner, job.task, error
        else:
            self._repeat(job, error)

    def _later(self, job: _Job[Any]) -> bool:
        """Submit the first job once more after a while; False when that has lasted too long."""
        assert job.task is not None
        now = time.monotonic()
        first = job.locked_since is None
        job.locked_since = job.locked_since or now
        if now >= job.locked_since + _PATIENCE:
            return False
        time.sleep(_PAUSE)
        # Less of it, where a time limit of the server may be too short for all.
        halves = None if first else job.task.range.cut()
        if halves is not None:
            job.task = replace(job.task, range=halves[0])
            rest = _Job(job.owner, replace(job.task, range=halves[1]))
            self._waiting.insert(1, self._submitted(rest))
        self._submitted(job)
        return True

    def _submitted(self, job: _Job[T]) -> _Job[T]:
        if job.task is not None:
            job.future = self._submit(job.task)
        return job

    def _submit(self, task: Task) -> Future[Chunk]:
        if self._executor is None:
            self._executor = self._workers.executor()
        try:
            return self._executor.submit(self._workers.read, task)
        except BrokenExecutor:
            self._executor.shutdown(wait=False)
            self._executor = self._workers.executor()
            return self._executor.submit(self._workers.read, task)

    def _repeat(self, first: _Job[T], error: BaseException) -> None:
        """Submit what failed once more: with a worker that died, a pool may have lost all that was under way."""
        assert first.task is not None
        last = first.task.attempt + 1 >= _TRIES
        if isinstance(error, PycdcError) and (last or not error.retry):
            raise error from None
        if last:
            raise EnvironmentNotReady(
                f"reading {first.owner} failed {_TRIES} times in a worker ({type(error).__name__})",
                hint="look into the system's log for a worker that was killed, for want of memory perhaps; "
                "lower source.postgres.workers or max_batch_bytes, or check what source.postgres.executor makes",
            )
        log.warning("a worker failed, its rows are read again", table=str(first.owner), error=type(error).__name__)
        for job in self._waiting:
            failed = job.future is not None and job.future.done() and _failure(job.future) is not None
            if job.task is not None and failed:
                job.task = replace(job.task, attempt=job.task.attempt + (job is first))
                self._submitted(job)

    def close(self) -> None:
        """Idempotent. Results that are still to come are not waited for."""
        for job in self._waiting:
            if job.future is not None:
                job.future.cancel()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


def _failure(future: Future[Chunk]) -> BaseException | None:
    """Return the failure of a job that is done. A cluster may cancel what it was given."""
    return CancelledError() if future.cancelled() else future.exception()

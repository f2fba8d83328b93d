"""Ranges added up by workers: processes of this machine, or whatever an executor has.

A task holds all that a worker needs, and imports both snapshots, so that its range is the same on both sides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from pycdc.errors import ConnectionLost
from pycdc.operations.verify.cut import VerifiedEnds
from pycdc.operations.verify.range_comparison import BothSides
from pycdc.operations.verify.ranges import Bound, KeyRange
from pycdc.operations.verify.readers import source_reader, target_reader
from pycdc.operations.verify.relation import ComparedRelation, Layout, Sum

Totals = tuple[list[Sum], list[Sum]]
"""The sums of a range's parts on both sides, of all keys, those in flight among them."""


@dataclass(frozen=True, slots=True)
class RangeTask:
    """It can be pickled. `ends` hold secrets, and are shown nowhere. `oids` are of the tables of both sides."""

    ends: VerifiedEnds = field(repr=False)
    snapshots: tuple[str, str]
    layout: Layout
    sources: tuple[ComparedRelation, ...]
    target: ComparedRelation
    oids: tuple[tuple[int, ...], tuple[int, ...]]
    part: KeyRange
    bounds: tuple[Bound, ...]


def read_range(task: RangeTask) -> Totals:
    """Add up a range on both sides at the same time. Raises PycdcError."""
    with (
        closing(source_reader(task.ends)) as one,
        closing(target_reader(task.ends)) as other,
        ThreadPoolExecutor(1, "pycdc-verify-range") as executor,
    ):
        one.use(task.snapshots[0])
        other.use(task.snapshots[1])
        with one.transaction(task.oids[0]) as source, other.transaction(task.oids[1]) as target:
            both = BothSides(task.layout, task.sources, task.target, source, target, executor)
            return both.totals(task.part, task.bounds)


def read_ahead(executor: Executor, workers: int, tasks: Sequence[RangeTask]) -> Iterator[Totals]:
    """Yield what each task finds, in their order, a few of them ahead. Raises PycdcError."""
    left = iter(tasks)
    waiting: deque[Future[Totals]] = deque()
    try:
        while True:
            while len(waiting) <= workers and (task := next(left, None)) is not None:
                waiting.append(executor.submit(read_range, task))
            if not waiting:
                return
            yield waiting.popleft().result()
    except BrokenExecutor:
        raise ConnectionLost("a worker that added up a range died", hint="see whether memory ran out") from None
    finally:
        for future in waiting:
            future.cancel()

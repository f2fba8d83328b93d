"""Compare a table by ranges of its key: digests first, smaller ranges where they differ, rows in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.operations.verify.in_flight import Flight
from pycdc.operations.verify.ranges import Bound, KeyRange
from pycdc.operations.verify.relation import ComparedRelation, DigestedRow, Layout, Sum
from pycdc.operations.verify.result import DifferenceKind, Key

_FEW: Final = 2000
"""Rows of a range that are read one by one."""
_PIECES: Final = 64
"""That a range which differs is cut into."""

_CANCEL_SECONDS: Final = 5.0

Found = tuple[DifferenceKind, Key]


@dataclass(frozen=True, slots=True)
class RangeSums:
    """What both sides have in a range: the sums of the settled keys, and how many rows either has, in flight or not."""

    source: Sum
    target: Sum
    rows: int


@dataclass(frozen=True, slots=True)
class BothSides:
    """Both sides of a table in their snapshots.

    `sources` are those that its rows come from; keys in `flight` are left out. `complete`: rows of the target that no
    source has are too many.
    """

    layout: Layout
    sources: tuple[ComparedRelation, ...]
    target: ComparedRelation
    source_connection: Connection
    target_connection: Connection
    executor: Executor
    flight: Flight = field(default_factory=Flight)
    complete: bool = True

    def sums(
        self, part: KeyRange, bounds: Sequence[Bound] = (), totals: tuple[list[Sum], list[Sum]] | None = None
    ) -> list[RangeSums]:
        """Return the sums of both sides, computed at the same time; `totals` where somebody has computed those.

        Raises psycopg.Error.
        """
        if bounds and len(self.layout.key) > 1:
            return [self.sums(one)[0] for one in part.cut(bounds)]
        source, target = self.totals(part, bounds) if totals is None else totals
        rows = [max(left.rows, right.rows) for left, right in zip(source, target, strict=True)]
        # What is added up can be taken off again: however many keys are in flight, a statement names a few of them.
        for keys in self.flight.chunks():
            left, right = self.totals(part, bounds, keys)
            source = list(map(Sum.__sub__, source, left))
            target = list(map(Sum.__sub__, target, right))
        return list(map(RangeSums, source, target, rows))

    def totals(
        self, part: KeyRange, bounds: Sequence[Bound] = (), among: Sequence[Key] | None = None
    ) -> tuple[list[Sum], list[Sum]]:
        """Return the sums of both sides, of the keys `among` or of all, in flight or not. Raises psycopg.Error."""
        target = self.executor.submit(self.target.sums, self.target_connection, self.layout, part, bounds, among)
        try:
            own = [source.sums(self.source_connection, self.layout, part, bounds, among) for source in self.sources]
        except BaseException:
            with suppress(psycopg.Error):
                self.target_connection.cancel_safe(timeout=_CANCEL_SECONDS)
            target.exception()
            raise
        nothing = [Sum()] * (len(bounds) + 1)  # events may have emptied the table: then there are no sources
        return [sum(column, Sum()) for column in zip(nothing, *own, strict=True)], target.result()

    def rows(self, part: KeyRange, among: Sequence[Key] | None = None) -> tuple[list[DigestedRow], list[DigestedRow]]:
        """Return the rows of both sides whose keys are settled, `among` some or all. Raises psycopg.Error."""
        source = [row for one in self.sources for row in one.rows(self.source_connection, self.layout, part, among)]
        target = self.target.rows(self.target_connection, self.layout, part, among)
        flown = self.flight.rows
        return [row for row in source if row[0] not in flown], [row for row in target if row[0] not in flown]

    def bounds(self, part: KeyRange, rows: int) -> list[Bound]:
        """Return keys that cut a range into pieces. Raises psycopg.Error."""
        step = max(1, -(-rows // _PIECES))
        longest: list[Bound] = self.target.every(self.target_connection, self.layout, part, step)
        for source in self.sources:
            found = source.every(self.source_connection, self.layout, part, step)
            longest = max(longest, found, key=len)
        return [bound for bound in dict.fromkeys(longest) if bound != part.low]


@dataclass(slots=True)
class Counts:
    """What the comparison of ranges has counted. `ranges` are those at the top."""

    source_rows: int = 0
    target_rows: int = 0
    ranges: int = 0
    differing_ranges: int = 0


def compare(
    both: BothSides,
    part: KeyRange,
    bounds: Sequence[Bound],
    counts: Counts,
    totals: tuple[list[Sum], list[Sum]] | None = None,
) -> Iterator[Found]:
    """Yield what differs in `part`, which is hashed by one query for all ranges between `bounds`.

    Its `totals` may be known already.
    """
    for piece, sums in zip(part.cut(bounds), both.sums(part, bounds, totals), strict=True):
        counts.source_rows += sums.source.rows
        counts.target_rows += sums.target.rows
        counts.ranges += 1
        if sums.source != sums.target:
            counts.differing_ranges += 1
            yield from _inside(both, piece, sums.rows)


def _inside(both: BothSides, part: KeyRange, rows: int) -> Iterator[Found]:
    bounds = both.bounds(part, rows) if rows > _FEW else []
    if not bounds:
        yield from differing(*both.rows(part), complete=both.complete)
        return
    for piece, sums in zip(part.cut(bounds), both.sums(part, bounds), strict=True):
        if sums.source != sums.target:
            yield from _inside(both, piece, sums.rows)


def differing(source: Sequence[DigestedRow], target: Sequence[DigestedRow], *, complete: bool) -> Iterator[Found]:
    """Yield the keys whose rows differ.

    Where a route makes one row of several, nobody knows which was written last: the row has to be as one of them.
    """
    here, there = _by_key(source), _by_key(target)
    for key, wanted in here.items():
        found = there.get(key, [])
        if (len(found) == 1 and found[0] in wanted) or sorted(found) == sorted(wanted):
            continue
        if len(found) > len(wanted):
            if complete:
                yield DifferenceKind.EXTRA, key
        elif not found or 1 < len(found) < len(wanted):
            yield DifferenceKind.MISSING, key
        else:
            yield DifferenceKind.CHANGED, key
    if complete:
        yield from ((DifferenceKind.EXTRA, key) for key in there if key not in here)


def _by_key(rows: Sequence[DigestedRow]) -> dict[Key, list[tuple[int, int]]]:
    out: dict[Key, list[tuple[int, int]]] = {}
    for key, digest in rows:
        out.setdefault(key, []).append(digest)
    return out

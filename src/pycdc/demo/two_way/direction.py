"""One of the two directions, measured from outside.

It counts what was written, captured and applied, how long that took, and what came back although it should not have.

Rows carry the time at which they were written on one side; a trigger on the other notes how long ago that was when the
pipeline commits. Both sides have the clock of one machine. Which captured transactions a pipeline had written is known
to the server (`track_commit_timestamp`).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

import psycopg

from pycdc.demo.event_stats import ConsumedLag, Latencies
from pycdc.demo.two_way.database import DemoDatabase

_WINDOW: Final = 2.0
"""Seconds over which a rate is counted."""
_RECENT: Final = 2000

_APPLIED: Final = "SELECT coalesce(sum(next_offset), 0)::bigint FROM pycdc.apply_offsets WHERE pipeline = %s"
_ARRIVALS: Final = "DELETE FROM arrivals RETURNING seconds"
_WRITTEN_BY_PIPELINE: Final = """SELECT u.id FROM unnest(%s::bigint[]) AS u(id)
 WHERE (pg_xact_commit_timestamp_origin(u.id::text::xid)).roident <> 0"""


@dataclass(frozen=True, slots=True)
class DirectionStatus:
    """One moment. Numbers are row changes; `lag` is from the write on one side to the commit on the other."""

    start: str
    end: str
    written: int
    captured: int
    applied: int
    echoes: int
    others: int
    """Captured changes of other sessions than the sample's."""
    writing: float
    """Row changes a second, and so is `applying`."""
    applying: float
    lag: ConsumedLag | None
    pipelines: dict[str, str]
    """States by name."""
    last_error: str | None


class Speed:
    """A counter's growth a second, over the last moments."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, count: int, now: float) -> float:
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[0][0] < now - _WINDOW:
            self._seen.popleft()
        began, first = self._seen[0]
        return (count - first) / (now - began) if now > began else 0.0


class Direction:
    """From a side to the other. For one thread."""

    def __init__(self, near: DemoDatabase, far: DemoDatabase) -> None:
        self._near = near
        self._far = far
        self._engines = near.capture, far.apply
        self._all = Latencies()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._applied = 0
        self._by_pipeline: dict[int | None, bool] = {None: False}
        self._writing, self._applying = Speed(), Speed()

    def open(self) -> None:
        """Forget how long the first copy took: what counts begins now."""
        self._far.ask(_ARRIVALS)
        self._all = Latencies()
        self._recent.clear()

    @property
    def arrived(self) -> int:
        return self._near.stats.counts().total() + self._applied

    @property
    def complete(self) -> bool:
        """Everything written was captured, everything captured was applied."""
        captured = self._near.stats.counts()
        if captured != self._near.clerk.written:
            return False
        self._look()
        return self._applied >= captured.total() + self._near.stats.others

    @property
    def exact(self) -> bool:
        """Every write was captured once, and nothing came back."""
        return self._near.stats.counts() == self._near.clerk.written and not self._echoes()

    def status(self) -> DirectionStatus:
        written = self._near.clerk.written.total()
        self._look()
        now = time.monotonic()
        progress = [engine.pipeline.progress for engine in self._engines]
        return DirectionStatus(
            start=self._near.name,
            end=self._far.name,
            written=written,
            captured=self._near.stats.counts().total(),
            applied=self._applied,
            echoes=self._echoes(),
            others=self._near.stats.others - self._echoes(),
            writing=self._writing.at(written, now),
            applying=self._applying.at(self._applied, now),
            lag=self._recent_lag(),
            pipelines={e.pipeline.config.name: e.pipeline.progress.state for e in self._engines},
            last_error=next((one.last_error for one in progress if one.last_error is not None), None),
        )

    def lag(self) -> ConsumedLag | None:
        """Return the lag of everything that was measured."""
        return self._all.lag()

    def _recent_lag(self) -> ConsumedLag | None:
        recent = Latencies()
        for seconds in self._recent:
            recent.add(seconds)
        return recent.lag()

    def _look(self) -> None:
        """Ask the far side what was applied, and how long it took."""
        try:
            ((self._applied,),) = self._far.ask(_APPLIED, (self._far.apply.pipeline.config.name,))
        except psycopg.errors.UndefinedTable:
            return  # the pipeline makes it when it starts
        for (seconds,) in self._far.ask(_ARRIVALS):
            self._all.add(seconds)
            self._recent.append(seconds)

    def _echoes(self) -> int:
        """Count captured changes that a pipeline had written."""
        foreign = self._near.stats.foreign()
        if unknown := [transaction for transaction in foreign if transaction not in self._by_pipeline]:
            found = {transaction for (transaction,) in self._near.ask(_WRITTEN_BY_PIPELINE, (unknown,))}
            self._by_pipeline.update({transaction: transaction in found for transaction in unknown})
        return sum(count for transaction, count in foreign.items() if self._by_pipeline[transaction])

"""What was read back so far: counts, rate and lag. Written by the reader, asked by anybody."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pycdc.demo.workload import ChangeCounts

NEWEST: Final = 64
BUCKET: Final = 0.5
"""Seconds over which a rate is counted."""
HISTORY: Final = 60
"""Buckets of the rate's history."""

_RECENT: Final = 2000
_STEP: Final = math.log(1.02)
"""Latencies are kept to 2 %."""


@dataclass(frozen=True, slots=True)
class ConsumedEvent:
    """One decoded change. `committed` and `received` in seconds since the epoch; `lag` is None for snapshot rows."""

    op: str
    table: str
    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    transaction: int | None
    committed: float
    received: float

    @property
    def lag(self) -> float | None:
        return None if self.op == "r" else max(0.0, self.received - self.committed)


@dataclass(frozen=True, slots=True)
class ConsumedLag:
    """Seconds between commit and receipt."""

    p50: float
    p99: float
    greatest: float


class Latencies:
    """A histogram in steps of 2 %: any number of values in little memory. Unit: seconds."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._greatest = 0.0

    def add(self, seconds: float) -> None:
        self._buckets[round(math.log(max(seconds, 1e-6)) / _STEP)] += 1
        self._greatest = max(self._greatest, seconds)

    def lag(self) -> ConsumedLag | None:
        """Return the lag, None without values."""
        if not self._buckets:
            return None
        return ConsumedLag(self._quantile(0.5), self._quantile(0.99), self._greatest)

    def _quantile(self, share: float) -> float:
        wanted = share * self._buckets.total()
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                break
        return math.exp(bucket * _STEP)


class EventStats:
    """Counts events; thread-safe. An event of a transaction that is not in `own` was made by somebody else."""

    def __init__(self, own: Container[int]) -> None:
        self.first_at: float | None = None
        """Monotonic time of the first event."""
        self.topics: Counter[str] = Counter()
        """Records by topic, tombstones included."""
        self.tombstones = 0
        self._own = own
        self._lock = threading.Lock()
        self._counts = ChangeCounts()
        self._foreign: Counter[int | None] = Counter()
        self._newest: deque[ConsumedEvent] = deque(maxlen=NEWEST)
        self._buckets: Counter[int] = Counter()
        self._all = Latencies()
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def add(self, events: Iterable[ConsumedEvent]) -> None:
        with self._lock:
            for event in events:
                self._add(event)

    def _add(self, event: ConsumedEvent) -> None:
        now = time.monotonic()
        if self.first_at is None:
            self.first_at = now
        if event.op == "r" or event.transaction in self._own:
            self._counts[event.table, event.op] += 1
        else:
            self._foreign[event.transaction] += 1
        self._newest.append(event)
        self._buckets[int(now / BUCKET)] += 1
        if event.lag is not None:
            self._all.add(event.lag)
            self._recent.append(event.lag)

    def counts(self) -> ChangeCounts:
        """Events of the shop by table and operation."""
        with self._lock:
            return self._counts.copy()

    def foreign(self) -> dict[int | None, int]:
        """Events of other sessions, by transaction."""
        with self._lock:
            return dict(self._foreign)

    @property
    def others(self) -> int:
        """Their number."""
        with self._lock:
            return self._foreign.total()

    def newest(self) -> list[ConsumedEvent]:
        """Return the last events, newest first."""
        with self._lock:
            return list(reversed(self._newest))

    def rates(self) -> list[float]:
        """Events a second in the last buckets that are complete, oldest first."""
        last = int(time.monotonic() / BUCKET)
        with self._lock:
            for old in [bucket for bucket in self._buckets if bucket < last - HISTORY]:
                del self._buckets[old]
            return [self._buckets[bucket] / BUCKET for bucket in range(last - HISTORY, last)]

    def lag(self) -> ConsumedLag | None:
        """Return the lag of all events but the snapshot's; None without any."""
        with self._lock:
            return self._all.lag()

    def recent_lag(self) -> ConsumedLag | None:
        """Return the lag of the last events."""
        with self._lock:
            recent = Latencies()
            for seconds in self._recent:
                recent.add(seconds)
            return recent.lag()

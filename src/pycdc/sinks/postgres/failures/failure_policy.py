"""What becomes of an event that cannot be applied: it waits, it is parked, or the pipeline stops at it.

Invariants:

1. Nothing overtakes a refused event: behind a parked one those of its key are parked, behind one that waits or stops
   the pipeline its whole partition ends.
2. The server's own words may hold values: they go into the table, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import described
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import ApplyError
from pycdc.model.event import Event, Partition
from pycdc.observability.logger import get_logger
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets, ParkedKey
from pycdc.sinks.postgres.conflicts.conflict import Conflict, ConflictKind, Decision, ResolvedConflict
from pycdc.sinks.postgres.conflicts.resolver import ConflictResolver
from pycdc.sinks.postgres.failures.partition_limits import PartitionLimits
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.write_errors import ChildrenThere, WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite

log = get_logger()

Refusal = Exception
"""`WriteRejected`, the database's error, or Python's at a value that cannot be sent there."""

_PAUSE: Final = 1.0
"""Seconds after which an event that waits for others is tried again, though nothing followed."""
_EARLY: Final = ("23503", "23001", "23505", "23P01")
"""A foreign key is violated: the parent is not there yet, or a child still is. Or another row has the values, or what
excludes them: it may give them up later."""


def early(error: Refusal) -> bool:
    """Return whether an event may only have come too early: what it needs may follow, in any partition."""
    return isinstance(error, ChildrenThere) or (isinstance(error, psycopg.Error) and error.sqlstate in _EARLY)


class ParentWait:
    """How long events wait for what others bring. Survives batches.

    The clock of a partition runs for everything that was read of it when the first event began to wait: a thousand
    orphans wait once, not a thousand times.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: dict[Partition, tuple[int, float]] = {}

    def lasts(self, event: Event, read: int) -> bool:
        """Return whether the wait goes on. `read` is the offset behind what was read of the event's partition."""
        now = time.monotonic()
        until, since = self._began.get(event.partition, (0, 0.0))
        if event.offset >= until:
            until, since = self._began[event.partition] = (read, now)
            if self._seconds:
                log.info("an event waits for what others bring", record=str(event), seconds=self._seconds)
        return now - since < self._seconds

    def is_over(self, event: Event) -> bool:
        """Return whether it waited already, and for long enough."""
        until, since = self._began.get(event.partition, (0, 0.0))
        return not self._seconds or (event.offset < until and time.monotonic() - since >= self._seconds)


@dataclass(slots=True)
class Routed:
    """An event and what it means, or why it means nothing. `emptied` are tables that lose all of their rows.

    `early`: what follows may solve the problem.
    """

    event: Event
    writes: list[RowWrite]
    problem: str | None = None
    emptied: tuple[TargetTable, ...] = ()
    early: bool = False


class FailurePolicy:
    """Decides about failures of one attempt at a transaction. `limits` are the batch's, and outlive it."""

    def __init__(
        self,
        settings: PostgresSinkConfig,
        apply_offsets: ApplyOffsets,
        connection: Connection,
        counters: BatchCounters,
        limits: PartitionLimits,
        parent_wait: ParentWait,
        read: Mapping[Partition, int],
        conflicts: ConflictResolver,
    ) -> None:
        self._stops = settings.on_error == "stop"
        self._apply_offsets = apply_offsets
        self._connection = connection
        self._counters = counters
        self._parent_wait = parent_wait
        self._blocked = set(apply_offsets.parked(connection) if apply_offsets.blocked else ())
        self._refused: set[ParkedKey] = set()
        self.limits = limits
        self._read = read
        self._conflicts = conflicts

    @property
    def blocked(self) -> frozenset[ParkedKey]:
        return frozenset(self._blocked | self._refused)

    def accepted(self, events: list[Routed]) -> list[Routed]:
        """Return those whose rows are to be written."""
        if not self._blocked and not any(routed.problem for routed in events):
            return events
        return [routed for routed in events if self._accepts(routed)]

    def _accepts(self, routed: Routed) -> bool:
        event, problem = routed.event, routed.problem
        if not self.limits.includes(event) or self._parked_behind(event, self._blocked):
            return False
        if problem is None:
            return True
        if routed.early and self._parent_wait.lasts(event, self._read[event.partition]):
            self.limits.add(event, pause=_PAUSE, grows=True)
        elif self._stops:
            self.limits.add(event, error=_stopped(event, problem, waited=routed.early))
        else:
            self._park(event, "Unwritable", None, problem, problem, self._blocked)
        return False

    def follows(self, event: Event) -> bool:
        """Return whether one of its key was found and parked by bisection, so that it was parked as well.

        Kept apart from what was known before, which may hold keys of events that come later.
        """
        return self._parked_behind(event, self._refused)

    def ends_partition(self, event: Event) -> bool:
        """Return whether giving up an event that came too early ends its partition."""
        return self._stops or not self._parent_wait.is_over(event)

    def give_up(self, routed: Routed, error: Refusal) -> Routed | None:
        """Give an event up; return what of it is written all the same, where it gives way in one of its tables only."""
        event = routed.event
        conflict = self._conflicts.rejected.conflict(routed.writes, error)
        if self._waits(event, error, conflict):
            self.limits.add(event, pause=_PAUSE, grows=True)
            return None
        if conflict is not None and self._conflicts.rejected.gives_way(conflict):
            self._conflicts.record(
                self._connection, [ResolvedConflict(conflict, event, Decision.KEEP_LOCAL)], self._counters
            )
            return Routed(event, [write for write in routed.writes if str(write.shape.table) != conflict.table])
        if self._stops and not (conflict is not None and self._conflicts.rejected.parks(conflict, error)):
            self.limits.add(event, error=_stopped(event, _shown(error), waited=early(error)))
            return None
        if isinstance(error, WriteRejected):
            self._park(event, error.reason, None, error.detail, error.detail, self._refused)
        elif isinstance(error, psycopg.Error):
            words = error.diag.message_primary or described(error)
            self._park(event, type(error).__name__, error.sqlstate, words, described(error), self._refused)
        else:
            self._park(event, type(error).__name__, None, described(error), described(error), self._refused)
        if conflict is not None:
            self._conflicts.record(
                self._connection, [ResolvedConflict(conflict, event, Decision.PARKED)], self._counters
            )
        return None

    def _waits(self, event: Event, error: Refusal, conflict: Conflict | None) -> bool:
        """Return whether to wait. A row that is there already, where the route says `insert`, will not go away."""
        if not early(error) or (conflict is not None and conflict.kind is ConflictKind.INSERT_EXISTS):
            return False
        return self._parent_wait.lasts(event, self._read[event.partition])

    def _park(
        self, event: Event, error: str, sqlstate: str | None, detail: str, shown: str, known: set[ParkedKey]
    ) -> None:
        self._apply_offsets.park(self._connection, event, error, sqlstate, detail)
        self._counters.parked[error] += 1
        log.warning("parked an event", record=str(event), reason=shown)
        if event.identity is not None:
            known.add(event.identity)

    def _parked_behind(self, event: Event, before: set[ParkedKey]) -> bool:
        if not before or event.identity not in before:
            return False
        self._apply_offsets.park(self._connection, event, "Follower", None, "an earlier event of its key is parked")
        self._counters.parked["Follower"] += 1
        return True


def _shown(error: Refusal) -> str:
    return error.detail if isinstance(error, WriteRejected) else described(error)


def _stopped(event: Event, shown: str, *, waited: bool = False) -> ApplyError:
    if waited:
        return ApplyError(
            f"{event} cannot be applied: {shown}; no event brought what it needs",
            hint="what was before it is applied; correct the table or the route and start again. Where others bring it "
            "later, raise sink.postgres.wait_for_parents and source.kafka.max_waiting_events; sink.postgres.on_error: "
            "park goes on without it",
        )
    return ApplyError(
        f"{event} cannot be applied: {shown}",
        hint="what was before it is applied; correct the table or the route and start again, or set "
        "sink.postgres.on_error: park",
    )

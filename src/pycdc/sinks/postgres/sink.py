"""The reverse sink: events into rows, exactly once.

A batch is one transaction:

1. the mark, so that a capture of this database drops it;
2. the offsets, guarded: who was overtaken stops here;
3. followers of parked events are parked;
4. the rows;
5. commit.

Deadlocks and serialization failures repeat the whole transaction. A row that the database refuses is found by
bisection: the transaction is repeated with savepoints, halves in order, until it stands alone. Whatever else goes wrong
ends the sink; the pipeline then builds a new one, and claims its partitions anew. That reads the stored offsets, which
also answers the question whether a commit whose confirmation never came was one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from pycdc.config import PostgresSink as Settings
from pycdc.errors import ApplyError, ConnectionLost, DeliveryError
from pycdc.events import Applied, Event, EventBatch, Partition
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.sinks.postgres.ledger import Identity, Ledger
from pycdc.sinks.postgres.origin import set_up_origin
from pycdc.sinks.postgres.routing import Router
from pycdc.sinks.postgres.session import Fault, connect, described, fault, translate
from pycdc.sinks.postgres.statements import RowMissing, execute
from pycdc.sinks.postgres.tables import read_tables
from pycdc.sinks.postgres.tally import Tally
from pycdc.sinks.postgres.values import Unwritable
from pycdc.sinks.postgres.writes import Write, groups_of

log = get_logger()

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0


@dataclass(slots=True)
class Routed:
    """An event and what it means, or why it means nothing."""

    event: Event
    writes: list[Write]
    problem: str | None = None


class PostgresSink:
    """A `Target` for `EventBatch`. After an exception it is dead. `ledger` outlives it, and holds what is claimed."""

    def __init__(self, settings: Settings, pipeline: str, ledger: Ledger, progress: Progress | None = None) -> None:
        self._settings = settings
        self._ledger = ledger
        self._progress = progress or Progress()
        self._tally = Tally()
        self._dead = False
        self._events: list[Event] = []
        self._offsets: dict[Partition, int] = {}
        self._blocked: set[Identity] = set()
        self._refused: set[Identity] = set()
        self._connection = connect(settings.dsn.get_secret_value())
        try:
            ledger.ensure_tables(self._connection)
            self._router = Router(settings, read_tables(self._connection, settings.routes))
            origin = set_up_origin(self._connection, pipeline)
        except psycopg.Error as error:
            self._connection.close()
            raise translate(error) from None
        except BaseException:
            self._connection.close()
            raise
        log.debug("marks its transactions", origin=origin)

    def write(self, batch: EventBatch) -> None:
        """Take a batch; nothing happens before `commit`, so that no lock is held in between."""
        self._events += batch.events
        if batch.position is not None:
            self._offsets.update(batch.position.next)

    def commit(self, checkpoint: Applied) -> None:
        with self._fatal():
            if self._offsets:
                self._apply(self._routed(), self._offsets)
            self._events, self._offsets = [], {}

    def close(self) -> None:
        """Idempotent. An open transaction is rolled back by the server."""
        self._dead = True
        self._connection.close()

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves it open whether the transaction is there, so it is the sink's end."""
        if self._dead:
            raise DeliveryError("the sink cannot go on after an error", hint="build a new sink, and claim anew")
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _routed(self) -> list[Routed]:
        """The events, those of the topics that come first in the routes before others: parents first."""
        out = []
        for event in self._events:
            try:
                writes = [] if event.problem else self._router.writes(event)
                out.append(Routed(event, writes, event.problem))
            except Unwritable as error:
                out.append(Routed(event, [], str(error)))
        return sorted(out, key=lambda routed: self._router.rank(routed.event.partition.topic))

    # The transaction.

    def _apply(self, events: list[Routed], offsets: Mapping[Partition, int]) -> None:
        bisect, attempt = False, 0
        while True:
            try:
                self._transaction(events, offsets, bisect=bisect)
                return
            except (psycopg.Error, RowMissing) as error:
                kind = Fault.ROW if isinstance(error, RowMissing) else fault(error)
                if isinstance(error, psycopg.Error) and (kind is Fault.OTHER or self._connection.closed):
                    raise translate(error) from None
                self._connection.rollback()
                if kind is Fault.ROW:
                    # Found by the commit, a deferred constraint: no savepoint can tell whose row it was.
                    if bisect:
                        raise self._refused_by_commit(error) from None
                    bisect = True
                    continue
                attempt += 1
                self._progress.retried[type(error).__name__] += 1
                if attempt >= self._settings.max_attempts:
                    raise ConnectionLost(
                        f"{attempt} attempts met deadlocks, locks or serialization failures",
                        hint="look at pg_stat_activity for who holds locks on the tables of the routes",
                    ) from None
                _pause(attempt)

    def _transaction(self, events: list[Routed], offsets: Mapping[Partition, int], *, bisect: bool) -> None:
        connection = self._connection
        self._tally, began = Tally(), time.monotonic()
        self._ledger.sign(connection)  # step 1
        self._ledger.advance(connection, offsets)  # step 2
        self._blocked = set(self._ledger.parked(connection) if self._ledger.blocked else ())
        good = [routed for routed in events if self._admitted(routed)]  # step 3
        if bisect:
            self._refused = set()
            self._halves(good)  # step 4
        else:
            self._run(good)
        applied = time.monotonic()
        connection.commit()  # step 5
        committed = time.monotonic()
        self._tally.add_to(self._progress, committed - began, committed - applied)
        self._ledger.advanced(offsets)
        self._ledger.blocked = frozenset(self._blocked | self._refused)

    def _run(self, events: list[Routed]) -> None:
        done = Tally()
        for group in groups_of(write for routed in events for write in routed.writes):
            lacking = execute(self._connection, group)
            table, operation = str(group.shape.table), group.shape.operation
            done.applied[table, operation] += len(group.writes) - lacking
            if lacking:
                done.skipped[table, "RowMissing"] += lacking
                log.warning("rows were not there", table=table, operation=operation, rows=lacking)
        # Not before the end: a savepoint takes back what was done of it.
        self._tally.applied.update(done.applied)
        self._tally.skipped.update(done.skipped)

    def _halves(self, events: list[Routed]) -> None:
        """Run `events` in a savepoint; where a row is refused, its halves, down to the event that it came from."""
        events = [routed for routed in events if not self._follows(routed, self._refused)]
        if not events:
            return
        try:
            with self._connection.transaction():
                self._run(events)
        except (psycopg.Error, RowMissing) as error:
            if isinstance(error, psycopg.Error) and fault(error) is not Fault.ROW:
                raise
            if len(events) == 1:
                self._give_up(events[0].event, error)
                return
            middle = len(events) // 2
            self._halves(events[:middle])
            self._halves(events[middle:])

    # Events that cannot be applied.

    def _admitted(self, routed: Routed) -> bool:
        if self._follows(routed, self._blocked):
            return False
        if routed.problem is not None:
            self._park(routed.event, "Unwritable", None, routed.problem)
            _add(self._blocked, routed.event)
            return False
        return True

    def _follows(self, routed: Routed, before: set[Identity]) -> bool:
        """Park an event whose key has one parked before it: what comes later must not overtake it.

        What bisection finds is kept apart from `_blocked`, which by then holds keys of later events too.
        """
        if not before or routed.event.identity not in before:
            return False
        self._ledger.park(self._connection, routed.event, "Follower", None, "an earlier event of its key is parked")
        self._tally.parked["Follower"] += 1
        return True

    def _give_up(self, event: Event, error: psycopg.Error | RowMissing) -> None:
        if isinstance(error, RowMissing):
            self._park(event, "RowMissing", None, "the row to be changed is not there")
        else:
            words = error.diag.message_primary or ""
            self._park(event, type(error).__name__, error.sqlstate, words, shown=described(error))
        _add(self._refused, event)

    def _park(self, event: Event, error: str, sqlstate: str | None, detail: str, *, shown: str = "") -> None:
        """`detail` is the server's own words, which may hold values: into the table, and nowhere else."""
        shown = shown or detail
        if self._settings.on_error == "stop":
            raise ApplyError(
                f"{event} cannot be applied: {shown}",
                hint="correct the table or the route and start again, or set sink.postgres.on_error: park",
            )
        self._ledger.park(self._connection, event, error, sqlstate, detail)
        self._tally.parked[error] += 1
        log.warning("parked an event", record=str(event), reason=shown)

    def _refused_by_commit(self, error: psycopg.Error | RowMissing) -> ApplyError:
        reason = described(error) if isinstance(error, psycopg.Error) else "a row is missing"
        return ApplyError(
            f"a batch of {len(self._events)} events up to {self._events[-1]} is refused by its commit: {reason}",
            hint="a deferred constraint is violated: make it immediate to have the event named and parked",
        )


def _add(identities: set[Identity], event: Event) -> None:
    if event.identity is not None:
        identities.add(event.identity)


def _pause(attempt: int) -> None:
    """With jitter, so that two who met do not meet again."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
    time.sleep(random.uniform(0, longest))  # noqa: S311  (jitter, not a secret)

"""The reverse sink: events into rows, exactly once.

A batch is one transaction:

1. the mark, so that a capture of this database drops it;
2. the offsets, guarded: who was overtaken stops here;
3. what was applied before is left out, followers of parked events are parked;
4. the rows, parents before children;
5. commit.

Deadlocks and serialization failures repeat all of it. A row that the database refuses is found by bisection; where it
must not be passed over, its partition ends before it. Whatever else goes wrong ends the sink; the pipeline builds a new
one, and claims its partitions anew: their stored offsets say whether a commit that nobody confirmed was one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Unanswered
from pycdc.clients.postgres_errors import target_error
from pycdc.clients.postgres_sessions import connect_to_write
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import ConnectionLost, DeliveryError
from pycdc.model.event import Applied, Event, EventBatch, PartitionOffsets, events_of
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.bookkeeping.left_out import LeftOut
from pycdc.sinks.postgres.columnar_apply import ColumnarRoutes, ColumnarWriter
from pycdc.sinks.postgres.failures.attempts import Attempts, TookTooLong, too_slow
from pycdc.sinks.postgres.failures.bisection import Bisection
from pycdc.sinks.postgres.failures.errors import FaultKind, fault
from pycdc.sinks.postgres.failures.failure_policy import FailurePolicy, ParentWait, Routed
from pycdc.sinks.postgres.failures.partition_limits import PartitionLimits, offsets_behind
from pycdc.sinks.postgres.loop_filter import ApplyChunk, LoopFilter, set_apart
from pycdc.sinks.postgres.replication_origin import set_up_origin
from pycdc.sinks.postgres.routing.router import Functions
from pycdc.sinks.postgres.routing.topic_order import TopicOrder
from pycdc.sinks.postgres.sagas.saga_timeouts import SagaTimeouts
from pycdc.sinks.postgres.sagas.saga_tracker import SagaTracker
from pycdc.sinks.postgres.schema_drift import LOOK_AGAIN, Drifted, KnownTables, TargetTables, drift
from pycdc.sinks.postgres.seen_before import SeenBefore
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.key_exchanges import apart
from pycdc.sinks.postgres.writing.key_rules import KeyRules
from pycdc.sinks.postgres.writing.write_order import Manner, arranged
from pycdc.sinks.postgres.writing.writes import RowWrite

log = get_logger()

_MOST: Final = 1_000_000
"""Events in a transaction, as long as none took too long."""
_SLOW_ATTEMPTS: Final = 3
"""How often an event may take too long, alone in its transaction, before it counts as refused."""
_TURN: Final = 60.0
"""Seconds that a batch may take; the rest of it is read again, so that the consumer group hears of this process."""
_PULSE: Final = 10.0
"""Seconds without events after which the database is asked whether it is there and takes writes."""


class PostgresSink:
    """A `Target` for `EventBatch`. After an exception it is dead. `apply_offsets` holds the claims, and outlives it.

    So does `known`, what was known of the tables: one that changed since halts, and is no error of the start. The
    source is given `columnar_routes`. `stopping`: no statement lasts long once it is set.
    """

    def __init__(
        self,
        settings: PostgresSinkConfig,
        pipeline: str,
        apply_offsets: ApplyOffsets,
        progress: Progress | None = None,
        known: KnownTables | None = None,
        functions: Functions | None = None,
        columnar_routes: ColumnarRoutes | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._apply_offsets = apply_offsets
        self._progress = progress or Progress()
        self._counters = BatchCounters()
        self._dead = False
        self._batches: list[EventBatch] = []
        self._parent_wait = ParentWait(settings.wait_for_parents)
        self._loop_filter = LoopFilter(settings.loops, pipeline)
        self._seen = SeenBefore(settings, pipeline)
        self._sagas = SagaTracker(settings, pipeline) if settings.sagas else None
        self._left_out = LeftOut(pipeline, settings.bookkeeping)
        self._known = known or KnownTables()
        self._stopping = stopping or threading.Event()
        self._deadline = 0.0
        self._heard_at = time.monotonic()
        self._connection = connect_to_write(
            settings, settings.max_transaction_seconds, stopping=stopping, outages=self._progress.outages
        )
        try:
            apply_offsets.fit(settings)
            apply_offsets.ensure_tables(self._connection)
            origin = set_up_origin(self._connection, pipeline)
            self._has_origin = self._progress.has_origin = origin is not None
            self._ordered = TopicOrder(apply_offsets, self._connection)
            self._targets = TargetTables(
                self._connection, settings, pipeline, origin, self._progress, self._known, functions, self._ordered
            )
        except psycopg.Error as error:
            self._connection.close()
            raise target_error(error) from None
        except BaseException:
            self._connection.close()
            raise
        self._saga_timeouts = self._timeouts(pipeline)
        self._columnar_routes = columnar_routes or ColumnarRoutes()
        self._columns = ColumnarWriter(self._connection, apply_offsets, self._progress, has_origin=self._has_origin)
        self._columnar_routes.fit(self._targets)
        log.debug("marks its transactions", origin=origin)

    def write(self, batch: EventBatch) -> None:
        """Take a batch; nothing happens before `commit`, so that no lock is held in between."""
        self._batches.append(batch)

    def commit(self, checkpoint: Applied) -> Applied | None:
        """Apply what was written. Returns how far it is where that is not as far as `checkpoint`."""
        with self._fatal():
            batches, self._batches = self._batches, []
            for batch in batches[:1]:
                self._apply_offsets.require(batch.starts)
            self._targets.look_again(self._connection)
            self._ordered.look_again()
            limits = PartitionLimits() if self._wrote_columns(batches) else self._apply_all(events_of(batches))
            self._heard_at = time.monotonic()
            self._targets.conflicts.sweep(self._connection)
            self._look_after_sagas()
            if limits.error is not None:
                raise limits.error
            if not limits:
                return None
            unapplied = limits.unapplied(event for batch in batches for event in batch.events)
            for batch in batches:
                batch.events = [event for event in batch.events if limits.includes(event)]
            return Applied(PartitionOffsets(limits.limit(checkpoint.position.next)), limits.pauses, unapplied)

    def idle(self) -> None:
        """Notice a database that is gone, or takes no writes any more; called when nothing came for a moment."""
        with self._fatal():
            self._look_after_sagas()
        if time.monotonic() - self._heard_at < _PULSE:
            return
        with self._fatal():
            mode = self._connection.execute(b"SHOW transaction_read_only").fetchone()
            self._connection.rollback()
            if mode != ("off",):
                raise ConnectionLost("the database of sink.postgres takes no writes: it is read-only")
            self._heard_at = time.monotonic()
            self._targets.conflicts.sweep(self._connection)

    def close(self) -> None:
        """Idempotent. An open transaction is rolled back by the server."""
        self._dead = True
        self._connection.close()
        if self._saga_timeouts is not None:
            self._saga_timeouts.close()

    def _timeouts(self, pipeline: str) -> SagaTimeouts | None:
        if self._sagas is None:
            return None
        try:
            return SagaTimeouts(self._settings, pipeline, self._progress, self._stopping)
        except BaseException:
            self._connection.close()
            raise

    def _look_after_sagas(self) -> None:
        if self._saga_timeouts is not None:
            self._saga_timeouts.look()

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves it open whether the transaction is there, so it is the sink's end."""
        if self._dead:
            raise DeliveryError("the sink cannot go on after an error", hint="build a new sink, and claim anew")
        try:
            yield
        except psycopg.Error as error:
            self.close()
            raise target_error(error) from None
        except BaseException:
            self.close()
            raise

    @property
    def _most(self) -> int:
        """Events in a transaction."""
        return _MOST if self._known.most is None else self._known.most

    # From batches to transactions.

    def _wrote_columns(self, batches: list[EventBatch]) -> bool:
        """Return whether all of it is applied; else none of it is."""
        if len(batches) != 1 or batches[0].load is None or self._seen.inbox is not None or len(batches[0]) > self._most:
            return False
        self._columnar_routes.fit(self._targets)
        return self._columns.write(batches[0], self._targets)

    def _apply_all(self, events: list[Event]) -> PartitionLimits:
        """Apply in one transaction, if it is not too long and all changes have one origin."""
        limits, began = PartitionLimits(), time.monotonic()
        runs = set_apart(events)
        waiting = deque(chunk for run in runs for chunk in self._loop_filter.portions(run, self._most))
        while waiting and limits.error is None and time.monotonic() - began < _TURN:
            chunk = waiting.popleft()
            try:
                self._apply(chunk, limits)
                self._known.most = max(self._most, 2 * len(chunk.events))
            except Unanswered:
                self._known.most = max(1, len(chunk.events) // 2)  # where it was the commit that took so long
                raise
            except TookTooLong:
                self._connection.rollback()
                self._known.most = max(1, len(chunk.events) // 2)
                if len(chunk.events) == 1:
                    place = (chunk.events[0].partition, chunk.events[0].offset)
                    self._known.slow = {place: self._known.slow.get(place, 0) + 1}
                    raise too_slow(chunk.events[0], self._settings.max_transaction_seconds) from None
                waiting.extendleft(reversed(chunk.halves()))
        for chunk in waiting:
            for event in chunk.events:
                limits.add(event)
        return limits

    def _apply(self, chunk: ApplyChunk, limits: PartitionLimits) -> None:
        attempts = Attempts(self._settings.max_attempts, self._progress)
        changed = set[str]()
        while True:
            try:
                events = self._routed(chunk, limits)
                if any(routed.problem for routed in events) and self._fits_now(attempts):
                    continue
                if self._transaction(chunk, events, limits, attempts):
                    return
            except Drifted as drifted:
                self._connection.rollback()
                if drifted.inside and not attempts.bisect:
                    attempts.bisect = True
                    continue
                self._targets.adapt(self._connection, drifted, again=str(drifted.table) in changed)
                changed.add(str(drifted.table))
            except Exception as error:
                kind = fault(error, self._connection, lasting=attempts.used_up)
                if kind is FaultKind.OTHER or (kind is FaultKind.ROW and attempts.bisect):
                    raise
                if kind is FaultKind.SLOW:
                    raise TookTooLong from None
                self._connection.rollback()
                if kind is FaultKind.ROW:
                    attempts.bisect = not self._fits_now(attempts)
                elif self._stopping.is_set():
                    raise ConnectionLost("the pipeline was stopped while a transaction was tried again") from None
                else:
                    attempts.again(error)

    def _fits_now(self, attempts: Attempts) -> bool:
        """Return whether a table has changed since it was read: then a row that was refused may be taken now."""
        if attempts.looked:
            return False
        attempts.looked = True
        return self._targets.changed(self._connection)

    def _transaction(
        self, chunk: ApplyChunk, events: list[Routed], limits: PartitionLimits, attempts: Attempts
    ) -> bool:
        """Apply events in one transaction; return False where an event was met that ends its partition.

        Then nothing was done, and the transaction is tried again.
        """
        connection, stored = self._connection, self._apply_offsets
        ends = offsets_behind(chunk.events)
        offsets = stored.moving(limits.limit(ends))
        if not offsets:
            return True
        self._counters, began, known = BatchCounters(), time.monotonic(), limits.changes
        self._deadline = began + self._settings.max_transaction_seconds
        stored.sign(connection, chunk.change_origin, origin=self._has_origin)  # step 1
        self._targets.order.defer(connection)
        stored.advance(connection, offsets)  # step 2
        policy = FailurePolicy(
            self._settings, stored, connection, self._counters, limits, self._parent_wait, ends, self._targets.conflicts
        )
        events = policy.accepted(self._seen.new(connection, events, self._counters))  # step 3
        carried = (chunk.events[place] for place in chunk.refused)
        nowhere = [(event.partition, "loop") for event in carried if limits.includes(event)]
        idle = (routed.event for routed in events if not (routed.writes or routed.emptied))
        nowhere += [(event.partition, self._targets.router.left_out(event)) for event in idle]
        self._left_out.count(connection, nowhere, self._counters)
        if attempts.bisect:
            Bisection(connection, self._run, policy, lasting=attempts.used_up).apply(events)  # step 4
        elif limits.changes == known:
            self._run(events)
        if limits.changes != known:
            connection.rollback()
            return False
        if self._sagas is not None:
            self._sagas.track(connection, (routed.event for routed in events))
        applied = time.monotonic()
        connection.commit()  # step 5
        committed = time.monotonic()
        self._counters.add_to(self._progress, committed - began, committed - applied)
        stored.advanced(offsets)
        stored.blocked = policy.blocked
        return True

    def _routed(self, chunk: ApplyChunk, limits: PartitionLimits) -> list[Routed]:
        """Return the events that are taken, those of parents' topics before others."""
        router, out = self._targets.router, []
        for event in self._taken(chunk, limits):
            empties, emptied = event.truncates, list[TargetTable]()
            problem = (None if empties else event.problem) or self._poison(event)
            writes: list[RowWrite] = []
            try:
                if problem is None and empties:
                    emptied = self._emptied(event)
                elif problem is None:
                    writes = router.writes(event)
            except Unwritable as error:
                writes, problem = [], str(error)
            except Exception as error:
                if fault(error, self._connection) is not FaultKind.ROW:
                    raise
                writes, problem = [], f"its values cannot be made a row's ({type(error).__name__})"
            if self._targets.halts and self._targets.halts_at(
                event.partition.topic, [write.shape.table for write in writes]
            ):
                limits.add(event, pause=LOOK_AGAIN)
            if limits.includes(event):
                out.append(Routed(event, writes, problem, tuple(emptied)))
        ranks = {topic: router.rank(topic) for topic in {routed.event.partition.topic for routed in out}}
        if len(ranks) > 1:
            out.sort(key=lambda routed: ranks[routed.event.partition.topic])
        return apart(self._connection, out, KeyRules.of(self._settings, self._parent_wait.is_over))

    def _emptied(self, event: Event) -> list[TargetTable]:
        found = self._targets.router.truncated(event)
        if found and not self._ordered(event.partition.topic):
            raise Unwritable(
                "the source's table was emptied (TRUNCATE), and the topic has several partitions: there is no order "
                "between that and the rows of the others"
            )
        return found

    def _poison(self, event: Event) -> str | None:
        problem = self._seen.problem(event)
        if problem is None and self._sagas is not None:
            problem = self._sagas.problem(event)
        if problem is not None:
            return problem
        times = self._known.slow.get((event.partition, event.offset), 0)
        if times < _SLOW_ATTEMPTS or self._settings.on_error == "stop":
            return None
        return f"alone, it took longer than {self._settings.max_transaction_seconds:g} s, {times} times"

    def _taken(self, chunk: ApplyChunk, limits: PartitionLimits) -> list[Event]:
        for event in chunk.events if self._targets.halts else ():
            if self._targets.halted(event.partition.topic) is not None:
                limits.add(event, pause=LOOK_AGAIN)
        if not limits and not chunk.refused:
            return chunk.events
        return [
            event for place, event in enumerate(chunk.events) if place not in chunk.refused and limits.includes(event)
        ]

    def _run(self, events: list[Routed], manner: Manner = "together") -> None:
        done, conflicts = BatchCounters(), self._targets.conflicts
        writes = [write for routed in events for write in routed.writes]
        for table in (table for routed in events for table in routed.emptied):
            emptied = self._connection.execute(
                sql.SQL("DELETE FROM {}").format(sql.Identifier(table.schema, table.name))
            )
            done.applied[str(table), "truncate"] += emptied.rowcount
        for group in arranged(
            self._connection, conflicts.prepare(self._connection, writes, done), manner, conflicts.overwrites
        ):
            if time.monotonic() > self._deadline:
                raise TookTooLong
            try:
                conflicts.execute(self._connection, group, done)
            except psycopg.Error as error:
                raise drift(error, group.shape) or error from None
        # Not before the end: a savepoint takes back what was done of it.
        self._counters.add(done)

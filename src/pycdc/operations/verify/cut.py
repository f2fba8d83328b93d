"""A consistent cut: a snapshot of the source, one of the target, and the events between them.

The order of the steps is what makes a comparison exact (docs/verify.md says why):

1. `low`: the ends of the topics. What lies below was committed in the source before step 2.
2. The source's snapshot S and its point P, of a temporary logical slot: a transaction is in S exactly if its commit
   lies before P in the WAL. A snapshot of `pg_export_snapshot` is ordered by visibility, which is another order.
3. Wait until the capture's slot confirms P: then everything before P is durable in Kafka.
4. `high`: the ends of the topics.
5. Wait until the pipeline has applied `high`.
6. The target's snapshot T, and the vector V of applied offsets, read inside of T.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import sql

from pycdc.clients.kafka_inspection import OffsetSpan
from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import source_error, target_error
from pycdc.clients.postgres_sessions import connect_to_source, connect_to_target
from pycdc.connectors.postgres.catalog.exported_snapshot import ExportedSnapshot
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin, Blocker
from pycdc.errors import EnvironmentNotReady
from pycdc.model.change import Lsn
from pycdc.model.event import Partition
from pycdc.operations.verify.canonical import pin
from pycdc.operations.verify.prediction import Place
from pycdc.operations.verify.result import PointInTime
from pycdc.operations.verify.stream_window import StreamWindow, Vector

_LOOK: Final = 0.01
_LONGEST_LOOK: Final = 0.2
_NUDGE: Final = 0.2
"""Seconds without progress after which the capture is given something to read."""
_MARKERS: Final = 0.2
"""Seconds without progress after which it is asked whether only markers of transactions are left."""
PREFIX: Final = "pycdc.verify"
"""Of the logical message that nudges a capture whose database is idle."""
_CONFIRMED: Final = """SELECT confirmed_flush_lsn::text, active, pg_is_in_recovery()
FROM pg_replication_slots WHERE slot_name = %s"""
_EMIT: Final = "SELECT pg_logical_emit_message(true, %s::text, '')"
_OFFSETS: Final = "SELECT topic, partition, next_offset FROM {} WHERE pipeline = %s"
_PARKED: Final = 'SELECT topic, partition, "offset" FROM {} WHERE pipeline = %s'
BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

Announce = Callable[[str], None]
"""Hears what is being done, for a progress display."""


@dataclass(frozen=True, slots=True)
class VerifiedEnds:
    """Where both ends are reached. DSNs are secrets.

    `slot` is the capture's, `bookkeeping` the schema of the pipeline's own tables. `timeout` is in seconds: how long a
    step may make no progress.
    """

    source_dsn: str = field(repr=False)
    target_dsn: str = field(repr=False)
    slot: str
    pipeline: str
    bookkeeping: str
    timeout: float = 60.0


@dataclass(slots=True)
class Cut:
    """Both snapshots, for any number of sessions to import: `exported` is the source's.

    `holder` is the session that keeps the target's, exported as `target_snapshot`. `began` is monotonic.
    """

    low: Vector
    high: Vector
    vector: Vector
    spans: Mapping[Partition, OffsetSpan]
    point: Lsn
    parked: frozenset[Place]
    exported: ExportedSnapshot
    holder: Connection
    target_snapshot: str
    began: float
    waited_for_capture: float
    waited_for_apply: float

    @property
    def events(self) -> int:
        """How many records may lie between the two snapshots."""
        return sum(max(0, end - self.low.get(partition, 0)) for partition, end in self.vector.items())

    def close(self) -> None:
        """End both snapshots. Idempotent."""
        self.holder.close()
        self.exported.close()

    def ping(self) -> None:
        """Keep firewalls from forgetting the sessions. Raises PycdcError where a snapshot is gone."""
        self.exported.ping()
        try:
            self.holder.execute("SELECT 1")
        except psycopg.Error as error:
            raise target_error(error) from None


class EndSessions:
    """A session of each end for questions outside of snapshots, opened when it is first asked for.

    A context manager; it may be used again after `close`.
    """

    def __init__(self, ends: VerifiedEnds) -> None:
        self._ends = ends
        self._source: Connection | None = None
        self._target: Connection | None = None

    @property
    def source(self) -> Connection:
        """Raises PycdcError."""
        if self._source is None:
            self._source = connect_to_source(self._ends.source_dsn)
        return self._source

    @property
    def target(self) -> Connection:
        """In autocommit, and its texts are canonical. Raises PycdcError."""
        if self._target is None:
            self._target = target_session(self._ends)
        return self._target

    def close(self) -> None:
        """Idempotent."""
        for connection in (self._source, self._target):
            if connection is not None:
                connection.close()
        self._source = self._target = None


def open_cut(
    ends: VerifiedEnds, sessions: EndSessions, window: StreamWindow, announce: Announce = lambda text: None
) -> Cut:
    """Take the steps. Raises PycdcError that says which step failed and what to do; nothing is left behind then."""
    spans = window.ends()
    low = {partition: span.end for partition, span in spans.items()}
    began = time.monotonic()
    exported = source_snapshot(ends, announce)
    try:
        announce("waits for the capture to confirm the snapshot's point")
        waited = wait_for_capture(ends, sessions.source, exported.slot.consistent_point)
        high = {partition: span.end for partition, span in window.ends().items()}
        announce("waits for the pipeline to apply what was captured")
        waited_for_apply = wait_for_apply(ends, sessions.target, window, high)
        holder, name, vector, parked = target_snapshot(ends)
        # Also of partitions that a topic got since: what was read of them is in the target's snapshot.
        topics = {partition.topic for partition in high}
        relevant = {partition: offset for partition, offset in vector.items() if partition.topic in topics}
        return Cut(
            low,
            high,
            relevant,
            spans,
            exported.slot.consistent_point,
            parked,
            exported,
            holder,
            name,
            began,
            waited,
            waited_for_apply,
        )
    except BaseException:
        exported.close()
        raise


def source_snapshot(ends: VerifiedEnds, announce: Announce = lambda text: None) -> ExportedSnapshot:
    """Return S and P, of a slot that is gone when this returns. Raises PycdcError."""

    def waiting(blockers: list[Blocker]) -> None:
        announce(
            f"creating the temporary slot waits for open transactions: {', '.join(map(str, blockers)) or 'none now'}"
        )

    admin = Admin(ends.source_dsn)
    return admin.temporary_snapshot(f"pycdc_verify_{uuid.uuid4().hex[:12]}", timeout=ends.timeout, on_wait=waiting)


def wait_for_capture(ends: VerifiedEnds, connection: Connection, point: Lsn) -> float:
    """Wait until the capture's slot confirms `point`; return the seconds.

    Raises EnvironmentNotReady where it stands still for too long.
    """
    began = moved = time.monotonic()
    nudged, pause, last = began, _LOOK, Lsn(0)
    try:
        while True:
            row = connection.execute(_CONFIRMED, (ends.slot,)).fetchone()
            if row is None or row[0] is None:
                raise _no_slot(ends.slot)
            confirmed, now = Lsn.parse(row[0]), time.monotonic()
            if confirmed >= point:
                return now - began
            if confirmed > last:
                last, moved = confirmed, now
            if now - moved > ends.timeout:
                raise _stands_still(ends, point, confirmed, active=bool(row[1]))
            if now - max(moved, nudged) > _NUDGE and not row[2]:
                connection.execute(_EMIT, (PREFIX,))
                nudged = now
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK)
    except psycopg.Error as error:
        raise source_error(error) from None


def wait_for_apply(ends: VerifiedEnds, connection: Connection, window: StreamWindow, high: Vector) -> float:
    """Wait until the pipeline's stored offsets have reached `high`; return the seconds.

    Raises EnvironmentNotReady where they stand still for too long.
    """
    began = moved = time.monotonic()
    asked, pause = began, _LOOK
    last: Vector = {}
    open_ends = {partition: end for partition, end in high.items() if end}
    try:
        while True:
            applied = _offsets(connection, ends)
            now = time.monotonic()
            open_ends = {one: end for one, end in open_ends.items() if applied.get(one, 0) < end}
            if not open_ends:
                return now - began
            if applied != last:
                last, moved = applied, now
            if now - max(moved, asked) > _MARKERS:
                asked = now
                open_ends = {
                    one: end for one, end in open_ends.items() if not window.is_empty(one, applied.get(one, 0), end)
                }
                continue
            if now - moved > ends.timeout:
                raise _not_applied(ends, open_ends, applied)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK)
    except psycopg.Error as error:
        raise target_error(error) from None


def target_snapshot(ends: VerifiedEnds) -> tuple[Connection, str, Vector, frozenset[Place]]:
    """Return a session in T, the name T is exported by, the vector V as T has it, and the records parked by then.

    Raises PycdcError.
    """
    connection = target_session(ends)
    try:
        connection.execute(BEGIN)
        vector, parked = _offsets(connection, ends), _parked(connection, ends)
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        return connection, str(row[0]) if row else "", vector, parked
    except psycopg.Error as error:
        connection.close()
        raise target_error(error) from None
    except BaseException:
        connection.close()
        raise


def target_session(ends: VerifiedEnds) -> Connection:
    """Return a session of the target in autocommit, whose texts are canonical. Raises PycdcError."""
    connection = connect_to_target(ends.target_dsn)
    try:
        connection.autocommit = True
        pin(connection)
    except psycopg.Error as error:
        connection.close()
        raise target_error(error) from None
    return connection


def _offsets(connection: Connection, ends: VerifiedEnds) -> dict[Partition, int]:
    table = sql.Identifier(ends.bookkeeping, "apply_offsets")
    try:
        rows = connection.execute(sql.SQL(_OFFSETS).format(table), (ends.pipeline,)).fetchall()
    except psycopg.errors.UndefinedTable:
        raise EnvironmentNotReady(
            f"pipeline {ends.pipeline} has never run: its table apply_offsets is not there",
            hint="start it with `pycdc run`",
        ) from None
    return {Partition(topic, number): offset for topic, number, offset in rows}


def _parked(connection: Connection, ends: VerifiedEnds) -> frozenset[Place]:
    table = sql.Identifier(ends.bookkeeping, "parked")
    rows = connection.execute(sql.SQL(_PARKED).format(table), (ends.pipeline,)).fetchall()
    return frozenset((Partition(topic, number), offset) for topic, number, offset in rows)


def point_of(cut: Cut) -> PointInTime:
    """Return what a report says of a cut."""
    return PointInTime(
        str(cut.point),
        _named(cut.low),
        _named(cut.high),
        _named(cut.vector),
        cut.waited_for_capture,
        cut.waited_for_apply,
    )


def _named(vector: Vector) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(vector.items())}


def _no_slot(slot: str) -> EnvironmentNotReady:
    return EnvironmentNotReady(
        f"the source has no replication slot {slot}, so nothing says how far its capture has delivered",
        hint="name the capture that writes the topics with --capture, or its slot with --slot",
    )


def _stands_still(ends: VerifiedEnds, point: Lsn, confirmed: Lsn, *, active: bool) -> EnvironmentNotReady:
    what = "its capture is connected" if active else "no capture is connected"
    return EnvironmentNotReady(
        f"slot {ends.slot} stands at {confirmed} and did not confirm {point} within {ends.timeout:g} s; {what}",
        hint="see whether the capture delivers (`pycdc status`, `pycdc lag`)"
        if active
        else "start the capture, and verify again",
    )


def _not_applied(ends: VerifiedEnds, lacking: Vector, applied: Vector) -> EnvironmentNotReady:
    partition = min(lacking)
    at = applied.get(partition)
    place = "nothing" if at is None else f"offset {at}"
    return EnvironmentNotReady(
        f"pipeline {ends.pipeline} has applied {place} of {partition} and makes no progress to {lacking[partition]} "
        f"within {ends.timeout:g} s",
        hint="see whether it runs and what it waits for: `pycdc status` of its configuration",
    )

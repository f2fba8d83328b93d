"""Writes a group's rows, those that conflict included.

1. The group's one statement leaves rows alone that conflict (see `guards`). Nearly always it writes all of them.
2. If it wrote fewer, the rows of those that are left are locked, and read.
3. What they are then is final: nobody changes them before this transaction ends. So each is looked at again, decided,
   recorded, and written without a guard.

A row that is not there cannot be locked. Where it has to be made it is inserted, and if somebody else was faster, the
transaction is repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import ConflictRule
from pycdc.model.origin import origin_prefix
from pycdc.observability.logger import get_logger
from pycdc.rows.text_values import Unwritable, array_of
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.conflicts.cases import (
    Latest,
    conflict_of,
    is_late,
    is_stale,
    kind_of,
    kind_of_late,
    old_row,
    row_of,
    stale,
    unseen,
)
from pycdc.sinks.postgres.conflicts.conflict import (
    UNIQUE,
    Conflict,
    Decision,
    Kind,
    ResolvedConflict,
    Undecided,
    decide,
    matches_before,
)
from pycdc.sinks.postgres.conflicts.conflict_table import ConflictTable
from pycdc.sinks.postgres.conflicts.locked_rows import LockedRow, read_locked
from pycdc.sinks.postgres.conflicts.policy import Policy, Version
from pycdc.sinks.postgres.conflicts.winning_writes import as_insert, as_update, chosen, with_values
from pycdc.sinks.postgres.conflicts.write_rewrites import as_change
from pycdc.sinks.postgres.conflicts.write_times import WriteTimes
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.child_rows import require_childless
from pycdc.sinks.postgres.writing.conflict_guards import FREE, Guard
from pycdc.sinks.postgres.writing.statements import (
    count_rows,
    execute,
    parameters,
    require_equal,
    spares_rows,
    statement,
)
from pycdc.sinks.postgres.writing.write_errors import ParkRequested, RowMissing, WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite, Shape, WriteGroup, groups_of

log = get_logger()


class DirectWrite(NamedTuple):
    """A statement, and its parameters behind those of the columns.

    `complete`: where it has written fewer rows than it was given, `execute` has to see why.
    """

    query: bytes
    own: tuple[Any, ...]
    complete: bool


class ConflictResolver:
    """One for a sink."""

    def __init__(
        self,
        pipeline: str,
        policies: Mapping[TargetTable, Policy],
        since: datetime | None,
        journal: ConflictTable,
        times: WriteTimes,
    ) -> None:
        self._policies = policies
        self._times = times
        times.needed = any(policy.remembers for policy in policies.values())
        self._prefix, self._since = origin_prefix(pipeline), since
        self._journal = journal
        self._guards: dict[Shape, Guard | None] = {}
        self._inserts: dict[object, RowWrite] = {}
        self._prepares = any(policy.prepares for policy in policies.values())

    def prepared(self, connection: Connection, writes: list[RowWrite], tally: BatchCounters) -> list[RowWrite]:
        """What of `writes` is to be written, as `execute` needs it, before those of a row are told as one.

        Without those that come behind a newer version of their row. Raises Refused where an event does not tell what
        its rule needs.
        """
        if not self._prepares:
            return writes
        self._inserts.clear()
        highest: dict[object, Version] = {}
        latest: dict[object, Latest] = {}
        kept, settled = [], []
        try:
            for write in writes:
                policy = self._policies[write.shape.table]
                change = self._as_change(policy, write)
                is_old = policy.detection == "version" and is_stale(policy, write, highest)
                if is_old or (policy.remembers and is_late(policy, write, latest)):
                    decision, rest = chosen(policy, stale(policy, write), change, Decision.MONOLITH)
                    settled.append(ResolvedConflict(stale(policy, write), write.event, decision))
                    kept += [rest] if rest is not None else []
                else:
                    kept.append(change)
        except Unwritable as error:
            raise WriteRejected(str(error)) from None
        self.tell(connection, settled, tally)
        return kept

    def _as_change(self, policy: Policy, write: RowWrite) -> RowWrite:
        change = as_change(policy, write)
        if change is not write and write.shape.operation == "upsert":
            self._inserts[row_of(write)] = write
        return change

    def execute(self, connection: Connection, group: WriteGroup, tally: BatchCounters) -> None:
        """Write `group`, and count in `tally`. Raises Refused where a write must not be passed over."""
        table, operation = group.shape.table, group.shape.operation
        if group.between:
            execute(connection, group)
            return
        if operation == "delete" and table.ties.waits:
            require_childless(connection, group)
        try:
            undone = self._in_time(connection, self._policies[table], group, tally)
        except (Unwritable, Undecided) as error:
            raise WriteRejected(str(error)) from None
        tally.applied[str(table), operation] += len(group.writes) - undone

    def sweep(self, connection: Connection) -> None:
        """Forget times that are older than they have to be."""
        self._times.sweep(connection)

    def at_once(self, shape: Shape) -> DirectWrite | None:
        """How writes of `shape` are done that nothing has to be asked of one by one; None where something has."""
        policy = self._policies[shape.table]
        guard = policy.guard(shape)
        if policy.prepares or (guard is None and shape.operation == "update"):
            return None
        if guard is None:
            return DirectWrite(statement(shape), (), complete=False)
        own = self._writer(policy) if guard.kind == "origin" else ()
        return DirectWrite(statement(shape, guard), own, complete=guard.reports)

    def overwrites(self, table: TargetTable) -> bool:
        """Whether the event's row is written whatever is there."""
        policy = self._policies[table]
        return policy.rule.default == "service_wins" and not policy.rule.columns and not policy.prepares

    # What the database or a rule refused.

    def met(self, writes: list[RowWrite], error: Exception) -> Conflict | None:
        """The conflict that kept an event, which is all of `writes`, from being applied; None if it was none."""
        if isinstance(error, WriteRejected):
            return error.conflict
        if not isinstance(error, psycopg.errors.UniqueViolation):
            return None
        table = f"{error.diag.schema_name}.{error.diag.table_name}"
        write = next((write for write in writes if str(write.shape.table) == table), None)
        if write is None:  # a trigger's table
            return None
        kind = Kind.INSERT_EXISTS if write.shape.operation == "insert" else Kind.UNIQUE_EXISTS
        return unseen(self._policies[write.shape.table], write, kind)

    def stays(self, met: Conflict) -> bool:
        """Whether the event gives way. It cannot win against another row's unique key."""
        return met.kind in UNIQUE and self._rule(met).default == "monolith_wins"

    def parks(self, met: Conflict, error: Exception) -> bool:
        """Whether the event is parked even where errors stop the pipeline."""
        return isinstance(error, ParkRequested) or (met.kind in UNIQUE and self._rule(met).default == "park")

    def _rule(self, met: Conflict) -> ConflictRule:
        return next(policy.rule for table, policy in self._policies.items() if str(table) == met.table)

    def _in_time(self, connection: Connection, policy: Policy, group: WriteGroup, tally: BatchCounters) -> int:
        """How many writes were not done."""
        if not (policy.remembers and group.shape.does_something):
            return self._execute(connection, policy, group, tally)
        later = self._times.claim(connection, policy, group)
        if not later:
            return self._execute(connection, policy, group, tally)
        lost = self._lost(connection, policy, group, later, tally)
        rest = [write for write in group.writes if write.key not in lost]
        return len(lost) + (self._execute(connection, policy, WriteGroup(group.shape, rest), tally) if rest else 0)

    def _lost(
        self,
        connection: Connection,
        policy: Policy,
        group: WriteGroup,
        later: Mapping[int, datetime],
        tally: BatchCounters,
    ) -> Collection[tuple[str, ...]]:
        """The keys of writes that lose against what is remembered of their rows; their conflicts are settled."""
        writes = [group.writes[place] for place in later]
        found = read_locked(connection, policy, writes, self._writer(policy), self._times.table)
        won, lost, partly, settled = [], set(), [], []
        for each, time in zip(found, later.values(), strict=True):
            write, kind = each.write, kind_of_late(policy, each)
            met = conflict_of(policy, replace(each, written_at=time), kind, policy.written_at(write.event))
            if decide(met, policy.rule, None) is Decision.SERVICE:
                won.append(write)
                continue
            lost.add(write.key)
            if each.current is None and policy.removes(write):
                continue  # there is no such row, as the event says
            decision, rest = chosen(policy, met, write, Decision.MONOLITH)
            partly += [rest] if rest is not None and each.current is not None else []
            settled.append(ResolvedConflict(met, write.event, decision))
        if won:
            self._times.force(connection, policy, won)
        self._write(connection, partly)
        self.tell(connection, settled, tally)
        return lost

    def _execute(self, connection: Connection, policy: Policy, group: WriteGroup, tally: BatchCounters) -> int:
        """How many writes were not done."""
        shape = group.shape
        if shape not in self._guards:
            self._guards[shape] = policy.guard(shape)
        guard = self._guards[shape]
        if guard is None:
            return execute(connection, group)
        values = self._parameters(policy, group, guard)
        cursor = connection.execute(statement(shape, guard), values, prepare=True)
        if cursor.rowcount == len(group.writes) or spares_rows(shape, guard):
            return 0
        if not guard.reports:
            require_equal(connection, group)
            return 0
        return self._settle(connection, policy, guard, _left(group, cursor), tally)

    def _parameters(self, policy: Policy, group: WriteGroup, guard: Guard) -> list[Any]:
        values: list[Any] = list(parameters(group.shape, group.writes))
        if guard.kind == "before":
            values.append(array_of([old_row(policy, write) for write in group.writes]))
        elif guard.kind == "version":
            versions = [policy.version(write) for write in group.writes]
            values += [array_of(versions)] if group.shape.operation in ("update", "delete") else []
        return values + list(self._writer(policy)) if guard.kind == "origin" else values

    def _writer(self, policy: Policy) -> tuple[str, datetime | None]:
        """Whose rows do not conflict: those of origins with this prefix, and those from before that time.

        Where times decide, those of old rows do too: an event may be older still.
        """
        return self._prefix, None if policy.rule.default == "last_write_wins" else self._since

    # The rows that are left.

    def _settle(
        self,
        connection: Connection,
        policy: Policy,
        guard: Guard,
        left: tuple[list[RowWrite], set[tuple[str, ...]]],
        tally: BatchCounters,
    ) -> int:
        writes, written = left
        found = read_locked(connection, policy, writes, self._writer(policy), self._times.table)
        again: list[RowWrite] = []
        settled: list[ResolvedConflict] = []
        stands: list[RowWrite] = []
        undone = 0
        for each in found:
            if each.key in written:
                continue  # the key is written in another way, 07 for 7
            outcome, write = self._outcome(policy, guard, each)
            settled += [outcome] if outcome is not None else []
            again += [write] if write is not None else []
            undone += write is None
            if (
                write is None
                and not (each.current is None and policy.removes(each.write))
                and not each.write.shape.moves
            ):
                stands.append(each.write)
        if policy.remembers and stands:
            self._times.forget(connection, policy, stands)
        self._write(connection, again)
        self.tell(connection, settled, tally)
        return undone

    def _outcome(
        self, policy: Policy, guard: Guard, found: LockedRow
    ) -> tuple[ResolvedConflict | None, RowWrite | None]:
        """What it was, if it was a conflict, and what is written, if anything is."""
        write = found.write
        if found.current is None:
            return self._missing(policy, found)
        kind = kind_of(policy, guard, found)
        met = None if kind is None else conflict_of(policy, found, kind)
        if write.shape.moves and met is None:
            return None, None  # there is another row of the new key, or this is it
        if met is None or matches_before(met, policy.rule):
            return None, as_update(write, policy.spared)
        decision, chosen_write = chosen(policy, met, write, decide(met, policy.rule, policy.function))
        if decision is Decision.PARKED:
            raise ParkRequested(met)
        if decision is Decision.SERVICE and self._is_old(guard, found):
            return None, chosen_write
        return ResolvedConflict(met, write.event, decision), chosen_write

    def _is_old(self, guard: Guard, found: LockedRow) -> bool:
        """Whether the row is from before the pipeline's time, so that it is no news that the event is later."""
        old = found.committed_at is not None and self._since is not None and found.committed_at < self._since
        return guard.kind == "origin" and old

    def _missing(self, policy: Policy, found: LockedRow) -> tuple[ResolvedConflict | None, RowWrite | None]:
        write = found.write
        shape = write.shape
        if shape.moves:
            return None, None  # it was moved before
        if shape.operation in ("insert", "upsert"):
            return None, as_insert(write)  # it was there a moment ago
        insert = self._inserts.get(row_of(write))
        if policy.removes(write):
            if write.event.raw_value is None or not policy.means_removal(write.first) or shape.table.ties.child:
                # A tombstone says that there is no such row; its batch would have made it; or it went with its parent.
                return None, None
            return ResolvedConflict(
                conflict_of(policy, found, Kind.DELETE_MISSING), write.event, Decision.IGNORED
            ), None
        met = conflict_of(policy, found, Kind.UPDATE_MISSING)
        if insert is None:
            if shape.must_exist:
                raise RowMissing(met)
            return ResolvedConflict(met, write.event, Decision.IGNORED), None
        answer = decide(met, policy.rule, policy.function)
        if answer is Decision.PARKED:
            raise ParkRequested(met)
        if answer is Decision.MONOLITH:
            return ResolvedConflict(met, write.event, Decision.IGNORED), None
        if isinstance(answer, Decision):
            return ResolvedConflict(met, write.event, Decision.SERVICE), as_insert(insert)
        return ResolvedConflict(met, write.event, Decision.COLUMNS), as_insert(with_values(policy, insert, answer))

    def _write(self, connection: Connection, writes: list[RowWrite]) -> None:
        for group in groups_of(writes):
            inserts = group.shape.operation == "insert"
            query = statement(group.shape, Guard("absent") if inserts else FREE)
            done = connection.execute(query, parameters(group.shape, group.writes))
            if done.rowcount != len(group.writes) and not group.shape.moves:
                # The rows of all but inserts are locked, so nobody else is to blame.
                if not inserts or count_rows(connection, group) < len(group.writes):
                    require_equal(connection, group)
                    continue
                raise psycopg.errors.SerializationFailure("a row came or went in this moment")

    def tell(self, connection: Connection, settled: list[ResolvedConflict], tally: BatchCounters) -> None:
        """Record and count them."""
        self._journal.record(connection, settled)
        for each in settled:
            table, kind = each.conflict.table, each.conflict.kind
            tally.conflicts[table, kind.value, each.decision.value] += 1
            if each.decision is Decision.IGNORED:
                tally.skipped[table, "RowMissing"] += 1
        if settled:
            log.info("conflicts were decided", table=settled[0].conflict.table, rows=len(settled))


def _left(group: WriteGroup, cursor: psycopg.Cursor[Any]) -> tuple[list[RowWrite], set[tuple[str, ...]]]:
    """The writes that were not done, and keys of rows that were, as the columns print them."""
    if group.shape.operation in ("update", "delete"):
        done = {number for (number,) in cursor}
        return [write for number, write in enumerate(group.writes, 1) if number not in done], set()
    written = set(cursor.fetchall())
    return [write for write in group.writes if write.key not in written], written

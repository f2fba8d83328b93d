"""Write a group's rows, those that conflict included, in three stages.

1. `plan` says, without I/O, which statement writes the group, and under which guard.
2. `run` runs it. The statement leaves rows alone that conflict; nearly always it writes all of them.
3. `settle` decides, without I/O, about what was left: the rows are locked and read before, so what they are is final
   until this transaction ends. What it decides is written without a guard, and recorded.

Where times of events decide, the times of the group's rows are claimed first, and what is late is settled likewise.

A row that is not there cannot be locked. Where it has to be made it is inserted, and if somebody else was faster, the
transaction is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pycdc.clients.postgres import Connection
from pycdc.observability.logger import get_logger
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.batch_counters import BatchCounters
from pycdc.sinks.postgres.conflicts.batch_preparation import prepare_writes
from pycdc.sinks.postgres.conflicts.conflict import Decision, ResolvedConflict, Undecided
from pycdc.sinks.postgres.conflicts.conflict_table import ConflictTable
from pycdc.sinks.postgres.conflicts.locked_rows import LockedRow, read_locked
from pycdc.sinks.postgres.conflicts.plan import DirectWrite, GroupPlan, Planner
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.conflicts.rejected_events import RejectedEvents
from pycdc.sinks.postgres.conflicts.run import RunResult, run_plan, run_unguarded
from pycdc.sinks.postgres.conflicts.settle import Settlement, settle, settle_late
from pycdc.sinks.postgres.conflicts.write_times import WriteTimes
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.child_rows import require_childless
from pycdc.sinks.postgres.writing.statements import execute
from pycdc.sinks.postgres.writing.write_errors import WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite, Shape, WriteGroup

log = get_logger()


class ConflictResolver:
    """Writes the groups of one sink, as the conflict rules of their tables say."""

    def __init__(
        self,
        pipeline: str,
        policies: Mapping[TargetTable, Policy],
        since: datetime | None,
        journal: ConflictTable,
        times: WriteTimes,
    ) -> None:
        self.rejected = RejectedEvents(policies)
        self._policies = policies
        self._planner = Planner(policies, pipeline, since)
        self._journal = journal
        self._times = times
        times.needed = any(policy.remembers for policy in policies.values())
        self._prepares = any(policy.prepares for policy in policies.values())
        self._inserts: Mapping[object, RowWrite] = {}

    def prepare(self, connection: Connection, writes: list[RowWrite], counters: BatchCounters) -> list[RowWrite]:
        """Return what of a batch's `writes` is to be written, before those of one row are merged into one.

        Raises WriteRejected where an event does not have what its rule needs.
        """
        if not self._prepares:
            return writes
        prepared = prepare_writes(self._policies, writes)
        self._inserts = prepared.inserts
        self.record(connection, prepared.resolved, counters)
        return prepared.writes

    def execute(self, connection: Connection, group: WriteGroup, counters: BatchCounters) -> None:
        """Write `group`, and count in `counters`. Raises WriteRejected where a write must not be passed over."""
        table, operation = group.shape.table, group.shape.operation
        if group.between:
            execute(connection, group)
            return
        if operation == "delete" and table.ties.waits:
            require_childless(connection, group)
        try:
            undone = self._write(connection, self._policies[table], group, counters)
        except (Unwritable, Undecided) as error:
            raise WriteRejected(str(error)) from None
        counters.applied[str(table), operation] += len(group.writes) - undone

    def direct(self, shape: Shape) -> DirectWrite | None:
        """Return how rows of `shape` are written without their events; None where a rule has to see each event."""
        return self._planner.direct(shape)

    def overwrites(self, table: TargetTable) -> bool:
        """Return whether the event's row is written whatever is there."""
        policy = self._policies[table]
        return policy.rule.default == "apply_remote" and not policy.rule.columns and not policy.prepares

    def record(self, connection: Connection, resolved: list[ResolvedConflict], counters: BatchCounters) -> None:
        """Write conflicts into the table of conflicts, and count them."""
        self._journal.record(connection, resolved)
        for each in resolved:
            table, kind = each.conflict.table, each.conflict.kind
            counters.conflicts[table, kind.value, each.decision.value] += 1
            if each.decision is Decision.IGNORED:
                counters.skipped[table, "RowMissing"] += 1
        if resolved:
            log.info("conflicts were decided", table=resolved[0].conflict.table, rows=len(resolved))

    def sweep(self, connection: Connection) -> None:
        """Forget times that are older than they have to be."""
        self._times.sweep(connection)

    # The stages. Each returns how many writes were not done.

    def _write(self, connection: Connection, policy: Policy, group: WriteGroup, counters: BatchCounters) -> int:
        lost = 0
        if policy.remembers and group.shape.does_something:
            in_time = self._claim_times(connection, policy, group, counters)
            lost = len(group.writes) - len(in_time)
            group = WriteGroup(group.shape, in_time)
        return lost + (self._write_in_time(connection, group, counters) if group.writes else 0)

    def _write_in_time(self, connection: Connection, group: WriteGroup, counters: BatchCounters) -> int:
        plan = self._planner.plan(group)
        result = run_plan(connection, plan)
        if not result.left:
            return result.missing
        settlement = self._settle(connection, plan, result)
        if plan.policy.remembers and settlement.unapplied:
            self._times.forget(connection, plan.policy, settlement.unapplied)
        run_unguarded(connection, settlement.rewrites)
        self.record(connection, settlement.resolved, counters)
        return settlement.undone

    def _settle(self, connection: Connection, plan: GroupPlan, result: RunResult) -> Settlement:
        found = self._locked(connection, plan.policy, result.left)
        return settle(plan, found, result.written, self._inserts)

    def _claim_times(
        self, connection: Connection, policy: Policy, group: WriteGroup, counters: BatchCounters
    ) -> list[RowWrite]:
        """Claim the times of the group's rows; return the writes that do not lose against what is remembered."""
        later = self._times.claim(connection, policy, group)
        if not later:
            return group.writes
        found = self._locked(connection, policy, [group.writes[place] for place in later])
        settlement = settle_late(policy, found, list(later.values()))
        if settlement.won:
            self._times.force(connection, policy, settlement.won)
        run_unguarded(connection, settlement.rewrites)
        self.record(connection, settlement.resolved, counters)
        return [write for write in group.writes if write.key not in settlement.lost]

    def _locked(self, connection: Connection, policy: Policy, writes: list[RowWrite]) -> list[LockedRow]:
        return read_locked(connection, policy, writes, self._planner.writer(policy), self._times.table)

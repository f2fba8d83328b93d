"""Settle the writes that a plan's statement left alone: the last of the resolver's three stages, without I/O.

Their rows are locked and read, so what they are is final: nobody changes them before the transaction ends. Each is
looked at again: whether it is a conflict, who wins, and what is written without a guard.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from pycdc.sinks.postgres.conflicts.cases import conflict_of, kind_of, kind_of_late, row_of
from pycdc.sinks.postgres.conflicts.conflict import ConflictKind, Decision, ResolvedConflict, decide, matches_before
from pycdc.sinks.postgres.conflicts.locked_rows import LockedRow
from pycdc.sinks.postgres.conflicts.plan import GroupPlan
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.conflicts.winning_writes import as_insert, as_update, chosen, with_values
from pycdc.sinks.postgres.writing.write_errors import ParkRequested, RowMissing
from pycdc.sinks.postgres.writing.writes import RowWrite


@dataclass(slots=True)
class Settlement:
    """What becomes of writes that were left. `rewrites` are to be written without a guard.

    `undone` counts the writes that are not done. `unapplied` are those of them whose row stays, so that the time which
    was claimed for their events has to be forgotten.
    """

    resolved: list[ResolvedConflict] = field(default_factory=list)
    rewrites: list[RowWrite] = field(default_factory=list)
    unapplied: list[RowWrite] = field(default_factory=list)
    undone: int = 0


class RowOutcome(NamedTuple):
    """What one write turned out to be: a conflict, if `resolved` is one, and what is written, if anything is."""

    resolved: ResolvedConflict | None
    rewrite: RowWrite | None


_NOTHING = RowOutcome(None, None)


def settle(
    plan: GroupPlan, found: list[LockedRow], written: Set[tuple[str, ...]], inserts: Mapping[object, RowWrite]
) -> Settlement:
    """Decide about the locked rows `found`. `written` are keys that the statement wrote, `inserts` as prepared.

    Raises ParkRequested, RowMissing, Undecided or Unwritable for the first row that needs it; nothing is written then.
    """
    settlement = Settlement()
    for row in found:
        if row.key in written:
            continue  # the key is written in another way, 07 for 7
        resolved, rewrite = settle_row(plan, row, inserts)
        settlement.resolved += [resolved] if resolved is not None else []
        if rewrite is not None:
            settlement.rewrites.append(rewrite)
            continue
        settlement.undone += 1
        removed_before = row.current is None and plan.policy.removes(row.write)
        if not removed_before and not row.write.shape.moves:
            settlement.unapplied.append(row.write)
    return settlement


def settle_row(plan: GroupPlan, found: LockedRow, inserts: Mapping[object, RowWrite]) -> RowOutcome:
    """Decide about one row that the statement left alone."""
    policy, write, guard = plan.policy, found.write, plan.guard
    assert guard is not None
    if found.current is None:
        return _settle_missing(policy, found, inserts)
    kind = kind_of(policy, guard, found)
    conflict = None if kind is None else conflict_of(policy, found, kind)
    if write.shape.moves and conflict is None:
        return _NOTHING  # there is another row of the new key, or this is it
    if conflict is None or matches_before(conflict, policy.rule):
        return RowOutcome(None, as_update(write, policy.spared))
    decision, winning = chosen(policy, conflict, write, decide(conflict, policy.rule, policy.function))
    if decision is Decision.PARKED:
        raise ParkRequested(conflict)
    if decision is Decision.APPLY_REMOTE and plan.is_old(found.committed_at):
        return RowOutcome(None, winning)
    return RowOutcome(ResolvedConflict(conflict, write.event, decision), winning)


def _settle_missing(policy: Policy, found: LockedRow, inserts: Mapping[object, RowWrite]) -> RowOutcome:
    write = found.write
    shape = write.shape
    if shape.moves:
        return _NOTHING  # it was moved before
    if shape.operation in ("insert", "upsert"):
        return RowOutcome(None, as_insert(write))  # it was there a moment ago
    if policy.removes(write):
        if write.event.raw_value is None or not policy.means_removal(write.first) or shape.table.ties.child:
            # A tombstone says that there is no such row; its batch would have made it; or it went with its parent.
            return _NOTHING
        conflict = conflict_of(policy, found, ConflictKind.DELETE_MISSING)
        return RowOutcome(ResolvedConflict(conflict, write.event, Decision.IGNORED), None)
    return _settle_missing_update(policy, found, inserts.get(row_of(write)))


def _settle_missing_update(policy: Policy, found: LockedRow, insert: RowWrite | None) -> RowOutcome:
    """Decide whether the row is made. `insert` is the write that makes it, None where the route makes none."""
    event, conflict = found.write.event, conflict_of(policy, found, ConflictKind.UPDATE_MISSING)
    if insert is None:
        if found.write.shape.must_exist:
            raise RowMissing(conflict)
        return RowOutcome(ResolvedConflict(conflict, event, Decision.IGNORED), None)
    answer = decide(conflict, policy.rule, policy.function)
    if answer is Decision.PARKED:
        raise ParkRequested(conflict)
    if answer is Decision.KEEP_LOCAL:
        return RowOutcome(ResolvedConflict(conflict, event, Decision.IGNORED), None)
    if isinstance(answer, Decision):
        return RowOutcome(ResolvedConflict(conflict, event, Decision.APPLY_REMOTE), as_insert(insert))
    return RowOutcome(
        ResolvedConflict(conflict, event, Decision.COLUMNS), as_insert(with_values(policy, insert, answer))
    )


@dataclass(slots=True)
class LateSettlement:
    """What becomes of events that are older than what is remembered of their rows (see `write_times`).

    `won` are written all the same, after their times are forced. `lost` are the keys of the others, of which
    `rewrites` still write the columns that are decided on their own.
    """

    won: list[RowWrite] = field(default_factory=list)
    lost: set[tuple[str, ...]] = field(default_factory=set)
    rewrites: list[RowWrite] = field(default_factory=list)
    resolved: list[ResolvedConflict] = field(default_factory=list)


def settle_late(policy: Policy, found: list[LockedRow], times: list[datetime]) -> LateSettlement:
    """Decide about late writes, whose rows are locked. `times` are those that are remembered of each row."""
    settlement = LateSettlement()
    for row, time in zip(found, times, strict=True):
        write, kind = row.write, kind_of_late(policy, row)
        conflict = conflict_of(policy, replace(row, written_at=time), kind, policy.written_at(write.event))
        if decide(conflict, policy.rule, None) is Decision.APPLY_REMOTE:
            settlement.won.append(write)
            continue
        settlement.lost.add(write.key)
        if row.current is None and policy.removes(write):
            continue  # there is no such row, as the event says
        decision, rest = chosen(policy, conflict, write, Decision.KEEP_LOCAL)
        settlement.rewrites += [rest] if rest is not None and row.current is not None else []
        settlement.resolved.append(ResolvedConflict(conflict, write.event, decision))
    return settlement

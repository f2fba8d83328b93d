"""Prepare the writes of a batch, without I/O, before those of one row are merged into one.

A rule that adds up columns, compares versions or compares times has to see each event by itself: between two events of
a row its counter may have changed, and of two versions of a row only the later one counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.conflicts.cases import Latest, is_late, is_stale, row_of, stale
from pycdc.sinks.postgres.conflicts.conflict import Decision, ResolvedConflict
from pycdc.sinks.postgres.conflicts.policy import Policy, Version
from pycdc.sinks.postgres.conflicts.winning_writes import chosen
from pycdc.sinks.postgres.conflicts.write_rewrites import as_change
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.write_errors import WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite


@dataclass(slots=True)
class PreparedWrites:
    """What of a batch is to be written.

    `writes` are without those that come behind a newer version of their row; these are `resolved`. `inserts` has, by
    row, the upsert that an update of `writes` replaces: it is needed where the row turns out to be missing.
    """

    writes: list[RowWrite] = field(default_factory=list)
    resolved: list[ResolvedConflict] = field(default_factory=list)
    inserts: dict[object, RowWrite] = field(default_factory=dict)


def prepare_writes(policies: Mapping[TargetTable, Policy], writes: list[RowWrite]) -> PreparedWrites:
    """Return what of `writes`, in the order of their events, is to be written.

    Raises WriteRejected where an event does not have what its rule needs.
    """
    prepared = PreparedWrites()
    highest: dict[object, Version] = {}
    latest: dict[object, Latest] = {}
    try:
        for write in writes:
            policy = policies[write.shape.table]
            change = as_change(policy, write)
            if change is not write and write.shape.operation == "upsert":
                prepared.inserts[row_of(write)] = write
            is_old = policy.detection == "version" and is_stale(policy, write, highest)
            if is_old or (policy.remembers and is_late(policy, write, latest)):
                decision, rest = chosen(policy, stale(policy, write), change, Decision.KEEP_LOCAL)
                prepared.resolved.append(ResolvedConflict(stale(policy, write), write.event, decision))
                prepared.writes += [rest] if rest is not None else []
            else:
                prepared.writes.append(change)
    except Unwritable as error:
        raise WriteRejected(str(error)) from None
    return prepared

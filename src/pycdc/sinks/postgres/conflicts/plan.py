"""Plan how a group is written: the first of the resolver's three stages, without I/O.

A plan says which guard the group's statement has, and with which parameters it is run. `run` runs it, `settle` decides
about the rows that it left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pycdc.model.origin import origin_prefix
from pycdc.rows.text_values import array_of
from pycdc.sinks.postgres.conflicts.cases import old_row
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.conflict_guards import Guard
from pycdc.sinks.postgres.writing.statements import parameters, statement
from pycdc.sinks.postgres.writing.writes import Shape, WriteGroup

Writer = tuple[str, datetime | None]
"""Whose rows do not conflict: those of origins whose names begin with the text, and those from before the time."""


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How one group is written. `guard` is None where nothing of it can conflict; `parameters` are empty then.

    `since`: rows that were written before are old, and overwriting one is no news; None: there are none.
    """

    policy: Policy
    group: WriteGroup
    guard: Guard | None
    parameters: list[Any]
    writer: Writer
    since: datetime | None

    def is_old(self, committed_at: datetime | None) -> bool:
        """Return whether a row is from before the pipeline's time, so that it is no news that the event is later."""
        assert self.guard is not None
        old = committed_at is not None and self.since is not None and committed_at < self.since
        return self.guard.kind == "origin" and old


class DirectWrite(NamedTuple):
    """A statement that writes rows without events, and its parameters behind those of the columns.

    `complete`: where it has written fewer rows than it was given, the resolver's stages have to find out why.
    """

    query: bytes
    own: tuple[Any, ...]
    complete: bool


class Planner:
    """Plans the groups of one sink, each shape's guard only once."""

    def __init__(self, policies: Mapping[TargetTable, Policy], pipeline: str, since: datetime | None) -> None:
        self._policies = policies
        self._prefix, self._since = origin_prefix(pipeline), since
        self._guards: dict[Shape, Guard | None] = {}

    def plan(self, group: WriteGroup) -> GroupPlan:
        """Return how `group` is written. Raises Unwritable where an event does not have what its rule needs."""
        shape = group.shape
        policy = self._policies[shape.table]
        if shape not in self._guards:
            self._guards[shape] = policy.guard(shape)
        guard, writer = self._guards[shape], self.writer(policy)
        values = [] if guard is None else _parameters(policy, group, guard, writer)
        return GroupPlan(policy, group, guard, values, writer, self._since)

    def direct(self, shape: Shape) -> DirectWrite | None:
        """Return how rows of `shape` are written without their events; None where a rule has to see each event."""
        policy = self._policies[shape.table]
        guard = policy.guard(shape)
        if policy.prepares or (guard is None and shape.operation == "update"):
            return None
        if guard is None:
            return DirectWrite(statement(shape), (), complete=False)
        own = self.writer(policy) if guard.kind == "origin" else ()
        return DirectWrite(statement(shape, guard), own, complete=guard.reports)

    def writer(self, policy: Policy) -> Writer:
        """Return whose rows do not conflict. Where times decide, old rows do too: an event may be older still."""
        return self._prefix, None if policy.rule.default == "last_write_wins" else self._since


def _parameters(policy: Policy, group: WriteGroup, guard: Guard, writer: Writer) -> list[Any]:
    values: list[Any] = list(parameters(group.shape, group.writes))
    if guard.kind == "before":
        values.append(array_of([old_row(policy, write) for write in group.writes]))
    elif guard.kind == "version":
        versions = [policy.version(write) for write in group.writes]
        values += [array_of(versions)] if group.shape.operation in ("update", "delete") else []
    return values + list(writer) if guard.kind == "origin" else values

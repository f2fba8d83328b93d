"""Say whether an error that kept an event from being applied was a conflict, and what the rules make of it."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from pycdc.config.postgres_sink import ConflictRule
from pycdc.sinks.postgres.conflicts.cases import unseen
from pycdc.sinks.postgres.conflicts.conflict import UNIQUE, Conflict, ConflictKind
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.write_errors import ParkRequested, WriteRejected
from pycdc.sinks.postgres.writing.writes import RowWrite


class RejectedEvents:
    """Judges errors by the policies of one sink."""

    def __init__(self, policies: Mapping[TargetTable, Policy]) -> None:
        self._policies = policies

    def conflict(self, writes: list[RowWrite], error: Exception) -> Conflict | None:
        """Return the conflict that kept an event, which is all of `writes`, from being applied; None if it was none."""
        if isinstance(error, WriteRejected):
            return error.conflict
        if not isinstance(error, psycopg.errors.UniqueViolation):
            return None
        table = f"{error.diag.schema_name}.{error.diag.table_name}"
        write = next((write for write in writes if str(write.shape.table) == table), None)
        if write is None:  # a trigger's table
            return None
        kind = ConflictKind.INSERT_EXISTS if write.shape.operation == "insert" else ConflictKind.UNIQUE_EXISTS
        return unseen(self._policies[write.shape.table], write, kind)

    def gives_way(self, conflict: Conflict) -> bool:
        """Return whether the event gives way to the row. It cannot win against another row's unique key."""
        return conflict.kind in UNIQUE and self._rule(conflict).default == "keep_local"

    def parks(self, conflict: Conflict, error: Exception) -> bool:
        """Return whether the event is parked even where errors stop the pipeline."""
        return isinstance(error, ParkRequested) or (conflict.kind in UNIQUE and self._rule(conflict).default == "park")

    def _rule(self, conflict: Conflict) -> ConflictRule:
        return next(policy.rule for table, policy in self._policies.items() if str(table) == conflict.table)

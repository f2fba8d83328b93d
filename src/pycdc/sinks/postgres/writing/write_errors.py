"""Writes that are not done although the database would do them: what stops the sink, or parks the event."""

from __future__ import annotations

from pycdc.sinks.postgres.conflicts.conflict import Conflict
from pycdc.sinks.postgres.writing.table_dependencies import ACTIONS, ForeignKey


class Unfinished(Exception):
    """Ends an attempt at a transaction, and is no row's fault."""


class WriteRejected(Exception):
    """`detail` says why, without values. `conflict`: what it was, where it was one."""

    reason = "Refused"

    def __init__(self, detail: str, conflict: Conflict | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.conflict = conflict


class RowMissing(WriteRejected):
    """Rows that an update must find are not there."""

    reason = "RowMissing"

    def __init__(self, conflict: Conflict | None = None) -> None:
        super().__init__("the row to be changed is not there", conflict)


class NotWritten(WriteRejected):
    """A statement left a row alone that it should have written."""

    reason = "NotWritten"

    def __init__(self, table: str, why: str) -> None:
        super().__init__(f"table {table} did not take the row: {why}")


class ChildrenThere(WriteRejected):
    """Rows that are to be deleted are named by rows of another table, which its foreign key would change with them."""

    reason = "ChildrenThere"

    def __init__(self, key: ForeignKey) -> None:
        super().__init__(
            f"rows of table {key.child} still name the row, and {ACTIONS[key.on_delete]} of foreign key "
            f"{key.constraint[1]} would change them although no event says so"
        )


class ParkRequested(WriteRejected):
    """A rule says that somebody has to look at it."""

    reason = "Conflict"

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(f"a conflict ({conflict.kind}) that `conflict` says to park", conflict)

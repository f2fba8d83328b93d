"""Writes that are not done although the database would do them: what stops the sink, or parks the event."""

from __future__ import annotations

from pycdc.sinks.postgres.conflict import Conflict


class Unfinished(Exception):
    """Ends an attempt at a transaction, and is no row's fault."""


class Refused(Exception):
    """`detail` says why, without values. `conflict`: what it was, where it was one."""

    reason = "Refused"

    def __init__(self, detail: str, conflict: Conflict | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.conflict = conflict


class RowMissing(Refused):
    """Rows that an update must find are not there."""

    reason = "RowMissing"

    def __init__(self, conflict: Conflict | None = None) -> None:
        super().__init__("the row to be changed is not there", conflict)


class Parked(Refused):
    """A rule says that somebody has to look at it."""

    reason = "Conflict"

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(f"a conflict ({conflict.kind}) that `conflict` says to park", conflict)

"""Turn an answer into the write that follows it. The row is locked, or known not to be there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pycdc.rows.text_values import Unwritable, text_of
from pycdc.sinks.postgres.conflicts.conflict import STALE, Conflict, ConflictAnswer, Decision, Undecided
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.writing.writes import RowWrite, shape_of


def as_insert(write: RowWrite) -> RowWrite:
    shape = write.shape
    return write._replace(shape=shape_of(shape.table, "insert", shape.key, shape.set, order=shape.order))


def as_update(write: RowWrite, without: Collection[str] = ()) -> RowWrite | None:
    """Return the write as an update, a delete as it is; None where nothing is left to be written."""
    if write.shape.operation == "delete":
        return write
    incoming_values = zip(write.shape.set, write.set, strict=True)
    return _update(write, {column: text for column, text in incoming_values if column not in without})


def _update(write: RowWrite, values: Mapping[str, str | None]) -> RowWrite | None:
    shape = write.shape
    if not values and not shape.add and not shape.reset:
        return None
    incoming_values = shape_of(
        shape.table, "update", shape.key, tuple(values), shape.add, order=shape.order, reset=shape.reset
    )
    return write._replace(shape=incoming_values, set=tuple(values.values()))


def chosen(
    policy: Policy, conflict: Conflict, write: RowWrite, answer: ConflictAnswer
) -> tuple[Decision, RowWrite | None]:
    """Return the decision, with the columns that are decided on their own, and the write that follows it.

    Raises Undecided, Unwritable.
    """
    if answer is Decision.PARKED:
        return Decision.PARKED, None
    if conflict.kind in STALE and policy.rule.default == "version":
        return Decision.KEEP_LOCAL, None
    if write.shape.operation == "delete" and isinstance(answer, Decision):
        return answer, write if answer is Decision.APPLY_REMOTE else None
    incoming_values = dict(zip(write.shape.set, write.set, strict=True))
    incoming = {column for column in incoming_values if column not in policy.spared}
    if isinstance(answer, Decision):
        kept = incoming if answer is Decision.APPLY_REMOTE else set()
        kept |= {column for column in incoming if policy.rule.columns.get(column) == "apply_remote"}
        values = {column: text for column, text in incoming_values.items() if column in kept}
    else:
        kept, values = set(), _values(policy, write, answer)
    written = _update(write, values)
    if written is None:
        return Decision.KEEP_LOCAL, None
    return Decision.APPLY_REMOTE if kept == incoming else Decision.COLUMNS, written


def with_values(policy: Policy, write: RowWrite, answer: Mapping[str, Any]) -> RowWrite:
    """Return the write of a new row, with a function's values in place of the event's. Raises Undecided."""
    incoming_values = {**dict(zip(write.shape.set, write.set, strict=True)), **_values(policy, write, answer)}
    shape = write.shape
    made = shape_of(shape.table, "insert", shape.key, tuple(incoming_values), order=shape.order)
    return write._replace(shape=made, set=tuple(incoming_values.values()))


def _values(policy: Policy, write: RowWrite, answer: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a function's dict as texts."""
    columns = policy.table.columns
    for column in answer:
        if column not in columns or columns[column].generated or column in write.shape.key:
            raise Undecided(f"{policy.rule.function} returned column {column}, which table {policy.table} cannot set")
    try:
        return {column: text_of(value, columns[column]) for column, value in answer.items()}
    except Unwritable as error:
        raise Undecided(f"{policy.rule.function} returned what cannot be written: {error}") from None

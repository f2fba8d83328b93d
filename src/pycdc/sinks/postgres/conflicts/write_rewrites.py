"""Upserts whose rule needs another statement: columns that are added up, and old rows that are compared.

An upsert cannot see the event's old row (`ON CONFLICT` knows the new one only). So where the event tells that the row
was there, the upsert becomes an update, and an insert if it turns out that the row is not.

This happens event by event, before the writes of a batch are told as one: between two events of a row its counter may
have changed by what came from the other side, so the last value less the first is not what the events changed.
"""

from __future__ import annotations

from decimal import Decimal

from pycdc.rows.text_values import Unwritable, exact_sum, whole_or_not
from pycdc.sinks.postgres.conflicts.policy import Policy
from pycdc.sinks.postgres.writing.writes import Number, RowWrite, shape_of

_MADE = ("c", "r")
"""Operations of an envelope that tell a new row."""


def as_change(policy: Policy, write: RowWrite) -> RowWrite:
    """Return an update of the row that was there; `write` itself where there was none, or nothing needs it.

    Raises Unwritable where an event does not hold what a rule needs.
    """
    shape = write.shape
    if shape.operation not in ("upsert", "update"):
        return write
    added = tuple(column for column in shape.set if column in policy.added)
    if not added and not (policy.detection == "old_values" and shape.operation == "upsert"):
        return write
    if added and write.event.op is None:
        raise Unwritable(f"delta of column {added[0]} needs events with the row before, in Debezium's envelope")
    before = policy.before(write.event)
    if write.event.op in _MADE or not (added or before):
        return write
    values = dict(zip(shape.set, write.set, strict=True))
    amounts = tuple(_change(column, before.get(column), values.pop(column)) for column in added)
    must_exist = shape.must_exist and shape.operation == "update"
    changed = shape_of(shape.table, "update", shape.key, tuple(values), added, must_exist, shape.order, shape.reset)
    return write._replace(shape=changed, set=tuple(values.values()), add=amounts)


def _change(column: str, before: str | None, after: str | None) -> Number:
    try:
        return whole_or_not(exact_sum(Decimal(after or ""), Decimal(before or "").copy_negate()))
    except (ArithmeticError, ValueError):
        raise Unwritable(f"the event does not tell by how much column {column} changed, and delta adds that") from None

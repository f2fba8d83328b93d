"""Groups whose rule needs other statements than an upsert: columns that are added up, and old rows that are compared.

An upsert cannot see the event's old row (`ON CONFLICT` knows the new one only). So where the event tells that the row
was there, the upsert becomes an update, and an insert if it turns out that the row is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from pycdc.sinks.postgres.conflict_policy import Policy
from pycdc.sinks.postgres.values import Unwritable, text_of
from pycdc.sinks.postgres.writes import Group, Number, Shape, Write, shape_of

_MADE = ("c", "r")
"""Operations of an envelope that tell a new row."""


@dataclass(frozen=True, slots=True)
class Part:
    """Writes of one shape; `inserts` has, by key, what is inserted where the row is not there."""

    group: Group
    inserts: Mapping[tuple[str, ...], Write] = field(default_factory=dict)


def parts(policy: Policy, group: Group) -> Iterator[Part]:
    """Raises Unwritable where an event does not tell what a rule needs."""
    shape = group.shape
    compares = policy.detection == "old_values" and shape.operation == "upsert"
    if not compares and not (policy.added & set(shape.set) and shape.operation in ("upsert", "update")):
        yield Part(group)
        return
    groups: dict[Shape, list[Write]] = {}
    inserts = {}
    for write in group.writes:
        update = _update(policy, write)
        groups.setdefault(update.shape, []).append(update)
        if update is not write and shape.operation == "upsert":
            inserts[write.key] = write
    for each, writes in groups.items():
        yield Part(Group(each, writes), inserts)


def _update(policy: Policy, write: Write) -> Write:
    """An update of the row that was there; `write` itself where there was none."""
    shape = write.shape
    added = sorted(policy.added & set(shape.set))
    if added and write.event.op is None:
        raise Unwritable(f"delta of column {added[0]} needs events with the row before, in Debezium's envelope")
    if write.event.op in _MADE:
        return write
    was = _base(policy, write)
    amounts = tuple(_change(column, was.get(column), _assigned(write, column)) for column in added)
    if not was:
        return write
    kept = tuple(column for column in shape.set if column not in policy.added)
    must_exist = shape.must_exist and shape.operation == "update"
    told = shape_of(shape.table, "update", shape.key, kept, tuple(added), must_exist, shape.order)
    return write._replace(shape=told, set=tuple(_assigned(write, column) for column in kept), add=amounts)


def _base(policy: Policy, write: Write) -> Mapping[str, str | None]:
    """What the source's row was before the first of the events that this write tells."""
    first = write.first
    if first.op in _MADE and first is not write.event:
        columns, row = policy.told[write.shape.order].columns, first.row
        values = {column: columns[column](first, row) for column in policy.added if column in columns}
        return {c: text_of(v, policy.table.columns[c]) for c, v in values.items() if isinstance(v, int | Decimal | str)}
    return policy.before(first, write.shape.order)


def _assigned(write: Write, column: str) -> str | None:
    return write.set[write.shape.set.index(column)]


def _change(column: str, before: str | None, after: str | None) -> Number:
    try:
        change = Decimal(after or "") - Decimal(before or "")
    except InvalidOperation:
        change = Decimal("NaN")
    if not change.is_finite():
        raise Unwritable(f"the event does not tell by how much column {column} changed, and delta adds that")
    whole = change.to_integral_value()
    return int(whole) if change == whole else change

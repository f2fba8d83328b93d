"""What an event does to a row, and how the writes of a batch become few statements.

Rules:

1. Writes of one row keep their order. Neighbours that can be told as one are (two upserts, two deltas, anything and a
   delete); where they cannot, the later one goes into the next wave. A wave holds one write a row at most.
2. Within a wave, parents come first: writes in the order of the routes, then deletes the other way round.
3. Rows of a statement are sorted by key, so that two processes lock rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from pycdc.sinks.postgres.tables import TargetTable

Operation = Literal["insert", "upsert", "update", "delete"]
Number = int | Decimal


@dataclass(slots=True, repr=False)
class Write:
    """`key` and `set` hold texts, `add` what is added. `must_exist`: a row that is not there is an error.

    `order` is the route's place in the configuration. The repr holds no values.
    """

    table: TargetTable
    operation: Operation
    key: dict[str, str]
    set: dict[str, str | None] = field(default_factory=dict)
    add: dict[str, Number] = field(default_factory=dict)
    must_exist: bool = False
    order: int = 0

    def __repr__(self) -> str:
        return f"Write({self.operation} {self.table})"


class Shape(NamedTuple):
    """What writes of one statement share."""

    table: TargetTable
    operation: Operation
    key: tuple[str, ...]
    set: tuple[str, ...]
    add: tuple[str, ...]
    must_exist: bool


@dataclass(slots=True)
class Group:
    """Writes of one shape, none of them of the same row."""

    shape: Shape
    writes: list[Write]
    order: int


def groups_of(writes: Iterable[Write]) -> list[Group]:
    """The statements that do what `writes` do one after another."""
    waves: list[dict[tuple[object, ...], Write]] = []
    last: dict[tuple[object, ...], int] = {}
    for write in writes:
        row = (write.table, *sorted(write.key.items()))
        wave = last.get(row)
        if wave is not None:
            merged = merge(waves[wave][row], write)
            if merged is not None:
                waves[wave][row] = merged
                continue
        wave = 0 if wave is None else wave + 1
        if wave == len(waves):
            waves.append({})
        waves[wave][row] = write
        last[row] = wave
    return [group for wave in waves for group in _grouped(wave.values())]


def _grouped(writes: Iterable[Write]) -> list[Group]:
    groups: dict[Shape, Group] = {}
    for write in writes:
        shape = shape_of(write)
        group = groups.setdefault(shape, Group(shape, [], write.order))
        group.order = min(group.order, write.order)
        group.writes.append(write)
    for group in groups.values():
        group.writes.sort(key=lambda write: tuple(write.key.values()))
    removing = [group for group in groups.values() if group.shape.operation == "delete"]
    writing = [group for group in groups.values() if group.shape.operation != "delete"]
    return sorted(writing, key=lambda group: group.order) + sorted(removing, key=lambda group: -group.order)


def shape_of(write: Write) -> Shape:
    """An upsert that lacks a column which an insert must give can only be meant for a row that is there."""
    operation, must_exist = write.operation, write.must_exist
    if operation == "upsert" and not write.table.required <= {*write.key, *write.set}:
        operation, must_exist = "update", True
    return Shape(
        write.table, operation, tuple(sorted(write.key)), tuple(sorted(write.set)), tuple(sorted(write.add)), must_exist
    )


def merge(first: Write, second: Write) -> Write | None:
    """One write that does what both do, None where there is none."""
    if second.operation == "delete":
        return second
    if first.operation == "delete" or second.operation == "insert":
        return None
    if not first.add and not second.add:
        return _assigned(first, second)
    if first.operation == second.operation == "update" and not (second.set.keys() & first.add.keys()):
        return _added(first, second)
    return None


def _assigned(first: Write, second: Write) -> Write | None:
    if second.operation == "upsert" and first.operation == "update":
        return None  # the row may not be there, and then the update writes nothing
    merged = {**first.set, **second.set}
    return Write(first.table, first.operation, first.key, merged, {}, first.must_exist, first.order)


def _added(first: Write, second: Write) -> Write | None:
    if first.must_exist != second.must_exist or first.set.keys() & second.add.keys():
        return None
    added: dict[str, Number] = dict(first.add)
    for column, amount in second.add.items():
        added[column] = added.get(column, 0) + amount
    return Write(first.table, "update", first.key, {**first.set, **second.set}, added, first.must_exist, first.order)

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
from functools import lru_cache
from operator import itemgetter
from typing import Final, Literal, NamedTuple

from pycdc.events import Event
from pycdc.sinks.postgres.tables import TargetTable
from pycdc.sinks.postgres.values import exact_sum

Operation = Literal["insert", "upsert", "update", "delete"]
Number = int | Decimal


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What writes of one statement share: columns that say which row, that are set, and that are added to.

    There is one object a shape, made by `shape_of`. `must_exist`: a row that is not there is an error. `order` is the
    route's place in the configuration. `space` is what rows of the same key values share.
    """

    table: TargetTable
    operation: Operation
    key: tuple[str, ...]
    set: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    must_exist: bool = False
    order: int = 0
    space: tuple[TargetTable, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", (self.table, self.key))


@lru_cache(maxsize=4096)
def shape_of(
    table: TargetTable,
    operation: Operation,
    key: tuple[str, ...],
    assigned: tuple[str, ...] = (),
    add: tuple[str, ...] = (),
    must_exist: bool = False,
    order: int = 0,
) -> Shape:
    """An upsert that lacks a column which an insert must give can only be meant for a row that is there."""
    if operation == "upsert" and not table.required <= {*key, *assigned}:
        operation, must_exist = "update", True
    return Shape(table, operation, key, assigned, add, must_exist, order)


class Write(NamedTuple):
    """`key` and `set` hold texts, `add` what is added, in the order of the shape's columns. The repr holds no values.

    `event` is where it comes from, the last one where several became one write; `first` is then the first of them.
    """

    shape: Shape
    key: tuple[str, ...]
    set: tuple[str | None, ...]
    add: tuple[Number, ...]
    event: Event
    first: Event

    def __repr__(self) -> str:
        return f"Write({self.shape.operation} {self.shape.table})"


_KEY: Final = itemgetter(1)


@dataclass(slots=True)
class Group:
    """Writes of one shape, none of them of the same row."""

    shape: Shape
    writes: list[Write]


def groups_of(writes: Iterable[Write]) -> list[Group]:
    """The statements that do what `writes` do one after another."""
    waves: list[dict[object, Write]] = [{}]
    first_wave = waves[0]
    later: dict[object, int] = {}
    for write in writes:
        row = (write.shape.space, write.key)
        earlier = first_wave.get(row)
        if earlier is None:
            first_wave[row] = write
            continue
        wave = later.get(row, 0)
        merged = merge(waves[wave][row], write)
        if merged is not None:
            waves[wave][row] = merged
            continue
        wave += 1
        if wave == len(waves):
            waves.append({})
        waves[wave][row] = write
        later[row] = wave
    return [group for wave in waves for group in _grouped(wave.values())]


def _grouped(writes: Iterable[Write]) -> list[Group]:
    groups: dict[Shape, list[Write]] = {}
    for write in writes:
        shape = write.shape
        if shape in groups:
            groups[shape].append(write)
        else:
            groups[shape] = [write]
    for members in groups.values():
        members.sort(key=_KEY)
    made = [Group(shape, members) for shape, members in groups.items()]
    removing = [group for group in made if group.shape.operation == "delete"]
    writing = [group for group in made if group.shape.operation != "delete"]
    return sorted(writing, key=_place) + sorted(removing, key=_place, reverse=True)


def _place(group: Group) -> tuple[int, int]:
    return group.shape.table.rank, group.shape.order


def merge(first: Write, second: Write) -> Write | None:
    """One write that does what both do, None where there is none."""
    before, after = first.shape, second.shape
    if after.operation == "delete":
        return second._replace(first=first.first)
    if before.operation == "delete" or after.operation == "insert":
        return None
    if not before.add and not after.add:
        return _assigned(first, second)
    if before.operation == after.operation == "update" and not set(after.set) & set(before.add):
        return _added(first, second)
    return None


def _assigned(first: Write, second: Write) -> Write | None:
    before, after = first.shape, second.shape
    if before is after:
        return second._replace(first=first.first)
    if after.operation == "upsert" and before.operation == "update":
        return None  # the row may not be there, and then the update writes nothing
    merged = {**dict(zip(before.set, first.set, strict=True)), **dict(zip(after.set, second.set, strict=True))}
    return _made(first, second, merged, {})


def _added(first: Write, second: Write) -> Write | None:
    before, after = first.shape, second.shape
    if before.must_exist != after.must_exist or set(before.set) & set(after.add):
        return None
    merged = {**dict(zip(before.set, first.set, strict=True)), **dict(zip(after.set, second.set, strict=True))}
    added: dict[str, Number] = dict(zip(before.add, first.add, strict=True))
    for column, amount in zip(after.add, second.add, strict=True):
        added[column] = exact_sum(added.get(column, 0), amount)
    return _made(first, second, merged, added)


def _made(first: Write, second: Write, merged: dict[str, str | None], added: dict[str, Number]) -> Write:
    shape = first.shape
    told = shape_of(shape.table, shape.operation, shape.key, tuple(merged), tuple(added), shape.must_exist, shape.order)
    return Write(told, first.key, tuple(merged.values()), tuple(added.values()), second.event, first.first)

"""What an event does to a row, and how the writes of a batch become few statements.

What a batch does to a row is told as one write, if it can be, and different rows are independent: see `Ties` for where
they are not. Rules:

1. Writes of one row keep their order. Neighbours that can be told as one are (two upserts, two deltas, anything and a
   delete); where they cannot, the later one goes into the next wave. A wave holds one write a row at most.
2. A row that others name is never deleted to be made anew: that is one write too, which gives the columns that it does
   not tell their defaults.
3. Deletes of rows that no others name come first, so that their unique values are free. Then parents come before
   children; and the other deletes come last, children before parents.
4. Rows of a statement are sorted by key, so that two processes lock rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple

from pycdc.model.event import Event
from pycdc.rows.text_values import exact_sum
from pycdc.sinks.postgres.target_tables import TargetTable

Operation = Literal["insert", "upsert", "update", "delete"]
Number = int | Decimal
Space = tuple[TargetTable, tuple[str, ...]]
"""A table and the columns that say which row: what rows of the same key values share."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What writes of one statement share: columns that say which row, that are set, and that are added to.

    There is one object a shape, made by `shape_of`. `must_exist`: a row that is not there is an error. `order` is the
    route's place in the configuration. `reset` are columns that a row which is there gets the default of.
    `replaces`: as if the row had been deleted before; then `reset` has all columns that are not set.
    """

    table: TargetTable
    operation: Operation
    key: tuple[str, ...]
    set: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    must_exist: bool = False
    order: int = 0
    reset: tuple[str, ...] = ()
    replaces: bool = False
    space: Space = field(init=False)
    moves: bool = field(init=False)
    """It is about two rows: what it sets is the key. An update gives the row a new key, unless there is another row of
    it; a delete removes the row, unless it is that of the new key. Where nothing is done, it is as it should be."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", (self.table, self.key))
        object.__setattr__(self, "moves", not set(self.set).isdisjoint(self.key))

    @property
    def fixed(self) -> tuple[str, ...]:
        """Columns that are told, and that no update may set: a row that is there must have the same."""
        return tuple(name for name in self.set if self.table.columns[name].identity == "a")

    @property
    def determined(self) -> frozenset[str]:
        """Columns whose value follows from the write alone."""
        return frozenset((*self.set, *self.reset))

    @property
    def does_something(self) -> bool:
        return self.operation != "update" or bool(self.set or self.add or self.reset) or self.must_exist


@lru_cache(maxsize=4096)
def shape_of(
    table: TargetTable,
    operation: Operation,
    key: tuple[str, ...],
    assigned: tuple[str, ...] = (),
    add: tuple[str, ...] = (),
    must_exist: bool = False,
    order: int = 0,
    reset: tuple[str, ...] = (),
    replaces: bool = False,
) -> Shape:
    """Return the one shape of these values.

    An upsert that lacks a column which an insert must give can only be meant for a row that is there.
    """
    if operation == "upsert" and not table.required <= {*key, *assigned}:
        operation, must_exist = "update", True
    if replaces:
        others = (column for name, column in table.columns.items() if name not in (*key, *assigned))
        reset = tuple(column.name for column in others if not column.generated and column.identity != "a")
    return Shape(table, operation, key, assigned, add, must_exist, order, reset, replaces)


class RowWrite(NamedTuple):
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
class WriteGroup:
    """Writes of one shape, none of them of the same row. `between`: no event says so, so nobody is told of them."""

    shape: Shape
    writes: list[RowWrite]
    between: bool = False


_NONE: Final[Mapping[object, object]] = {}


def groups_of(writes: Iterable[RowWrite], same: Mapping[Any, object] = _NONE) -> list[WriteGroup]:
    """Return the statements that do what `writes` do one after another. `same` are rows by their other names."""
    writes = list(writes)
    if any(shape.moves for shape in {write.shape for write in writes}):
        return in_order(writes, same)
    waves: list[dict[object, RowWrite]] = [{}]
    first_wave = waves[0]
    later: dict[object, int] = {}
    for write in writes:
        row: object = (write.shape.space, write.key)
        if same:
            row = same.get(row, row)
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
    if not later:
        return _grouped(first_wave.values())
    removed = [
        waves[later.get(row, 0)].pop(row) for row in list(first_wave) if _is_last(waves[later.get(row, 0)][row].shape)
    ]
    return [group for wave in (*(wave.values() for wave in waves), removed) for group in _grouped(wave)]


def _is_last(shape: Shape) -> bool:
    return shape.operation == "delete" and shape.table.ties.parent


def _grouped(writes: Iterable[RowWrite]) -> list[WriteGroup]:
    groups: dict[Shape, list[RowWrite]] = {}
    for write in writes:
        shape = write.shape
        if shape in groups:
            groups[shape].append(write)
        else:
            groups[shape] = [write]
    for members in groups.values():
        members.sort(key=_KEY)
    return sorted((WriteGroup(shape, members) for shape, members in groups.items()), key=_place)


def _place(group: WriteGroup) -> tuple[int, int, int]:
    return place_of(group.shape)


def place_of(shape: Shape) -> tuple[int, int, int]:
    """Return where a statement of this shape stands among those of a wave."""
    if shape.operation != "delete":
        return 1, shape.table.rank, shape.order
    return 2 if shape.table.ties.parent else 0, -shape.table.rank, -shape.order


def in_order(writes: Iterable[RowWrite], same: Mapping[Any, object] = _NONE) -> list[WriteGroup]:
    """Statements that do the writes just as they come: neighbours of one shape and different rows share one."""
    groups: list[WriteGroup] = []
    rows: set[object] = set()
    for write in writes:
        row: object = (write.shape.space, write.key)
        row = same.get(row, row)
        if groups and groups[-1].shape is write.shape and row not in rows and not write.shape.moves:
            groups[-1].writes.append(write)
            rows.add(row)
        else:
            groups.append(WriteGroup(write.shape, [write]))
            rows = {row}
    return groups


def merge(first: RowWrite, second: RowWrite) -> RowWrite | None:
    """Return one write that does what both do, None where there is none."""
    before, after = first.shape, second.shape
    if after.operation == "delete":
        return second._replace(first=first.first)
    if before.operation == "delete":
        return _recreated(first, second)
    if after.operation == "insert":
        return None
    if not before.add and not after.add:
        return _assigned(first, second)
    if before.operation == after.operation == "update" and not set(after.set) & set(before.add):
        return _added(first, second)
    return None


def _recreated(removal: RowWrite, write: RowWrite) -> RowWrite | None:
    shape = write.shape
    if not shape.table.ties.parent or shape.operation not in ("insert", "upsert"):
        return None
    merged_shape = shape_of(shape.table, "upsert", shape.key, shape.set, order=shape.order, replaces=True)
    return write._replace(shape=merged_shape, first=removal.first)


def _assigned(first: RowWrite, second: RowWrite) -> RowWrite | None:
    before, after = first.shape, second.shape
    if before is after:
        return second._replace(first=first.first)
    if after.operation == "upsert" and before.operation == "update":
        # The row may not be there, and then the update writes nothing; nothing is left of it where all is set again.
        covered = set(before.set) <= set(after.set) and not before.reset
        return second._replace(first=first.first) if covered else None
    return _made(first, second, {})


def _added(first: RowWrite, second: RowWrite) -> RowWrite | None:
    before, after = first.shape, second.shape
    if before.must_exist != after.must_exist or set(before.set) & set(after.add):
        return None
    if set(before.reset) & set(after.add) or set(after.reset) & set(before.add):
        return None
    added: dict[str, Number] = dict(zip(before.add, first.add, strict=True))
    for column, amount in zip(after.add, second.add, strict=True):
        added[column] = exact_sum(added.get(column, 0), amount)
    return _made(first, second, added)


def _made(first: RowWrite, second: RowWrite, added: dict[str, Number]) -> RowWrite:
    before, after = first.shape, second.shape
    merged = {**dict(zip(before.set, first.set, strict=True)), **dict(zip(after.set, second.set, strict=True))}
    reset = after.reset
    if before.reset or reset:
        merged = {column: text for column, text in merged.items() if column not in reset}
        reset = tuple(dict.fromkeys(column for column in (*before.reset, *reset) if column not in merged))
    merged_shape = shape_of(
        before.table,
        before.operation,
        before.key,
        tuple(merged),
        tuple(added),
        before.must_exist,
        before.order,
        reset,
        before.replaces,
    )
    return RowWrite(merged_shape, second.key, tuple(merged.values()), tuple(added.values()), second.event, first.first)

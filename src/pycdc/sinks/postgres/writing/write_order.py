"""The statements of a batch: rearranged where rows are independent, in the order of the events where they are not.

In order go tables whose triggers may do anything and what foreign keys tie to them (see `Ties`), and those that this
batch writes by several keys or from several topics, so that nobody can tell which writes are about the same row.

Events of several partitions have the order in which the source made them, where all of them tell it; else only that of
their partitions, and foreign keys decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final, Literal

from pycdc.clients.postgres import Connection
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.key_equality import RowOfTable, same_rows
from pycdc.sinks.postgres.writing.key_forms import exact
from pycdc.sinks.postgres.writing.source_order import source_order
from pycdc.sinks.postgres.writing.writes import (
    RowWrite,
    Shape,
    WriteGroup,
    groups_of,
    in_order,
    merge,
    place_of,
    shape_of,
)

_SHAPE: Final = attrgetter("shape")
Manner = Literal["together", "vacating", "step by step", "ends alone"]
"""How writes become statements: told as one where they can be; the same, once all unique values that they bring or take
away are given up; one after another, as they came; or only what is left of each row in the end, where other tables are
ahead of what was in between."""


def arranged(
    connection: Connection, writes: Sequence[RowWrite], manner: Manner, free: Callable[[TargetTable], bool]
) -> list[WriteGroup]:
    """Return the statements that do what `writes` do one after another. `free`: whether events always win there."""
    shapes = set(map(_SHAPE, writes))
    same = same_rows(connection, writes, {shape.space for shape in shapes})
    if manner == "ends alone" and all(free(shape.table) for shape in shapes) and _are_exact(writes):
        writes = unmoved(writes, same)
        shapes = set(map(_SHAPE, writes))
    if manner == "step by step":
        return in_order(_behind_children(writes), same)
    groups = _ends(writes, shapes, same) if manner == "ends alone" else _together(writes, shapes, same)
    return [*_vacating(groups, free), *groups] if manner in ("vacating", "ends alone") else groups


def _are_exact(writes: Sequence[RowWrite]) -> bool:
    """Return whether the texts of keys tell which rows are moved."""
    moves = [write for write in writes if write.shape.moves]
    return all(
        exact([write.shape.table.columns[name] for name in write.shape.key], [write.key, _texts(write.set)])
        for write in moves
    )


def unmoved(writes: Sequence[RowWrite], same: Mapping[RowOfTable, RowOfTable]) -> Sequence[RowWrite]:
    """Return the writes with a delete in place of each move of a row that is known whole.

    Such a row was written by then, or is written later by its new key.
    """
    written = {
        _row(write.shape, write.key, same): place for place, write in enumerate(writes) if _is_whole(write.shape)
    }
    known: dict[RowOfTable, RowWrite] = {}
    gone: set[RowOfTable] = set()
    out: list[RowWrite] = []
    for place, write in enumerate(writes):
        shape, row = write.shape, _row(write.shape, write.key, same)
        if not shape.moves:
            (gone.add if shape.operation == "delete" else gone.discard)(row)
            _learn(known, row, write)
            out.append(write)
        elif row in gone:
            continue  # there is nothing to move, or to remove
        elif shape.operation == "delete":
            known.pop(row, None)
            out.append(write)
        else:
            new, whole = _row(shape, write.set, same), known.pop(row, None)
            known.pop(new, None)
            gone.discard(new)
            if whole is None and written.get(new, -1) < place:
                out.append(write)
                continue
            gone.add(row)
            removal = shape_of(shape.table, "delete", shape.key, order=shape.order)
            out.append(write._replace(shape=removal, set=()))
            if whole is not None:
                known[new] = whole._replace(key=_texts(write.set), event=write.event)
                out.append(known[new])
    return out


def _row(shape: Shape, key: tuple[str | None, ...], same: Mapping[RowOfTable, RowOfTable]) -> RowOfTable:
    row = shape.space, _texts(key)
    return same.get(row, row)


def _texts(key: tuple[str | None, ...]) -> tuple[str, ...]:
    """Return a key without NULL, which none has."""
    return tuple(text for text in key if text is not None)


def _learn(known: dict[RowOfTable, RowWrite], row: RowOfTable, write: RowWrite) -> None:
    """Learn what is known whole of the row behind the write."""
    before = known.pop(row, None)
    assigned = write if _is_whole(write.shape) or before is None else merge(before, write)
    if assigned is not None and _is_whole(assigned.shape):
        known[row] = assigned


def _ends(
    writes: Sequence[RowWrite], shapes: Collection[Shape], same: Mapping[RowOfTable, RowOfTable]
) -> list[WriteGroup]:
    """Only rows that are moved are written in the order of the events, each table's behind the others of it."""
    if _entangled(writes, [shape for shape in shapes if not shape.moves], same):
        return _together(writes, shapes, same)
    moving = [write for write in writes if write.shape.moves]
    moved = {_row(write.shape, key, same) for write in moving for key in (write.key, write.set)}
    apart: dict[TargetTable, list[RowWrite]] = {}
    others: list[RowWrite] = []
    for write in writes:
        is_moved = _row(write.shape, write.key, same) in moved
        (apart.setdefault(write.shape.table, []) if is_moved else others).append(write)
    groups = groups_of(others, same)
    for table in sorted(apart, key=lambda table: table.rank):
        before = [
            place
            for place, group in enumerate(groups, 1)
            if place_of(group.shape)[0] < 2 and group.shape.table.rank <= table.rank
        ]
        spot = max(before, default=0)
        groups[spot:spot] = in_order(apart[table], same)
    return groups


def _is_whole(shape: Shape) -> bool:
    if shape.operation not in ("insert", "upsert") or shape.add:
        return False
    columns = (column for name, column in shape.table.columns.items() if name not in shape.determined)
    return all(column.generated or column.name in shape.key for column in columns)


def _vacating(groups: Sequence[WriteGroup], free: Callable[[TargetTable], bool]) -> Iterator[WriteGroup]:
    """NULL into a column of each unique index, of rows that are told anew or go, so that no order of them matters."""
    for group in groups:
        shape, table = group.shape, group.shape.table
        indexes = [
            [name for name in index if name not in shape.key] for index in table.uniques - {frozenset(shape.key)}
        ]
        known = [names for names in indexes if shape.operation == "delete" or shape.determined >= set(names)]
        empty = [[name for name in names if not table.columns[name].required] for names in known]
        assigned = {min(names) for names in empty if names}
        if assigned and free(table) and not table.ties.in_order and not shape.moves:
            emptied = shape_of(table, "update", shape.key, tuple(sorted(assigned)), order=shape.order)
            nothing = (None,) * len(assigned)
            writes = [write._replace(shape=emptied, set=nothing, add=()) for write in group.writes]
            yield WriteGroup(emptied, writes, between=True)


def _together(
    writes: Sequence[RowWrite], shapes: Collection[Shape], same: Mapping[RowOfTable, RowOfTable]
) -> list[WriteGroup]:
    tied = {component_of(table) for table in _entangled(writes, shapes, same)}
    if not tied:
        return groups_of(writes, same)
    lots: dict[str, list[RowWrite]] = {}
    untied: list[RowWrite] = []
    for write in writes:
        component = component_of(write.shape.table)
        (lots.setdefault(component, []) if component in tied else untied).append(write)
    groups = groups_of(untied, same)
    for lot in lots.values():
        groups += in_order(sequenced(lot), same)
    return groups


def component_of(table: TargetTable) -> str:
    """Return the name that a table shares with those that foreign keys tie to it."""
    return table.ties.component or str(table)


def _entangled(
    writes: Sequence[RowWrite], shapes: Collection[Shape], same: Mapping[RowOfTable, RowOfTable]
) -> set[TargetTable]:
    """Return the tables that are written in the order of the events."""
    keys: dict[TargetTable, set[tuple[str, ...]]] = {}
    for shape in shapes:
        keys.setdefault(shape.table, set()).add(shape.key)
    found = {table for table, of_table in keys.items() if table.ties.in_order or len(of_table) > 1}
    found |= {shape.table for shape in shapes if shape.moves}
    orders = {(shape.table, shape.order) for shape in shapes}
    several = {table for table in keys if sum(own is table for own, _ in orders) > 1}
    return found | _shared(writes, several - found, same)


def _shared(
    writes: Sequence[RowWrite], tables: set[TargetTable], same: Mapping[RowOfTable, RowOfTable]
) -> set[TargetTable]:
    """Return those of `tables` of which events of several topics write the same row."""
    topics: dict[RowOfTable, str] = {}
    found = set()
    for write in writes if tables else ():
        table = write.shape.table
        if table in tables:
            row = write.shape.space, write.key
            topic = write.event.partition.topic
            if topics.setdefault(same.get(row, row), topic) != topic:
                found.add(table)
    return found


def sequenced(writes: Sequence[RowWrite]) -> Sequence[RowWrite]:
    """Return the writes in the order in which the source made them, as far as it is known."""
    order = source_order([write.event for write in writes])
    return _by_foreign_keys(writes) if order is None else _behind_children([writes[place] for place in order])


def _behind_children(writes: Sequence[RowWrite]) -> Sequence[RowWrite]:
    """Return the writes with deletes that wait for children behind what follows of those.

    What a foreign key does with a delete comes after it in the source's log, before anything else of the transaction.
    """
    below = _below(write.shape.table for write in writes)
    if not below:
        return writes
    out: list[RowWrite] = []
    removals: list[RowWrite] = []
    tables, reached = set[str](), set[str]()
    for write in writes:
        table = str(write.shape.table)
        if write.shape.operation == "delete" and table in below:
            removals.append(write)
            tables.add(table)
            reached |= below[table]
            continue
        if removals and (table in tables or table not in reached):
            out += _children_first(removals)
            removals, tables, reached = [], set(), set()
        out.append(write)
    return [*out, *_children_first(removals)]


def _children_first(removals: list[RowWrite]) -> list[RowWrite]:
    return sorted(removals, key=lambda write: -write.shape.table.rank)


def _below(tables: Iterable[TargetTable]) -> dict[str, set[str]]:
    """Return the tables whose rows a delete changes or removes by foreign keys, of each for which deletes wait."""
    below = {str(table): {key.child for key in table.ties.waits} for table in set(tables) if table.ties.waits}
    for _ in below:
        for own in below.values():
            own.update(*[below.get(child, ()) for child in own])
    return below


def _by_foreign_keys(writes: Iterable[RowWrite]) -> list[RowWrite]:
    """Each table's own order, parents before children; deletes of children before those of parents."""
    queues: dict[TargetTable, deque[RowWrite]] = {}
    for write in writes:
        queues.setdefault(write.shape.table, deque()).append(write)
    tables = sorted(queues, key=lambda table: table.rank)
    out: list[RowWrite] = []
    while any(queues.values()):
        for removing, passed in ((False, tables), (True, tables[::-1])):
            for table in passed:
                queue = queues[table]
                while queue and (queue[0].shape.operation == "delete") is removing:
                    out.append(queue.popleft())
    return out

"""Cut columns of a row that is too large for its topic."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from pycdc.errors import ConfigError
from pycdc.model.change import Op, Run, Table
from pycdc.rows.rewriter import copy_line, tuple_data
from pycdc.rows.tuples import ROW, ColumnBytes, split_line, split_tuple

_TEXTS: Final = frozenset(("text", "varchar", "bpchar", "citext"))
_BYTEA: Final = "bytea"
_TUPLES: Final = b"KON"

Sizes = dict[str, int]
"""Bytes that columns had before they were cut, by name."""


def require_truncatable(table: Table, key: Collection[str], names: Sequence[str]) -> None:
    """Raise ConfigError where a column that may be cut is part of the key, or of a type that cannot be cut."""
    types = {column.name: column.type.name for column in table.columns}
    for name in names:
        if name in key:
            raise ConfigError(
                f"column {name!r} of table {table} is part of the message key, and rules[].truncatable names it",
                hint="name other columns: rows would take each other's place",
            )
        if types.get(name, "text") not in _TEXTS | {_BYTEA}:
            raise ConfigError(
                f"column {name!r} of table {table} is of type {types[name]}, and rules[].truncatable names it",
                hint="name columns of type text, varchar, char, citext or bytea: half of another value is none",
            )


def longest(run: Run, names: Collection[str]) -> int:
    """Return the bytes of the longest value that may be cut."""
    return max((len(text) for row in _rows(run) for _, text in _cuttable(run, row, names)), default=0)


def truncated(run: Run, names: Collection[str], most: int) -> tuple[Run, Sizes]:
    """Return the run with these columns cut to `most` bytes as Postgres writes them, and what they measured."""
    sizes: Sizes = {}

    def cut(row: Sequence[ColumnBytes]) -> list[ColumnBytes]:
        texts = list(row)
        for place, text in _cuttable(run, row, names):
            if len(text) > most:
                name = _table(run).columns[place].name
                sizes[name] = max(sizes.get(name, 0), len(text))
                texts[place] = _cut(text, most, is_bytea=_table(run).columns[place].type.name == _BYTEA)
        return texts

    frames = [_rebuilt(run.op, frame, cut) for frame in run.frames]
    made = Run(run.op, run.table, run.transaction, run.index, frames, run.marker, run.message, run.routing)
    return made, sizes


def _cut(text: bytes, most: int, *, is_bytea: bool) -> bytes:
    """Cut between two characters, or two bytes of a bytea, which have two digits each."""
    if is_bytea:
        return text[: 2 + max(0, most - 2) // 2 * 2]
    return text[:most].decode("utf-8", "ignore").encode()


def _cuttable(run: Run, row: Sequence[ColumnBytes], names: Collection[str]) -> list[tuple[int, bytes]]:
    columns = _table(run).columns
    return [
        (place, text)
        for place, text in enumerate(row)
        if isinstance(text, bytes) and columns[place].name in names and columns[place].type.name in _TEXTS | {_BYTEA}
    ]


def _table(run: Run) -> Table:
    assert run.table is not None
    return run.table


def _rows(run: Run) -> list[Sequence[ColumnBytes]]:
    rows: list[Sequence[ColumnBytes]] = []

    def keep(row: Sequence[ColumnBytes]) -> list[ColumnBytes]:
        rows.append(row)
        return list(row)

    for frame in run.frames:
        _rebuilt(run.op, frame, keep)
    return rows


def _rebuilt(op: Op, frame: bytes, change: Callable[[Sequence[ColumnBytes]], list[ColumnBytes]]) -> bytes:
    """Return the frame with what `change` makes of each of its rows."""
    if op is Op.READ:
        return copy_line(change(split_line(frame)))
    parts, place = [frame[: ROW - 1]], ROW - 1
    while frame[place : place + 1] and frame[place] in _TUPLES:
        row, end = split_tuple(frame, place + 1)
        parts += [frame[place : place + 1], tuple_data(change(row))]
        place = end
    return b"".join(parts) + frame[place:]

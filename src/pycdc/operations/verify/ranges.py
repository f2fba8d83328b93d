"""Ranges of keys, the same on both sides: half-open, and open at both ends of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from psycopg import sql

from pycdc.operations.verify.canonical import TEXTS, ColumnType

Bound = tuple[str, ...]
"""The canonical texts of a key."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys from `low` on, up to but without `high`; None: from the first, to the last."""

    low: Bound | None = None
    high: Bound | None = None

    def cut(self, bounds: Sequence[Bound]) -> list[KeyRange]:
        """Cut at `bounds`, which are in order and lie inside."""
        edges = [self.low, *bounds, self.high]
        return [KeyRange(low, high) for low, high in pairwise(edges)]


def ordered(expression: sql.Composable, column: ColumnType) -> sql.Composable:
    """Return a key column's expression in an order that both databases have: texts by their bytes."""
    if by_text(column):
        text = expression if column.base == "text" else sql.SQL("({})::text").format(expression)
        return sql.SQL('({} COLLATE "C")').format(text)
    return expression


def by_text(column: ColumnType) -> bool:
    """Whether a key column is ordered as a text."""
    return column.is_text or column.is_enum or column.base in TEXTS


def literal(text: str, column: ColumnType) -> sql.Composable:
    """Return a bound of a key column as SQL."""
    if by_text(column):
        return sql.SQL("{}::text").format(text)
    return sql.SQL("{}::{}").format(text, sql.Identifier(column.base))


def inside(keys: Sequence[sql.Composable], columns: Sequence[ColumnType], part: KeyRange) -> list[sql.Composable]:
    """Return the conditions that a row lies in the range; `keys` are `ordered`.

    A key that cannot be compared with the bounds, for it is NULL, lies behind all others.
    """
    out: list[sql.Composable] = []
    behind = "({}) < ({}) IS NOT TRUE" if any(column.nullable for column in columns) else "({}) >= ({})"
    for bound, form in ((part.low, behind), (part.high, "({}) < ({})")):
        if bound is not None:
            values = sql.SQL(", ").join(map(literal, bound, columns))
            out.append(sql.SQL(form).format(sql.SQL(", ").join(keys), values))
    return out

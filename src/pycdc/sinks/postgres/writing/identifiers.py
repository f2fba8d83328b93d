"""Names of somebody's tables and columns in statements that have parameters: the driver reads a lone `%` as one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import abc, sql


class ParameterSafeIdentifier(sql.Identifier):
    """For statements that are executed with parameters, and for no others."""

    def as_bytes(self, context: abc.AdaptContext | None = None) -> bytes:
        return super().as_bytes(context).replace(b"%", b"%%")


class ParameterSafeLiteral(sql.Literal):
    """For statements that are executed with parameters, and for no others."""

    def as_bytes(self, context: abc.AdaptContext | None = None) -> bytes:
        return super().as_bytes(context).replace(b"%", b"%%")


def joined(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(ParameterSafeIdentifier, columns))


def alias_beside(columns: Collection[str]) -> sql.SQL:
    """Return a table's alias that is no column's name: there, the alias alone would be the column, not the row."""
    alias = "t"
    while alias in columns:
        alias += "_"
    return sql.SQL(alias)

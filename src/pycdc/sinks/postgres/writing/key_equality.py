"""Whether two events are about the same row: keys are equal where the database says so, not where their texts are.

Texts decide where that is proven, see `key_forms`. Of all others the database is asked, once for a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import array_of
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeIdentifier
from pycdc.sinks.postgres.writing.key_forms import exact
from pycdc.sinks.postgres.writing.statements import unnested
from pycdc.sinks.postgres.writing.writes import RowWrite, Space

RowOfTable = tuple[Space, tuple[str, ...]]


def same_rows(
    connection: Connection, writes: Sequence[RowWrite], spaces: Collection[Space]
) -> Mapping[RowOfTable, RowOfTable]:
    """From a row as a write names it to the first name of the same row; nothing for names that are alone."""
    found: dict[RowOfTable, RowOfTable] = {}
    for space in spaces:
        columns = [space[0].columns[name] for name in space[1]]
        keys = [write.key for write in writes if len(spaces) == 1 or write.shape.space == space]
        if len(keys) > 1 and not exact(columns, keys):
            found.update(_asked(connection, space, columns, list(dict.fromkeys(keys))))
    return found


def is_same_row(connection: Connection, space: Space, one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether two keys are equal; no, where the database does not take the texts for values."""
    columns = [space[0].columns[name] for name in space[1]]
    if one == other or exact(columns, [one, other]):
        return one == other
    try:
        with connection.transaction():
            return bool(list(_asked(connection, space, columns, [one, other])))
    except psycopg.DataError:
        return False


def _asked(
    connection: Connection, space: Space, columns: list[TargetColumn], keys: list[tuple[str, ...]]
) -> Iterable[tuple[RowOfTable, RowOfTable]]:
    texts = [array_of(column) for column in zip(*keys, strict=True)]
    firsts = connection.execute(_question(space).as_string(None).encode(), texts)
    for key, (first,) in zip(keys, firsts, strict=True):
        if keys[first - 1] is not key:
            yield (space, key), (space, keys[first - 1])


@lru_cache(maxsize=256)
def _question(space: Space) -> sql.Composed:
    columns = [space[0].columns[name] for name in space[1]]
    values = sql.SQL(", ").join(_value(column, number) for number, column in enumerate(columns))
    query = sql.SQL("SELECT min(u.n) OVER (PARTITION BY {}) FROM {} ORDER BY u.n")
    return query.format(values, unnested(columns, counted=True))


def _value(column: TargetColumn, number: int) -> sql.Composed:
    value = sql.SQL("u.{}::{}").format(ParameterSafeIdentifier(f"c{number}"), ParameterSafeIdentifier(*column.type))
    if column.collation is None:
        return value
    return sql.SQL("{} COLLATE {}").format(value, sql.SQL(column.collation.replace("%", "%%")))

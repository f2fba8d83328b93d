"""The order of a key, as the database has it: the SQL that asks for the rows behind a key. Python never compares.

Rows come by the order of the columns' types, ORDER BY's own. The operator that means "behind" in that order is looked
up: by name alone, `citext > …` would find the operator of `text` where the extension is not in the search path, and
rows would be skipped. A literal is cast to its column's type; what it compares by then is the column's collation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from pycdc.rows.tuples import split_line

KeyValues = tuple[bytes, ...]
"""The texts of a row's key columns, in the key's order."""

COLUMNS: Final = """
WITH RECURSIVE resolved AS (
    SELECT a.attname AS name, t.oid, t.typtype, t.typbasetype, a.attcollation
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = %(oid)s::int8::oid AND a.attname = ANY (%(names)s)
     UNION ALL
    SELECT r.name, t.oid, t.typtype, t.typbasetype, r.attcollation
      FROM resolved r JOIN pg_type t ON t.oid = r.typbasetype
     WHERE r.typtype = 'd')
SELECT r.name, tn.nspname AS type_schema, t.typname AS type,
       COALESCE(op.schema, 'pg_catalog') AS operator_schema, COALESCE(op.name, '>') AS operator,
       r.attcollation::int8 AS collation
  FROM resolved r JOIN pg_type t ON t.oid = r.oid JOIN pg_namespace tn ON tn.oid = t.typnamespace
       LEFT JOIN LATERAL (
           SELECT n.nspname AS schema, o.oprname AS name
             FROM pg_opclass c
             JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amoplefttype = c.opcintype
                           AND m.amoprighttype = c.opcintype AND m.amopstrategy = 5
             JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
            WHERE c.opcdefault AND c.opcintype = t.oid AND c.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree')
       ) op ON true
 WHERE r.typtype <> 'd'
"""
"""Strategy 5 of a B-tree is "greater". Types without a class of their own (varchar, enums, arrays) use a system one."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    name: str
    type_schema: str
    type: str
    operator_schema: str = "pg_catalog"
    operator: str = ">"
    collation: int = 0


@dataclass(frozen=True, slots=True)
class Keyset:
    """A unique key without NULLs. `places` are those of its columns within a line."""

    columns: tuple[KeyColumn, ...]
    places: tuple[int, ...]

    @property
    def order_name(self) -> str:
        """A name for the order of the rows: where it differs, a key says nothing of what lies behind it."""
        return ", ".join(
            f"{column.name} {column.type_schema}.{column.type} {column.collation}" for column in self.columns
        )

    def of_line(self, line: bytes) -> KeyValues:
        """Return the key of a line of COPY text."""
        texts = split_line(line)
        return tuple(texts[place] or b"" for place in self.places)

    def order(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns)

    def behind(self, key: KeyValues) -> sql.Composed:
        """Return the condition that a row comes behind `key`."""
        if len({(column.operator_schema, column.operator) for column in self.columns}) == 1:
            return _compared(self.columns, key)
        return _step_by_step(self.columns, key)


def keyset(
    rows: Callable[..., list[dict[str, Any]]], oid: int, key: Sequence[str], copied: Sequence[str]
) -> Keyset | None:
    """Return the keyset of a table's `key` among the columns that are `copied`; None where these do not hold it."""
    if not key or not set(key).issubset(copied):
        return None
    found = {row["name"]: KeyColumn(**row) for row in rows(COLUMNS, oid=oid, names=list(key))}
    if not found.keys() >= set(key):
        return None
    return Keyset(tuple(found[name] for name in key), tuple(copied.index(name) for name in key))


def _compared(columns: Sequence[KeyColumn], key: KeyValues) -> sql.Composed:
    """Return one comparison of rows, which an index answers."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    values = sql.SQL(", ").join(map(_literal, columns, key))
    return sql.SQL("ROW({}) {} ROW({})").format(names, _operator(columns[0]), values)


def _step_by_step(columns: Sequence[KeyColumn], key: KeyValues) -> sql.Composed:
    """Return the condition that the first column is behind, or not behind either way while the rest is behind."""
    first, value = columns[0], _literal(columns[0], key[0])
    name = sql.Identifier(first.name)
    behind = sql.SQL("{} {} {}").format(name, _operator(first), value)
    if len(columns) == 1:
        return behind
    before = sql.SQL("{} {} {}").format(value, _operator(first), name)
    return sql.SQL("({} OR (NOT {} AND {}))").format(behind, before, _step_by_step(columns[1:], key[1:]))


def _operator(column: KeyColumn) -> sql.Composed:
    return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(column.operator_schema), sql.SQL(column.operator))


def _literal(column: KeyColumn, text: bytes) -> sql.Composed:
    return sql.SQL("{}::{}").format(_Bytes(text), sql.Identifier(column.type_schema, column.type))


class _Bytes(sql.Composable):
    """A literal of text as it came from the server, whatever its encoding.

    Without a prefix, a backslash would mean itself or not by the server's configuration.
    """

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self._text = text

    def as_bytes(self, context: Any = None) -> bytes:
        return b"E'" + self._text.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'"

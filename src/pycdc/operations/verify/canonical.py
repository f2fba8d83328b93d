"""One text for each value, made by the servers: equal values have equal texts on both sides, others have not.

The text is what Postgres prints under `SETTINGS`, except where it prints equal numbers in several ways (the scale of
`numeric`, the sign of a zero) or pads (`character(n)`). docs/verify.md lists what counts as equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

SETTINGS: Final = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "row_security": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "client_connection_check_interval": "10s",
    "jit": "off",
}
"""Of every session that computes texts. `row_security` off makes hidden rows an error; a query ends soon after its
client is killed. Compiling them takes longer than it saves."""

_COLUMNS: Final = """SELECT a.attname, format_type(a.atttypid, a.atttypmod), base.typname,
    base.nspname = 'pg_catalog', coalesce(element.typname, ''), base.modifier,
    NOT a.attnotnull OR EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = a.attrelid
        AND c.contype = 'n' AND a.attnum = ANY (c.conkey) AND (NOT c.convalidated OR c.connoinherit)),
    a.attgenerated <> '', base.typtype = 'e'
FROM pg_catalog.pg_attribute a
JOIN LATERAL (
    WITH RECURSIVE beneath (oid, modifier) AS (
        SELECT a.atttypid, a.atttypmod
        UNION ALL SELECT d.typbasetype, greatest(b.modifier, d.typtypmod)
        FROM beneath b JOIN pg_catalog.pg_type d ON d.oid = b.oid WHERE d.typtype = 'd')
    SELECT p.typname, p.typtype, p.typelem, n.nspname, b.modifier
    FROM beneath b JOIN pg_catalog.pg_type p ON p.oid = b.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = p.typnamespace WHERE p.typtype <> 'd') base ON true
LEFT JOIN pg_catalog.pg_type element ON element.oid = base.typelem AND base.typelem <> 0
WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""

_INTEGERS: Final = frozenset(("int2", "int4", "int8", "oid"))
_FLOATS: Final = frozenset(("float4", "float8"))
NUMBERS: Final = _INTEGERS | _FLOATS | {"numeric"}
TEXTS: Final = frozenset(("text", "varchar", "bpchar", "name", "citext"))
_SEPARATED: Final = NUMBERS | {
    *("bool", "date", "time", "timetz", "timestamp", "timestamptz", "interval", "uuid", "bytea", "money"),
    *("macaddr", "macaddr8", "inet", "cidr", "bit", "varbit", "pg_lsn", "xid", "xid8"),
}
"""Types whose texts have no separator in them."""
_BINARY: Final = {"timestamp": "timestamp_send({})", "timestamptz": "timestamptz_send({})"}
"""Types whose binary form, in hexadecimal digits, is made in half the time of their text."""
_SEPARATOR: Final = "|"
_NULL: Final = "~"
"""What stands for NULL among those: `concat_ws` leaves a NULL out, with its separator."""
_MOST_ARGUMENTS: Final = 90
"""Of a function's; Postgres allows 100."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column as the catalog describes it.

    `declared` is its type with the modifier, qualified where it is not Postgres' own; `base` is the type's name beneath
    domains, and `builtin` whether that is Postgres' own.
    """

    name: str
    declared: str
    base: str
    builtin: bool
    element: str
    modifier: int
    nullable: bool
    generated: bool
    is_enum: bool

    @property
    def is_text(self) -> bool:
        """Whether it is compared by its text: texts, and types that the other database may not have."""
        return self.base in TEXTS or not self.builtin


def columns_of(connection: psycopg.Connection[Any], oid: int) -> dict[str, ColumnType]:
    """Return the table's columns by name. Raises psycopg.Error."""
    return {row[0]: ColumnType(*row) for row in connection.execute(_COLUMNS, (oid,)).fetchall()}


def pin(connection: psycopg.Connection[Any]) -> None:
    """Set what texts depend on, for the rest of the session. Raises psycopg.Error."""
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(name, value) for name, value in SETTINGS.items()
    )
    connection.execute(sql.SQL("SELECT {}").format(calls))


def canonical(expression: sql.Composable, column: ColumnType) -> sql.Composable:
    """Return the expression of a value whose text is canonical; `column` is the target's."""
    scaled = column.modifier >= 0  # then all its values are printed with the same scale
    if column.base == "numeric" and not scaled:
        return sql.SQL("trim_scale({})").format(expression)
    if column.base in _FLOATS:
        return sql.SQL("({} + '0'::{})").format(expression, sql.SQL(column.base))  # -0 is 0
    if column.base == "bpchar" or (column.base in TEXTS and column.base != "text") or not column.builtin:
        return sql.SQL("({})::text").format(expression)
    if column.element == "numeric" and column.base.startswith("_") and not scaled:
        return sql.SQL(
            "CASE WHEN array_ndims({0}) = 1 THEN ARRAY(SELECT trim_scale(e) FROM unnest({0}) WITH ORDINALITY AS u(e, n)"
            " ORDER BY n) ELSE {0} END"
        ).format(expression)
    return expression


def text_of(expression: sql.Composable, column: ColumnType) -> sql.Composable:
    """Return the expression of a value's canonical text."""
    return sql.SQL("({})::text").format(canonical(expression, column))


def row_text(
    values: Sequence[tuple[sql.Composable, ColumnType]], nulls: Sequence[sql.Composable] = ()
) -> sql.Composable:
    """Return the expression of a row's text: of rows that differ in some value it differs too.

    A value whose text may contain the separator goes behind its length; NULL is no value's text. Of `nulls` it says
    only which are NULL.
    """
    parts: list[sql.Composable] = []
    for expression, column in values:
        value = canonical(expression, column)
        if is_separated(column):
            parts.append(sql.SQL(_BINARY.get(column.base, "{}")).format(value))
            if column.nullable:
                parts.append(sql.SQL("CASE WHEN {} IS NULL THEN {} END").format(expression, _NULL))
        else:
            text = value if column.base == "text" else sql.SQL("({})::text").format(value)
            length = sql.SQL("octet_length({})").format(text)
            parts.append(sql.SQL("coalesce({}, -1)").format(length) if column.nullable else length)
            parts.append(text)
    for number, expression in enumerate(nulls):
        parts.append(sql.SQL("CASE WHEN {} IS NULL THEN {} END").format(expression, sql.Literal(number)))
    return _joined(parts)


def is_separated(column: ColumnType) -> bool:
    """Return whether no text of a column's values has the separator in it."""
    return column.builtin and column.base in _SEPARATED


def _joined(parts: Sequence[sql.Composable]) -> sql.Composable:
    if len(parts) > _MOST_ARGUMENTS:
        size = -(-len(parts) // -(-len(parts) // _MOST_ARGUMENTS))
        return _joined([_joined(parts[at : at + size]) for at in range(0, len(parts), size)])
    return sql.SQL("concat_ws({}, {})").format(_SEPARATOR, sql.SQL(", ").join(parts))

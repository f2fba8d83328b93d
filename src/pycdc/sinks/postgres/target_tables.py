"""The tables that are written to, as the catalog has them, and whether the routes fit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import Route
from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.writing.identifiers import ParameterSafeIdentifier, alias_beside
from pycdc.sinks.postgres.writing.table_dependencies import FREE, TableDependencies
from pycdc.sinks.postgres.writing.triggers import TRIGGERS, Trigger

_TABLE: Final = "SELECT to_regclass(%s)::oid"
_COLUMNS: Final = """SELECT a.attname, n.nspname, t.typname, base.typcategory, base.typname,
    coalesce(element.typname, ''),
    (a.attnotnull OR base.needed) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL,
    a.attidentity, a.attgenerated <> '', t.typarray <> 0 AND base.typtype <> 'c', base.modifier,
    coalesce(l.collisdeterministic, true), l.oid::regcollation::text, base.typtype = 'e',
    NOT (a.attnotnull OR coalesce(base.needed, false))
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_namespace n ON n.oid = t.typnamespace
JOIN LATERAL (
    WITH RECURSIVE beneath (oid, modifier) AS (
        SELECT t.oid, a.atttypmod
        UNION ALL SELECT d.typbasetype, greatest(b.modifier, d.typtypmod)
        FROM beneath b JOIN pg_type d ON d.oid = b.oid WHERE d.typtype = 'd')
    SELECT p.typname, p.typcategory, p.typtype, p.typelem, b.modifier,
        (SELECT bool_or(d.typnotnull) FROM beneath c JOIN pg_type d ON d.oid = c.oid) AS needed
    FROM beneath b JOIN pg_type p ON p.oid = b.oid WHERE p.typtype <> 'd') base ON true
LEFT JOIN LATERAL (
    WITH RECURSIVE beneath (oid) AS (
        SELECT base.typelem UNION ALL SELECT d.typbasetype
        FROM beneath b JOIN pg_type d ON d.oid = b.oid WHERE d.typtype = 'd')
    SELECT p.typname FROM beneath b JOIN pg_type p ON p.oid = b.oid WHERE p.typtype <> 'd') element ON true
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum"""
_UNIQUE: Final = """SELECT i.indisprimary, array_agg(a.attname ORDER BY k.n)
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisunique AND i.indimmediate AND i.indisvalid AND NOT i.indisexclusion
    AND i.indpred IS NULL AND k.n <= i.indnkeyatts
    AND (i.indcollation::oid[])[k.n - 1] IN (0, a.attcollation)
GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts HAVING count(*) = i.indnkeyatts"""
_NEAR_UNIQUES: Final = """SELECT c.relname,
    array(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attnum > 0),
    CASE WHEN NOT i.indisvalid THEN 'is not valid: REINDEX INDEX ' || c.relname
        WHEN i.indisexclusion THEN 'is WITHOUT OVERLAPS'
        WHEN NOT i.indimmediate THEN 'is deferrable'
        WHEN i.indpred IS NOT NULL THEN 'is partial'
        WHEN i.indexprs IS NOT NULL THEN 'is over an expression'
        ELSE 'has another collation than the column' END
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND i.indisunique AND (NOT i.indisvalid OR i.indisexclusion OR NOT i.indimmediate
    OR i.indpred IS NOT NULL OR i.indexprs IS NOT NULL
    OR EXISTS (SELECT FROM unnest(i.indcollation::oid[], i.indkey::int2[]) AS k(own, attnum)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.own NOT IN (0, a.attcollation)))
ORDER BY 1"""
_POLICIES: Final = """SELECT FROM pg_policy p WHERE p.polrelid = %s AND (0 = ANY (p.polroles)
    OR EXISTS (SELECT FROM unnest(p.polroles) AS r(role) WHERE r.role <> 0 AND pg_has_role(r.role, 'USAGE')))"""
_SECURED: Final = f"""SELECT row_security_active(%s::oid)
    AND NOT (EXISTS ({_POLICIES} AND p.polpermissive AND p.polcmd = '*'
        AND pg_get_expr(p.polqual, p.polrelid) = 'true'
        AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true')
    AND NOT EXISTS ({_POLICIES} AND NOT p.polpermissive))"""
"""A policy that lets the role see and write everything is as good as none."""
_RULES: Final = """SELECT rulename FROM pg_rewrite
WHERE ev_class = %s AND ev_type <> '1' AND ev_enabled IN ('O', 'A') ORDER BY 1"""
_INHERITING: Final = """SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = %s AND NOT c.relispartition ORDER BY 1"""


@dataclass(frozen=True, eq=False)
class TargetTable:
    """`uniques` are the column sets that ON CONFLICT can name. Tables of smaller `rank` are written first.

    `ties` are those to other tables of the routes, as far as somebody looked for them. `near_uniques` are unique
    indexes that it cannot name: their names, columns and why. `secured`: row security hides rows from the role.
    `inheriting` are tables made by INHERITS, whose rows are the table's too.
    """

    schema: str
    name: str
    columns: dict[str, TargetColumn]
    primary_key: tuple[str, ...]
    uniques: frozenset[frozenset[str]]
    rank: int = 0
    ties: TableDependencies = FREE
    triggers: tuple[Trigger, ...] = ()
    near_uniques: tuple[tuple[str, tuple[str, ...], str], ...] = ()
    secured: bool = False
    rules: tuple[str, ...] = ()
    inheriting: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> ParameterSafeIdentifier:
        return ParameterSafeIdentifier(self.schema, self.name)

    @cached_property
    def alias(self) -> sql.SQL:
        """What its row is called in statements."""
        return alias_beside(self.columns)

    @property
    def reluctance(self) -> str:
        """Why a statement may have left a row alone that it should have written."""
        refusing = ", ".join(trigger.name for trigger in self.triggers if trigger.can_refuse)
        identity = ", ".join(name for name, column in self.columns.items() if column.identity == "a")
        why = [f"trigger {refusing} returned NULL"] if refusing else []
        why += [f"{identity}, GENERATED ALWAYS AS IDENTITY, is another in the row there"] if identity else []
        return ", or ".join(why) or "a rule or row security kept it out"

    @cached_property
    def required(self) -> frozenset[str]:
        return frozenset(name for name, column in self.columns.items() if column.required)

    @cached_property
    def overriding(self) -> bool:
        """Whether an insert must say that it means the identity it gives."""
        return any(column.identity == "a" for column in self.columns.values())


def split_name(table: str) -> tuple[str, str]:
    schema, dot, name = table.partition(".")
    return (schema, name) if dot else ("public", schema)


def read_table(connection: Connection, table: str) -> TargetTable | None:
    """Return the table as it is now, None if there is none."""
    schema, name = split_name(table)
    quoted = sql.Identifier(schema, name).as_string(connection)
    oid = _one(connection, _TABLE, quoted)
    if oid is None:
        return None
    columns = {
        str(row[0]): TargetColumn(str(row[0]), (row[1], row[2]), *row[3:])
        for row in connection.execute(_COLUMNS, (oid,))
    }
    indexes = connection.execute(_UNIQUE, (oid,)).fetchall()
    primary = next((tuple(columns) for is_primary, columns in indexes if is_primary), ())
    uniques = frozenset(frozenset(columns) for _, columns in indexes)
    triggers = tuple(Trigger(*row) for row in connection.execute(TRIGGERS, (oid, oid)))
    near = tuple((name, tuple(columns), why) for name, columns, why in connection.execute(_NEAR_UNIQUES, (oid,)))
    secured = bool(_one(connection, _SECURED, oid, oid, oid))
    rules = tuple(str(name) for (name,) in connection.execute(_RULES, (oid,)))
    inheriting = tuple(str(name) for (name,) in connection.execute(_INHERITING, (oid,)))
    return TargetTable(
        schema,
        name,
        columns,
        primary,
        uniques,
        triggers=triggers,
        near_uniques=near,
        secured=secured,
        rules=rules,
        inheriting=inheriting,
    )


def _one(connection: Connection, query: str, *parameters: Any) -> Any:
    row = connection.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]


def key_columns(route: Route, table: TargetTable) -> tuple[str, ...]:
    """Return the columns that identify a row."""
    return tuple(route.key) or table.primary_key


def tables_now(connection: Connection, routes: list[Route]) -> dict[str, TargetTable | None]:
    """Return the tables of all routes by their names there, None for one that is gone."""
    tables = {route.table: read_table(connection, route.table) for route in routes}
    connection.rollback()
    return tables

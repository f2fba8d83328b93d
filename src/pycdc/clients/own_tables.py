"""Whether a table of pycdc's own is that: whose it is, and of which version.

A table that is there is used as it is. A stranger's would run his triggers as our role, and hold what he likes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.errors import EnvironmentNotReady

_OWNER: Final = """SELECT o.rolname::text, o.rolsuper
    OR o.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    OR pg_catalog.pg_has_role(current_user, o.oid, 'MEMBER')
    OR o.oid = ANY (SELECT relowner FROM pg_catalog.pg_class
        WHERE oid = ANY (SELECT pg_catalog.to_regclass(name) FROM pg_catalog.unnest(%s::text[]) AS u(name)))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
WHERE c.oid = pg_catalog.to_regclass(%s::text)"""
_COLUMNS: Final = """SELECT attname::text, pg_catalog.format_type(atttypid, NULL),
    attnotnull AND NOT atthasdef AND attidentity = ''
FROM pg_catalog.pg_attribute
WHERE attrelid = pg_catalog.to_regclass(%s::text) AND attnum > 0 AND NOT attisdropped"""
_DECLARED: Final = re.compile(
    r'^\s+"?(\w+)"? (text\[\]|bytea\[\]|text|integer|bigint|bytea|jsonb|pg_lsn|timestamptz|boolean|xid)', re.M
)
_LONG: Final = {"timestamptz": "timestamp with time zone"}


def columns_of(create: str) -> dict[str, str]:
    """Return the columns that a CREATE TABLE of pycdc's declares, with the catalog's names for their types."""
    return {name: _LONG.get(kind, kind) for name, kind in _DECLARED.findall(create)}


def require_ours(
    connection: psycopg.Connection[Any],
    table: sql.Identifier,
    columns: Mapping[str, str],
    written: Collection[str] = (),
) -> None:
    """Raise EnvironmentNotReady where `table` is a stranger's, or is not made of `columns`.

    `written` are quoted names of tables that the role writes: their owners' triggers run as our role in any case.
    """
    name = table.as_string(connection)
    row = connection.execute(_OWNER, (list(written), name)).fetchone()
    if row is not None and not row[1]:
        owner = sql.Identifier(row[0]).as_string(connection)
        raise EnvironmentNotReady(
            f"table {name} belongs to role {row[0]}, whose triggers on it would run as this role",
            hint=f"ALTER TABLE {name} OWNER TO the role that pycdc has, or to the database's owner; where {row[0]} is "
            f"trusted, GRANT {owner} TO the role",
        )
    found = connection.execute(_COLUMNS, (name,)).fetchall()
    there = {column: kind for column, kind, _ in found}
    wrong = sorted(column for column, kind in columns.items() if there.get(column) != kind)
    wrong += sorted(column for column, _, needed in found if needed and column not in columns)
    if wrong:
        raise EnvironmentNotReady(
            f"table {name} is not of this version of pycdc: see its columns {', '.join(wrong)}",
            hint="upgrade pycdc to the version that made it, or move the table away and let pycdc make it anew",
        )

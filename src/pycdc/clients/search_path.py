"""Whose operators, functions and types a statement finds: `search_path`, pinned for each session.

Names are looked up along the path, and what fits the types of the arguments best is taken, wherever it lies: an
operator ``=(varchar, varchar)`` in a schema on the path is preferred to the catalog's ``=(text, text)``. So whoever may
create in a schema on the path runs code as our role (CVE-2018-1058). `pg_catalog` comes first, the session's temporary
schema last, and between them is no schema that a stranger may write: sessions that run no triggers of tables have none,
the others those of the role or of `sink.postgres.search_path`.

Strangers are all roles but superusers, the database's owner, our own role, and the owners of the tables that are
written, whose triggers run as our role anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from pycdc.errors import EnvironmentNotReady

_OWN: Final = ("pg_catalog", "pg_temp")
_CURRENT: Final = "SELECT pg_catalog.current_schemas(false)::pg_catalog.text[]"
_SET: Final = "SELECT pg_catalog.set_config('search_path', {}, false)"
"""Without a parameter: replication connections know the simple protocol only."""
_STRANGERS: Final = """WITH trusted AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolsuper OR rolname IN (current_user, 'pg_database_owner')
    UNION ALL SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
    UNION ALL SELECT c.relowner FROM pg_catalog.pg_class c
    WHERE c.oid = ANY (SELECT pg_catalog.to_regclass(name) FROM pg_catalog.unnest(%s::text[]) AS u(name)))
SELECT n.nspname::text, pg_catalog.array_agg(DISTINCT coalesce(r.rolname::text, ''))
FROM pg_catalog.pg_namespace n
CROSS JOIN LATERAL (
    SELECT n.nspowner AS role
    UNION SELECT a.grantee
    FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) AS a
    WHERE a.privilege_type = 'CREATE') AS w
LEFT JOIN pg_catalog.pg_roles r ON r.oid = w.role
WHERE n.nspname = ANY (%s::text[]) AND w.role NOT IN (SELECT oid FROM trusted)
GROUP BY n.nspname ORDER BY n.nspname"""
"""Parameters: quoted names of tables, schemas."""


_UNREACHABLE: Final = """SELECT DISTINCT n.nspname::text, t.typname::text
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
JOIN pg_catalog.pg_type d ON d.oid = a.atttypid
JOIN pg_catalog.pg_type t ON t.oid = CASE WHEN d.typtype = 'd' THEN d.typbasetype ELSE d.oid END
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE i.indisunique AND t.typtype = 'b' AND t.typcategory <> 'A'
    AND n.nspname <> 'pg_catalog' AND n.nspname <> ALL (%s::text[])
    AND i.indrelid = ANY (SELECT pg_catalog.to_regclass(name) FROM pg_catalog.unnest(%s::text[]) AS u(name))
ORDER BY 1, 2"""
"""Types of keys that have operators of their own. Parameters: schemas, quoted names of tables."""
_OPTION: Final = "sink.postgres.search_path"


class PathProblem(NamedTuple):
    """What is wrong with a path, and what to do."""

    fact: str
    remedy: str


def pin(connection: psycopg.Connection[Any], schemas: Sequence[str] = ()) -> None:
    """Set the path for the session: the catalog, `schemas`, and temporary tables last."""
    path = ", ".join(["pg_catalog", *map(_quoted, schemas), "pg_temp"])
    connection.execute(sql.SQL(_SET).format(sql.Literal(path)))


def schemas_of_role(connection: psycopg.Connection[Any]) -> list[str]:
    """Return what the session's path holds, before it is pinned."""
    row = connection.execute(_CURRENT).fetchone()
    return [] if row is None else [name for name in row[0] if name not in _OWN]


def problems(connection: psycopg.Connection[Any], schemas: Sequence[str], tables: Sequence[str]) -> list[PathProblem]:
    """Why statements that write `tables` (quoted names) must not run with this path. The catalog's is in effect."""
    found = [
        _writable(schema, roles) for schema, roles in connection.execute(_STRANGERS, (list(tables), list(schemas)))
    ]
    for schema, name in connection.execute(_UNREACHABLE, (list(schemas), list(tables))):
        found.append(
            PathProblem(
                f"keys have the type {schema}.{name}, and the schema with its operators is not on the search_path",
                f"add {schema} to {_OPTION}",
            )
        )
    return found


def _writable(schema: str, roles: list[str]) -> PathProblem:
    """Return the problem of a schema that `roles` may write in; "" among them is PUBLIC."""
    everybody = "" in roles
    who = "every role" if everybody else ", ".join(roles)
    grantees = "PUBLIC" if everybody else ", ".join(map(_quoted, roles))
    return PathProblem(
        f"schema {schema} is on the search_path, and {who} may create in it what statements would run",
        f"REVOKE CREATE ON SCHEMA {_quoted(schema)} FROM {grantees} (an owner: ALTER SCHEMA … OWNER TO), or set "
        f"{_OPTION} to the schemas that the tables' triggers need, [] for none",
    )


def refuse(found: Sequence[PathProblem]) -> None:
    """Raise EnvironmentNotReady where there are any."""
    if found:
        raise EnvironmentNotReady("; ".join(one.fact for one in found), hint="; ".join(one.remedy for one in found))


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)

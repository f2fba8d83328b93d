"""Whether settings keep the role from writing, which no waiting mends. A standby is an outage, and no case of it."""

from __future__ import annotations

from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.errors import EnvironmentNotReady

_SETTING: Final = """SELECT source, current_user, current_database() FROM pg_catalog.pg_settings
WHERE name = 'default_transaction_read_only' AND setting = 'on' AND NOT pg_catalog.pg_is_in_recovery()"""
_RESET: Final = {
    "user": "ALTER ROLE {role} RESET default_transaction_read_only",
    "database": "ALTER DATABASE {database} RESET default_transaction_read_only",
    "database user": "ALTER ROLE {role} IN DATABASE {database} RESET default_transaction_read_only",
    "client": "remove default_transaction_read_only from the options of sink.postgres.dsn",
}
_OF_SERVER: Final = "ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf(), or in postgresql.conf"


def read_only(connection: Connection) -> tuple[str, str] | None:
    """Return the fact and its remedy where a setting makes transactions of the role read-only."""
    row = connection.execute(_SETTING).fetchone()
    if row is None:
        return None
    source, role, database = row
    names = {"role": sql.Identifier(role).as_string(None), "database": sql.Identifier(database).as_string(None)}
    remedy = _RESET.get(source, _OF_SERVER).format(**names)
    return f"default_transaction_read_only is on for role {role}, which may write nothing then", remedy


def require_writable(connection: Connection) -> None:
    """Raise EnvironmentNotReady where the role's settings let it write nothing."""
    found = read_only(connection)
    if found is not None:
        raise EnvironmentNotReady(found[0], hint=found[1])

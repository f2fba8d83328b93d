"""Conditions on rows that others write, for `pycdc snapshot --where` and signals: one expression, and nothing else.

Whoever may send a signal has the pipeline's role run its condition. It is sent by the extended protocol, which takes
one statement, and has to stand in two places, within parentheses and behind CASE WHEN: what closes a parenthesis that
it did not open does not stand in the second, what has a THEN of its own does not stand in the first, and a list or a
query stands in one of them only. What stands in both is one expression, by the server's own grammar.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.errors import ConfigError, EnvironmentNotReady

_PLACES: Final = ("EXPLAIN SELECT FROM {} WHERE ({}\n)", "EXPLAIN SELECT CASE WHEN\n{}\nTHEN true END FROM {}")
_CHECK_SECONDS: Final = 10.0
_HINT: Final = "write what may follow WHERE; functions and types that are not built in need their schema"


def check_condition(dsn: str, schema: str, name: str, where: str, role: str | None = None) -> None:
    """Raise ConfigError where `where` is no condition on the table's rows, for `role` if that is told."""
    with connect_to_source(dsn, seconds=_CHECK_SECONDS) as connection:
        try:
            connection.execute("BEGIN READ ONLY")
            confine(connection, role, _CHECK_SECONDS)
            require_condition(connection, schema, name, where)
        except psycopg.Error as error:
            raise source_error(error) from None


def confine(connection: Connection, role: str | None, seconds: float) -> None:
    """Until the end of the transaction, have a role's rights, if one is told, and little time. Raises psycopg.Error."""
    connection.execute(f"SET LOCAL statement_timeout = {int(seconds * 1000)}".encode())
    if role is None:
        return
    try:
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.InsufficientPrivilege):
        raise EnvironmentNotReady(
            f"signals.filter_role: {role} is no role that the pipeline's role is a member of",
            hint=f"GRANT {sql.Identifier(role).as_string(None)} TO the pipeline's role",
        ) from None


def require_condition(connection: Connection, schema: str, name: str, where: str) -> None:
    """Raise ConfigError where `where` is not one condition, psycopg.Error where the server cannot say."""
    if "\0" in where:
        raise _refused(schema, name, "", "it holds a zero byte")
    table = sql.Identifier(schema, name).as_string(None)
    inside, alone = _PLACES[0].format(table, where), _PLACES[1].format(where, table)
    for command in (inside, alone):
        result = connection.pgconn.exec_params(command.encode("utf-8", "replace"), None)
        if result.status == ExecStatus.TUPLES_OK:
            continue
        error = psycopg.errors.error_from_result(result)
        if source_error(error).retry:
            raise error
        raise _refused(schema, name, error.sqlstate or "", error.diag.message_primary or "it cannot be planned")


def _refused(schema: str, name: str, state: str, why: str) -> ConfigError:
    state_text = f" (SQLSTATE {state})" if state else ""
    return ConfigError(f"the condition does not fit {schema}.{name}{state_text}: {why}", hint=_HINT)

"""A condition over the columns that are compared, of the user's own words: `--where`."""

from __future__ import annotations

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import words_of
from pycdc.errors import ConfigError
from pycdc.operations.verify.feeds import Unit


def require_condition(connection: Connection, unit: Unit, where: str) -> None:
    """Raise ConfigError where the rows of a table cannot be asked for the condition."""
    if unit.obstacle is not None:
        raise ConfigError(
            f"no condition can be put on table {unit.target}, whose rows go through code: {unit.obstacle}",
            hint="leave it out with --table, or verify it without --where",
        )
    query = sql.SQL("SELECT FROM (SELECT {} FROM {}) AS {} WHERE {} LIMIT 0").format(
        sql.SQL(", ").join(map(sql.Identifier, unit.columns)),
        sql.Identifier(unit.target.schema, unit.target.name),
        sql.Identifier(unit.target.name),
        condition(where),
    )
    try:
        connection.execute(query, prepare=True)  # which takes one statement, whatever the condition says
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        raise ConfigError(
            f"--where cannot be asked of table {unit.target}: {words_of(error)}",
            hint="name columns of the target that are compared, as SQL has them",
        ) from None


def condition(where: str) -> sql.Composable:
    """Return it as SQL."""
    return sql.SQL("({}\n)").format(sql.SQL(where))

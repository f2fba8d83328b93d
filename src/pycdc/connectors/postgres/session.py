"""Connections to the source: one set of session settings.

Every connection, replication or not, pins what the text of a value depends on, so that the stream and the snapshot
write the same bytes. SET after connecting outranks the DSN's `options`, libpq's PG* environment and ALTER ROLE … SET.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from pycdc.postgres import client
from pycdc.postgres.faults import Meaning, translate

__all__ = ["Connection", "Meaning", "connect", "leave_text_raw", "translate"]

Connection = psycopg.Connection[Any]

_SETTINGS: Final = {
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
_SETTINGS_17: Final = {"transaction_timeout": "0"}


def connect(dsn: str, *, replication: bool = False) -> Connection:
    """Open a connection in autocommit. Raises ConfigError, EnvironmentNotReady or ConnectionLost."""
    try:
        connection: Connection = client.connect(
            dsn,
            "the source's dsn",
            defaults={"fallback_application_name": "pycdc", **({"replication": "database"} if replication else {})},
            autocommit=True,
            prepare_threshold=None,
        )
    except psycopg.Error as error:
        raise translate(error) from None
    try:
        _pin(connection)
    except psycopg.Error as error:
        connection.close()
        raise translate(error) from None
    return connection


def _pin(connection: Connection) -> None:
    version = connection.info.server_version
    settings = _SETTINGS | (_SETTINGS_17 if version >= 170_000 else {})
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    connection.execute(f"SELECT {calls}".encode())


def leave_text_raw(connection: Connection) -> None:
    """Receive the texts of a database in SQL_ASCII as they are, where Postgres would refuse what is not UTF-8.

    psycopg then returns text as bytes: for connections that go on to read rows only.
    """
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.execute("SELECT set_config('client_encoding', 'SQL_ASCII', false)")

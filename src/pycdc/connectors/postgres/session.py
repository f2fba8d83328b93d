"""Connections to the source: one set of session settings, and one table from Postgres' errors to ours.

Every connection, replication or not, pins what the text of a value depends on, so that the stream and the snapshot
write the same bytes. SET after connecting outranks the DSN's `options`, libpq's PG* environment and ALTER ROLE … SET.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import conninfo

from pycdc.errors import (
    ConfigError,
    ConnectionLost,
    ConversionError,
    EnvironmentNotReady,
    PositionGap,
    PycdcError,
    SlotActive,
)

Connection = psycopg.Connection[Any]

OLDEST_VERSION: Final = 140_000
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
_DEFAULTS: Final = {
    "fallback_application_name": "pycdc",
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""A silent peer is noticed within a minute. What the DSN sets stays."""


def connect(dsn: str, *, replication: bool = False) -> Connection:
    """Open a connection in autocommit. Raises ConfigError, EnvironmentNotReady or ConnectionLost."""
    try:
        parameters: dict[str, Any] = {**_DEFAULTS, **conninfo.conninfo_to_dict(dsn)}
    except psycopg.ProgrammingError:
        # libpq's message quotes the DSN, and with it the password.
        raise ConfigError(
            "the source's dsn is not a connection string that libpq understands",
            hint="write `host=… dbname=… user=…` or `postgresql://user@host/database`, special characters %-encoded",
        ) from None
    if replication:
        parameters["replication"] = "database"
    parameters["client_encoding"] = "UTF8"
    try:
        connection = psycopg.connect(**parameters, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise translate(error) from None
    try:
        _pin(connection)
    except psycopg.Error as error:
        connection.close()
        raise translate(error) from None
    except PycdcError:
        connection.close()
        raise
    return connection


def _pin(connection: Connection) -> None:
    version = connection.info.server_version
    if version < OLDEST_VERSION:
        raise EnvironmentNotReady(
            f"the server is Postgres {version // 10_000}, and 14 is the oldest that pycdc reads",
            hint="upgrade the server",
        )
    settings = _SETTINGS | (_SETTINGS_17 if version >= 170_000 else {})
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    connection.execute(f"SELECT {calls}".encode())


def leave_text_raw(connection: Connection) -> None:
    """Receive the texts of a database in SQL_ASCII as they are, where Postgres would refuse what is not UTF-8.

    psycopg then returns text as bytes: for connections that go on to read rows only.
    """
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.execute("SELECT set_config('client_encoding', 'SQL_ASCII', false)")


class Meaning(NamedTuple):
    """What an error is to us. `fact` takes the place of the server's words where those do not help."""

    kind: type[PycdcError]
    hint: str
    fact: str = ""


_NOT_UTF8: Final = Meaning(
    ConversionError,
    "mend the text at the source; for a database in SQL_ASCII, values.encoding_errors: replace goes on without it",
    "a row holds text that is not UTF-8",
)
_OF_A_VALUE: Final = Meaning(
    ConversionError,
    "the server's log names the value: correct it, or the publication's row filter that cannot take it",
    "the server cannot process a value of a row",
)
"""Class 22, whose messages quote the value."""
_BY_STATE: Final[dict[str, Meaning]] = {
    "08": Meaning(ConnectionLost, ""),
    "22": _OF_A_VALUE,
    "22021": _NOT_UTF8,
    "28": Meaning(EnvironmentNotReady, "check user and password in the dsn, and the server's pg_hba.conf"),
    "3D000": Meaning(EnvironmentNotReady, "check the database's name in the dsn"),
    "40": Meaning(ConnectionLost, ""),
    "42501": Meaning(EnvironmentNotReady, "grant the role what it lacks: `pycdc doctor` prints the statements"),
    "42704": Meaning(EnvironmentNotReady, "create it: `pycdc doctor` prints the statements"),
    "42P01": Meaning(EnvironmentNotReady, "check the table's name, or remove it from the configuration"),
    "53300": Meaning(ConnectionLost, "raise max_connections or max_wal_senders, or close other connections"),
    "53400": Meaning(EnvironmentNotReady, "raise max_replication_slots (needs a restart), or drop slots not in use"),
    "53": Meaning(ConnectionLost, "free the resource that the server ran out of"),
    "55006": Meaning(SlotActive, "stop the other session, or choose another slot"),
    "55P03": Meaning(ConnectionLost, ""),
    "57": Meaning(ConnectionLost, ""),
    "58P01": Meaning(PositionGap, "drop the slot and take a new snapshot"),
}
"""By SQLSTATE, or by its first two characters."""

_BY_WORDS: Final[tuple[tuple[str, Meaning], ...]] = (
    # Starting up, shutting down, in recovery, not yet accepting connections: before the words about a database.
    ("the database system is ", _BY_STATE["57"]),
    ("too many connections for ", _BY_STATE["53300"]),
    (
        "no pg_hba.conf entry",
        Meaning(EnvironmentNotReady, "add a line for this database, user and address to pg_hba.conf, and reload"),
    ),
    ("authentication failed", _BY_STATE["28"]),
    ("no password supplied", _BY_STATE["28"]),
    ("superuser or replication role", Meaning(EnvironmentNotReady, "ALTER ROLE … REPLICATION")),
    ("permission denied to start WAL sender", Meaning(EnvironmentNotReady, "ALTER ROLE … REPLICATION")),
    ("role ", _BY_STATE["28"]),
    ("database ", _BY_STATE["3D000"]),
    ("does not support SSL", Meaning(EnvironmentNotReady, "turn on ssl at the server, or change sslmode in the dsn")),
    ("certificate", Meaning(EnvironmentNotReady, "check sslrootcert, sslcert and sslkey in the dsn")),
)
"""libpq tells no SQLSTATE where connecting fails; what matches none of these words is retried, and the first
that matches counts."""

_TOO_LONG: Final = Meaning(
    ConversionError,
    "shorten the value, drop the slot and take a new snapshot; exclude tables that hold such values",
    "a row holds a value whose text is longer than the 1 GB that Postgres can send (bytea beyond 512 MB)",
)
_WAL_LEVEL: Final = Meaning(EnvironmentNotReady, "ALTER SYSTEM SET wal_level = 'logical', then restart the server")


def translate(error: psycopg.Error, special: Mapping[str, Meaning] | None = None) -> PycdcError:
    """The pycdc error for a driver's error. `special` goes before the table, by SQLSTATE.

    Only the primary message is taken over, and not that of a data exception: DETAIL and CONTEXT may hold values too.
    """
    state = error.sqlstate
    words = _words(error)
    meaning = _meaning(state, words, special or {})
    suffix = f" (SQLSTATE {state})" if state and (not meaning.fact or meaning is _OF_A_VALUE) else ""
    return meaning.kind((meaning.fact or words) + suffix, hint=meaning.hint)


def _words(error: psycopg.Error) -> str:
    if error.diag.message_primary:
        return error.diag.message_primary
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]


def _meaning(state: str | None, words: str, special: Mapping[str, Meaning]) -> Meaning:
    if state is None:
        found = [meaning for fragment, meaning in _BY_WORDS if "FATAL" in words and fragment in words]
        found += [meaning for fragment, meaning in _BY_WORDS[-2:] if fragment in words]
        return found[0] if found else Meaning(ConnectionLost, "")
    if state == "XX000" and "invalid memory alloc request size" in words:
        return _TOO_LONG
    if state == "55000" and "wal_level" in words:
        return _WAL_LEVEL
    for table in (special, _BY_STATE):
        meaning = table.get(state) or table.get(state[:2])
        if meaning:
            return meaning
    return Meaning(EnvironmentNotReady, "look for the cause in the server's log")

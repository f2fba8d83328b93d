"""What the errors of Postgres and libpq mean: one table for everybody who talks to a server.

Rules:

1. A fault of the configuration (TLS, user, database, privileges) is final, with its remedy; an outage is waited for.
2. Without a SQLSTATE, an error is an outage where the connection broke, or where connecting failed for none of the
   reasons that trying again cannot mend. What the driver refuses to send is none. Where a server refuses a connection
   in words that tell nothing here, `refusal` asks for its SQLSTATE.
3. Only the primary message is taken over, and not that of a data exception: DETAIL and CONTEXT may hold values too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import psycopg

from pycdc.errors import (
    ConfigError,
    ConnectionLost,
    ConversionError,
    EnvironmentNotReady,
    PositionGap,
    ProtocolViolation,
    PycdcError,
    SlotActive,
)


class ErrorMeaning(NamedTuple):
    """What an error is to us. `fact` takes the place of the server's words where those do not help."""

    kind: type[PycdcError]
    hint: str
    fact: str = ""


_NOT_UTF8: Final = ErrorMeaning(
    ConversionError,
    "mend the text at the source; for a database in SQL_ASCII, values.encoding_errors: replace goes on without it",
    "a row holds text that is not UTF-8",
)
_OF_A_VALUE: Final = ErrorMeaning(
    ConversionError,
    "the server's log names the value: correct it, or the publication's row filter that cannot take it",
    "the server cannot process a value of a row",
)
"""Class 22, whose messages quote the value."""
_BY_STATE: Final[dict[str, ErrorMeaning]] = {
    "08": ErrorMeaning(ConnectionLost, ""),
    "08P01": ErrorMeaning(ProtocolViolation, "look for a proxy or pooler between pycdc and the server, and in its log"),
    "22": _OF_A_VALUE,
    "22021": _NOT_UTF8,
    "25006": ErrorMeaning(ConnectionLost, "the server takes no writes: name the primary in the dsn"),
    "25P03": ErrorMeaning(ConnectionLost, ""),
    "25P04": ErrorMeaning(ConnectionLost, ""),
    "28": ErrorMeaning(EnvironmentNotReady, "check user and password in the dsn, and the server's pg_hba.conf"),
    "3D000": ErrorMeaning(EnvironmentNotReady, "check the database's name in the dsn"),
    "40": ErrorMeaning(ConnectionLost, ""),
    "42501": ErrorMeaning(EnvironmentNotReady, "grant the role what it lacks: `pycdc doctor` prints the statements"),
    "42704": ErrorMeaning(EnvironmentNotReady, "create it: `pycdc doctor` prints the statements"),
    "42P01": ErrorMeaning(EnvironmentNotReady, "check the table's name, or remove it from the configuration"),
    "53300": ErrorMeaning(
        ConnectionLost,
        "raise max_connections, max_wal_senders, or the CONNECTION LIMIT of the role or the database, whichever is "
        "reached; or close other connections",
    ),
    "53400": ErrorMeaning(
        EnvironmentNotReady, "raise max_replication_slots (needs a restart), or drop slots not in use"
    ),
    "53": ErrorMeaning(ConnectionLost, "free the resource that the server ran out of"),
    "55006": ErrorMeaning(SlotActive, "stop the other session, or choose another slot"),
    "55P03": ErrorMeaning(ConnectionLost, ""),
    "57": ErrorMeaning(ConnectionLost, ""),
    "58P01": ErrorMeaning(PositionGap, "drop the slot and take a new snapshot"),
}
"""By SQLSTATE, or by its first two characters. A caller's `special` goes before."""

_TLS: Final = ErrorMeaning(
    EnvironmentNotReady,
    "check sslmode, sslrootcert, sslcert and sslkey in the dsn, and the server's certificate; sslrootcert=system "
    "needs SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt in the environment",
)
_NO_OPTION: Final = ErrorMeaning(ConfigError, "correct the option in the dsn; libpq's manual lists the values it takes")

_BY_WORDS: Final[tuple[tuple[str, ErrorMeaning], ...]] = (
    # Starting up, shutting down, in recovery, not yet accepting connections: before the words about a database.
    ("the database system is ", _BY_STATE["57"]),
    ("too many connections for ", _BY_STATE["53300"]),
    (
        "no pg_hba.conf entry",
        ErrorMeaning(EnvironmentNotReady, "add a line for this database, user and address to pg_hba.conf, and reload"),
    ),
    ("authentication failed", _BY_STATE["28"]),
    ("no password supplied", _BY_STATE["28"]),
    ("superuser or replication role", ErrorMeaning(EnvironmentNotReady, "ALTER ROLE … REPLICATION")),
    ("permission denied to start WAL sender", ErrorMeaning(EnvironmentNotReady, "ALTER ROLE … REPLICATION")),
    ("role ", _BY_STATE["28"]),
    ("permission denied for database", ErrorMeaning(EnvironmentNotReady, "GRANT CONNECT ON DATABASE … TO the role")),
    ("database ", _BY_STATE["3D000"]),
    ("certificate", _TLS),
)
"""What a server says that ends the connection; the first that matches counts, and what matches none is retried."""

_BY_LIBPQ: Final[tuple[tuple[re.Pattern[str], ErrorMeaning], ...]] = (
    # A peer that went away in the middle of a handshake or of a session.
    (re.compile(r"SSL SYSCALL|unexpected eof|SSL connection has been closed"), _BY_STATE["08"]),
    (
        re.compile(r"does not support SSL"),
        ErrorMeaning(EnvironmentNotReady, "turn on ssl at the server, or change sslmode in the dsn"),
    ),
    (re.compile(r"certificate|private key|SSL error|SSL context|GSSAPI|GSS |channel binding"), _TLS),
    (re.compile(r"no password supplied|password retrieved from file"), _BY_STATE["28"]),
    (
        re.compile(r"COMMIT got no answer"),
        ErrorMeaning(
            ConnectionLost, "look for SyncRep in pg_stat_activity: a standby of synchronous_standby_names is away"
        ),
    ),
)
"""What libpq itself says where connecting fails. It tells no SQLSTATE."""

_OF_OPTIONS: Final = re.compile(r"connection is bad: (?!connection to server|could not connect)|could not match \d+")
"""libpq did not even try."""

_TOO_LONG: Final = ErrorMeaning(
    ConversionError,
    "shorten the value, drop the slot and take a new snapshot; exclude tables that hold such values",
    "a row holds a value whose text is longer than the 1 GB that Postgres can send (bytea beyond 512 MB)",
)
_WAL_LEVEL: Final = ErrorMeaning(EnvironmentNotReady, "ALTER SYSTEM SET wal_level = 'logical', then restart the server")
_LOST: Final = ErrorMeaning(ConnectionLost, "")


def translate(
    error: psycopg.Error, special: Mapping[str, ErrorMeaning] | None = None, *, where: str = "", remedy: str = ""
) -> PycdcError:
    """Return the pycdc error for a driver's error.

    `special` goes before the table, by SQLSTATE. `where` begins the message: whose server it is. `remedy` stands where
    the table has none.
    """
    state = error.sqlstate
    words = words_of(error)
    meaning = _meaning(error, state, words, special or {})
    suffix = f" (SQLSTATE {state})" if state and (not meaning.fact or meaning is _OF_A_VALUE) else ""
    fact = (meaning.fact or words) + suffix
    return meaning.kind(f"{where}: {fact}" if where else fact, hint=meaning.hint or remedy)


class TableLocked(ConnectionLost):
    """Somebody has a lock, or waits for one, that a statement needs; or asked for one that ours held too long."""


_AT_SOURCE: Final = {
    "55P03": ErrorMeaning(TableLocked, "wait until the transaction that has the lock has ended"),
    "57014": ErrorMeaning(TableLocked, "a statement_timeout of the server or the role may be too short"),
}
_SOURCE_AWAY: Final = "check that the server of source.postgres.dsn runs and can be reached"


def source_error(
    error: psycopg.Error, special: Mapping[str, ErrorMeaning] | None = None, *, where: str = ""
) -> PycdcError:
    """Return what `translate` does, for the database that changes are captured from."""
    return translate(error, {**_AT_SOURCE, **(special or {})}, where=where, remedy=_SOURCE_AWAY)


RETRYABLE: Final = ("40001", "40P01", "55P03")

OUTAGES: Final = ("08", "25006", "25P03", "25P04", "53", "57", "58")

OF_STATEMENTS: Final = ("0A", "25", "26", "28", "3D", "3F", "42", "55")
"""Codes or their classes. Not a row's, as long as no trigger or function is at work."""


def has_state(state: str, codes: tuple[str, ...]) -> bool:
    return state in codes or state[:2] in codes


_DOCTOR: Final = "`pycdc doctor` compares the routes with the tables"

_AT_TARGET: Final = {
    "42501": ErrorMeaning(
        EnvironmentNotReady, "GRANT SELECT, INSERT, UPDATE, DELETE on the table to the role of sink.postgres.dsn"
    ),
    **{code: ErrorMeaning(EnvironmentNotReady, _DOCTOR) for code in ("0A", "26", "3F", "42704", "42P01", "55006")},
}


def target_error(error: psycopg.Error) -> PycdcError:
    """Return the error for what is no row's fault, of the database that rows are written into."""
    state = error.sqlstate
    if state and not has_state(state, OUTAGES + OF_STATEMENTS + RETRYABLE):
        # Words of any other kind may hold values.
        return EnvironmentNotReady(f"the database refuses a statement: {described(error)}", hint=_DOCTOR)
    remedy = "check sink.postgres.dsn, and that the server runs" if state is None else _DOCTOR
    return translate(error, _AT_TARGET, where="the database of sink.postgres", remedy=remedy)


def described(error: BaseException) -> str:
    """Return what the server objects to, by names and codes only: its words may hold values of rows."""
    if not isinstance(error, psycopg.Error):
        return f"a value cannot be sent to the database ({type(error).__name__})"
    if error.sqlstate is None:
        return words_of(error)
    diag = error.diag
    names = {"table": diag.table_name, "column": diag.column_name, "constraint": diag.constraint_name}
    told = ", ".join(f"{what} {name}" for what, name in names.items() if name)
    kind = type(error).__name__
    return f"{kind} (SQLSTATE {error.sqlstate}){': ' + told if told else ''}"


def words_of(error: psycopg.Error) -> str:
    """One line of what the server or libpq says."""
    if error.diag.message_primary:
        return error.diag.message_primary
    if error.sqlstate is None and not isinstance(error, _OF_CONNECTIONS):
        return f"the driver does not send a statement ({type(error).__name__})"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]


_OF_CONNECTIONS: Final = (psycopg.OperationalError, psycopg.InterfaceError)
_REFUSAL: Final = re.compile(r"failed: [^\s:]+( [^\s:]+)?:  ")
"""What libpq writes before a server's words: severity, colon, two spaces."""
_ATTEMPT: Final = re.compile(r"^(?:- host: .*?: )?connection .*failed: |^connection to server .*: |^- host", re.M)


def _meaning(error: psycopg.Error, state: str | None, words: str, special: Mapping[str, ErrorMeaning]) -> ErrorMeaning:
    if state is None:
        if not isinstance(error, _OF_CONNECTIONS):
            return ErrorMeaning(EnvironmentNotReady, "report this with the log: nothing of the statement was done")
        return _of_connecting(str(error).strip())
    if state == "XX000" and "invalid memory alloc request size" in words:
        return _TOO_LONG
    if state == "55000" and "wal_level" in words:
        return _WAL_LEVEL
    return special.get(state) or special.get(state[:2]) or _of_state(state)


def _of_state(state: str) -> ErrorMeaning:
    found = _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    return found or ErrorMeaning(EnvironmentNotReady, "look for the cause in the server's log")


def is_unclear_refusal(error: psycopg.Error) -> bool:
    """Whether servers refused to connect, in words that tell nothing, such as those of another language."""
    lines = _attempts(str(error).strip())
    refused = error.sqlstate is None and all(_REFUSAL.search(line) for line in lines)
    return refused and _of_connecting("\n".join(lines)) is _LOST


def hopeful(states: Sequence[str]) -> str:
    """Return the one SQLSTATE that counts of several servers' answers: all have to be beyond hope."""
    passing = (state for state in states if _of_state(state).kind is ConnectionLost)
    return next(passing, states[0])


def _attempts(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if _ATTEMPT.match(line)] or lines[:1]


def _of_connecting(text: str) -> ErrorMeaning:
    """Of several hosts that were tried, all have to be beyond hope."""
    found = [_of_words(line) for line in _attempts(text)]
    return next((meaning for meaning in found if meaning.kind is ConnectionLost), found[0] if found else _LOST)


def _of_words(words: str) -> ErrorMeaning:
    if _OF_OPTIONS.match(words):
        return _NO_OPTION
    if "FATAL" in words:
        return next((meaning for fragment, meaning in _BY_WORDS if fragment in words), _LOST)
    said = words.rpartition("failed: ")[2]
    return next((meaning for pattern, meaning in _BY_LIBPQ if pattern.search(said)), _LOST)

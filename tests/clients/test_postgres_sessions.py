"""Driver errors become ours: what is retried, what to do about the rest, and never a row's value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pycdc.clients.postgres_errors import ErrorMeaning, TableLocked, source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.errors import (
    ConnectionLost,
    ConversionError,
    EnvironmentNotReady,
    PositionGap,
    PycdcError,
    SlotActive,
)


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def raised(state: str, message: str = "it failed") -> psycopg.Error:
    """An error as a server with that SQLSTATE raises it, DETAIL and all."""
    error = psycopg.errors.lookup(state)(message)
    assert error.sqlstate == state
    return error


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("55006", SlotActive),
        ("57P01", ConnectionLost),
        ("57P03", ConnectionLost),
        ("08006", ConnectionLost),
        ("40001", ConnectionLost),
        ("53100", ConnectionLost),
        ("53300", ConnectionLost),
        ("53400", EnvironmentNotReady),
        ("28P01", EnvironmentNotReady),
        ("28000", EnvironmentNotReady),
        ("3D000", EnvironmentNotReady),
        ("42501", EnvironmentNotReady),
        ("58P01", PositionGap),
        ("XX000", EnvironmentNotReady),
    ],
)
def test_a_sqlstate_has_one_meaning(state: str, kind: type[PycdcError]) -> None:
    ours = source_error(raised(state))
    assert type(ours) is kind
    assert ours.fact == f"it failed (SQLSTATE {state})"
    assert ours.retry or ours.hint


@pytest.mark.parametrize(
    ("state", "fact"),
    [
        ("22P02", "the server cannot process a value of a row (SQLSTATE 22P02)"),
        ("22021", "a row holds text that is not UTF-8"),
    ],
)
def test_a_data_exception_does_not_quote_its_value(state: str, fact: str) -> None:
    ours = source_error(raised(state, 'invalid input syntax for type integer: "123-45-6789"'))
    assert (type(ours), ours.fact) == (ConversionError, fact)


def test_a_more_particular_meaning_goes_first() -> None:
    ours = source_error(raised("42704"), {"42704": ErrorMeaning(PositionGap, "take a new snapshot")})
    assert (type(ours), ours.hint) == (PositionGap, "take a new snapshot")


def test_an_error_without_sqlstate_is_a_lost_connection() -> None:
    ours = source_error(psycopg.OperationalError("server closed the connection unexpectedly\n\tThis probably means …"))
    assert (type(ours), ours.fact) == (ConnectionLost, "server closed the connection unexpectedly")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ('FATAL:  no pg_hba.conf entry for replication connection from host "10.0.0.1"', "pg_hba.conf"),
        ('FATAL:  password authentication failed for user "cdc"', "user and password"),
        ('FATAL:  role "cdc" does not exist', "user and password"),
        ('FATAL:  database "shop" does not exist', "database's name"),
        ("FATAL:  must be superuser or replication role to start walsender", "REPLICATION"),
        ("FATAL:  permission denied to start WAL sender", "REPLICATION"),
        ("server does not support SSL, but SSL was required", "sslmode"),
        ("SSL error: certificate verify failed", "sslrootcert"),
    ],
)
def test_a_refused_connection_names_its_remedy(words: str, remedy: str) -> None:
    ours = source_error(
        psycopg.OperationalError(f'connection failed: connection to server at "db", port 5432 failed: {words}')
    )
    assert type(ours) is EnvironmentNotReady
    assert remedy in ours.hint


@pytest.mark.parametrize(
    "words",
    [
        "the database system is starting up",
        "the database system is shutting down",
        "the database system is in recovery mode",
        "the database system is not yet accepting connections",
        "the database system is not accepting connections",
        'too many connections for database "shop"',
        'too many connections for role "cdc"',
        "sorry, too many clients already",
    ],
)
def test_a_server_that_has_no_room_or_is_not_ready_yet_is_tried_again(words: str) -> None:
    at = 'connection failed: connection to server at "db", port 5432 failed: FATAL:  '
    ours = source_error(psycopg.OperationalError(at + words))
    assert type(ours) is ConnectionLost
    assert ours.retry


def test_a_value_too_long_for_the_server_is_explained() -> None:
    ours = source_error(raised("XX000", "invalid memory alloc request size 1073741825"))
    assert type(ours) is ConversionError
    assert not ours.retry
    assert "512 MB" in ours.fact


def test_wal_that_is_not_logical_is_explained() -> None:
    ours = source_error(raised("55000", "logical decoding requires wal_level >= logical"))
    assert type(ours) is EnvironmentNotReady
    assert "ALTER SYSTEM SET wal_level" in ours.hint


def test_detail_is_left_out_because_it_holds_values(source: psycopg.Connection[Any]) -> None:
    source.execute("CREATE TABLE t (ssn text PRIMARY KEY); INSERT INTO t VALUES ('123-45-6789')")
    with pytest.raises(psycopg.errors.UniqueViolation, match="123-45-6789") as caught:
        source.execute("INSERT INTO t VALUES ('123-45-6789')")
    ours = source_error(caught.value)
    assert "123-45-6789" not in f"{ours} {ours!r}"


def test_what_the_dsn_sets_stays(database: str) -> None:
    mine = "application_name=mine keepalives_idle=7 options='-c wal_sender_timeout=5s'"
    with connect_to_source(f"{database} {mine}") as connection:
        parameters = conninfo_to_dict(connection.info.dsn)
        assert (parameters["application_name"], parameters["keepalives_idle"]) == ("mine", "7")
        assert connection.execute("SHOW wal_sender_timeout").fetchone() == ("5s",)


def test_a_silent_peer_is_noticed_by_default(database: str) -> None:
    with connect_to_source(database) as connection:
        parameters = conninfo_to_dict(connection.info.dsn)
        assert (parameters["keepalives_idle"], parameters["tcp_user_timeout"]) == ("30", "30000")
        assert connection.execute("SHOW application_name").fetchone() == ("pycdc",)


@pytest.mark.parametrize("replication", [False, True])
def test_the_text_of_values_is_pinned_and_a_stream_has_no_time_limit_of_statements(
    source: psycopg.Connection[Any], database: str, replication: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    hostile = "-c statement_timeout=1s -c bytea_output=escape -c search_path=public"
    with connect_to_source(f"{database} options='{hostile}'", replication=replication) as connection:
        for name, value in {
            "DateStyle": "ISO, DMY",  # German's order stays, which matters for input only
            "TimeZone": "UTC",
            "statement_timeout": "0" if replication else "1s",
            "bytea_output": "hex",
            "search_path": "pg_catalog, pg_temp",
            "client_encoding": "UTF8",
        }.items():
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def test_a_statement_has_limits_unless_the_dba_set_shorter_ones(database: str) -> None:
    def limits(options: str) -> list[str]:
        with connect_to_source(f"{database} options='{options}'") as connection:
            names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            return [connection.execute(f"SHOW {name}".encode()).fetchone()[0] for name in names]  # type: ignore[index]

    assert limits("") == ["1min", "500ms", "0"]
    assert limits("-c statement_timeout=2h -c lock_timeout=1min") == ["1min", "500ms", "0"]
    shorter = "-c statement_timeout=1500 -c lock_timeout=20ms -c idle_in_transaction_session_timeout=1h"
    assert limits(shorter) == ["1500ms", "20ms", "1h"]


def test_a_lock_that_somebody_has_is_not_waited_for(database: str) -> None:
    with connect_to_source(database) as other, connect_to_source(database) as connection:
        other.execute("CREATE TABLE public.t (id int)")
        other.execute("BEGIN; LOCK TABLE public.t")
        with pytest.raises(psycopg.errors.LockNotAvailable) as refused:
            connection.execute("SELECT FROM public.t")
        assert isinstance(source_error(refused.value), TableLocked)

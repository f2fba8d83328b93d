"""One table says what an error means, whoever met it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pycdc.clients.postgres_errors import translate
from pycdc.clients.postgres_sessions import connect_to_source, connect_to_target
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady, ProtocolViolation, PycdcError
from pycdc.offsets.postgres import PostgresOffsetStore

User = Callable[[str], Any]
USERS: dict[str, User] = {
    "capture": connect_to_source,
    "apply": connect_to_target,
    "offsets": lambda dsn: PostgresOffsetStore(dsn, "shop").load(),
}
AT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
TRIED = "connection refused\nMultiple connection attempts failed. All failures were:\n"
FINAL = {
    "SSL error: certificate verify failed": "sslrootcert",
    'server certificate for "db" does not match host name "10.0.0.1"': "sslmode",
    'root certificate file "/x" does not exist\nEither provide the file or change sslmode': "sslrootcert",
    'private key file "/x" has group or world access': "sslkey",
    "could not load private key file": "sslkey",
    "SSL error: tlsv1 alert unknown ca": "sslcert",
    "SSL error: sslv3 alert certificate expired": "sslcert",
    "SSL error: unsupported protocol": "sslmode",
    "FATAL:  connection requires a valid client certificate": "sslcert",
    "server does not support SSL, but SSL was required": "sslmode",
    "fe_sendauth: no password supplied": "password",
    'FATAL:  password authentication failed for user "x"': "password",
    'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "x", database "x", no encryption': "pg_hba.conf",
    'FATAL:  database "x" does not exist': "database",
}
PASSING = (
    "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
    "timeout expired",
    "SSL SYSCALL error: EOF detected",
    "SSL SYSCALL error: Connection reset by peer",
    "SSL error: unexpected eof while reading",
    "SSL connection has been closed unexpectedly",
    "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
    "FATAL:  the database system is starting up",
    "FATAL:  sorry, too many clients already",
    "could not receive data from server: Connection timed out",
    "session is read-only",
)


@pytest.fixture(params=USERS)
def meet(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[psycopg.Error], PycdcError]:
    """What a user makes of an error that its connecting meets."""

    def meet(error: psycopg.Error) -> PycdcError:
        def connect(*args: Any, **options: Any) -> Any:
            raise error

        monkeypatch.setattr("pycdc.clients.postgres.Client.connect", connect)
        with pytest.raises(PycdcError) as met:
            USERS[request.param]("host=10.0.0.1 password=canary")
        assert "canary" not in f"{met.value} {met.value!r}"
        return met.value

    return meet


Meet = Callable[[psycopg.Error], PycdcError]


@pytest.mark.parametrize("words", FINAL)
def test_a_fault_of_tls_user_or_database_is_final_for_everybody(meet: Meet, words: str) -> None:
    ours = meet(psycopg.OperationalError(AT + words))
    assert type(ours) is EnvironmentNotReady
    assert FINAL[words] in ours.hint


@pytest.mark.parametrize("words", PASSING)
def test_an_outage_is_waited_for_by_everybody(meet: Meet, words: str) -> None:
    ours = meet(psycopg.OperationalError(AT + words))
    assert type(ours) is ConnectionLost
    assert ours.retry


def test_a_host_that_does_not_answer_may_still_be_the_right_one_of_several(meet: Meet) -> None:
    refused = "- host: 'a', port: '1', hostaddr: '10.0.0.1': " + AT
    wrong = refused + "SSL error: certificate verify failed"
    assert meet(psycopg.OperationalError(f"{AT}{TRIED}{wrong}\n{refused}Connection refused")).retry
    assert not meet(
        psycopg.OperationalError(f"{AT}SSL error: certificate verify failed\n{TRIED}{wrong}\n{wrong}")
    ).retry


@pytest.mark.parametrize("option", ["sslmode=verify-ful", "channel_binding=maybe", "port=70000", "connect_timeout=abc"])
@pytest.mark.parametrize("user", USERS)
def test_an_option_that_libpq_does_not_take_is_a_mistake_in_the_configuration(user: str, option: str) -> None:
    with pytest.raises(ConfigError) as met:
        USERS[user](f"host=127.0.0.1 port=1 dbname=x password=canary {option}")
    assert met.value.hint
    assert "canary" not in str(met.value)


def test_an_address_that_cannot_be_found_or_reached_is_an_outage_for_everybody() -> None:
    for connect in USERS.values():
        for dsn in ("host=127.0.0.1 port=1", "host=/nowhere", "host=nobody.invalid"):
            with pytest.raises(ConnectionLost):
                connect(dsn)


@pytest.mark.parametrize("state", ["08006", "53100", "53300", "57P01", "57P02", "57P03", "40001", "55P03", "25006"])
def test_a_code_of_an_outage_is_one_for_everybody(meet: Meet, state: str) -> None:
    assert isinstance(meet(psycopg.errors.lookup(state)("it failed")), ConnectionLost)


@pytest.mark.parametrize("state", ["28P01", "28000", "3D000", "42501", "42P01", "42703"])
def test_a_code_of_a_wrong_configuration_is_final_for_everybody(meet: Meet, state: str) -> None:
    ours = meet(psycopg.errors.lookup(state)("it failed"))
    assert type(ours) is EnvironmentNotReady
    assert ours.hint


def test_a_violation_of_the_protocol_is_told_from_other_outages() -> None:
    class Violation(psycopg.OperationalError):
        sqlstate = "08P01"

    class Failure(psycopg.OperationalError):
        sqlstate = "08006"

    assert type(translate(Violation("invalid message"))) is ProtocolViolation
    assert type(translate(Failure("connection failure"))) is ConnectionLost

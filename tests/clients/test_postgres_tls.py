"""TLS to Postgres: the right server is trusted, and every wrong one is refused for good, with a remedy."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo, sql

from pycdc.clients.postgres_sessions import connect_to_source as connect_to_source
from pycdc.clients.postgres_sessions import connect_to_target as connect_to_target
from pycdc.errors import EnvironmentNotReady
from pycdc.offsets.postgres import PostgresOffsetStore
from tests.authority import Authority, Files
from tests.clients.postgres_users import SHOW, USERS, met
from tests.reading import wait_for
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.pg("tls")


def load_from(dsn: str) -> None:
    store = PostgresOffsetStore(dsn, "shop")
    try:
        store.load()
    finally:
        store.close()


OPEN: dict[str, Callable[[str], object]] = {
    "capture": lambda dsn: connect_to_source(dsn).close(),
    "stream": lambda dsn: connect_to_source(dsn, replication=True).close(),
    "apply": lambda dsn: connect_to_target(dsn).close(),
    "offsets": load_from,
}


@dataclass
class Secured:
    """A server with TLS, whose certificate can be changed."""

    server: PostgresServer
    database: str
    authority: Authority

    def serve(self, files: Files) -> None:
        for name, path in (("server.crt", files.certificate), ("server.key", files.key)):
            self._place(name, path)
        self.server.psql("SELECT pg_reload_conf()")

    def turn_on(self, files: Files) -> None:
        self._place("ca.crt", self.authority.certificate)
        self.serve(files)
        self.server.configure(ssl="on", ssl_ca_file="ca.crt")

    def dsn(self, **parameters: str) -> str:
        given = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(self.authority.certificate)}
        return conninfo.make_conninfo(self.database, **{**given, **parameters})

    def _place(self, name: str, path: Path) -> None:
        """A file in the server's folder, by its own hand: it may run as another user, elsewhere."""
        text = base64.b64encode(path.read_bytes()).decode()
        command = f"base64 -d > {name}.new && chmod 600 {name}.new && mv {name}.new {name}"
        statement = sql.SQL("COPY (SELECT {}) TO PROGRAM {}").format(sql.Literal(text), sql.Literal(command))
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture
def secured(postgres: PostgresServer, database: str, tmp_path: Path) -> Secured:
    made = Secured(postgres, database, Authority(tmp_path / "ca"))
    made.turn_on(made.authority.issue("server", hosts=("localhost",)))
    return made


def test_with_verify_full_every_connection_is_encrypted_and_to_the_right_server(secured: Secured) -> None:
    for open_one in OPEN.values():
        open_one(secured.dsn())
    with connect_to_source(secured.dsn()) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


@pytest.mark.parametrize("wrong", ["host", "authority", "expired", "no file"])
def test_a_server_that_is_not_the_right_one_is_refused_for_good(secured: Secured, tmp_path: Path, wrong: str) -> None:
    parameters = {}
    if wrong == "host":
        secured.serve(secured.authority.issue("other", hosts=("db.internal",)))
    elif wrong == "authority":
        secured.serve(Authority(tmp_path / "theirs").issue("server", hosts=("localhost",)))
    elif wrong == "expired":
        secured.serve(secured.authority.issue("old", hosts=("localhost",), expired=True))
    else:
        parameters["sslrootcert"] = str(tmp_path / "nowhere.crt")
    for user in (*USERS, *SHOW):
        said = met(user, secured.dsn(**parameters))
        # Of another authority with the same name, OpenSSL may say that the signature fails.
        assert "certificate" in said.fact or "signature failure" in said.fact, user
        assert "sslrootcert" in said.remedy, user
        if said.error is not None:
            assert type(said.error) is EnvironmentNotReady, user


def test_a_role_may_be_known_by_its_certificate(secured: Secured, tmp_path: Path) -> None:
    role = f"certified_{secrets.token_hex(4)}"
    files = secured.authority.issue(role, hosts=())
    stranger = Authority(tmp_path / "theirs").issue(role, hosts=())
    with psycopg.connect(secured.server.dsn(), autocommit=True) as connection, known_by_certificate(connection, role):
        ours = {"user": role, **pair(files)}
        for open_one in OPEN.values():
            open_one(secured.dsn(**ours))
            for given in ({"user": role, "sslcert": str(tmp_path / "none")}, {**ours, **pair(stranger)}):
                with pytest.raises(EnvironmentNotReady) as caught:
                    open_one(secured.dsn(**given))
                assert "sslcert" in caught.value.hint
        files.key.chmod(0o644)
        for open_one in OPEN.values():
            with pytest.raises(EnvironmentNotReady, match="private key") as caught:
                open_one(secured.dsn(**ours))
            assert "sslkey" in caught.value.hint


def pair(files: Files) -> dict[str, str]:
    return {"sslcert": str(files.certificate), "sslkey": str(files.key)}


class known_by_certificate:
    """While entered, `role` is there, and is let in by its certificate only."""

    def __init__(self, connection: psycopg.Connection, role: str) -> None:
        self._connection = connection
        self._role = sql.Identifier(role)
        self._line = f"hostssl all {role} all cert\nhostssl replication {role} all cert\n"
        self._before = ""

    def __enter__(self) -> None:
        row = self._connection.execute("SELECT pg_read_file(current_setting('hba_file'))").fetchone()
        assert row is not None
        self._before = row[0]
        self._connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(self._role))
        self._write(self._line + self._before)

    def __exit__(self, *exc: object) -> None:
        self._write(self._before)
        self._connection.execute(sql.SQL("DROP ROLE {}").format(self._role))

    def _write(self, text: str) -> None:
        encoded = base64.b64encode(text.encode()).decode()
        command = "base64 -d > pg_hba.conf.new && mv pg_hba.conf.new pg_hba.conf"
        self._connection.execute(
            sql.SQL("COPY (SELECT {}) TO PROGRAM {}").format(sql.Literal(encoded), sql.Literal(command))
        )
        before = self._connection.execute("SELECT pg_conf_load_time()").fetchone()
        self._connection.execute("SELECT pg_reload_conf()")
        wait_for(lambda: self._connection.execute("SELECT pg_conf_load_time()").fetchone() != before)

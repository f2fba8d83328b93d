"""What a real server refuses means the same to everybody who connects: final with a remedy, or waited for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import conninfo, sql

from pycdc.errors import ConnectionLost, EnvironmentNotReady, PycdcError
from tests.clients.postgres_users import SHOW, USERS, met
from tests.reading import wait_for
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.pg("newest")

SECRET = "hunter2"


class Place:
    """A database, and a role of its own that may log in with a password."""

    def __init__(self, dsn: str, role: str) -> None:
        self.owner = dsn
        self.role = role
        self.dsn = conninfo.make_conninfo(dsn, user=role, password=SECRET)

    def execute(self, statement: str) -> list[Any]:
        name = sql.Identifier(self.role).as_string(None)
        with psycopg.connect(self.owner, autocommit=True) as connection:
            cursor = connection.execute(statement.replace("{role}", name).encode())
            return cursor.fetchall() if cursor.description else []

    def with_dsn(self, **parameters: str) -> str:
        return conninfo.make_conninfo(self.dsn, **parameters)

    @contextmanager
    def hba(self, change: Callable[[str], str]) -> Iterator[None]:
        """With another pg_hba.conf, which is written through the server itself."""
        [(path, before)] = self.execute(
            "SELECT setting, pg_read_file(setting) FROM pg_settings WHERE name = 'hba_file'"
        )
        self._write(path, change(before))
        try:
            yield
        finally:
            self._write(path, before)

    def _write(self, path: str, text: str) -> None:
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        copy = sql.SQL("COPY (SELECT unnest({}::text[])) TO {} (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')")
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute(copy.format(sql.Literal(lines), sql.Literal(path)))
            before = connection.execute("SELECT pg_conf_load_time()").fetchone()
            connection.execute("SELECT pg_reload_conf()")
            wait_for(lambda: connection.execute("SELECT pg_conf_load_time()").fetchone() != before)

    def without_a_line(self) -> AbstractContextManager[None]:
        [(owner,)] = self.execute("SELECT current_user")
        kinds = ("local {} {}", "host {} {} 127.0.0.1/32", "host {} {} ::1/128")
        ours = [f"{kind.format(what, owner)} trust" for kind in kinds for what in ("all", "replication")]
        return self.hba(lambda before: "\n".join(ours))

    def with_a_password(self) -> AbstractContextManager[None]:
        lines = "".join(f"host {what} {self.role} all scram-sha-256\n" for what in ("all", "replication"))
        return self.hba(lambda before: lines + before)

    @contextmanager
    def after(self, statement: str, undo: str) -> Iterator[None]:
        self.execute(statement)
        try:
            yield
        finally:
            self.execute(undo)


class Refusal(NamedTuple):
    """How it is brought about, with which DSN it is met, and what is said: words of the fact, and of the remedy.

    `spared` are users that the server does not refuse: it counts no walsender for a role's limit.
    """

    begin: Callable[[Place], AbstractContextManager[None]]
    dsn: Callable[[Place], str]
    kind: type[PycdcError]
    words: str
    remedy: str
    spared: frozenset[str] = frozenset()


def nothing(place: Place) -> AbstractContextManager[None]:
    return nullcontext()


def own(place: Place) -> str:
    return place.dsn


REFUSALS = {
    "no line in pg_hba.conf": Refusal(
        lambda place: place.without_a_line(), own, EnvironmentNotReady, "no pg_hba.conf entry", "pg_hba.conf"
    ),
    "a wrong password": Refusal(
        lambda place: place.with_a_password(),
        lambda place: place.with_dsn(password="canary"),
        EnvironmentNotReady,
        "password authentication failed",
        "password",
    ),
    "no password": Refusal(
        lambda place: place.with_a_password(),
        lambda place: conninfo.make_conninfo(place.owner, user=place.role),
        EnvironmentNotReady,
        "no password supplied",
        "password",
    ),
    "no such role": Refusal(
        nothing, lambda place: place.with_dsn(user="nobody_at_all"), EnvironmentNotReady, "does not exist", "user"
    ),
    "a role that may not log in": Refusal(
        lambda place: place.after("ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN"),
        own,
        EnvironmentNotReady,
        "not permitted to log in",
        "user",
    ),
    "no such database": Refusal(
        nothing, lambda place: place.with_dsn(dbname="nowhere_at_all"), EnvironmentNotReady, "does not exist", "name"
    ),
    "a server without SSL": Refusal(
        nothing, lambda place: place.with_dsn(sslmode="require"), EnvironmentNotReady, "SSL", "ssl at the server"
    ),
    "too many connections": Refusal(
        lambda place: place.after("ALTER ROLE {role} CONNECTION LIMIT 0", "ALTER ROLE {role} CONNECTION LIMIT -1"),
        own,
        ConnectionLost,
        "too many connections",
        "CONNECTION LIMIT",
        frozenset({"replication"}),
    ),
    "a server that is away": Refusal(
        nothing, lambda place: place.with_dsn(host="127.0.0.1", port="1"), ConnectionLost, "refused", "check"
    ),
    "a host that is not known": Refusal(
        nothing, lambda place: place.with_dsn(host="nowhere.invalid"), ConnectionLost, "nowhere.invalid", "check"
    ),
}


@pytest.fixture
def place(postgres: PostgresServer, database: str) -> Iterator[Place]:
    place = Place(database, f"refused_{secrets.token_hex(4)}")
    place.execute(f"CREATE ROLE {{role}} LOGIN REPLICATION PASSWORD '{SECRET}'")
    yield place
    place.execute("DROP ROLE {role}")


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_means_the_same_to_everybody(place: Place, name: str) -> None:
    refusal = REFUSALS[name]
    with refusal.begin(place):
        dsn = refusal.dsn(place)
        for user in sorted({*USERS, *SHOW} - refusal.spared):
            said = met(user, dsn)
            assert refusal.words in said.fact, (user, said)
            assert refusal.remedy in said.remedy, (user, said)
            assert SECRET not in f"{said}", user
            assert "canary" not in f"{said}", user
            if said.error is not None:
                assert type(said.error) is refusal.kind, (user, said)
                assert said.error.retry is (refusal.kind is ConnectionLost), (user, said)

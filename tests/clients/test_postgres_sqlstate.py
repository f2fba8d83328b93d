"""What refuses a connection is told by its SQLSTATE, in whatever language the server speaks."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pycdc.clients import postgres_sessions as session
from pycdc.clients.postgres_sqlstate import sqlstates
from pycdc.errors import ConnectionLost, EnvironmentNotReady, PycdcError
from tests.services.postgres import PostgresServer

ANSWERS: dict[str, tuple[str, str, type[PycdcError]]] = {
    "28P01": ("ВАЖНО", "пользователь не прошёл проверку подлинности по паролю", EnvironmentNotReady),
    "3D000": ("FATAL", "Datenbank »nirgends« existiert nicht", EnvironmentNotReady),
    "28000": ("致命的エラー", 'ロール"nobody"は存在しません', EnvironmentNotReady),
    "42501": ("FATAL", "droit refusé pour démarrer le processus d'envoi des WAL", EnvironmentNotReady),
    "57P03": ("FATAL", "le système de bases de données se lance", ConnectionLost),
    "53300": ("FATAL", "tut mir leid, schon zu viele Verbindungen", ConnectionLost),
}
"""SQLSTATE, severity and words, as servers send them."""


@contextmanager
def refusing(state: str) -> Iterator[int]:
    """A port where each connection is refused so."""
    severity, words, _ = ANSWERS[state]
    fields = {"S": severity, "V": "FATAL", "C": state, "M": words, "F": "postinit.c", "L": "1", "R": "InitPostgres"}
    body = b"".join(name.encode() + text.encode() + b"\0" for name, text in fields.items()) + b"\0"
    answer = b"E" + struct.pack("!i", len(body) + 4) + body

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                while (request := connection.recv(4096)) and request[4:8] != b"\0\3\0\0":
                    connection.sendall(b"N")
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(120)


@pytest.mark.skipif(psycopg.pq.version() < 180_000, reason="libpq traces what it receives while it connects from 18 on")
@pytest.mark.parametrize("state", ANSWERS)
def test_a_refusal_in_another_language_is_told_by_its_code(state: str) -> None:
    _, words, kind = ANSWERS[state]
    with refusing(state) as port, pytest.raises(PycdcError) as caught:
        session.connect_to_source(f"host=127.0.0.1 port={port} user=nobody dbname=nirgends password=canary")
    assert type(caught.value) is kind
    assert words in caught.value.fact
    assert state in caught.value.fact
    assert "canary" not in str(caught.value)


@pytest.mark.skipif(psycopg.pq.version() < 180_000, reason="libpq traces what it receives while it connects from 18 on")
def test_of_several_servers_that_refuse_one_that_may_come_back_counts() -> None:
    with refusing("3D000") as one, refusing("57P03") as other, refusing("28P01") as third:
        hopeful = f"host=127.0.0.1,127.0.0.1 port={one},{other} user=nobody dbname=x"
        with pytest.raises(ConnectionLost):
            session.connect_to_source(hopeful)
        with pytest.raises(EnvironmentNotReady):
            session.connect_to_source(f"host=127.0.0.1,127.0.0.1 port={one},{third} user=nobody dbname=x")


@pytest.mark.server
@pytest.mark.postgres
@pytest.mark.skipif(psycopg.pq.version() < 180_000, reason="libpq traces what it receives while it connects from 18 on")
def test_a_real_server_tells_its_code_and_one_that_takes_the_connection_none(postgres: PostgresServer) -> None:
    taken, nowhere, nobody = postgres.dsn(), postgres.dsn("nowhere"), postgres.dsn(user="nobody")
    for dsn, states in ((taken, []), (nowhere, ["3D000"]), (nobody, ["28000"])):
        assert sqlstates(f"words of {dsn}", psycopg.conninfo.conninfo_to_dict(dsn)) == states


def test_nobody_there_has_no_code() -> None:
    assert sqlstates("words", {"host": "127.0.0.1", "port": "1", "user": "x", "dbname": "x"}) == []

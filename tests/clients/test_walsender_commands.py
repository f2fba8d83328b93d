"""A walsender that says nothing: whether it works, or is lost."""

from __future__ import annotations

import pytest

from pycdc.clients.walsender_commands import is_working
from pycdc.errors import ConnectionLost
from tests.connectors.postgres.reading import execute
from tests.connectors.postgres.replication.test_stream import opened, read_until, until
from tests.proxy import Proxy
from tests.services.postgres import PostgresServer, database_name

pytestmark = [pytest.mark.server, pytest.mark.postgres, pytest.mark.pg("newest")]

SUBTRANSACTIONS = """DO $$ BEGIN FOR i IN 1..20000 LOOP
    BEGIN INSERT INTO orders (id) VALUES (i + 1000); EXCEPTION WHEN division_by_zero THEN NULL; END;
END LOOP; END $$"""


@pytest.fixture
def slot(database: str) -> str:
    """Of a database with a table and a publication."""
    name = f"{database_name(database)}_slot"
    execute(database, "CREATE TABLE orders (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE orders")
    execute(database, f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    return name


def test_a_server_that_is_busy_decoding_is_not_lost(
    database: str,
    postgres: PostgresServer,
    postgres_proxy: Proxy,
    slot: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    working = [True] * 3
    monkeypatch.setattr(
        "pycdc.connectors.postgres.replication.stream.is_working", lambda dsn, pid: bool(working and working.pop())
    )
    with opened(postgres.dsn(database_name(database), port=postgres_proxy.port), slot, silence_timeout=1.0) as stream:
        stream.read(10, 1000, 0.1)
        postgres_proxy.blackhole()
        until(lambda: not working, every=lambda: stream.read(10, 1000, 0.2))
        with pytest.raises(ConnectionLost, match="sent nothing"):
            until(lambda: False, every=lambda: stream.read(10, 1000, 0.2))


def test_whether_a_walsender_works_is_told_by_what_it_waits_for(database: str, slot: str) -> None:
    """Each of the 20,000 transactions within one is spilled to a file of its own, and read again."""
    with opened(f"{database} options='-c logical_decoding_work_mem=64kB'", slot) as stream:
        [(pid,)] = execute(database, f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{slot}'")
        until(lambda: not is_working(database, pid), every=lambda: stream.read(10, 1000, 0.1))
        execute(database, SUBTRANSACTIONS)
        until(lambda: is_working(database, pid))
        frames = read_until(stream, lambda frames: len(frames) >= 20_000, seconds=120)
        assert len(frames) >= 20_000
        until(lambda: not is_working(database, pid), every=lambda: stream.read(10, 1000, 0.1))
    assert not is_working(database, pid)
    assert not is_working("host=127.0.0.1 port=1", pid)

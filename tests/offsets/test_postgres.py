from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from pycdc.errors import CheckpointCorrupt, ConnectionLost, EnvironmentNotReady, SinkFenced
from pycdc.offsets.postgres import PostgresOffsetStore
from tests.offsets.contract import OffsetStoreContract, OpenStore, at
from tests.proxy import Proxy
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.pg("newest")


class TestPostgresOffsetStore(OffsetStoreContract):
    @pytest.fixture
    def open_store(self, database: str) -> Iterator[OpenStore]:
        opened: list[PostgresOffsetStore] = []

        def open_one() -> PostgresOffsetStore:
            opened.append(PostgresOffsetStore(database, "shop"))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(database: str) -> Iterator[PostgresOffsetStore]:
    store = PostgresOffsetStore(database, "shop")
    yield store
    store.close()


def test_pipelines_share_a_table(database: str, store: PostgresOffsetStore) -> None:
    store.store(at(1))
    other = PostgresOffsetStore(database, "bank")
    other.store(at(9))
    other.close()
    assert store.load() == at(1)


def test_an_instance_that_was_overtaken_cannot_write(database: str, store: PostgresOffsetStore) -> None:
    store.store(at(10))
    successor = PostgresOffsetStore(database, "shop")
    successor.store(at(20))
    successor.close()
    with pytest.raises(SinkFenced):
        store.store(at(11))
    assert store.load() == at(20)


def test_a_table_may_stand_in_a_schema_and_have_any_name(database: str, connection: psycopg.Connection) -> None:
    connection.execute('CREATE SCHEMA "a;b"')
    store = PostgresOffsetStore(database, "shop", 'a;b.off"sets')
    store.store(at(1))
    assert store.load() == at(1)
    store.close()


def test_looking_does_not_create_the_table(store: PostgresOffsetStore, connection: psycopg.Connection) -> None:
    assert store.load() is None
    store.clear()
    assert connection.execute("SELECT to_regclass('pycdc_offsets')").fetchone() == (None,)


def test_a_damaged_row_is_corrupt(store: PostgresOffsetStore, connection: psycopg.Connection) -> None:
    store.store(at(1))
    connection.execute("UPDATE pycdc_offsets SET checkpoint = replace(checkpoint, '0/1', '0/7')")
    with pytest.raises(CheckpointCorrupt, match="pycdc_offsets"):
        store.load()


def test_stores_are_durable_where_the_database_defaults_to_asynchronous_commits(
    database: str, connection: psycopg.Connection, store: PostgresOffsetStore
) -> None:
    name = connection.info.dbname
    connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    store.store(at(1))
    assert store._connection is not None
    assert store._connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_a_broken_connection_is_an_error_once_and_then_replaced(
    store: PostgresOffsetStore, connection: psycopg.Connection
) -> None:
    store.store(at(1))
    connection.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'pycdc-offsets'"
    )
    with pytest.raises(ConnectionLost) as caught:
        store.store(at(2))
    assert caught.value.retry
    store.store(at(2))
    assert store.load() == at(2)


def test_a_role_that_may_not_create_the_table_is_told_what_to_grant(
    database: str, connection: psycopg.Connection
) -> None:
    connection.execute("CREATE ROLE pycdc_reader LOGIN")
    try:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        dsn = psycopg.conninfo.make_conninfo(database, options="-c role=pycdc_reader")
        store = PostgresOffsetStore(dsn, "shop")
        with pytest.raises(EnvironmentNotReady) as caught:
            store.store(at(1))
        assert "GRANT" in caught.value.hint
        store.close()
    finally:
        connection.execute("DROP ROLE pycdc_reader")


def test_a_server_that_is_not_there_is_a_lost_connection_and_keeps_the_password() -> None:
    store = PostgresOffsetStore("host=127.0.0.1 port=1 dbname=shop password=canary-secret", "shop")
    with pytest.raises(ConnectionLost) as caught:
        store.load()
    assert "canary-secret" not in str(caught.value) + repr(caught.value)


def test_a_silent_database_is_given_up_soon_and_at_once_where_the_pipeline_stops(
    database: str, postgres: PostgresServer, postgres_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.offsets.postgres._SECONDS", 0.5)
    monkeypatch.setattr("pycdc.clients.postgres.STOP_GRACE", 0.2)
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    stopping = threading.Event()
    store = PostgresOffsetStore(postgres.dsn(str(name), port=postgres_proxy.port), "shop", stopping=stopping)
    store.store(at(1))
    postgres_proxy.blackhole()
    with pytest.raises(ConnectionLost, match="no answer within"):
        store.store(at(2))
    postgres_proxy.heal()
    store.store(at(2))
    monkeypatch.setattr("pycdc.offsets.postgres._SECONDS", 60.0)
    store.close()
    store.store(at(3))
    postgres_proxy.blackhole()
    stopping.set()
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="stopped"):
        store.store(at(4))
    assert time.monotonic() - began < 30
    store.close()


def test_a_row_that_somebody_locks_is_given_up_in_time(
    database: str, connection: psycopg.Connection, store: PostgresOffsetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.offsets.postgres._SECONDS", 1.0)
    store.store(at(1))
    with connection.transaction():
        connection.execute("SELECT 1 FROM pycdc_offsets FOR UPDATE")
        with pytest.raises(ConnectionLost):
            store.store(at(2))
    store.store(at(2))

"""A COMMIT that is not answered, because it waits for a synchronous standby that is away: bounded, and no doubt about
what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.publication import alter_publication as publication_change
from pycdc.errors import ConnectionLost
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Lsn, Position
from pycdc.offsets.postgres import PostgresOffsetStore
from tests.connectors.postgres.looping import Looping, config_for
from tests.proxy import Proxy
from tests.reading import wait_for
from tests.services.postgres import PostgresServer
from tests.sinks.postgres.rig import Rig

pytestmark = [pytest.mark.server, pytest.mark.postgres, pytest.mark.pg("newest")]

STANDBY = "synchronous_standby_names"
STOP_SECONDS = 15
"""Five, on a machine that has time."""


def waiting(server: PostgresServer) -> bool:
    return bool(server.psql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    made = Rig(database)
    made.sql("CREATE TABLE items (id int PRIMARY KEY, quantity int)")
    yield made
    made.close()


def at(lsn: int) -> Checkpoint:
    return Checkpoint(Position(Lsn(lsn)), source={"systemid": "1"})


def test_a_position_whose_commit_is_not_answered_is_given_up_in_time_and_read_back(
    database: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.offsets.postgres._SECONDS", 0.5)
    store = PostgresOffsetStore(database, "shop")
    store.store(at(1))
    postgres.configure(**{STANDBY: "nobody"})
    with pytest.raises(ConnectionLost, match="no answer within") as caught:
        store.store(at(2))
    assert STANDBY in caught.value.hint
    # The server committed it, and only the standby lacks it.
    loaded = store.load()
    assert loaded is not None
    assert loaded.position == Position(Lsn(2))
    assert not waiting(postgres)
    postgres.configure(**{STANDBY: ""})
    store.store(at(3))
    store.close()


def test_a_stop_ends_the_wait_for_the_commit_of_a_position(
    database: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.offsets.postgres._SECONDS", 60.0)
    stopping = threading.Event()
    store = PostgresOffsetStore(database, "shop", stopping=stopping)
    store.store(at(1))
    postgres.configure(**{STANDBY: "nobody"})
    stopping.set()
    began = time.monotonic()
    with pytest.raises(ConnectionLost, match="stopped"):
        store.store(at(2))
    assert time.monotonic() - began < STOP_SECONDS
    store.close()


def test_a_commit_of_rows_that_is_not_answered_is_given_up_and_its_rows_are_there_once(
    rig: Rig, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.clients.postgres_sessions._COMMIT_SECONDS", 0.5)
    rig.sql(
        "CREATE TABLE counted (id int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO counted VALUES (NEW.id); RETURN NEW; END'; "
        "CREATE TRIGGER t BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION note()"
    )
    process = rig.process(max_transaction_seconds=0.5)
    postgres.configure(**{STANDBY: "nobody"})
    with pytest.raises(ConnectionLost, match="COMMIT got no answer") as caught:
        process.apply({"id": 1, "quantity": 1})
    assert STANDBY in caught.value.hint
    postgres.configure(**{STANDBY: ""})
    again = rig.process()
    assert again.begins == 1
    assert again.apply({"id": 2, "quantity": 2}) is None
    assert rig.sql("SELECT id FROM counted ORDER BY 1") == [(1,), (2,)]


def test_what_is_committed_at_the_source_waits_for_no_standby(database: str, postgres: PostgresServer) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY); CREATE PUBLICATION shop")
        oid = connection.execute("SELECT 'a'::regclass::oid::int8").fetchone()
    assert oid is not None
    postgres.configure(**{STANDBY: "nobody"})
    done = threading.Thread(
        target=publication_change.change_tables,
        args=(database, "shop"),
        kwargs={"add": [TableRef(oid[0], "public", "a")], "drop": []},
        daemon=True,
    )
    done.start()
    done.join(30)
    assert not done.is_alive()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT tablename FROM pg_publication_tables").fetchall() == [("a",)]


def test_a_pipeline_whose_positions_cannot_be_committed_stops_in_time_and_loses_nothing(
    database: str, postgres: PostgresServer
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
        connection.execute("SET synchronous_commit = local")
        config = config_for(database)
        first, seconds = capture(config, database), 0.0
        with first:
            first.until_streaming()
            first.until(lambda: first.progress.checkpoints >= 2)
            postgres.configure(**{STANDBY: "nobody"})
            connection.execute("INSERT INTO a VALUES (2)")
            wait_for(lambda: waiting(postgres))
            began = time.monotonic()
            first.stop()
            seconds = time.monotonic() - began
        assert seconds < STOP_SECONDS
        assert not waiting(postgres)
        postgres.configure(**{STANDBY: ""})
        connection.execute("INSERT INTO a VALUES (3)")
        with capture(config, database) as second:
            second.until(lambda: any(record.key == {"id": 3} for record in second.records))
        # What the first delivered and the server committed is not delivered again.
        assert [record.key["id"] for record in [*first.records, *second.records]] == [1, 2, 3]


def test_a_capture_whose_server_falls_silent_stops_in_time(
    database: str, postgres: PostgresServer, postgres_proxy: Proxy
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE a (id int PRIMARY KEY)")
    name = str(psycopg.conninfo.conninfo_to_dict(database)["dbname"])
    with capture(config_for(postgres.dsn(name, port=postgres_proxy.port)), database) as running:
        running.until_streaming()
        postgres_proxy.blackhole()
        running.until(lambda: bool(running.progress.outages.lasting))  # the catalog was asked, and does not answer
        began = time.monotonic()
        running.stop()
        assert time.monotonic() - began < STOP_SECONDS


def capture(config: CapturePipeline, database: str) -> Looping:
    stopping = threading.Event()
    return Looping(config, PostgresOffsetStore(database, "shop", stopping=stopping), stopping)

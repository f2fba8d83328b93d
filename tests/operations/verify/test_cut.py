"""The steps of a consistent cut, where their order or their source decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from pycdc.config import validate, validate_capture
from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify import table_comparison, verification
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.result import Verification
from pycdc.operations.verify.verification import Verifier
from tests.chaos.verified_pair import Pair, told
from tests.reading import PATIENCE, wait_for

pytestmark = pytest.mark.pg("newest")

TABLES = "CREATE TABLE t (id int PRIMARY KEY, v text);", "CREATE TABLE t (id int PRIMARY KEY, v text);"


@pytest.fixture
def pair(postgres: Any, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Pair]:
    source, target = postgres.create_database(), postgres.create_database()
    for dsn in (source, target):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = local".encode())
    sink = {"routes": [{"topic": f"{topic_prefix}.public.t", "table": "t"}]}
    tables = (TABLES[0] + "INSERT INTO t VALUES (1, 'one')", TABLES[1])
    with Pair(source, target, kafka.bootstrap, registry.url, topic_prefix, tables=tables, sink=sink) as pair:
        yield pair
    postgres.drop_database(source)
    postgres.drop_database(target)


def test_a_commit_that_is_delivered_before_anybody_sees_it_is_no_difference(pair: Pair, postgres: Any) -> None:
    """It waits for a standby: it is in the WAL, and in Kafka and the target soon, but no snapshot has it yet. That of a
    slot is ordered by the WAL."""
    postgres.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    postgres.psql("SELECT pg_reload_conf()")
    wait_for(lambda: postgres.psql("SHOW synchronous_standby_names") == [("nobody",)])
    held = threading.Thread(
        target=pair.sql, args=(pair.source, "SET synchronous_commit = on; INSERT INTO t VALUES (2, 'two')")
    )
    held.start()
    try:
        wait_for(lambda: pair.sql(pair.target, "SELECT count(*) FROM t") == [(2,)])
        assert pair.sql(pair.source, "SELECT count(*) FROM t") == [(1,)]
        found: list[Verification] = []
        with pair.verifier() as verifier:
            verifying = threading.Thread(target=lambda: found.append(verifier.run()))
            verifying.start()
            verifying.join(1.0)
            postgres.psql("ALTER SYSTEM RESET synchronous_standby_names")
            postgres.psql("SELECT pg_reload_conf()")
            verifying.join(PATIENCE)
    finally:
        postgres.psql("ALTER SYSTEM RESET synchronous_standby_names")
        postgres.psql("SELECT pg_reload_conf()")
        held.join(PATIENCE)
    assert told(found[0]) == []
    assert found[0].tables[0].source_rows == 2


def test_what_a_producer_rolled_back_at_the_end_of_a_topic_is_not_waited_for(pair: Pair) -> None:
    producer = Producer(
        {"bootstrap.servers": pair.capture["sink"]["kafka"]["brokers"], "transactional.id": pair.capture["name"]}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(f"{pair.capture['name']}.public.t", b"never committed", b"key", partition=0)
    producer.flush(20)
    producer.abort_transaction(20)
    with pair.verifier() as verifier:
        found = verifier.run()
        assert told(found) == []
        (point,) = found.points
        assert point.high != point.vector  # the offsets behind the last record hold markers only


def test_an_open_transaction_of_a_producer_is_none_of_the_ends_business(pair: Pair) -> None:
    producer = Producer(
        {"bootstrap.servers": pair.capture["sink"]["kafka"]["brokers"], "transactional.id": pair.capture["name"]}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(f"{pair.capture['name']}.public.t", b"not committed yet", b"key", partition=0)
    producer.flush(20)
    try:
        with pair.verifier() as verifier:
            assert told(verifier.run()) == []
    finally:
        producer.abort_transaction(20)


def test_a_table_that_is_emptied_or_rewritten_is_compared_all_the_same(pair: Pair) -> None:
    with pair.verifier() as verifier:
        pair.sql(pair.source, "ALTER TABLE t ALTER COLUMN v TYPE varchar(30)")
        pair.sql(pair.target, "VACUUM FULL t")
        pair.sql(pair.source, "INSERT INTO t VALUES (3, 'three')")
        found = verifier.run()
        assert told(found) == []
        assert found.tables[0].target_rows + found.tables[0].in_flight == 2


def test_a_capture_that_does_not_run_is_named(pair: Pair) -> None:
    pair.capturing.pipeline.stop()
    wait_for(lambda: pair.sql(pair.source, "SELECT active FROM pg_replication_slots") == [(False,)])
    with pair.verifier(timeout=0.5) as verifier, pytest.raises(EnvironmentNotReady) as caught:
        verifier.run()
    assert "did not confirm" in caught.value.fact
    assert "no capture is connected" in caught.value.fact
    assert "start the capture" in caught.value.hint


def test_a_pipeline_that_does_not_run_is_named(pair: Pair) -> None:
    pair.applying.pipeline.stop()
    wait_for(lambda: pair.applying.pipeline.progress.state != "streaming")
    pair.sql(pair.source, "INSERT INTO t VALUES (7, 'seven')")
    with pair.verifier(timeout=3.0) as verifier, pytest.raises(EnvironmentNotReady) as caught:
        verifier.run()
    assert "makes no progress" in caught.value.fact
    wait_for(lambda: pair.leftovers() == [])


def test_snapshots_that_are_too_old_are_taken_anew_between_ranges(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_comparison, "_RANGE", 350)
    pair.sql(pair.source, "INSERT INTO t SELECT n, 'v' || n FROM generate_series(10, 1500) n; ANALYZE t")
    with pair.verifier(max_snapshot_age=0.0) as verifier:
        assert told(verifier.run()) == []
        pair.sql(pair.target, "UPDATE t SET v = 'x' WHERE id IN (11, 800, 1500); DELETE FROM t WHERE id = 99")
        found = verifier.run()
    assert [(kind, key) for _, kind, key, _ in told(found)] == [
        ("changed", ("11",)),
        ("changed", ("1500",)),
        ("changed", ("800",)),
        ("missing", ("99",)),
    ]
    assert len(found.points) == found.tables[0].ranges > 2
    assert found.tables[0].source_rows == 1492


def test_a_cut_with_many_events_in_flight_is_taken_anew(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the capture has caught up for it, there are fewer: none of them is left to compare one by one."""
    monkeypatch.setattr(verification, "_MANY_EVENTS", 100)
    pair.capturing.pipeline.stop()
    wait_for(lambda: pair.sql(pair.source, "SELECT active FROM pg_replication_slots") == [(False,)])
    pair.sql(pair.source, "INSERT INTO t SELECT n, 'v' || n FROM generate_series(10, 1500) n")
    heard: list[str] = []

    def tell(text: str) -> None:
        heard.append(text)
        if text.startswith("waits for the capture") and len(heard) < 5:
            pair.start_capture()

    options = VerifyOptions(capture=validate_capture(pair.capture), timeout=PATIENCE)
    with Verifier(validate(pair.apply), options, tell) as verifier:
        found = verifier.run()
    assert (found.equal, found.tables[0].source_rows + found.tables[0].in_flight) == (True, 1492)
    assert found.tables[0].in_flight < 100
    assert any("events lie between the snapshots" in text for text in heard)


def test_a_sample_compares_some_ranges_and_says_so(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_comparison, "_RANGE", 100)
    pair.sql(pair.source, "INSERT INTO t SELECT n, 'v' || n FROM generate_series(10, 1500) n; ANALYZE t")
    with pair.verifier(sample=0.3, max_rate=100_000) as verifier:
        found = verifier.run()
    (table,) = found.tables
    assert told(found) == []
    assert 0 < table.source_rows < 1000
    assert table.notes[0].startswith("a sample: ")


def test_only_the_columns_that_were_asked_for_are_compared(pair: Pair) -> None:
    pair.sql(pair.target, "UPDATE t SET v = 'x'")
    with pair.verifier(columns=("id",)) as verifier:
        found = verifier.run()
    assert told(found) == []
    assert found.tables[0].not_compared == {"v": "it was not asked for"}


def test_a_sequence_that_the_rows_left_behind_is_named(pair: Pair) -> None:
    pair.sql(pair.target, "CREATE SEQUENCE s OWNED BY t.id; ALTER TABLE t ALTER COLUMN id SET DEFAULT nextval('s')")
    pair.sql(pair.source, "INSERT INTO t VALUES (40, 'forty')")
    with pair.verifier() as verifier:
        found = verifier.run()
        assert (found.equal, len(found.tables[0].notes)) == (True, 1)
        assert "sequence public.s is behind column id" in found.tables[0].notes[0]
        pair.sql(pair.target, "SELECT setval('s', 40)")
        assert verifier.run().tables[0].notes == []

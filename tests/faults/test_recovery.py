"""Faults of the servers: what passes is mended, and nothing is lost or out of order."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from tests.faults.harness import Rig, Writer, assert_order_and_identity, replayed
from tests.reading import wait_for

RECONNECTS = 8


def test_a_terminated_walsender_is_replaced(rig: Rig) -> None:
    process = rig.start(rig.config())
    with Writer(rig.dsn):
        for _ in range(RECONNECTS):
            rig.wait_for_more(100)
            rig.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE active_pid IS NOT NULL AND database = current_database()"
            )
        rig.wait_for_more(100)
    expected = rig.finish()
    process.stop()
    records = rig.records()
    assert replayed(records) == expected
    assert_order_and_identity(records, deliveries=RECONNECTS + 1)


def test_an_immediate_stop_of_the_server_under_load_is_survived(rig: Rig, postgres: Any) -> None:
    process = rig.start(rig.config())
    with Writer(rig.dsn):
        for _ in range(2):
            rig.wait_for_more(100)
            postgres.restart_immediate()
        rig.wait_for_more(100)
    expected = rig.finish()
    process.stop()
    records = rig.records()
    assert replayed(records) == expected
    assert_order_and_identity(records, deliveries=4)


@pytest.mark.pg("==15")
@pytest.mark.exclusive
@pytest.mark.slow
def test_a_broker_that_is_away_for_thirty_seconds_costs_neither_rows_nor_memory(rig: Rig, kafka: Any) -> None:
    process = rig.start(rig.config())
    with Writer(rig.dsn):
        rig.wait_for_more(200)
        kafka.pause()
        try:
            time.sleep(30)
        finally:
            kafka.resume()
        rig.wait_for_more(200)
        assert process.alive(), process.log
        peak = process.peak_rss_mb()
    expected = rig.finish(180)
    process.stop()
    records = rig.records()
    assert replayed(records) == expected
    assert_order_and_identity(records, deliveries=3)
    assert peak < 250, f"{peak} MB"


@pytest.mark.pg("==15")
def test_a_transaction_that_commits_while_pycdc_is_down_is_not_lost(rig: Rig) -> None:
    config = rig.config()
    process = rig.start(config)
    rig.finish()  # the slot is there: making it would wait for the transaction that begins now
    with psycopg.connect(rig.dsn) as long:
        long.execute("INSERT INTO items VALUES (5000, 1)")
        rig.execute("INSERT INTO items VALUES (5001, 1)")
        rig.execute("INSERT INTO items VALUES (5002, 1)")
        wait_for(lambda: {5001, 5002} <= set(replayed(rig.records())))
        process.stop()
        long.execute("INSERT INTO items VALUES (5003, 1)")
        long.commit()
    rig.execute("INSERT INTO items VALUES (5004, 1)")
    process = rig.start(config)
    expected = rig.finish()
    process.stop()
    assert replayed(rig.records()) == expected
    assert {5000, 5003} <= expected.keys()


@pytest.mark.pg("==15")
def test_copied_rows_that_share_an_lsn_are_all_there_after_a_restart_among_them(rig: Rig) -> None:
    config = rig.config(source={"max_batch_changes": 1})
    process = rig.start(config)
    rig.finish()
    for round_ in range(3):
        with (
            psycopg.connect(rig.dsn, autocommit=True) as connection,
            connection.cursor().copy("COPY items (id, v) FROM STDIN") as copy,
        ):
            for number in range(50):
                copy.write_row((6000 + round_ * 100 + number, 0))
        process.kill()
        process = rig.start(config)
    expected = rig.finish()
    process.stop()
    assert replayed(rig.records()) == expected


@pytest.mark.pg("==15")
def test_sigterm_under_load_loses_and_repeats_nothing(rig: Rig) -> None:
    config = rig.config()
    with Writer(rig.dsn):
        for _ in range(4):
            process = rig.start(config)
            rig.wait_for_more(150)
            process.stop()
        process = rig.start(config)
    expected = rig.finish()
    process.stop()
    records = rig.records()
    assert replayed(records) == expected
    assert_order_and_identity(records, deliveries=1)


def test_an_idle_slot_advances_while_another_table_is_written(rig: Rig) -> None:
    rig.execute("CREATE TABLE elsewhere (id int)")
    process = rig.start(rig.config(source={"tables": ["items", "finish"]}, checkpoint={"interval": 0.05}))
    rig.finish()

    def confirmed() -> Any:
        query = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()"
        return rig.execute(query)[0][0]

    before = confirmed()
    rig.execute("INSERT INTO elsewhere SELECT generate_series(1, 20000)")
    after = rig.execute("SELECT pg_current_wal_lsn()")[0][0]
    wait_for(lambda: rig.execute(f"SELECT '{confirmed()}'::pg_lsn >= '{after}'::pg_lsn")[0][0])
    assert confirmed() != before
    process.stop()

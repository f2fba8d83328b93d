"""Prepared transactions come at COMMIT PREPARED, once, wherever the pipeline is killed in between."""

from __future__ import annotations

from threading import Event

import psycopg
import pytest

from tests.faults.harness import Rig
from tests.faults.test_streaming import EVERY, ROUNDS, assert_exact, configured, rig, started, write_and_kill
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

__all__ = ["rig"]


def prepare(rig: Rig, gid: str, seq: int) -> None:
    """Write a row, and prepare that it is committed."""
    with psycopg.connect(rig.dsn, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute(
            "WITH made AS (INSERT INTO entries (seq) VALUES (%s) RETURNING *) "
            "INSERT INTO expected (tbl, op, change) SELECT 'entries', 'c', to_jsonb(made) FROM made",
            [seq],
        )
        connection.execute(f"PREPARE TRANSACTION '{gid}'".encode())


def commit(rig: Rig, kafka: KafkaAddress, seq: int) -> None:
    """Write a row, and wait until it is delivered."""
    prepare(rig, f"{rig.name}-{seq}", seq)
    rig.execute(f"COMMIT PREPARED '{rig.name}-{seq}'")
    mark = f'"seq":{seq},'.encode()
    looks = Event()

    def delivered() -> bool:
        looks.wait(0.1)  # each look is a new consumer
        return any(mark in (message.value() or b"") for message in kafka.consume_all(f"{rig.name}.public.entries"))

    wait_for(delivered)


def confirmed_behind(rig: Rig, lsn: str) -> bool:
    return bool(rig.execute(f"SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots")[0][0])


@pytest.mark.pg(EVERY if ROUNDS else "newest")
def test_a_crash_between_prepare_and_commit_loses_and_doubles_nothing(rig: Rig, kafka: KafkaAddress) -> None:
    """The server sends what was prepared again only from before its PREPARE: it is kept there until the commit."""
    config = configured(rig, "exactly_once", two_phase=True, streaming=False)
    process = started(rig, config)
    commit(rig, kafka, 1)
    before = rig.execute("SELECT pg_current_wal_lsn()")[0][0]
    for gid in ("kept", "dropped", "later"):
        prepare(rig, f"{rig.name}-{gid}", 100)
    after = rig.execute("SELECT pg_current_wal_lsn()")[0][0]
    commit(rig, kafka, 2)
    process.kill()
    process = rig.start(config)
    commit(rig, kafka, 3)
    assert not confirmed_behind(rig, after)
    rig.execute(f"ROLLBACK PREPARED '{rig.name}-dropped'")
    rig.execute(f"COMMIT PREPARED '{rig.name}-kept'")
    commit(rig, kafka, 4)
    process.kill()
    process = rig.start(config)
    rig.execute(f"COMMIT PREPARED '{rig.name}-later'")
    assert_exact(rig, kafka, once=True)
    process.stop()
    assert confirmed_behind(rig, before)


@pytest.mark.pg(EVERY if ROUNDS else "==15")
def test_what_is_prepared_comes_once_wherever_the_pipeline_is_killed(rig: Rig, kafka: KafkaAddress) -> None:
    """Some of it streamed, some rolled back, among transactions that are not prepared."""
    process = write_and_kill(rig, configured(rig, "exactly_once", two_phase=True), prepares=True)
    assert_exact(rig, kafka, once=True)
    process.stop()


@pytest.mark.pg("newest")
def test_what_was_prepared_before_the_option_was_set_or_after_it_was_taken_back_comes_too(
    rig: Rig, kafka: KafkaAddress
) -> None:
    """For the slot it cannot be taken back: the server goes on to send what is prepared."""
    on, off = {"two_phase": True, "streaming": False}, {"two_phase": False, "streaming": False}
    process = started(rig, configured(rig, "exactly_once", **off))
    prepare(rig, f"{rig.name}-early", 100)
    commit(rig, kafka, 1)
    process.stop()
    process = rig.start(configured(rig, "exactly_once", **on))
    commit(rig, kafka, 2)
    process.stop()
    process = rig.start(configured(rig, "exactly_once", **off))
    prepare(rig, f"{rig.name}-late", 101)
    commit(rig, kafka, 3)
    rig.execute(f"COMMIT PREPARED '{rig.name}-early'")
    rig.execute(f"COMMIT PREPARED '{rig.name}-late'")
    assert_exact(rig, kafka, once=True)
    process.stop()

"""Transactions that the server sends while they are in progress, on real servers, wherever the pipeline is killed.

`make chaos-streaming` writes and kills for longer, with each delivery on each Postgres.
"""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

from tests.faults.harness import Process, Rig
from tests.faults.nested_transactions import CAPTURED, TABLES, Writers, differences, found
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

ROUNDS = int(os.environ.get("PYCDC_STREAMING_ROUNDS", "0"))
"""Kills, on each Postgres with each delivery; 0: one, and each Postgres once."""
SEED = int(os.environ.get("PYCDC_CHAOS_SEED", "1"))
EVERY = ">=15"
STREAMED = "SELECT coalesce(sum(stream_txns), 0) FROM pg_stat_replication_slots"


@pytest.fixture
def rig(database: str, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    """A server that streams what exceeds 64 kB, without a registry."""
    small = make_conninfo(database, options="-c logical_decoding_work_mem=64kB")
    rig = Rig(small, kafka.bootstrap, "http://127.0.0.1:9", topic_prefix, tmp_path)
    rig.execute(TABLES)
    yield rig
    rig.close()


def configured(rig: Rig, delivery: str, **source: Any) -> Path:
    (rig.folder / "spool").mkdir(exist_ok=True)
    options = {
        "snapshot": "never",
        "tables": CAPTURED,
        "streaming": True,
        "spool_memory": 65_536,
        "spool_folder": str(rig.folder / "spool"),
        "max_batch_changes": 200,
        **source,
    }
    kafka = {"format": "json", "delivery": delivery, "transaction_changes": 500}
    return rig.config(source=options, kafka=kafka, envelope={"skip": []})


def started(rig: Rig, config: Path) -> Process:
    process = rig.start(config)
    wait_for(lambda: rig.execute("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"))
    return process


def all_is_confirmed(rig: Rig) -> bool:
    """Whether the pipeline says that it delivered what is committed by now."""
    return bool(rig.execute("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn >= pg_current_wal_lsn()"))


def assert_exact(rig: Rig, kafka: KafkaAddress, *, once: bool) -> None:
    """Brokers still mark partitions for a moment after a transaction has ended: so what is missing is waited for."""
    wait_for(lambda: all_is_confirmed(rig))
    left: dict[str, int] = {}

    def nothing_is_missing() -> bool:
        nonlocal left
        left = differences(rig.dsn, found(kafka, rig.name), once=once)
        return not {"missing", "too few"} & left.keys()

    wait_for(nothing_is_missing)
    assert left == {}


def write_and_kill(rig: Rig, config: Path, *, prepares: bool = False) -> Process:
    """What is left is the pipeline that was started last."""
    dice = random.Random(SEED)
    process = started(rig, config)
    with Writers(rig.dsn, SEED, prepares=prepares):
        for _ in range(ROUNDS or 1):
            time.sleep(dice.uniform(0.2, 3.0 if ROUNDS else 1.2))
            process.kill()
            process = rig.start(config)
    return process


def delivers_exactly(rig: Rig, kafka: KafkaAddress, delivery: str) -> None:
    process = write_and_kill(rig, configured(rig, delivery))
    assert_exact(rig, kafka, once=delivery == "exactly_once")
    process.stop()
    assert rig.execute(STREAMED)[0][0] > 0
    assert list((rig.folder / "spool").iterdir()) == []


@pytest.mark.pg(EVERY if ROUNDS else "!=16")
def test_what_is_committed_comes_once_wherever_the_pipeline_is_killed(rig: Rig, kafka: KafkaAddress) -> None:
    """With savepoints that are rolled back, DDL, truncates and messages in transactions that overlap."""
    delivers_exactly(rig, kafka, "exactly_once")


@pytest.mark.pg(EVERY if ROUNDS else "==16")
def test_what_is_committed_comes_and_nothing_else_wherever_the_pipeline_is_killed(
    rig: Rig, kafka: KafkaAddress
) -> None:
    delivers_exactly(rig, kafka, "at_least_once")


@pytest.mark.pg(EVERY if ROUNDS else "newest")
def test_what_the_server_cannot_tell_before_the_commit_comes_at_the_commit(rig: Rig, kafka: KafkaAddress) -> None:
    """Messages behind savepoints that are rolled back, and tables that are altered there."""
    process = started(rig, configured(rig, "exactly_once"))
    with Writers(rig.dsn, SEED, wild=True):
        wait_for(lambda: "is off until the next start" in process.log)
        time.sleep(0.5)
    assert_exact(rig, kafka, once=True)
    process.stop()


@pytest.mark.pg("newest")
def test_a_full_disk_stops_the_pipeline_with_a_remedy_and_loses_nothing(rig: Rig, kafka: KafkaAddress) -> None:
    config = configured(rig, "exactly_once")
    process = started(rig, config)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (30_000, 30_000))
    rig.execute("INSERT INTO entries (seq, pad) SELECT i, gen_random_uuid() FROM generate_series(1, 5000) AS i")
    rig.execute("INSERT INTO expected (tbl, op, change) SELECT 'entries', 'c', to_jsonb(entries) FROM entries")
    assert process.wait() == 1, process.log
    assert "File too large" in process.log
    assert "try: free space there" in process.log
    assert found(kafka, rig.name) == []
    heir = rig.start(config)
    wait_for(lambda: all_is_confirmed(rig))
    wait_for(lambda: len(found(kafka, rig.name)) == 5_000)
    heir.stop()

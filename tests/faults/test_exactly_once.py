"""A read_committed consumer finds each committed change once, wherever the pipeline died."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.conftest import TABLES as HARNESS_TABLES
from tests.faults.harness import Process, Rig
from tests.faults.ledger import TABLES, LedgerWriter, delivered, half_visible, is_complete, missing_and_phantoms, write
from tests.faults.process import TRANSACTION_POINTS
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

POINTS = sorted(
    {
        "after frames were read",
        "before a batch is serialised",
        "after a batch was serialised",
        "after a batch was written",
        "after the acknowledgement",
        *TRANSACTION_POINTS,
    }
)
BROKER_KILLS = int(os.environ.get("PYCDC_BROKER_KILLS", "2"))
SEEDS = range(int(os.environ.get("PYCDC_EXACTLY_ONCE_ROUNDS", "1")))


def configured(rig: Rig, delivery: str, **sections: Any) -> Path:
    rig.execute(TABLES)
    source = {"snapshot": "never", **sections.pop("source", {})}
    kafka = {"format": "json", "delivery": delivery, **sections.pop("kafka", {})}
    return rig.config(source=source, kafka=kafka, **sections)


def started(rig: Rig, config: Path, *point: str) -> Process:
    """A pipeline that will see whatever is committed from here on."""
    process = rig.start(config, *point)
    wait_for(lambda: rig.execute("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"))
    return process


@pytest.mark.pg("==15")
def test_the_oracle_sees_what_at_least_once_doubles(rig: Rig, kafka: KafkaAddress) -> None:
    """Killed between delivery and checkpoint, the pipeline sends again what came before: a test that can fail."""
    config = configured(rig, "at_least_once", checkpoint={"interval": 0.5})
    victim = started(rig, config, "after the flush, before the position", "3")
    with LedgerWriter(rig.dsn):
        assert victim.wait() == -signal.SIGKILL, victim.log
    heir = rig.start(config)
    wait_for(lambda: is_complete(rig.dsn, kafka, rig.name))
    heir.stop()
    found = delivered(kafka, rig.name)
    assert missing_and_phantoms(rig.dsn, found) == {}
    assert found.doubled()


@pytest.mark.pg("==15")
@pytest.mark.parametrize("seed", SEEDS)
def test_each_change_comes_once_wherever_the_process_is_killed(seed: int, rig: Rig, kafka: KafkaAddress) -> None:
    """At each point, one process after another, while somebody writes; most transactions have several batches."""
    dice = random.Random(seed)
    config = configured(rig, "exactly_once", source={"max_batch_changes": 40, "max_batch_bytes": 4096})
    first = started(rig, config)
    with LedgerWriter(rig.dsn, most=160, pause=0.2):
        first.kill()
        for point in dice.sample(POINTS, len(POINTS)):
            victim = rig.start(config, point, str(1 if "fenced" in point else dice.randint(1, 12)))
            assert victim.wait() == -signal.SIGKILL, f"{point}: {victim.log}"
            wait_for(partial(_only_whole_ones, rig, kafka))
    heir = rig.start(config)
    assert_each_once(rig, kafka)
    heir.stop()
    assert_each_once(rig, kafka)


def _more_than(transactions: int, rig: Rig, kafka: KafkaAddress) -> bool:
    return len(delivered(kafka, rig.name).transactions) > transactions


def _only_whole_ones(rig: Rig, kafka: KafkaAddress) -> bool:
    """Brokers still mark partitions for a moment after the pipeline ended a transaction, so this is waited for."""
    return not half_visible(rig.dsn, delivered(kafka, rig.name))


def _waits(process: Process) -> bool:
    return "slot is in use" in process.log


def assert_each_once(rig: Rig, kafka: KafkaAddress) -> None:
    wait_for(lambda: is_complete(rig.dsn, kafka, rig.name))
    found = delivered(kafka, rig.name)
    assert missing_and_phantoms(rig.dsn, found) == {}
    assert found.doubled() == {}


@pytest.mark.pg("==15")
def test_a_frozen_process_writes_nothing_once_another_took_over(rig: Rig, kafka: KafkaAddress) -> None:
    config = configured(rig, "exactly_once", dsn=f"{rig.dsn} options='-c wal_sender_timeout=2s'")
    first = started(rig, config)
    with LedgerWriter(rig.dsn) as writer:
        wait_for(lambda: delivered(kafka, rig.name).transactions)
        first.freeze()
        heir = rig.start(config)
        seen = writer.transactions + 20
        wait_for(lambda: len(delivered(kafka, rig.name).transactions) > seen)
        first.thaw()
        later = writer.transactions + 50
        wait_for(lambda: writer.transactions > later)
    assert_each_once(rig, kafka)
    first.kill()
    heir.stop()
    assert_each_once(rig, kafka)


@pytest.mark.pg("==15")
def test_a_process_that_waits_takes_over_from_one_that_dies(rig: Rig, kafka: KafkaAddress) -> None:
    config = configured(rig, "exactly_once")
    process = started(rig, config)
    with LedgerWriter(rig.dsn) as writer:
        for _ in range(3):
            heir = rig.start(config)
            wait_for(partial(_waits, heir))
            seen = writer.transactions
            process.kill()
            wait_for(partial(_more_than, seen, rig, kafka))
            process = heir
    assert_each_once(rig, kafka)
    process.stop()


@pytest.mark.pg("==15")
def test_a_transaction_that_is_too_large_comes_in_chunks_each_once(rig: Rig, kafka: KafkaAddress) -> None:
    """Killed after some of them, the pipeline goes on behind the last."""
    small = {"source": {"max_batch_changes": 500}, "kafka": {"transaction_changes": 1000}}
    config = configured(rig, "exactly_once", **small)
    process = started(rig, config)
    with psycopg.connect(rig.dsn) as connection:
        write(connection, 20_000)
    for chunk in (3, 5):
        process.kill()
        process = rig.start(config, "after the end, before the acknowledgement", str(chunk))
        assert process.wait() == -signal.SIGKILL, process.log
        part = delivered(kafka, rig.name)
        assert 0 < len(part.changes) < 20_000
        assert part.doubled() == {}
    heir = rig.start(config)
    assert_each_once(rig, kafka)
    heir.stop()


@pytest.mark.pg("==15")
@pytest.mark.parametrize("workers", [1, 2])
def test_each_row_of_a_snapshot_comes_once(workers: int, rig: Rig, kafka: KafkaAddress) -> None:
    """Killed while it is read, at several places; while rows are added, which come by the snapshot or the stream."""
    dice = random.Random(workers)
    source = {"snapshot": "initial", "max_batch_bytes": 32_768, "workers": workers, "snapshot_chunk": 300}
    config = configured(rig, "exactly_once", source=source)
    with psycopg.connect(rig.dsn) as connection:
        for _ in range(600):
            write(connection, 15, plain=True)
    with LedgerWriter(rig.dsn, plain=True):
        for point in ["after a batch was written", "after a batch was written", *sorted(TRANSACTION_POINTS)]:
            victim = rig.start(config, point, str(1 if "fenced" in point else dice.randint(2, 8)))
            assert victim.wait() == -signal.SIGKILL, f"{point}: {victim.log}"
    heir = rig.start(config)
    assert_each_once(rig, kafka)
    heir.stop()


@pytest.fixture
def own_rig(database: str, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    """With brokers that may be killed, and no registry."""
    rig = Rig(database, kafka.bootstrap, "http://127.0.0.1:9", topic_prefix, tmp_path)
    rig.execute(HARNESS_TABLES)
    yield rig
    rig.close()


@pytest.mark.exclusive
@pytest.mark.pg("==15")
def test_each_change_comes_once_when_the_broker_is_killed(own_rig: Rig, kafka: KafkaAddress) -> None:
    rig = own_rig
    process = started(rig, configured(rig, "exactly_once"))
    with LedgerWriter(rig.dsn) as writer:
        for _ in range(BROKER_KILLS):
            seen = writer.transactions + 30
            wait_for(partial(_more_than, seen, rig, kafka))
            kafka.kill()
            kafka.start()
    assert_each_once(rig, kafka)
    process.stop()
    assert_each_once(rig, kafka)

"""A second instance waits, and takes over from the first however that one dies: each change comes once."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from pycdc.config import InvalidConfig, validate
from tests.faults.harness import Process, Rig
from tests.faults.ledger import LedgerWriter, delivered
from tests.faults.test_exactly_once import assert_each_once, configured, started
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

LATE = 30.0
"""Seconds that a takeover may last on a machine that is ten times too busy; on a quiet one it takes 1 to 4."""


def standing_by(process: Process) -> bool:
    return "standing by" in process.log


def more_than(transactions: int, rig: Rig, kafka: KafkaAddress) -> bool:
    return len(delivered(kafka, rig.name).transactions) > transactions


def pair(rig: Rig, *, dsn: str | None = None) -> tuple[Path, Process, Process]:
    """The configuration, the instance that reads the slot, and one that stands by."""
    config = configured(rig, "exactly_once", source={"standby": True}, dsn=dsn or rig.dsn)
    first = started(rig, config)
    second = rig.start(config)
    wait_for(partial(standing_by, second))
    return config, first, second


@pytest.mark.pg("newest")
def test_a_standby_takes_over_from_each_instance_that_is_killed(rig: Rig, kafka: KafkaAddress) -> None:
    config, active, waiting = pair(rig)
    with LedgerWriter(rig.dsn) as writer:
        for _ in range(3):
            seen = writer.transactions + 5
            began = time.monotonic()
            active.kill()
            wait_for(partial(more_than, seen, rig, kafka))
            assert time.monotonic() - began < LATE
            active, waiting = waiting, rig.start(config)
            wait_for(partial(standing_by, waiting))
    assert_each_once(rig, kafka)
    active.stop()
    waiting.stop()


@pytest.mark.pg("newest")
def test_a_standby_takes_over_from_one_that_is_frozen_which_then_stands_by_itself(
    rig: Rig, kafka: KafkaAddress
) -> None:
    """The server itself would keep the slot for the frozen one for ever."""
    _, first, second = pair(rig, dsn=f"{rig.dsn} options='-c wal_sender_timeout=0'")
    with LedgerWriter(rig.dsn) as writer:
        wait_for(partial(more_than, 0, rig, kafka))
        began, seen = time.monotonic(), writer.transactions + 20
        first.freeze()
        wait_for(partial(more_than, seen, rig, kafka))
        assert time.monotonic() - began < LATE
        first.thaw()
        wait_for(partial(standing_by, first))
        seen = writer.transactions + 20
        second.kill()
        wait_for(partial(more_than, seen, rig, kafka))
    assert_each_once(rig, kafka)
    first.stop()


@pytest.mark.pg("newest")
def test_a_standby_leaves_an_instance_alone_that_is_alive(rig: Rig, kafka: KafkaAddress) -> None:
    """With nothing to deliver, for longer than `standby_timeout`."""
    config = configured(rig, "exactly_once", source={"standby": True, "standby_timeout": 2})
    first = started(rig, config)
    second = rig.start(config)
    wait_for(partial(standing_by, second))
    reader = rig.execute("SELECT active_pid FROM pg_replication_slots")
    end = time.monotonic() + 5
    wait_for(lambda: time.monotonic() > end)
    assert rig.execute("SELECT active_pid FROM pg_replication_slots") == reader
    assert "taking over" not in second.log
    second.stop()
    first.stop()


def test_standing_by_needs_exactly_once_and_longer_than_two_updates() -> None:
    source = {"dsn": "dbname=shop", "standby": True}
    kafka = {"brokers": "b:9092", "format": "json"}
    with pytest.raises(InvalidConfig, match="exactly_once"):
        validate({"name": "shop", "source": {"postgres": source}, "sink": {"kafka": kafka}})
    kafka["delivery"] = "exactly_once"
    validate({"name": "shop", "source": {"postgres": source}, "sink": {"kafka": kafka}})
    late = {**source, "status_interval": 4}
    with pytest.raises(InvalidConfig, match="standby_timeout"):
        validate({"name": "shop", "source": {"postgres": late}, "sink": {"kafka": kafka}})

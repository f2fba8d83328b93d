"""Three brokers, of which one at a time is killed: each change comes once, and while one is away.

A topic's leader, the coordinator of the pipeline's transactions, any of them: in turn. `-s` shows how long each kill
kept changes from their consumers. Collected with `PYCDC_TEST_BROKERS=3` only: three JVMs that start again and again
cost more than a minute of CPU.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import quantiles

import pytest
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.faults.conftest import TABLES
from tests.faults.harness import Rig
from tests.faults.ledger import LedgerWriter
from tests.faults.test_exactly_once import assert_each_once, configured, started
from tests.reading import PATIENCE, wait_for
from tests.services.kafka import KafkaAddress
from tests.services.kafka_cluster import KafkaCluster

KILLS = int(os.environ.get("PYCDC_BROKER_KILLS", "3"))
ENOUGH = 20
"""Transactions that are visible after a kill, before the next one."""


@pytest.fixture
def cluster(kafka: KafkaAddress) -> KafkaCluster:
    assert isinstance(kafka, KafkaCluster)
    return kafka


@pytest.fixture
def rig(database: str, cluster: KafkaCluster, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(database, cluster.bootstrap, "http://127.0.0.1:9", topic_prefix, tmp_path)
    made.execute(TABLES)
    yield made
    made.close()


def visible(cluster: KafkaCluster, topic: str) -> int:
    """The end of what consumers of committed records can read, once a broker tells."""
    asked = {TopicPartition(topic, 0): OffsetSpec.latest()}
    deadline = time.monotonic() + PATIENCE
    while True:
        admin = cluster.admin()
        answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=2)
        try:
            return int(next(iter(answers.values())).result().offset)
        except KafkaException:
            assert time.monotonic() < deadline, "no broker leads the topic"


@pytest.mark.pg("newest")
def test_each_change_comes_once_when_brokers_of_three_are_killed(rig: Rig, cluster: KafkaCluster) -> None:
    dice, outages = random.Random(KILLS), []
    process = started(rig, configured(rig, "exactly_once"))
    ledger = f"{rig.name}.public.ledger"
    with LedgerWriter(rig.dsn):
        wait_for(lambda: visible(cluster, ledger) > ENOUGH)
        victims = {
            "leader": lambda: cluster.leader(ledger),
            "coordinator": lambda: cluster.coordinator(f"pycdc-{rig.name}"),
            "any": lambda: dice.choice(list(cluster.brokers)),
        }
        for number in range(KILLS):
            role = list(victims)[number % len(victims)]
            wait_for(cluster.is_in_sync)
            victim = cluster.brokers[victims[role]()]
            before, began = visible(cluster, ledger), time.monotonic()
            victim.kill()
            wait_for(partial(_shows_more_than, before + ENOUGH, cluster, ledger))
            outages.append(time.monotonic() - began)
            print(f"kill {number + 1}, {role}: {ENOUGH} transactions more after {outages[-1]:.1f} s")
            victim.start()
    wait_for(cluster.is_in_sync)
    assert_each_once(rig, cluster)
    process.stop()
    assert_each_once(rig, cluster)
    if len(outages) > 2:
        cuts = quantiles(outages, n=100, method="inclusive")
        print(f"{len(outages)} kills: p50 {cuts[49]:.1f} s, p99 {cuts[98]:.1f} s, longest {max(outages):.1f} s")


def _shows_more_than(offset: int, cluster: KafkaCluster, topic: str) -> bool:
    return visible(cluster, topic) > offset

"""Thousands of runs a minute in which everything may happen between any two calls, each repeatable by its seed.

100 seeds of each kind in `make test`; `make chaos-simulator` runs others (PYCDC_SIMULATOR_SEEDS). PYCDC_CHAOS_SEED runs
one alone.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from confluent_kafka import KafkaException

from pycdc.checkpoint import Checkpointer
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.connectors.postgres.replication.transaction_chunks import TransactionChunks
from pycdc.sinks.kafka.producer import KafkaSink
from pycdc.sinks.kafka.transactional import FencedOffsets, TransactionalKafkaSink
from tests.chaos.simulator.database import TABLES
from tests.chaos.simulator.scheduler import Faults, Kind
from tests.chaos.simulator.world import Delivery, World

CHAOS = "PYCDC_SIMULATOR_SEEDS" in os.environ
SEEDS = int(os.environ.get("PYCDC_SIMULATOR_SEEDS", "100"))
SEED = os.environ.get("PYCDC_CHAOS_SEED")
FIRST = 20261130


def seeds() -> Iterable[int]:
    if SEED:
        return [int(SEED)]
    first = random.SystemRandom().randrange(10**9) if CHAOS else FIRST
    return range(first, first + SEEDS)


def judge(seed: int, delivery: Delivery, faults: Faults | None = None) -> World:
    """Run a seed. Raises AssertionError where what was delivered is not what was written."""
    world = World(seed, delivery, faults)
    world.run()
    for table in TABLES.values():
        delivered = world.delivered(table)
        if delivery == "at_least_once":
            delivered = list(dict.fromkeys(delivered))
        assert delivered == world.written(table), (seed, faults)
    return world


def test_each_row_comes_once_and_in_order_by_exactly_once_delivery() -> None:
    for seed in seeds():
        judge(seed, "exactly_once")


def test_no_row_is_missing_and_firsts_are_in_order_by_at_least_once_delivery() -> None:
    for seed in seeds():
        judge(seed, "at_least_once")


@pytest.mark.parametrize("kind", ["kill", "error", "freeze"])
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_fault_at_any_one_point_changes_nothing(delivery: Delivery, kind: Kind) -> None:
    """At every point with `make chaos-simulator`, at each of a share of them in `make test`."""
    seed = FIRST
    points = judge(seed, delivery, Faults(on=False)).faults.passed
    step = 1 if CHAOS else points // 40
    for at in range(1, points, step):
        judge(seed, delivery, Faults(on=False, at=at, kind=kind))


def read_before_fencing(patch: pytest.MonkeyPatch) -> None:
    def load(self: FencedOffsets) -> Any:
        found = self.topic.load(settled=True)
        assert self.sink is not None
        self.sink.fence()
        return found

    patch.setattr(FencedOffsets, "load", load)


def go_on_after_an_unknown_outcome(patch: pytest.MonkeyPatch) -> None:
    def end(self: Any) -> None:
        try:
            self._producer.commit_transaction(self._ending)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise self._unended(error.args[0]) from None
        self._unknown, self._began = False, None

    patch.setattr(TransactionalKafkaSink, "_end", end)


def acknowledge_before_storing(patch: pytest.MonkeyPatch) -> None:
    original = Checkpointer.store

    def store(self: Any, source: Any, sink: Any) -> Any:
        if self._batch is not None:
            source.acknowledge(source.checkpoint(self._batch))
        return original(self, source, sink)

    patch.setattr(Checkpointer, "store", store)


def store_without_waiting(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KafkaSink, "commit", lambda self, checkpoint: self._offsets.store(checkpoint))


def skip_what_begins_at_the_position(patch: pytest.MonkeyPatch) -> None:
    original = TransactionAssembler._begin

    def begin(self: Any, final_lsn: int, commit_time: int, xid: int) -> None:
        original(self, final_lsn, commit_time, xid)
        self._delivered = self._skipping = final_lsn <= self._start

    patch.setattr(TransactionAssembler, "_begin", begin)


def deliver_chunks_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(TransactionChunks, "begin", lambda self, xid, commit_lsn: False)


def compare_with_a_slot_that_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = PostgresConnector._decide

    def decide(self: Any, start: Any) -> Any:
        self._held.require = lambda: None
        return original(self, start)

    patch.setattr(PostgresConnector, "_decide", decide)


BUGS: list[tuple[Callable[[pytest.MonkeyPatch], None], Delivery, int]] = [
    (read_before_fencing, "exactly_once", 20261263),
    (go_on_after_an_unknown_outcome, "exactly_once", FIRST),
    (deliver_chunks_again, "exactly_once", FIRST),
    (skip_what_begins_at_the_position, "exactly_once", FIRST),
    (acknowledge_before_storing, "at_least_once", FIRST),
    (store_without_waiting, "at_least_once", FIRST),
    (compare_with_a_slot_that_is_lost, "exactly_once", 20261184),
]
"""What has it, with which delivery it shows, and a seed from which on it is found soon: some take a rare order."""


@pytest.mark.parametrize(("bug", "delivery", "first"), BUGS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_known_bug_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], delivery: Delivery, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    assert any(_fails(seed, delivery) for seed in range(first, first + 300))


def _fails(seed: int, delivery: Delivery) -> bool:
    try:
        judge(seed, delivery)
    except AssertionError:
        return True
    return False

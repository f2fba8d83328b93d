"""A pipeline fails at each point of its way: each change comes, and once where that is promised.

A cell is what the pipeline is at, how it delivers, what happens to it (kill -9, an exception that nobody expects, a
call that hangs), and the point where. `make chaos-points` goes through all of them; the short form through a few, which
`PYCDC_CHAOS_SEED` chooses. Transactions are written and topics are read by `ledger`, which shares no code with the
engine.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.faults import process as points
from tests.faults.harness import Process, Rig
from tests.faults.ledger import TABLES, LedgerWriter, delivered, is_complete, missing_and_phantoms, write
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

ALL = "PYCDC_CRASH_POINTS" in os.environ
SEED = int(os.environ.get("PYCDC_CHAOS_SEED", "1"))
SCENARIOS = ("snapshot", "stream", "huge transaction", "DDL", "schema refused")
DELIVERIES = ("at_least_once", "exactly_once")
ACTIONS = ("kill", "exception", "hang")
CHAINS = [(scenario, delivery, action) for scenario in SCENARIOS for delivery in DELIVERIES for action in ACTIONS]
FEW = [(scenario, DELIVERIES[n % 2], ACTIONS[n % 3]) for n, scenario in enumerate(SCENARIOS, SEED)]
"""Of the short form: each scenario once, with one point."""
HUGE = 6000
"""Changes of a transaction that comes in several batches, and in chunks of a fifth."""

SLOT_POINTS = ("before the slot is made", "after the slot is made")
CHUNK_POINTS = tuple(name for name in points.SNAPSHOT_POINTS if "chunk" in name or "backlog" in name)
STORED = (
    "before a checkpoint",
    "after the flush, before the position",
    "after the position, before the acknowledgement",
)
"""What only at-least-once delivery passes: with exactly-once delivery the position is a record among the others."""
ONCE = {*points.START_POINTS, *SLOT_POINTS, "before the stream starts"} | {
    name for name in points.TRANSACTION_POINTS if "fenced" in name
}
"""What a process passes once, or so seldom that the first time is chosen."""
SEVERAL = 6


def points_of(scenario: str, delivery: str) -> list[str]:
    """All points that a pipeline passes which is at `scenario`, in the order of its way."""
    chosen = [*points.START_POINTS]
    if scenario == "snapshot":
        chosen += [*SLOT_POINTS, *CHUNK_POINTS, "while a snapshot is written"]
    chosen += [name for name in points.POINTS if name not in (*SLOT_POINTS, *STORED, "while a snapshot is written")]
    chosen += points.DELIVERY_POINTS
    chosen += STORED if delivery == "at_least_once" else points.TRANSACTION_POINTS
    if scenario == "schema refused":
        chosen += points.REGISTRY_POINTS
    return chosen


@dataclass(slots=True)
class Trial:
    """A pipeline that goes from cell to cell, each time in a process of its own."""

    rig: Rig
    kafka: KafkaAddress
    scenario: str
    delivery: str
    name: str
    dice: random.Random
    changes: int = 0

    @property
    def slot(self) -> str:
        return self.name.replace("-", "_")

    @property
    def decode(self) -> Callable[[bytes], Any]:
        return self.rig.reader.decode if self.scenario == "schema refused" else json.loads

    def config(self) -> Path:
        source: dict[str, Any] = {
            "dsn": f"{self.rig.dsn} options='-c wal_sender_timeout=2s'",
            "slot": self.slot,
            "snapshot": "initial" if self.scenario == "snapshot" else "never",
            "snapshot_chunk": 100,
            "max_batch_changes": 40,
            "max_batch_bytes": 4096,
            "status_interval": 0.2,
            "publication_check": 0.5,
            "standby": self.delivery == "exactly_once",
        }
        kafka: dict[str, Any] = {"delivery": self.delivery}
        if self.scenario == "schema refused":
            kafka |= {"registry": {"url": self.rig.registry, "on_incompatible": "park"}}
        else:
            kafka |= {"format": "json"}
        if self.scenario == "huge transaction" and self.delivery == "exactly_once":
            kafka |= {"transaction_changes": HUGE // 5}
        return self.rig.config(source=source, kafka=kafka, name=self.name)

    def begin(self) -> None:
        """Make the slot, so that whatever is committed from here on has to come."""
        first = self.start()
        wait_for(lambda: self.rig.execute("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"))
        with psycopg.connect(self.rig.dsn) as connection:
            write(connection, 3)
        self.delivers(first)
        first.stop()
        if self.scenario == "schema refused":
            with SchemaRegistryClient({"url": self.rig.registry}) as registry:
                registry.set_compatibility(f"{self.name}.public.entries-value", "BACKWARD")

    def start(self, *point: str) -> Process:
        return self.rig.start(self.config(), *point)

    def disturb(self) -> None:
        """Do what the scenario is about, so that the pipeline comes to it."""
        self.changes += 1
        if self.scenario == "huge transaction":
            with psycopg.connect(self.rig.dsn) as connection:
                write(connection, HUGE)
        elif self.scenario == "DDL":
            change = ("DROP COLUMN added", "ADD COLUMN added int DEFAULT 1")[self.changes % 2]
            self.rig.execute(f"ALTER TABLE entries {change}")
        elif self.scenario == "schema refused":
            kind = ("int", "text")[self.changes % 2]  # the registry knows the int
            self.rig.execute(f"ALTER TABLE entries DROP COLUMN extra, ADD COLUMN extra {kind}")

    def passage(self, point: str) -> int:
        return 1 if point in ONCE else self.dice.randint(1, SEVERAL)

    def delivers(self, process: Process) -> None:
        """Return once all that is committed by now was delivered and acknowledged, or the process has ended."""
        end = self.rig.execute("SELECT pg_current_wal_lsn()")[0][0]
        slots = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{self.slot}' AND confirmed_flush_lsn >= '{end}'"
        wait_for(lambda: not process.alive() or self.rig.execute(slots))

    def reach(self, point: str, action: str) -> None:
        """Let `action` happen at `point` to a new process, and see what the process makes of it."""
        if point in CHUNK_POINTS:  # the first reading of a snapshot has no chunks; one that goes on has
            self._die("while a snapshot is written")
        print(f"{self.scenario}, {self.delivery}, {action}: {point}", flush=True)
        victim = self.start(point, str(self.passage(point)), action)
        self.disturb()
        wait_for(lambda: points.REACHED in victim.log or not victim.alive())
        assert points.REACHED in victim.log, victim.log
        if action == "kill":
            assert victim.wait() == -signal.SIGKILL, victim.log
        elif action == "exception":
            self.delivers(victim)
            assert victim.alive() or victim.wait() > 0, "it ended as if nothing had happened"
        else:
            self._outlast(victim)
        victim.kill()

    def _outlast(self, hanging: Process) -> None:
        """Wait for what follows a hang; a standby may take over meanwhile, where that is allowed."""
        if self.delivery == "at_least_once":
            self.delivers(hanging)
            assert hanging.alive(), hanging.log
            return
        heir = self.start()
        self.delivers(heir)
        assert heir.alive(), heir.log
        heir.kill()

    def _die(self, point: str) -> None:
        victim = self.start(point, "3")
        assert victim.wait() == -signal.SIGKILL, victim.log

    def finish(self) -> None:
        """Let a last process deliver what is left, and compare."""
        heir = self.start()
        wait_for(lambda: is_complete(self.rig.dsn, self.kafka, self.name, self.decode) or not heir.alive())
        heir.stop()
        self.assert_complete()

    def assert_complete(self) -> None:
        """Nothing is lost and nothing is invented; with exactly-once delivery nothing is doubled."""
        found = delivered(self.kafka, self.name, self.decode)
        assert missing_and_phantoms(self.rig.dsn, found) == {}
        if self.delivery == "exactly_once":
            assert found.doubled() == {}


def cells(scenario: str, delivery: str, action: str, dice: random.Random) -> list[str]:
    passed = points_of(scenario, delivery)
    return dice.sample(passed, len(passed) if ALL else 1)


def fill(dsn: str) -> None:
    """Put rows into the tables that take a snapshot several batches and chunks, in place of what there was."""
    with psycopg.connect(dsn) as connection:
        connection.execute("TRUNCATE entries, ledger, removals")
        for _ in range(40):
            write(connection, 15, plain=True)


@pytest.mark.slow
@pytest.mark.pg("newest")
@pytest.mark.parametrize(("scenario", "delivery", "action"), CHAINS if ALL else FEW)
def test_each_change_comes_whatever_happens_at_any_point(
    scenario: str, delivery: str, action: str, rig: Rig, kafka: KafkaAddress
) -> None:
    dice = random.Random(f"{SEED} {scenario} {delivery} {action}")
    rig.execute(TABLES + "ALTER TABLE entries ADD COLUMN extra int;")
    chosen = cells(scenario, delivery, action, dice)
    if scenario == "snapshot":  # each is a pipeline of its own
        for number, point in enumerate(chosen):
            trial = Trial(rig, kafka, scenario, delivery, f"{rig.name}-{number}", dice)
            fill(rig.dsn)
            with LedgerWriter(rig.dsn, plain=True, pause=0.1):
                trial.reach(point, action)
            trial.finish()
            rig.execute(f"SELECT pg_drop_replication_slot('{trial.slot}')")
    else:
        trial = Trial(rig, kafka, scenario, delivery, rig.name, dice)
        trial.begin()
        with LedgerWriter(rig.dsn, most=60, pause=0.2):
            for point in chosen:
                trial.reach(point, action)
        trial.finish()

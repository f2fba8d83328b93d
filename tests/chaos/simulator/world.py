"""One seed: a workload, two instances of a pipeline that are killed, frozen and started again, and what came of it.

Simulated are the server, the brokers and the clock; the loop, the checkpoints, the connector's stream with its
transactions and chunks, both Kafka sinks and the encoding of positions are the product's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from typing import Any, Literal

import pytest

from pycdc.checkpoint import Checkpointer
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres import connector as connecting
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.replication import pgoutput
from pycdc.connectors.postgres.replication.whole_transactions import WholeTransactions
from pycdc.errors import PycdcError, SinkFenced, Undelivered
from pycdc.model.change import Batch, Column, Op, PgType, Table
from pycdc.pipeline import Loop
from pycdc.serialization.records import Record
from pycdc.sinks.kafka import producer, transactional
from pycdc.sinks.kafka.producer import KafkaSink
from pycdc.sinks.kafka.transactional import FencedOffsets, TransactionalKafkaSink
from tests.chaos.simulator.brokers import (
    SimulatedBrokers,
    SimulatedPositions,
    SimulatedProducer,
    SimulatedTopics,
    newest,
)
from tests.chaos.simulator.database import TABLES, SimulatedCatalog, SimulatedDatabase, SimulatedSlot
from tests.chaos.simulator.scheduler import Faults, Process, Scheduler, Stopping, virtual_time

Delivery = Literal["at_least_once", "exactly_once"]

INSTANCES: dict[Delivery, int] = {"exactly_once": 2, "at_least_once": 1}
"""Nothing fences one that was frozen from at-least-once delivery: it may store its position over a newer one."""
TRANSACTIONS = 25
LARGE = 40
"""Rows of a large transaction: several chunks."""
CHUNK = 15
VALUE = 38
"""Bytes of an Insert before its only column's value, XLogData's header among them."""
RESTART = 1.0
"""Seconds after which another instance starts in the place of one that ended."""
CRASHES = 0.003
PATIENCE = 600.0
"""Seconds of the simulated clock in which all is delivered once nothing fails any more."""
TURNS = 200_000


@lru_cache
def config(delivery: Delivery) -> CapturePipeline:
    return CapturePipeline.model_validate(
        {
            "name": "simulated",
            "source": {
                "postgres": {
                    "dsn": "dbname=shop",
                    "tables": ["public.*"],
                    "snapshot": "never",
                    "publication_check": 1e9,
                }
            },
            "sink": {
                "kafka": {
                    "brokers": "nowhere",
                    "format": "json",
                    "delivery": delivery,
                    "transaction_changes": CHUNK,
                    "transaction_timeout": 30,
                }
            },
            "checkpoint": {"interval": 0.5, "changes": 30},
            "retries": {"max_delay": 2},
        }
    )


_EXPECTED = (SinkFenced, Undelivered)
"""Of an instance that was overtaken; and of one that is stopped before it knows what became of its last records."""


class Rows:
    """The serializer: a row's record is its id, in the topic of its table."""

    def serialize(self, batch: Batch) -> list[tuple[str, list[Record]]]:
        groups: list[tuple[str, list[Record]]] = []
        for run in batch.runs:
            assert run.op is Op.CREATE
            assert run.table is not None
            groups.append((run.table.name, [{"key": None, "value": frame[VALUE:]} for frame in run.frames]))
        return groups

    def serialize_apart(self, batch: Batch) -> list[tuple[str, list[Record]]]:
        return self.serialize(batch)


class SimulatedRelations:
    """See `RelationCache`."""

    known: frozenset[int] = frozenset()

    def from_message(self, relation: pgoutput.Relation) -> Table:
        return Table(relation.oid, "public", relation.name, (Column("id", PgType(23, "int4"), identity=True),), ("id",))

    def forget(self, oids: object) -> None:
        """Do nothing."""


class Unchanged:
    """See `PublicationReconciler`: nothing is ever published that was not."""

    members: frozenset[int] = frozenset()
    partitions_only = False

    def __init__(self) -> None:
        self.state: dict[str, object] = {}

    def first(self) -> list[Any]:
        return []

    def resume(self, known: object) -> list[Any]:
        return []


class Connector(PostgresConnector):
    """The connector, of a simulated server."""

    def __init__(self, config: CapturePipeline, database: SimulatedDatabase, scheduler: Scheduler) -> None:
        super().__init__(config)
        simulated: dict[str, Any] = {
            "_held": SimulatedSlot(database, scheduler),
            "_catalog": SimulatedCatalog(database, scheduler, config.slot),
            "_relations": SimulatedRelations(),
            "_watch": Unchanged(),
        }
        self.__dict__.update(simulated)

    def _admit(self, tables: object, *, starting: bool) -> None:
        """Each table is delivered as it is."""


class World:
    """What there is outside of the processes, and who starts them. Raises AssertionError where one may not end so."""

    def __init__(self, seed: int, delivery: Delivery, faults: Faults | None = None) -> None:
        self.dice = random.Random(seed)
        self.faults = faults or Faults()
        self.scheduler = Scheduler(self.dice, self.faults)
        self.database = SimulatedDatabase(self.scheduler)
        self.brokers = SimulatedBrokers(self.scheduler)
        self.config = config(delivery)
        self._instances = INSTANCES[delivery]
        self._stopping: list[Stopping] = []
        self._started = 0

    def run(self) -> None:
        """Until all is delivered. Raises AssertionError where that takes too long."""
        with self._simulated():
            self._disturbed()
            self.faults.on = False
            deadline = self.scheduler.now + PATIENCE
            while not self._delivered():
                assert self.scheduler.now < deadline, "nothing moves any more"
                self._turn()
            while self.scheduler.processes:
                # One that was only just started makes its own meanwhile.
                for stopping in self._stopping:
                    stopping.set()
                self._next()

    def _disturbed(self) -> None:
        begins = self.scheduler.now
        times = sorted(begins + self.dice.uniform(0, 60) for _ in range(TRANSACTIONS))
        turns = 0
        while times or not self._delivered():
            turns += 1
            while times and times[0] <= self.scheduler.now:
                times.pop(0)
                self._write()
            if self.faults.chance(self.dice, CRASHES):
                self.database.crash()
            self._turn()
            if turns > TURNS or self.scheduler.now > begins + 600:
                for _ in times:
                    self._write()
                return

    def _write(self) -> None:
        if self.dice.random() < 0.2:
            self.database.write_elsewhere()
        self.database.commit(self.dice.randint(1, LARGE) if self.dice.random() < 0.15 else self.dice.randint(1, 4))

    def _turn(self) -> None:
        while len(self.scheduler.processes) < self._instances:
            self._started += 1
            self.scheduler.start(f"instance {self._started}", self._instance, after=RESTART)
        self._next()

    def _next(self) -> None:
        before = list(self.scheduler.processes)
        self.scheduler.run()
        self.brokers.arrive()
        position = newest(self.brokers)
        if position is not None:
            assert self.database.confirmed <= max(1000, position.position.lsn), "acknowledged before it was stored"
        for process in before:
            if process.ended and process.error is not None and not isinstance(process.error, _EXPECTED):
                raise AssertionError(f"{process.name} ended: {process.error!r}")

    def _delivered(self) -> bool:
        position = newest(self.brokers)
        transactions = self.database.transactions
        return bool(transactions and position and position.position.lsn >= transactions[-1].end and not position.chunk)

    def _instance(self, process: Process) -> None:
        stopping = Stopping(self.scheduler)
        self._stopping.append(stopping)
        kafka = self.config.sink.kafka
        assert kafka is not None
        positions = SimulatedPositions(self.brokers, self.scheduler)
        options: dict[str, Any] = {"topics": SimulatedTopics(), "stopping": stopping}
        fenced = FencedOffsets(positions, "simulated")
        exactly = self.config.exactly_once
        make: Any = partial(TransactionalKafkaSink, Rows(), kafka, fenced, **options)
        if not exactly:
            make = partial(KafkaSink, Rows(), kafka, positions, **options)
        source = partial(Connector, self.config, self.database, self.scheduler)
        offsets: Any = fenced if exactly else positions
        loop = Loop(source, make, offsets, self.config.checkpoint, self.config.retries, stopping=stopping)
        try:
            loop.run()
        except PycdcError as error:
            process.error = error

    @contextmanager
    def _simulated(self) -> Iterator[None]:
        with ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(producer, "Producer", partial(SimulatedProducer, self.brokers, self.scheduler))
            patch.setattr(transactional, "Watchdog", Patient)
            now = self._now
            patch.setattr("pycdc.pipeline.Checkpointer", partial(Checkpointer, now=now))
            patch.setattr(connecting, "WholeTransactions", partial(WholeTransactions, now=now))
            stack.enter_context(virtual_time(self.scheduler))
            state = random.getstate()
            random.seed(self.dice.random())
            stack.callback(random.setstate, state)
            yield

    def _now(self) -> float:
        return self.scheduler.now

    # -- what came of it

    def delivered(self, table: str) -> list[bytes]:
        return [record.value for record in self.brokers.committed(table)]

    def written(self, table: str) -> list[bytes]:
        return self.database.rows_of(next(oid for oid, name in TABLES.items() if name == table))


class Patient:
    """See `Watchdog`: nothing hangs for good here."""

    @contextmanager
    def limit(self, seconds: float, what: str) -> Iterator[None]:
        yield

    def close(self) -> None:
        """Do nothing."""

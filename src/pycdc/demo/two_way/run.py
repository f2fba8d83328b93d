"""The two-way demonstration: a monolith's database and a service's, which follow each other while both are written to.

Order: two Postgres, broker and registry; the tables of both sides and the monolith's first rows; the readers that watch
the topics, which makes them; four pipelines in threads of this process. The monolith's snapshot fills the service's
tables; then both sides open. Now and then both set the price of the same item at once. At the end: both close, what is
under way is awaited, the pipelines stop, and the tables are compared.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from types import TracebackType
from typing import Final

import psycopg
from psycopg import sql

from pycdc.demo.broker import EmbeddedBroker
from pycdc.demo.clerk import Clerk
from pycdc.demo.course import Engine
from pycdc.demo.postgres import EmbeddedPostgres, installation
from pycdc.demo.reader import Reader
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.demo.tally import Tally
from pycdc.demo.two_way import comparison, conflicts, pipelines
from pycdc.demo.two_way.businesses import Monolith, Service
from pycdc.demo.two_way.direction import Direction
from pycdc.demo.two_way.status import Addresses, Status, Summary
from pycdc.demo.two_way.tables import ARRIVAL, ARRIVALS, MONOLITH, PAIRS, SERVICE, SKUS
from pycdc.errors import ConnectionLost

_DISPUTE_INTERVAL: Final = 1.5
"""Seconds between two prices that both sides set at once."""
_NEWEST: Final = 32


class TwoWay:
    """A context manager: everything runs inside. For one thread."""

    def __init__(self, rate: float, seconds: float = 0.0, *, seed: int | None = None) -> None:
        """`rate`: row changes a second on each side."""
        self._rate = rate
        self._seconds = seconds
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311  (a game, no secret)
        self._stack = ExitStack()
        self._opened: float | None = None
        self._took = 0.0
        self._disputed = 0.0
        self._closed = False

    def __enter__(self) -> TwoWay:
        installation()
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        monolith, service = _databases(stack)
        broker = stack.enter_context(EmbeddedBroker())
        registry = stack.enter_context(EmbeddedRegistry())
        self.addresses = Addresses(monolith.dsn, service.dsn, broker.bootstrap, registry.url)
        kafka = {"brokers": broker.bootstrap, "registry": registry.url}
        self._monolith = Clerk(monolith.dsn, self._rate, Monolith, seed=self._seed)
        self._service = Clerk(service.dsn, self._rate, Service, seed=self._seed)
        for clerk in self._clerks:
            stack.callback(clerk.stop)
            clerk.open()
        self._databases = {
            MONOLITH: _watched(stack, monolith.dsn, [pair.monolith for pair in PAIRS]),
            SERVICE: _watched(stack, service.dsn, [pair.service for pair in PAIRS]),
        }
        tallies = [Tally(clerk.transactions) for clerk in self._clerks]
        topics = pipelines.monolith_topics(), pipelines.service_topics()
        self._readers = [Reader(**kafka, topics=each, tally=tally) for each, tally in zip(topics, tallies, strict=True)]
        for reader in self._readers:
            stack.callback(reader.stop)
            reader.start()
        self._engines = _engines(monolith.dsn, service.dsn, kafka)
        for engine in self._engines:
            stack.callback(engine.stop)
            engine.start()
        near, far = self._databases.values()
        capture, back, capture_service, there = self._engines
        self._directions = (
            Direction(
                (MONOLITH, SERVICE),
                self._monolith,
                tallies[0],
                (capture, there),
                near,
                far,
            ),
            Direction(
                (SERVICE, MONOLITH),
                self._service,
                tallies[1],
                (capture_service, back),
                far,
                near,
            ),
        )
        self._tallies = tallies

    @property
    def _clerks(self) -> tuple[Clerk[Monolith], Clerk[Service]]:
        return self._monolith, self._service

    def status(self) -> Status:
        there, back = self._directions
        newest = sorted((event for tally in self._tallies for event in tally.newest()), key=lambda e: -e.received)
        return Status(
            addresses=self.addresses,
            elapsed=self.elapsed,
            seconds=self._seconds,
            directions=(there.status(), back.status()),
            conflicts=self._conflicts(),
            newest=tuple(newest[:_NEWEST]),
        )

    @property
    def elapsed(self) -> float:
        """Seconds since both sides opened."""
        return 0.0 if self._opened is None else time.monotonic() - self._opened

    @property
    def over(self) -> bool:
        return 0 < self._seconds <= self.elapsed

    @property
    def arrived(self) -> int:
        return sum(direction.arrived for direction in self._directions)

    @property
    def complete(self) -> bool:
        return all(direction.complete for direction in self._directions)

    def tend(self) -> None:
        """Open both sides once the first copy is there; have them quarrel. Raises what ended one of the threads."""
        engines = (engine.error for engine in self._engines)
        readers = (reader.error for reader in self._readers)
        for error in (*engines, *readers, self._monolith.error, self._service.error):
            if error is not None:
                raise error
        if self._closed:
            return
        if self._opened is None:
            if self._ready():
                self._open()
        elif time.monotonic() - self._disputed >= _DISPUTE_INTERVAL:
            self._dispute()

    def close_shop(self) -> None:
        """Nothing is written any more; `complete` tells when everything was applied."""
        self._closed = True
        for clerk in self._clerks:
            clerk.stop()
        self._took = self.elapsed

    def finish(self) -> Summary:
        """Stop the pipelines, compare both sides, say how it went."""
        there, back = self._directions
        statuses = there.status(), back.status()
        for engine in self._engines:
            engine.stop()
        return Summary(
            directions=statuses,
            exact=there.exact and back.exact,
            lags=(there.lag(), back.lag()),
            conflicts=self._conflicts(),
            outcomes=comparison.compare(self._databases[MONOLITH], self._databases[SERVICE]),
            seconds=self._took,
        )

    def _ready(self) -> bool:
        """Whether the service's tables are filled and all pipelines stream."""
        streaming = all(engine.pipeline.progress.state == "streaming" for engine in self._engines)
        return streaming and self.complete

    def _open(self) -> None:
        for direction in self._directions:
            direction.open()
        for clerk in self._clerks:
            clerk.start()
        self._opened = time.monotonic()

    def _dispute(self) -> None:
        """Both sides set the price of the same item, before either can have heard of the other."""
        self._disputed = time.monotonic()
        sku = self._chance.choice(SKUS)
        sides = [self._monolith.business.reprice, self._service.business.reprice]
        self._chance.shuffle(sides)
        try:
            for reprice in sides:
                reprice(sku, Decimal(self._chance.randint(500, 49999)) / 100)
        except psycopg.OperationalError as exc:
            raise ConnectionLost(f"an embedded Postgres is gone ({type(exc).__name__})") from None

    def _conflicts(self) -> dict[str, conflicts.Conflicts]:
        return {side: conflicts.read(connection, side) for side, connection in self._databases.items()}


def _databases(stack: ExitStack) -> list[EmbeddedPostgres]:
    """Both started at once, since each takes seconds."""
    servers = [EmbeddedPostgres(name) for name in (MONOLITH, SERVICE)]
    for server in servers:
        stack.callback(server.stop)
    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(EmbeddedPostgres.start, servers))


def _watched(stack: ExitStack, dsn: str, tables: list[str]) -> psycopg.Connection:
    """A connection that asks questions, to a database that notes what arrives."""
    connection = stack.enter_context(psycopg.connect(dsn, autocommit=True))
    connection.execute(ARRIVALS)
    for table in tables:
        connection.execute(sql.SQL(ARRIVAL).format(sql.Identifier(table)))
    return connection


def _engines(monolith: str, service: str, kafka: dict[str, str]) -> list[Engine]:
    """In the order in which they start; they stop in the reverse: what applies before what captures."""
    return [
        Engine(pipelines.capture_monolith(monolith, kafka)),
        Engine(pipelines.apply_to_monolith(monolith, kafka)),
        Engine(pipelines.capture_service(service, kafka)),
        Engine(pipelines.apply_to_service(service, kafka)),
    ]

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
from types import TracebackType
from typing import Final

import psycopg

from pycdc.demo.broker import EmbeddedBroker
from pycdc.demo.demo_loop import Engine
from pycdc.demo.postgres import EmbeddedPostgres, installation
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.demo.two_way import comparison, conflicts, pipelines
from pycdc.demo.two_way.database import DemoDatabase, set_up
from pycdc.demo.two_way.direction import Direction
from pycdc.demo.two_way.status import TwoWayAddresses, TwoWayStatus, TwoWaySummary
from pycdc.demo.two_way.tables import MONOLITH, PAIRS, SERVICE, SKUS
from pycdc.demo.two_way.workloads import Monolith, Service, any_price
from pycdc.demo.workload_thread import WorkloadThread
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
        self.addresses = TwoWayAddresses(monolith.dsn, service.dsn, broker.bootstrap, registry.url)
        kafka = {"brokers": broker.bootstrap, "registry": registry.url}
        self._monolith = set_up(
            stack,
            WorkloadThread(monolith.dsn, self._rate, Monolith, seed=self._seed),
            monolith.dsn,
            [pair.monolith for pair in PAIRS],
            kafka,
            pipelines.capture_monolith(monolith.dsn, kafka),
            pipelines.apply_to_monolith(monolith.dsn, kafka),
        )
        self._service = set_up(
            stack,
            WorkloadThread(service.dsn, self._rate, Service, seed=self._seed),
            service.dsn,
            [pair.service for pair in PAIRS],
            kafka,
            pipelines.capture_service(service.dsn, kafka),
            pipelines.apply_to_service(service.dsn, kafka),
        )
        for engine in self._engines:
            stack.callback(engine.stop)
            engine.start()
        self._directions = Direction(self._monolith, self._service), Direction(self._service, self._monolith)

    @property
    def _sides(self) -> tuple[DemoDatabase, DemoDatabase]:
        return self._monolith, self._service

    @property
    def _engines(self) -> list[Engine]:
        """In the order in which they start."""
        return [engine for side in self._sides for engine in (side.capture, side.apply)]

    def status(self) -> TwoWayStatus:
        there, back = self._directions
        events = [event for side in self._sides for event in side.stats.newest()]
        events.sort(key=lambda event: event.received, reverse=True)
        return TwoWayStatus(
            addresses=self.addresses,
            elapsed=self.elapsed,
            seconds=self._seconds,
            directions=(there.status(), back.status()),
            conflicts=self._conflicts(),
            newest=tuple(events[:_NEWEST]),
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
        for side in self._sides:
            side.raise_error()
        if self._closed:
            return
        if self._opened is None:
            if self._ready():
                self._open()
        elif time.monotonic() - self._disputed >= _DISPUTE_INTERVAL:
            self._dispute()

    def close_shop(self) -> None:
        """Stop writing; `complete` returns whether everything was applied."""
        self._closed = True
        for side in self._sides:
            side.clerk.stop()
        self._took = self.elapsed

    def finish(self) -> TwoWaySummary:
        """Stop the pipelines, compare both sides, say how it went."""
        there, back = self._directions
        statuses = there.status(), back.status()
        for engine in self._engines:
            engine.stop()
        return TwoWaySummary(
            directions=statuses,
            exact=there.exact and back.exact,
            lags=(there.lag(), back.lag()),
            conflicts=self._conflicts(),
            outcomes=comparison.compare(self._monolith.questions, self._service.questions),
            seconds=self._took,
        )

    def _ready(self) -> bool:
        """Return whether the service's tables are filled and all pipelines stream."""
        streaming = all(engine.pipeline.progress.state == "streaming" for engine in self._engines)
        return streaming and self.complete

    def _open(self) -> None:
        for side in self._sides:
            side.note_arrivals()
        for direction in self._directions:
            direction.open()
        for side in self._sides:
            side.clerk.start()
        self._opened = time.monotonic()

    def _dispute(self) -> None:
        """Set the price of the same item on both sides.

        Both hold their rows before either commits, so that what one did has to wait on the other side, and neither can
        have heard of it.
        """
        self._disputed = time.monotonic()
        sku = self._chance.choice(SKUS)
        try:
            with ExitStack() as both:
                for side in self._chance.sample(self._sides, 2):
                    both.enter_context(side.clerk.business.repricing(sku, any_price(self._chance)))
        except psycopg.OperationalError as exc:
            raise ConnectionLost(f"an embedded Postgres is gone ({type(exc).__name__})") from None

    def _conflicts(self) -> dict[str, conflicts.ConflictReader]:
        return {side.name: conflicts.read(side) for side in self._sides}


def _databases(stack: ExitStack) -> list[EmbeddedPostgres]:
    """Both started at once, since each takes seconds."""
    servers = [EmbeddedPostgres(name) for name in (MONOLITH, SERVICE)]
    for server in servers:
        stack.callback(server.stop)
    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(EmbeddedPostgres.start, servers))

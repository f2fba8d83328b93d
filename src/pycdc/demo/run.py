"""The demonstration: servers, shop, pipeline and reader, from start to summary.

Order: Postgres, broker and registry; the shop's first rows; the reader; the pipeline, which takes the snapshot. Once
the snapshot was read back, the shop opens. At the end: the shop closes, what is under way is awaited, the pipeline
stores its position and stops, then everything else in the reverse order.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final

import psycopg

from pycdc.config.pipeline import require_capture
from pycdc.demo.broker import EmbeddedBroker
from pycdc.demo.consumer import EventConsumer
from pycdc.demo.demo_loop import Engine
from pycdc.demo.event_stats import EventStats
from pycdc.demo.postgres import EmbeddedPostgres, installation
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.demo.shop import TABLES, Shop
from pycdc.demo.status import DemoAddresses, DemoStatus, DemoSummary, Slot
from pycdc.demo.workload_thread import WorkloadThread
from pycdc.errors import ConnectionLost

NAME: Final = "shop"

_SLOT_INTERVAL: Final = 0.5
_SLOT: Final = """
SELECT active, confirmed_flush_lsn::text,
       pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
  FROM pg_replication_slots WHERE slot_name = %s
"""


class Demo:
    """A context manager: everything runs inside. For one thread."""

    def __init__(self, rate: float, seconds: float = 0.0, *, seed: int | None = None) -> None:
        self._rate = rate
        self._seconds = seconds
        self._seed = seed
        self._stack = ExitStack()
        self._began = time.monotonic()
        self._closed = False
        self._slot: Slot | None = None
        self._slot_at = 0.0

    def __enter__(self) -> Demo:
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
        postgres = stack.enter_context(EmbeddedPostgres(NAME))
        broker = stack.enter_context(EmbeddedBroker())
        registry = stack.enter_context(EmbeddedRegistry())
        topics = tuple(f"{NAME}.public.{table}" for table in TABLES)
        self.addresses = DemoAddresses(postgres.dsn, broker.bootstrap, registry.url, topics)
        self._connection = stack.enter_context(psycopg.connect(postgres.dsn, autocommit=True))
        self._clerk = WorkloadThread(postgres.dsn, self._rate, Shop, seed=self._seed)
        stack.callback(self._clerk.stop)
        self._clerk.open()
        self._stats = EventStats(self._clerk.transactions)
        self._reader = EventConsumer(broker.bootstrap, registry.url, topics, self._stats)
        stack.callback(self._reader.stop)
        self._reader.start()
        self._engine = Engine(configuration(self.addresses))
        stack.callback(self._engine.stop)
        self._engine.start()

    def status(self) -> DemoStatus:
        progress = self._engine.pipeline.progress
        return DemoStatus(
            addresses=self.addresses,
            pipeline=progress.state,
            last_error=progress.last_error,
            elapsed=self.elapsed,
            seconds=self._seconds,
            written=self._clerk.written,
            read=self._stats.counts(),
            others=self._stats.others,
            newest=tuple(self._stats.newest()),
            rates=tuple(self._stats.rates()),
            lag=self._stats.recent_lag(),
            slot=self._slot_state(),
        )

    @property
    def elapsed(self) -> float:
        """Seconds since the shop opened."""
        started = self._clerk.started_at
        return 0.0 if started is None else time.monotonic() - started

    @property
    def over(self) -> bool:
        return 0 < self._seconds <= self.elapsed

    def tend(self) -> None:
        """Open the shop when the snapshot was read. Raises what ended one of the threads."""
        for error in (self._engine.error, self._reader.error, self._clerk.error):
            if error is not None:
                raise error
        if self._clerk.started_at is None and not self._closed and self._complete():
            self._clerk.start()

    def close_shop(self) -> None:
        """Stop writing; `complete` returns whether everything was read."""
        self._closed = True
        self._clerk.stop()

    @property
    def arrived(self) -> int:
        """Events that were read back."""
        return self._stats.counts().total()

    @property
    def complete(self) -> bool:
        return self._complete() and self._stats.tombstones >= self._deletes()

    def finish(self) -> DemoSummary:
        """Stop the pipeline, then say how it went."""
        self._engine.stop()
        self._reader.stop()
        self._slot_at = 0.0
        opened, closed = self._clerk.started_at, self._clerk.stopped_at
        read = self._stats.counts()
        streamed = sum(count for (_, op), count in read.items() if op != "r")
        first = self._stats.first_at
        return DemoSummary(
            written=self._clerk.written,
            read=read,
            others=self._stats.others,
            tombstones=self._stats.tombstones,
            rate=0.0 if opened is None or closed is None else streamed / max(closed - opened, 1e-3),
            lag=self._stats.lag(),
            first_event=None if first is None else first - self._began,
            slot=self._slot_state(),
        )

    def _complete(self) -> bool:
        return self._stats.counts() == self._clerk.written

    def _deletes(self) -> int:
        return sum(count for (_, op), count in self._clerk.written.items() if op == "d")

    def _slot_state(self) -> Slot | None:
        now = time.monotonic()
        if now - self._slot_at >= _SLOT_INTERVAL:
            self._slot_at = now
            name = require_capture(self._engine.pipeline.config).slot
            try:
                row = self._connection.execute(_SLOT, (name,)).fetchone()
            except psycopg.OperationalError as exc:
                raise ConnectionLost(f"the embedded Postgres is gone ({type(exc).__name__})") from None
            self._slot = None if row is None else Slot(name, row[0], row[1] or "-", row[2] or 0, row[3] or 0)
        return self._slot


def configuration(where: DemoAddresses) -> dict[str, Any]:
    """Return the pipeline of the demonstration, in the shape of the YAML."""
    return {
        "name": NAME,
        "source": {"postgres": {"dsn": where.postgres, "tables": ["public.*"], "snapshot": "initial"}},
        "sink": {"kafka": {"brokers": where.brokers, "registry": where.registry}},
        "http": {"enabled": False},
    }

"""One of the two databases, and everything that works on it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from pycdc.demo.consumer import EventConsumer
from pycdc.demo.demo_loop import Engine
from pycdc.demo.event_stats import EventStats
from pycdc.demo.two_way.tables import ARRIVAL, ARRIVALS
from pycdc.demo.two_way.workloads import Monolith, Service
from pycdc.demo.workload_thread import WorkloadThread
from pycdc.errors import ConnectionLost


@dataclass(frozen=True, slots=True)
class DemoDatabase:
    """`capture` reads it, `apply` writes what the other side wrote; `reader` and `stats` see what was captured."""

    name: str
    clerk: WorkloadThread[Monolith] | WorkloadThread[Service]
    questions: psycopg.Connection
    stats: EventStats
    reader: EventConsumer
    capture: Engine
    apply: Engine
    tables: list[str]

    def note_arrivals(self) -> None:
        """Have the database note from here on how long rows took that a pipeline wrote.

        The pipelines run already: at its start, one warns of each trigger that writes into other tables.
        """
        for table in self.tables:
            self.questions.execute(sql.SQL(ARRIVAL).format(sql.Identifier(table)))

    def ask(self, query: LiteralString, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a query. Raises psycopg's errors, but ConnectionLost where the server is gone."""
        try:
            return self.questions.execute(query, parameters).fetchall()
        except psycopg.OperationalError as exc:
            raise ConnectionLost(f"the embedded Postgres of {self.name} is gone ({type(exc).__name__})") from None

    def raise_error(self) -> None:
        """Raise what ended one of the threads, if one ended by itself."""
        for part in (self.capture, self.apply, self.reader, self.clerk):
            error: Exception | None = part.error
            if error is not None:
                raise error


def set_up(
    stack: ExitStack,
    clerk: WorkloadThread[Monolith] | WorkloadThread[Service],
    dsn: str,
    tables: list[str],
    kafka: dict[str, str],
    capture: dict[str, Any],
    apply: dict[str, Any],
) -> DemoDatabase:
    """Create the tables, watch the topics, which makes them, and build the pipelines of these configurations."""
    stack.callback(clerk.stop)
    clerk.open()
    stats = EventStats(clerk.transactions)
    topics = [f"{capture['name']}.{table}" for table in capture["source"]["postgres"]["tables"]]
    reader = EventConsumer(**kafka, topics=topics, stats=stats)
    stack.callback(reader.stop)
    reader.start()
    return DemoDatabase(
        capture["name"], clerk, _questions(stack, dsn), stats, reader, Engine(capture), Engine(apply), tables
    )


def _questions(stack: ExitStack, dsn: str) -> psycopg.Connection:
    """Open a connection for queries, to a database that can note arrivals."""
    connection = stack.enter_context(psycopg.connect(dsn, autocommit=True))
    connection.execute(ARRIVALS)
    return connection

"""A pipeline without a sink, which crashes where it is told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Change, Op

SIGNALS_KEY = "a key of sixteen characters or more"


@dataclass
class Pipeline:
    """Reads a connector and stores checkpoints now and then. A crash forgets what came since the last one, as a sink
    with transactions does."""

    config: CapturePipeline
    changes: list[Change] = field(default_factory=list)
    stored: Checkpoint | None = None
    durable: int = 0

    def run(self, done: Callable[[Pipeline], bool], *, crash_after: int | None = None, store_every: int = 3) -> bool:
        """Until `done`, or a crash after that many batches; tells whether it was done."""
        connector = PostgresConnector(self.config)
        pending: tuple[Batch, int] | None = None
        try:
            for number, batch in enumerate(connector.batches(self.stored), 1):
                if batch is not None:
                    self.changes += batch
                    if batch.position is not None:
                        pending = (batch, len(self.changes))
                if pending is not None and (number % store_every == 0 or pending[0].checkpoint_now):
                    self._store(connector, *pending)
                    pending = None
                if crash_after is not None and number >= crash_after:
                    break
                if done(self):
                    return True
            return crash_after is None
        finally:
            connector.close()
            del self.changes[self.durable :]

    def _store(self, connector: PostgresConnector, batch: Batch, changes: int) -> None:
        self.stored = connector.checkpoint(batch)
        connector.acknowledge(self.stored)
        self.durable = changes

    @property
    def nothing_left(self) -> bool:
        """The stored position is the stream's, and no rows are still to be read."""
        return self.stored is not None and self.stored.snapshot_done and not self.stored.snapshot


def config_for(dsn: str, **source: Any) -> CapturePipeline:
    options = {"dsn": dsn, "snapshot_method": "chunks", "snapshot_chunk": 37, "max_batch_bytes": 8192, **source}
    signals = {"key": SIGNALS_KEY}
    return validate_capture({"name": "shop", "source": {"postgres": options}, "sink": {"null": {}}, "signals": signals})


def execute(dsn: str, statement: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def write_last(dsn: str) -> Callable[[Pipeline], bool]:
    """Write a row into the table `finish`; what is returned holds once it came by the stream and is stored."""
    number = int(execute(dsn, "INSERT INTO finish DEFAULT VALUES RETURNING id")[0][0])
    delivered = False

    def done(pipeline: Pipeline) -> bool:
        nonlocal delivered
        delivered = delivered or any(_is_finish(change, number) for change in reversed(pipeline.changes[-200:]))
        return delivered and pipeline.durable == len(pipeline.changes)

    return done


def _is_finish(change: Change, number: int) -> bool:
    if change.op is not Op.CREATE or change.table is None or change.table.name != "finish":
        return False
    return change.after is not None and change.after["id"] == number

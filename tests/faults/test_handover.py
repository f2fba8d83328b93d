"""From the snapshot to the stream: a row is in one of them, never in both and never in neither."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import psycopg
import pytest

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.config.runtime import CheckpointConfig
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Op
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop

HANDOVERS = int(os.environ.get("PYCDC_HANDOVERS", "15"))
WRITERS = int(os.environ.get("PYCDC_HANDOVER_WRITERS", "4"))
"""`make chaos-handoff` has 1,000 and 32."""


class Collector:
    """Counts, for each row, how often it came, from where."""

    def __init__(self, offsets: MemoryOffsetStore) -> None:
        self._offsets = offsets
        self.read: list[int] = []
        self.created: list[int] = []
        self.streaming = threading.Event()
        self.finished = threading.Event()

    def write(self, batch: Batch) -> None:
        for change in batch:
            assert change.after is not None
            if change.table is not None and change.table.name == "finish":
                if change.op is Op.CREATE:
                    self.finished.set()
            elif change.op is Op.READ:
                self.read.append(change.after["id"])
            elif change.op is Op.CREATE:
                self.created.append(change.after["id"])
                self.streaming.set()

    def commit(self, checkpoint: Checkpoint) -> None:
        self._offsets.store(checkpoint)


class Inserter(threading.Thread):
    """Inserts rows, one or several a transaction, until told to end."""

    def __init__(self, dsn: str, end: threading.Event) -> None:
        super().__init__()
        self._dsn, self._end = dsn, end

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._end.is_set():
                connection.execute("INSERT INTO items SELECT nextval('ids'), 0 FROM generate_series(1, 3)")
                self._end.wait(0.003)


def config_for(dsn: str, number: int) -> CapturePipeline:
    return validate_capture(
        json.loads(
            json.dumps(
                {
                    "name": f"handover_{number}",
                    "source": {"postgres": {"dsn": dsn}},
                    "sink": {"console": {}},
                    "http": {"enabled": False},
                }
            )
        )
    )


@pytest.mark.slow
@pytest.mark.pg("==15")
def test_handovers_under_writers_have_neither_gap_nor_duplicate(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL)")
        connection.execute("CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
        connection.execute("CREATE SEQUENCE ids CACHE 1")
    end = threading.Event()
    writers = [Inserter(database, end) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        read = [one_handover(database, number) for number in range(HANDOVERS)]
    finally:
        end.set()
        for writer in writers:
            writer.join()
    assert sum(map(bool, read)) > HANDOVERS / 2, "the snapshots had nothing to read"


def one_handover(dsn: str, number: int) -> int:
    """How many rows the snapshot had."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE items")  # Or the last hand-overs would read what all before them have written.
    config = config_for(dsn, number)
    offsets = MemoryOffsetStore()
    collector = Collector(offsets)
    loop = Loop(lambda: PostgresConnector(config), lambda: collector, offsets, CheckpointConfig(), config.retries)
    failures: list[BaseException] = []
    thread = threading.Thread(target=lambda: guarded(loop, failures))
    thread.start()
    try:
        while not collector.streaming.wait(0.1) and not failures:
            pass
        with psycopg.connect(dsn, autocommit=True) as connection:
            seen = connection.execute("SELECT array_agg(id) FROM items").fetchone()
            connection.execute("INSERT INTO finish DEFAULT VALUES")
        assert collector.finished.wait(120)
    finally:
        loop.stop()
        thread.join(120)
        Admin(dsn).drop_slot(config.slot)
        Admin(dsn).drop_publication(config.publication)
    assert failures == []
    assert seen is not None
    came = collector.read + collector.created
    assert len(came) == len(set(came)), "a row came twice"
    assert not set(seen[0]) - set(came), "a row came neither in the snapshot nor in the stream"
    return len(collector.read)


def guarded(loop: Any, failures: list[BaseException]) -> None:
    try:
        loop.run()
    except BaseException as exc:
        failures.append(exc)

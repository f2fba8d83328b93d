"""Rows that are read among the changes: each stands where it belongs, and a crash at any place continues there."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from pycdc.config import Config
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.interfaces import Checkpoint
from pycdc.loading import validate
from pycdc.model import UNCHANGED, Batch, Change, Op, Row

WRITERS = 3
ROWS = 300

TABLES = f"""
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE plain (id int PRIMARY KEY, v int NOT NULL, big text);
ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
CREATE TABLE odd (a text COLLATE "C", b numeric, id int NOT NULL, v int NOT NULL, big text, PRIMARY KEY (a, b));
CREATE TABLE whole (id int NOT NULL, v int NOT NULL, big text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE parts (id int PRIMARY KEY, v int NOT NULL, big text) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE nothing (id int PRIMARY KEY);
INSERT INTO plain SELECT i, 0, repeat(i::text, 3000) FROM generate_series(1, {ROWS}) i;
INSERT INTO odd
SELECT CASE i % 4 WHEN 0 THEN 'a''\\' WHEN 1 THEN 'B' WHEN 2 THEN E'tab\\t' ELSE '' END, i / 4.0, i, 0, 'x'
  FROM generate_series(1, {ROWS}) i;
INSERT INTO whole SELECT i, 0, 'x' FROM generate_series(1, {ROWS}) i;
INSERT INTO parts SELECT i, 0, 'x' FROM generate_series(1, {ROWS}) i;
"""
WRITTEN = ("plain", "odd", "whole", "parts")


class Writer(threading.Thread):
    """Changes rows that are its own, so that their versions only grow; never touches a big value without need."""

    def __init__(self, dsn: str, number: int, end: threading.Event) -> None:
        super().__init__()
        self._dsn, self._number, self._end = dsn, number, end
        self._random = random.Random(number)
        self.transactions = 0

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._end.is_set():
                with connection.transaction():
                    for _ in range(self._random.randint(1, 3)):
                        self._write(connection)
                self.transactions += 1
                self._end.wait(0.001)

    def _write(self, connection: psycopg.Connection[Any]) -> None:
        table = self._random.choice(WRITTEN)
        number = self._random.randrange(self._number, ROWS, WRITERS) + 1
        if self._random.random() < 0.8:
            connection.execute(f"UPDATE {table} SET v = v + 1 WHERE id = %s".encode(), [number])
            return
        query = f"DELETE FROM {table} WHERE id = %s RETURNING *"
        with connection.cursor() as cursor:
            row = cursor.execute(query.encode(), [number]).fetchone()
            assert row is not None
            assert cursor.description is not None
            names = [column.name for column in cursor.description]
        values = [value + 1 if name == "v" else value for name, value in zip(names, row, strict=True)]
        holes = ", ".join(["%s"] * len(values))
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({holes})".encode(), values)


@contextmanager
def writers(dsn: str) -> Iterator[list[Writer]]:
    end = threading.Event()
    threads = [Writer(dsn, number, end) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        end.set()
        for thread in threads:
            thread.join()


@dataclass
class Pipeline:
    """Reads a connector and stores checkpoints now and then. A crash forgets what came since the last one, as a sink
    with transactions does."""

    config: Config
    changes: list[Change] = field(default_factory=list)
    stored: Checkpoint | None = None
    durable: int = 0

    def run(self, done: Callable[[Pipeline], bool], *, crash_after: int | None = None, store_every: int = 3) -> bool:
        """Until `done`, or a crash after that many batches; tells whether it was done."""
        connector = PostgresConnector(self.config)
        try:
            for number, batch in enumerate(connector.batches(self.stored), 1):
                if batch is not None:
                    self._take(batch, connector, number % store_every == 0 or batch.urgent)
                if crash_after is not None and number >= crash_after:
                    break
                if done(self):
                    return True
            return crash_after is None
        finally:
            connector.close()
            del self.changes[self.durable :]

    def _take(self, batch: Batch, connector: PostgresConnector, store: bool) -> None:
        self.changes += batch
        if store and batch.position is not None:
            self.stored = connector.checkpoint(batch)
            connector.acknowledge(self.stored)
            self.durable = len(self.changes)


def config_for(dsn: str, **source: Any) -> Config:
    options = {"dsn": dsn, "snapshot_method": "chunks", "snapshot_chunk": 37, "max_batch_bytes": 8192, **source}
    return validate({"name": "backfill", "source": {"postgres": options}, "sink": {"null": {}}})


def finished(dsn: str, number: int) -> Callable[[Pipeline], bool]:
    """The row `number` of the table `finish` came by the stream and is stored, and nothing is left to be read."""

    came = False

    def done(pipeline: Pipeline) -> bool:
        nonlocal came
        came = came or any(is_finish(change, number) for change in reversed(pipeline.changes[-200:]))
        stored = pipeline.stored
        behind = pipeline.durable == len(pipeline.changes)
        return came and behind and stored is not None and stored.snapshot_done and not stored.snapshot

    return done


def is_finish(change: Change, number: int) -> bool:
    if change.op is not Op.CREATE or change.table is None or change.table.name != "finish":
        return False
    return change.after is not None and change.after["id"] == number


def replayed(changes: list[Change], table: str) -> dict[int, Row]:
    """The table as a consumer has it, who keeps the value that was not sent; asserts that no row ever goes back."""
    state: dict[Any, Row] = {}
    newest: dict[Any, int] = {}
    for change in changes:
        assert change.table is not None
        if not change.table.name.startswith(table):
            continue
        if change.op is Op.DELETE:
            assert change.before is not None
            before = change.before
            state.pop(before["id"] if "id" in before else int(before["b"] * 4), None)
            continue
        row = change.after
        assert row is not None
        key = row["id"]
        assert row["v"] >= newest.get(key, -1), f"{change} goes back to an older version"
        newest[key] = row["v"]
        old = state.get(key, {})
        state[key] = {name: old.get(name) if value is UNCHANGED else value for name, value in row.items()}
    return state


def table_now(dsn: str, table: str) -> dict[int, Row]:
    with psycopg.connect(dsn) as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return {row["id"]: row for row in cursor.execute(f"SELECT * FROM {table}".encode()).fetchall()}


def execute(dsn: str, statement: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def assert_equals_the_tables(dsn: str, changes: list[Change]) -> None:
    for table in WRITTEN:
        assert replayed(changes, table) == table_now(dsn, table), table


def assert_each_row_was_read_once(changes: list[Change]) -> None:
    reads = Counter(
        (change.table.name, change.after["id"])
        for change in changes
        if change.op is Op.READ and change.after is not None
    )
    assert max(reads.values()) == 1


def last_row(dsn: str) -> int:
    return int(execute(dsn, "INSERT INTO finish DEFAULT VALUES RETURNING id")[0][0])


def test_rows_read_under_writers_stand_where_they_belong(database: str) -> None:
    execute(database, TABLES)
    pipeline = Pipeline(config_for(database))
    with writers(database) as threads:
        assert pipeline.run(lambda p: p.stored is not None and not p.stored.snapshot and p.durable > ROWS)
        assert all(thread.transactions for thread in threads)
    assert pipeline.run(finished(database, last_row(database)))
    assert_equals_the_tables(database, pipeline.changes)
    assert_each_row_was_read_once(pipeline.changes)


@pytest.mark.parametrize("method", ["pinned", "chunks"])
def test_a_snapshot_that_crashes_again_and_again_goes_on_where_it_was(database: str, method: str) -> None:
    execute(database, TABLES)
    pipeline = Pipeline(config_for(database, snapshot_method=method))
    choose = random.Random(7)
    crashes = 0
    with writers(database):
        while not pipeline.run(
            lambda p: p.stored is not None and p.stored.snapshot_done and not p.stored.snapshot,
            crash_after=choose.randint(5, 70),
        ):
            crashes += 1
    assert crashes > 2
    print(crashes)
    assert pipeline.run(finished(database, last_row(database)))
    assert_equals_the_tables(database, pipeline.changes)
    reads = sum(change.op is Op.READ for change in pipeline.changes)
    assert reads < 1.5 * ROWS * len(WRITTEN), "rows that were delivered are read again only around a crash"

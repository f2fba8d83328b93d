"""DDL without a pause, while rows are written: the catalog is always ahead of the stream."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.schema_changes.stream import Row, Stream

pytestmark = pytest.mark.pg("newest")

TABLES = 3
DDL_A_SECOND = 50
SECONDS = 4.0
ADD = [
    "ADD c{n} int",
    "ADD c{n} text DEFAULT 'd{n}'",
    "ADD c{n} bigint NOT NULL DEFAULT {n}",
    "ADD c{n} busy_mood DEFAULT 'calm'",
    "ADD c{n} numeric(8,2) DEFAULT {n}.25",
]
RETYPE = ["ALTER c{n} TYPE text", "RENAME c{n} TO r{n}", "DROP c{n}", "ALTER c{n} DROP NOT NULL", "DROP c{n}"]


class Writer(threading.Thread):
    """Commits rows, sometimes several in a transaction with DDL among them, and keeps what the tables then held."""

    def __init__(self, dsn: str, table: str, seed: int) -> None:
        super().__init__(name=table)
        self._connection = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)
        self._table, self._random = table, random.Random(seed)
        self._live: list[int] = []
        self._number = 0
        self.rows: list[Row] = []
        self.changes = 0
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self._connection:
                while not self.ended.wait(TABLES / DDL_A_SECOND):
                    self._transaction()
        except BaseException as error:
            self.error = error

    def _transaction(self) -> None:
        with self._connection.transaction():
            self._insert()
            self._ddl()
            self._insert()
            self._update()

    def _insert(self) -> None:
        self._number += 1
        statement = f"INSERT INTO {self._table} (id, note) VALUES (%s, %s) RETURNING *"
        self._keep(self._connection.execute(statement.encode(), [self._number, f"n{self._number}"]).fetchone())

    def _update(self) -> None:
        statement = f"UPDATE {self._table} SET note = note || 'u' WHERE id = %s RETURNING *"
        self._keep(self._connection.execute(statement.encode(), [self._number]).fetchone())

    def _keep(self, row: Any) -> None:
        self.rows.append(row)

    def _ddl(self) -> None:
        if len(self._live) < 8:
            self.changes += 1
            self._live.append(self.changes)
            change, number = self._random.choice(ADD), self.changes
        else:
            number = self._live.pop(self._random.randrange(len(self._live)))
            change = self._random.choice(RETYPE)
            self.changes += 1
        self._connection.execute(f"ALTER TABLE {self._table} {change.format(n=number)}".encode())


@contextmanager
def running(writers: list[Writer]) -> Iterator[None]:
    for writer in writers:
        writer.start()
    try:
        yield
    finally:
        for writer in writers:
            writer.ended.set()
            writer.join()


def test_rows_are_as_written_under_fifty_changes_a_second(stream: Stream) -> None:
    """C31. The stream is read now and then, from the start again too, while the catalog runs ahead."""
    dsn = stream.config.source.postgres.dsn.get_secret_value()
    stream.execute("CREATE TYPE busy_mood AS ENUM ('calm', 'busy')")
    names = [f"busy{number}" for number in range(TABLES)]
    for name in names:
        stream.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, note text)")
    writers = [Writer(dsn, name, seed) for seed, name in enumerate(names)]
    delivered: dict[str, list[Any]] = {name: [] for name in names}
    begin = time.monotonic()
    with running(writers):
        while time.monotonic() < begin + SECONDS:
            for one in stream.read():
                delivered[one.table.removeprefix("public.")].append(one.after)
    for writer in writers:
        assert writer.error is None
    for one in stream.read():
        delivered[one.table.removeprefix("public.")].append(one.after)
    assert sum(writer.changes for writer in writers) > DDL_A_SECOND * SECONDS * 0.5
    assert delivered == {writer.name: writer.rows for writer in writers}
    stream.stop()
    stream.start()
    again: dict[str, list[Any]] = {name: [] for name in names}
    for one in stream.read():
        again[one.table.removeprefix("public.")].append(one.after)
    assert again == delivered

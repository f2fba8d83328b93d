"""Rows that are read among the changes: each stands where it belongs, and a crash at any place continues there."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pycdc.model.change import UNCHANGED, Change, Op, Row
from tests.connectors.postgres.reading import Pipeline, config_for, execute, write_last

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
                self._end.wait(0.005)

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


def assert_equals_the_tables(dsn: str, changes: list[Change]) -> None:
    for table in WRITTEN:
        assert replayed(changes, table) == table_now(dsn, table), table


def assert_each_row_was_read_once(changes: list[Change]) -> None:
    reads = Counter(
        (change.table.name, change.after["id"])
        for change in changes
        if change.op is Op.READ and change.after is not None and change.table is not None
    )
    assert max(reads.values()) == 1


def test_rows_read_under_writers_stand_where_they_belong(database: str) -> None:
    execute(database, TABLES)
    pipeline = Pipeline(config_for(database))
    with writers(database) as threads:
        assert pipeline.run(lambda p: p.nothing_left and p.durable > ROWS)
        assert all(thread.transactions for thread in threads)
    assert pipeline.run(write_last(database))
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
            lambda p: p.nothing_left,
            crash_after=choose.randint(4, 40),
        ):
            crashes += 1
    assert crashes > 1
    assert pipeline.run(write_last(database))
    assert_equals_the_tables(database, pipeline.changes)
    reads = sum(change.op is Op.READ for change in pipeline.changes)
    assert reads < 1.5 * ROWS * len(WRITTEN), "rows that were delivered are read again only around a crash"


LOOSE = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
EDGES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN small AS smallint;
CREATE TYPE pair AS (a int, b text);
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE k_loose (k text COLLATE loose PRIMARY KEY);
INSERT INTO k_loose SELECT chr(97 + i / 26) || chr(97 + i % 26) || chr(233) || CASE i % 2 WHEN 0 THEN 'x' ELSE 'Y' END
  FROM generate_series(0, 299) i;
CREATE TABLE k_mood (m mood, s small, PRIMARY KEY (m, s));
INSERT INTO k_mood SELECT m, i FROM unnest(enum_range(NULL::mood)) m, generate_series(-50, 50) i;
CREATE TABLE k_many (d date, u uuid, f float8, b bytea, c char(4), PRIMARY KEY (c, d, u, f, b));
CREATE TABLE k_pair (p pair PRIMARY KEY);
INSERT INTO k_pair SELECT ROW(i % 7, repeat(chr(39) || chr(92), i % 5) || i)::pair FROM generate_series(1, 300) i;
CREATE TABLE k_array (a int[] PRIMARY KEY);
INSERT INTO k_array SELECT ARRAY[i % 13, NULL, i] FROM generate_series(1, 300) i;
CREATE TABLE k_bits (b bit(9) PRIMARY KEY);
INSERT INTO k_bits SELECT i::bit(9) FROM generate_series(0, 300) i;
CREATE TABLE k_float (f float8 PRIMARY KEY);
INSERT INTO k_float SELECT i / 7.0::float8 FROM generate_series(1, 300) i;
INSERT INTO k_float VALUES ('NaN'), ('Infinity'), ('-Infinity'), (1e-320);
CREATE TABLE k_index (k name NOT NULL);
CREATE UNIQUE INDEX k_index_k ON k_index (k);
ALTER TABLE k_index REPLICA IDENTITY USING INDEX k_index_k;
INSERT INTO k_index SELECT 'n' || i FROM generate_series(1, 300) i;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (extra int) INHERITS (parent);
INSERT INTO parent SELECT generate_series(1, 100);
INSERT INTO child SELECT i, i FROM generate_series(1000, 1100) i;
"""


def test_keys_of_every_order_are_read_to_the_last_row_and_none_twice(database: str) -> None:
    try:
        execute(database, LOOSE)
    except psycopg.errors.FeatureNotSupported:
        execute(database, 'CREATE COLLATION loose FROM "C"')  # a server without ICU
    execute(database, EDGES)
    execute(
        database,
        "INSERT INTO k_many SELECT date '2026-01-01' - i, md5(i::text)::uuid, i / 3.0, decode(md5(i::text), 'hex'), "
        "chr(97 + i % 5) FROM generate_series(1, 300) i",
    )
    pipeline = Pipeline(config_for(database))
    assert pipeline.run(lambda p: p.nothing_left and p.durable > ROWS)
    counts = Counter(change.table.name for change in pipeline.changes if change.table is not None)
    tables = [
        name
        for (name,) in execute(database, "SELECT relname FROM pg_class WHERE relname ~ '^k_.*[a-z]$' AND relkind = 'r'")
    ]
    assert len(tables) == 8
    for table in [*tables, "parent", "child"]:
        assert counts[table] == execute(database, f"SELECT count(*) FROM ONLY {table}")[0][0], table
        assert (
            len({change.frame for change in pipeline.changes if str(change.table) == f"public.{table}"})
            == counts[table]
        )


def test_citext_is_compared_by_its_own_operators(contrib_database: str) -> None:
    execute(contrib_database, "CREATE EXTENSION citext; CREATE TABLE t (k citext PRIMARY KEY)")
    execute(
        contrib_database,
        "INSERT INTO t SELECT CASE i % 2 WHEN 0 THEN 'a' ELSE 'B' END || i FROM generate_series(1, 300) i",
    )
    pipeline = Pipeline(config_for(contrib_database))
    assert pipeline.run(lambda p: p.nothing_left and p.durable >= 300)
    assert len({change.frame for change in pipeline.changes}) == len(pipeline.changes) == 300

"""Rows by COPY: every row once, as text that equals the stream's, as of the snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import CopySource
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.connectors.postgres.snapshot.copy_reader import copy_rows
from pycdc.errors import ConnectionLost, ConversionError, EnvironmentNotReady
from tests.reading import wait_for


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def rows(dsn: str, table: CopySource, snapshot: str | None = None) -> list[bytes]:
    return list(chain.from_iterable(copy_rows(dsn, snapshot, table)))


def test_every_row_comes_once_as_a_line(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t AS SELECT n AS id, repeat('x', n % 300) AS note FROM generate_series(1, 20000) n")
    lines = rows(database, CopySource("public", "t", ("id", "note")))
    assert lines == [b"%d\t%s" % (n, b"x" * (n % 300)) for n in range(1, 20001)]


def test_chunks_are_bounded_and_never_empty(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t AS SELECT repeat('x', 999) AS note FROM generate_series(1, 1000)")
    table = CopySource("public", "t", ("note",))
    by_rows = [len(chunk) for chunk in copy_rows(database, None, table, max_rows=300)]
    assert (max(by_rows), min(by_rows) > 0, sum(by_rows)) == (300, True, 1000)
    by_bytes = [len(chunk) for chunk in copy_rows(database, None, table, max_bytes=50_000)]
    assert (max(by_bytes), sum(by_bytes)) == (50, 1000)


def test_an_empty_table_has_no_chunk(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t (id int)")
    assert list(copy_rows(database, None, CopySource("public", "t", ("id",)))) == []


def test_nulls_and_control_characters_are_escaped_as_copy_does(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t (a text, b text)")
    source.execute("INSERT INTO t VALUES (NULL, E'tab\\tnew\\nline\\\\'), ('', '\\N')")
    lines = rows(database, CopySource("public", "t", ("a", "b")))
    assert lines == [b"\\N\ttab\\tnew\\nline\\\\", b"\t\\\\N"]


def test_a_field_of_megabytes_is_one_line(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t AS SELECT repeat('x', 20000000) AS note")
    assert [len(line) for line in rows(database, CopySource("public", "t", ("note",)))] == [20_000_000]


def test_names_need_no_care(source: psycopg.Connection[Any], database: str) -> None:
    for name in ('a"b', "a'b", "select", "emoji 🐘", "100%", "back\\slash"):
        source.execute(sql.SQL("CREATE SCHEMA {0} CREATE TABLE {0} ({0} int)").format(sql.Identifier(name)))
        source.execute(sql.SQL("INSERT INTO {0}.{0} VALUES (7)").format(sql.Identifier(name)))
        assert rows(database, CopySource(name, name, (name,))) == [b"7"]


@pytest.mark.pg(">=15")
def test_rows_and_columns_that_the_publication_leaves_out_are_not_read(
    source: psycopg.Connection[Any], database: str
) -> None:
    source.execute("CREATE TABLE t (id int, secret text, kind text)")
    source.execute("INSERT INTO t VALUES (1, 's', 'a%b'), (2, 's', 'c')")
    source.execute("CREATE PUBLICATION p FOR TABLE t (id) WHERE (kind LIKE 'a%')")
    with Catalog(database) as catalog:
        (table,) = catalog.tables(["t"])
        copied = catalog.columns_for_copy(table.oid, "p")
    assert copied is not None
    assert rows(database, copied) == [b"1"]


def test_a_partitioned_table_yields_the_rows_of_its_partitions(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE m (day int) PARTITION BY LIST (day)")
    source.execute("CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1); CREATE TABLE m2 PARTITION OF m FOR VALUES IN (2)")
    source.execute("INSERT INTO m VALUES (1), (2)")
    assert sorted(rows(database, CopySource("public", "m", ("day",)))) == [b"1", b"2"]
    assert rows(database, CopySource("public", "m2", ("day",))) == [b"2"]


def test_readers_of_one_snapshot_see_the_same_rows_whatever_is_written(
    source: psycopg.Connection[Any], database: str
) -> None:
    source.execute("CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 100)")
    table = CopySource("public", "t", ("id",))
    with Admin(database).create_slot_with_snapshot(f"{source.info.dbname}_slot") as snapshot:
        before = rows(database, table, snapshot.name)
        source.execute("DELETE FROM t WHERE id > 50; INSERT INTO t VALUES (1000)")
        assert rows(database, table, snapshot.name) == before
    assert len(before) == 100


def test_a_snapshot_that_is_gone_is_a_lost_connection(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t (id int)")
    with Admin(database).create_slot_with_snapshot(f"{source.info.dbname}_slot") as snapshot:
        pass
    # The session that held it ends a moment after its connection was closed.
    wait_for(lambda: source.execute("SELECT count(*) FROM pg_ls_dir('pg_snapshots')").fetchone() == (0,))
    with pytest.raises(ConnectionLost, match="snapshot is gone"):
        rows(database, CopySource("public", "t", ("id",)), snapshot.name)


def test_a_table_that_may_not_be_read_is_reported(source: psycopg.Connection[Any], database: str) -> None:
    role = f"{source.info.dbname}_role"
    source.execute("CREATE TABLE t (id int); CREATE TABLE hidden (id int); INSERT INTO hidden VALUES (1)")
    source.execute("ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
    source.execute(sql.SQL("CREATE ROLE {0} LOGIN; GRANT SELECT ON hidden TO {0}").format(sql.Identifier(role)))
    try:
        for name, remedy in (("t", "GRANT SELECT"), ("hidden", "BYPASSRLS")):
            with pytest.raises(EnvironmentNotReady) as caught:
                rows(f"{database} user={role}", CopySource("public", name, ("id",)))
            assert remedy in caught.value.hint
    finally:
        source.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def test_a_row_that_fails_while_it_is_read_does_not_show_its_values(
    source: psycopg.Connection[Any], database: str
) -> None:
    source.execute("CREATE TABLE t (ssn text); INSERT INTO t VALUES ('123-45-6789')")
    failing = CopySource("public", "t", ("ssn",), row_filter="ssn::int > 0")
    with pytest.raises(ConversionError, match="cannot process a value of a row") as caught:
        rows(database, failing)
    assert "123-45-6789" not in str(caught.value)


def test_the_reader_that_is_terminated_is_a_lost_connection(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t AS SELECT repeat('x', 10000) AS note FROM generate_series(1, 5000)")
    chunks = copy_rows(database, None, CopySource("public", "t", ("note",)), max_rows=10)
    next(chunks)
    source.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
    with pytest.raises(ConnectionLost):
        list(chunks)


def test_a_reader_that_is_left_early_lets_its_connection_go(source: psycopg.Connection[Any], database: str) -> None:
    source.execute("CREATE TABLE t AS SELECT repeat('x', 10000) AS note FROM generate_series(1, 5000)")
    chunks = copy_rows(database, None, CopySource("public", "t", ("note",)), max_rows=10)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    for _ in range(200):
        if source.execute(left).fetchone() == (0,):
            return
        source.execute("SELECT pg_sleep(0.02)")
    pytest.fail("the connection of a reader that was left is still there")

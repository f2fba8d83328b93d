"""Partitioned tables by root and by leaf, while partitions come, go and change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.schema_changes.stream import Stream
from tests.services.postgres import PostgresServer

pytestmark = pytest.mark.pg("outermost")

PARTS = (
    "CREATE TABLE parts (id int, region text, n int, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
    "CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu')",
    "CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us')",
    # The order of columns of a table that is attached is its own.
    "CREATE TABLE parts_asia (n int, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region))",
)
ATTACH = "ALTER TABLE parts ATTACH PARTITION parts_asia FOR VALUES IN ('asia')"
DETACH = "ALTER TABLE parts DETACH PARTITION parts_asia"


@pytest.fixture(params=[True, False], ids=["by root", "by leaf"])
def parts(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[tuple[Stream, bool]]:
    dsn = postgres.create_database()
    with closing(Stream(dsn, via_root=request.param, envelope={"skip": []})) as stream:
        stream.execute(*PARTS)
        yield stream, request.param
    postgres.drop_database(dsn)


@pytest.mark.parametrize("together", [False, True], ids=["outside", "inside"])
def test_a_partition_is_delivered_by_the_root_from_attach_to_detach(parts: tuple[Stream, bool], together: bool) -> None:
    stream, by_root = parts
    stream.write(
        [
            "INSERT INTO parts_asia VALUES (10, 'asia', 1)",
            ATTACH,
            "INSERT INTO parts VALUES (2, 'asia', 20)",
            "INSERT INTO parts_asia VALUES (30, 'asia', 3)",
            DETACH,
            "INSERT INTO parts_asia VALUES (40, 'asia', 4)",
        ],
        together=together,
    )
    seen = {row["id"]: (one.table, row) for one in stream.read() if (row := one.after)}
    within = "public.parts" if by_root else "public.parts_asia"
    assert [seen[number][0] for number in (1, 2, 3, 4)] == ["public.parts_asia", within, within, "public.parts_asia"]
    assert {number: row["n"] for number, (_, row) in seen.items()} == {1: 10, 2: 20, 3: 30, 4: 40}


def test_a_row_that_moves_is_a_delete_and_a_create(parts: tuple[Stream, bool]) -> None:
    stream, by_root = parts
    stream.write(["INSERT INTO parts VALUES (1, 'eu', 5)", "UPDATE parts SET region = 'us'"], together=True)
    told = [(one.table, one.op, one.key["region"]) for one in stream.read()]
    eu, us = ("public.parts", "public.parts") if by_root else ("public.parts_eu", "public.parts_us")
    assert told == [(eu, "c", "eu"), (eu, "d", "eu"), (us, "c", "us")]


def test_a_truncate_of_a_partition_is_told_by_leaf_only(parts: tuple[Stream, bool]) -> None:
    """By root, Postgres sends nothing: consumers keep rows that are gone. A truncate of the root is told both ways."""
    stream, by_root = parts
    stream.write(["INSERT INTO parts VALUES (1, 'eu', 5)", "TRUNCATE parts_eu"])
    assert [one.table for one in stream.read() if one.op == "t"] == ([] if by_root else ["public.parts_eu"])
    stream.write(["TRUNCATE parts"])
    truncated = sorted(one.table for one in stream.read() if one.op == "t")
    assert truncated == (["public.parts"] if by_root else ["public.parts_eu", "public.parts_us"])


@pytest.mark.parametrize("together", [False, True], ids=["outside", "inside"])
def test_a_column_added_to_the_root_is_in_all_partitions_at_once(parts: tuple[Stream, bool], together: bool) -> None:
    stream, by_root = parts
    written = stream.write(
        [
            "INSERT INTO parts VALUES (1, 'eu', 1), (2, 'us', 2)",
            "ALTER TABLE parts ADD more int DEFAULT 7",
            "INSERT INTO parts VALUES (3, 'eu', 3), (4, 'us', 4)",
        ],
        together=together,
    )
    rows = [one.after for one in stream.read() if one.after]
    assert sorted(rows, key=lambda row: row["id"]) == written
    for table in ["parts"] if by_root else ["parts_eu", "parts_us"]:
        assert len(stream.texts(f"public.{table}")) == 2


def test_a_partition_that_is_dropped_sends_nothing(parts: tuple[Stream, bool]) -> None:
    stream, _ = parts
    stream.write(
        ["INSERT INTO parts VALUES (1, 'eu', 1)", "DROP TABLE parts_eu", "INSERT INTO parts VALUES (2, 'us', 2)"]
    )
    assert [(one.op, one.key["id"]) for one in stream.read()] == [("c", 1), ("c", 2)]


def test_a_new_partition_of_a_published_root_is_delivered(parts: tuple[Stream, bool]) -> None:
    stream, by_root = parts
    stream.write(
        [
            "CREATE TABLE parts_africa PARTITION OF parts FOR VALUES IN ('africa')",
            "INSERT INTO parts VALUES (1, 'africa', 1)",
        ],
        together=True,
    )
    assert [one.table for one in stream.read()] == ["public.parts" if by_root else "public.parts_africa"]

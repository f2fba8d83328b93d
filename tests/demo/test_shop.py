from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from pycdc.demo.postgres import EmbeddedPostgres
from pycdc.demo.shop import TABLES, Shop
from pycdc.demo.workload import ChangeCounts
from pycdc.demo.workload_thread import WorkloadThread
from tests.demo.test_postgres import wait_for

pytestmark = pytest.mark.server


@pytest.fixture
def dsn(server: EmbeddedPostgres) -> str:
    name = f"shop_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.dsn.rpartition("/")[0] + "/" + name


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def rows(connection: psycopg.Connection) -> dict[str, int]:
    counted = {}
    for table in TABLES:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert row is not None
        counted[table] = row[0]
    return counted


def expected_rows(written: ChangeCounts) -> dict[str, int]:
    return {table: written[table, "r"] + written[table, "c"] - written[table, "d"] for table in TABLES}


def test_the_shop_knows_every_row_change_it_committed(connection: psycopg.Connection) -> None:
    shop = Shop(connection, random.Random(7))
    shop.open()
    first = shop.written.total()
    reported = sum(shop.trade() for _ in range(600))
    assert rows(connection) == expected_rows(shop.written)
    connection.execute("SELECT pg_stat_force_next_flush()")
    row = connection.execute("SELECT sum(n_tup_upd) FROM pg_stat_user_tables").fetchone()
    assert row is not None
    key_changes = shop.written["products", "d"]
    updates = sum(count for (_, op), count in shop.written.items() if op == "u")
    assert row[0] == updates + key_changes
    assert reported == shop.written.total() - first


def test_every_kind_of_change_occurs(connection: psycopg.Connection) -> None:
    shop = Shop(connection, random.Random(7))
    shop.open()
    for _ in range(600):
        shop.trade()
    kinds = {op for _, op in shop.written}
    assert kinds == {"r", "c", "u", "d"}
    assert shop.written["products", "d"] == shop.written["products", "c"] > 0
    assert len(shop.transactions) == 601


def test_the_same_seed_does_the_same_deals(server: EmbeddedPostgres) -> None:
    counts = []
    for number in (1, 2):
        name = f"twin_{number}"
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(server.dsn.rpartition("/")[0] + "/" + name, autocommit=True) as connection:
            shop = Shop(connection, random.Random(3))
            shop.open()
            for _ in range(50):
                shop.trade()
            counts.append(shop.written)
    assert counts[0] == counts[1]


def test_the_workload_ends_with_final_counts(dsn: str, connection: psycopg.Connection) -> None:
    workload = WorkloadThread(dsn, 0, Shop, seed=5)
    workload.open()
    workload.start()
    assert wait_for(lambda: workload.written.total() > 300)
    workload.stop()
    assert workload.error is None
    assert rows(connection) == expected_rows(workload.written)


def test_the_workload_says_when_the_shop_is_gone(dsn: str, connection: psycopg.Connection) -> None:
    workload = WorkloadThread(dsn, 0, Shop, seed=5)
    workload.open()
    connection.execute("DROP TABLE orders, order_lines, products, customers")
    workload.start()
    assert wait_for(lambda: workload.error is not None)
    workload.stop()
    assert "UndefinedTable" in str(workload.error)

"""Rows that take keys of others in one transaction arrive, wherever batches end and whatever the partitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.running import Running

pytestmark = pytest.mark.pg("newest")

WAYS: dict[str, dict[str, Any]] = {
    "envelope": {},
    "flat": {"flatten": {"deletes": "rewrite", "add_fields": ["source.txId"]}},
}
ROWS = 12


@pytest.fixture
def second(postgres: Any) -> Iterator[str]:
    dsn = postgres.create_database()
    yield dsn
    postgres.drop_database(dsn)


def run(dsn: str, *statements: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_rows_that_take_keys_of_others_arrive_in_batches_of_one(
    database: str, second: str, kafka: Any, registry: Any, topic_prefix: str, way: str, partitions: int
) -> None:
    run(database, "CREATE TABLE seats (id int PRIMARY KEY DEFERRABLE, name text)")
    run(database, "ALTER TABLE seats REPLICA IDENTITY FULL")
    run(database, f"INSERT INTO seats SELECT i, 'n' || i FROM generate_series(1, {ROWS}) i")
    run(second, "CREATE TABLE seats (id int PRIMARY KEY, name text)")
    brokers = {"brokers": kafka.bootstrap, "registry": registry.url}
    capture = {
        "name": f"{topic_prefix}c",
        "source": {"postgres": {"dsn": database, "tables": ["public.seats"]}},
        "sink": {"kafka": {**brokers, "format": "avro"}},
        "rules": [{"tables": "public.seats", "key": ["id"]}],
        "http": {"enabled": False},
        **WAYS[way],
    }
    topic = f"{topic_prefix}c.public.seats"
    kafka.create_topic(topic, partitions=partitions)
    back = {
        "name": f"{topic_prefix}b",
        "source": {"kafka": {**brokers, "topics": [topic], "max_batch_events": 1}},
        "sink": {"postgres": {"dsn": second, "routes": [{"topic": topic, "table": "seats"}]}},
        "http": {"enabled": False},
    }
    rows = "SELECT id, name FROM seats ORDER BY id"
    with Running(capture) as capturing, Running(back) as applying:
        capturing.until_streaming()
        applying.until(lambda: run(second, rows) == run(database, rows))
        for statement in (
            "UPDATE seats SET id = 3 - id WHERE id < 3",
            f"UPDATE seats SET id = id % {ROWS} + 1",
            "UPDATE seats SET id = id + 1",
            "UPDATE seats SET id = 13 - id WHERE id IN (6, 7)",
            "INSERT INTO seats VALUES (3, 'new'); UPDATE seats SET id = 20 WHERE id = 3 AND name <> 'new'",
            "INSERT INTO seats VALUES (4, 'newer'); DELETE FROM seats WHERE id = 4 AND name <> 'newer'",
            "INSERT INTO seats VALUES (5, 'gone'); DELETE FROM seats WHERE id = 5 AND name = 'gone'",
            "UPDATE seats SET name = 'same'; UPDATE seats SET id = 13 - id WHERE id IN (6, 7)",
        ):
            run(database, f"BEGIN; SET CONSTRAINTS ALL DEFERRED; {statement}; COMMIT")
        applying.until(lambda: run(second, rows) == run(database, rows))
    assert len(run(second, rows)) == ROWS + 1

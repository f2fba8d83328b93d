"""Applications write the same rows on both sides at the same time, and both sides end with the same rows."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.reading import wait_for
from tests.reverse.test_loop import _streams, running, second

__all__ = ["second"]

WRITES, ROWS = 400, 4
TABLES = """
CREATE TABLE items (id int PRIMARY KEY, name text);
CREATE TABLE stock (id int PRIMARY KEY, place text, changed timestamptz, quantity int NOT NULL);
ALTER TABLE stock REPLICA IDENTITY FULL;
"""
BY_COMMIT: dict[str, Any] = {"default": "last_write_wins"}
BY_COLUMN = {**BY_COMMIT, "row_time": "changed", "event_time": "changed", "columns": {"quantity": "delta"}}


def write(dsn: str, side: str, added: list[int]) -> None:
    chance = random.Random(side)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(WRITES):
            change = chance.randint(-5, 5)
            change_row(connection, f"{side}{number}", chance.randrange(ROWS), change)
            added.append(change)


def change_row(connection: psycopg.Connection[Any], word: str, key: int, change: int) -> None:
    connection.execute("UPDATE items SET name = %s WHERE id = %s", (word, key))
    connection.execute(
        "UPDATE stock SET place = %s, changed = clock_timestamp(), quantity = quantity + %s WHERE id = %s",
        (word, change, key),
    )


def dispute(earlier: str, later: str, key: int) -> None:
    """Both sides hold the same rows before either commits, so that neither can have heard of the other.

    By the rows' own times, only the side that wrote later hears of an event that is older than its row.
    """
    with psycopg.connect(earlier) as first, psycopg.connect(later) as second:
        change_row(first, "earlier", key, 1)
        change_row(second, "later", key, 1)


def state(dsn: str) -> list[Any]:
    query = (
        "SELECT id, name, place, changed, quantity FROM items FULL JOIN stock USING (id) ORDER BY id",
        "SELECT sum(quantity) FROM stock",
    )
    with psycopg.connect(dsn) as connection:
        return [connection.execute(each.encode()).fetchall() for each in query]


@pytest.mark.slow
@pytest.mark.pg("!=16")
def test_both_sides_keep_what_was_written_last_and_all_that_was_counted(
    database: str, second: str, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path
) -> None:
    ends = {"a": database, "b": second}
    brokers = {"brokers": kafka.bootstrap, "registry": registry.url}
    for dsn in ends.values():
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLES.encode())

    def topics(end: str) -> list[str]:
        return [f"{topic_prefix}{end}.public.{table}" for table in ("items", "stock")]

    def capture(end: str) -> dict[str, Any]:
        source = {"dsn": ends[end], "tables": ["public.*"], "messages": False}
        return {"name": f"{topic_prefix}{end}", "source": {"postgres": source}, "sink": {"kafka": brokers}}

    def reverse(start: str, end: str, tie: str) -> dict[str, Any]:
        rules = zip(topics(start), ("items", "stock"), (BY_COMMIT, BY_COLUMN), strict=True)
        routes = [{"topic": topic, "table": table, "conflict": {**rule, "tie": tie}} for topic, table, rule in rules]
        return {
            "name": f"{topic_prefix}{start}-to-{end}",
            "source": {"kafka": {**brokers, "topics": topics(start)}},
            "sink": {"postgres": {"dsn": ends[end], "routes": routes}},
        }

    for end in ends:
        for topic in topics(end):
            kafka.create_topic(topic)
    everything = (capture("a"), capture("b"), reverse("a", "b", "incoming"), reverse("b", "a", "existing"))
    with running(tmp_path, *everything):
        wait_for(lambda: all(_streams(dsn) for dsn in ends.values()))
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("INSERT INTO items SELECT n, '' FROM generate_series(0, %s::int) n", (ROWS - 1,))
            connection.execute("INSERT INTO stock SELECT id, '', now(), 0 FROM items")
        wait_for(lambda: state(database) == state(second))
        added: list[int] = []
        writers = [threading.Thread(target=write, args=(dsn, end, added)) for end, dsn in ends.items()]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        dispute(database, second, 0)
        dispute(second, database, 1)
        # What was written before this arrived when this is there.
        for number, dsn in enumerate(ends.values()):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(f"INSERT INTO items VALUES ({90 + number}, 'end')".encode())
                connection.execute(f"INSERT INTO stock VALUES ({90 + number}, 'end', now(), 0)".encode())
        wait_for(lambda: all(len(state(dsn)[0]) == ROWS + 2 for dsn in ends.values()))
        wait_for(lambda: all(row.count(None) == 0 for dsn in ends.values() for row in state(dsn)[0]))
    assert state(database) == state(second)
    assert state(database)[1] == [(sum(added) + 4,)]
    for dsn in ends.values():
        with psycopg.connect(dsn) as connection:
            met = connection.execute('SELECT "table", count(*) FROM pycdc.conflicts GROUP BY 1 ORDER BY 1').fetchall()
        assert [table for table, _ in met] == ["public.items", "public.stock"], "nothing met, so nothing was tried"

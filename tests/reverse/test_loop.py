"""Both directions at once: two databases follow each other, and nothing goes round.

2,000 writes on each side in `make test`; `make chaos` makes 100,000 on every Postgres, by PYCDC_LOOP_WRITES.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.harness import Process
from tests.reading import Reader, wait_for

WRITES = int(os.environ.get("PYCDC_LOOP_WRITES", "2000"))
PATIENCE = 60 + WRITES / 200
TABLE = "CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(10,2), at timestamp, tags text[])"


@contextmanager
def running(folder: Path, *documents: dict[str, Any]) -> Iterator[None]:
    """Each in a process of its own; all of them end well, or it is an error."""
    processes = []
    for document in documents:
        path = folder / f"{document['name']}.json"
        path.write_text(json.dumps({**document, "http": {"enabled": False}, "checkpoint": {"interval": 0.1}}))
        processes.append(Process(path))
    try:
        yield
        for process in processes:
            process.stop()
    finally:
        for process in processes:
            process.kill()


def write(dsn: str, first: int) -> None:
    """WRITES of them: inserts, updates and deletes, in transactions of one and of many."""
    inserts = WRITES // 2
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO items SELECT n, 'n' || n, n / 7.0, '2024-01-01 00:00:00.123'::timestamp + n * '1 s'::interval,"
            " ARRAY['a', NULL, n::text] FROM generate_series(%s::int, %s::int) n",
            (first, first + inserts - 1),
        )
        for number in range(first, first + inserts // 2):
            connection.execute("UPDATE items SET name = 'x' || id WHERE id = %s", (number,))
        connection.execute("UPDATE items SET price = NULL WHERE id >= %s AND id < %s", (first, first + inserts // 4))
        connection.execute("DELETE FROM items WHERE id >= %s AND id < %s", (first, first + inserts // 4))


def rows(dsn: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT * FROM items ORDER BY id").fetchall()


def count(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        return int(connection.execute("SELECT count(*) FROM items").fetchone()[0])  # type: ignore[index]


@pytest.fixture
def second(postgres: Any) -> Iterator[str]:
    dsn = postgres.create_database()
    yield dsn
    postgres.drop_database(dsn)


@pytest.mark.slow
@pytest.mark.pg("!=16" if WRITES <= 2000 else ">=15")
def test_two_databases_follow_each_other_without_echoes(
    database: str,
    second: str,
    postgres: Any,
    kafka: Any,
    registry: Any,
    topic_prefix: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    role = f"{topic_prefix}_apply"
    with psycopg.connect(second, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN".encode())
    request.addfinalizer(lambda: _drop_role(second, role))
    brokers = {"brokers": kafka.bootstrap, "registry": registry.url}
    ends = {"a": database, "b": second}
    for dsn in ends.values():
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLE)
    with psycopg.connect(second, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'GRANT ALL ON items TO {role}; GRANT CREATE ON DATABASE "{name}" TO {role}'.encode())
    # Into the second database writes an ordinary role, which may set no replication origin.
    writes_to = {"a": database, "b": postgres.dsn(name, user=role)}

    def capture(end: str) -> dict[str, Any]:
        return {
            "name": f"{topic_prefix}{end}",
            "source": {"postgres": {"dsn": ends[end], "tables": ["public.items"], "messages": False}},
            "sink": {"kafka": brokers},
        }

    def reverse(start: str, end: str) -> dict[str, Any]:
        topic = f"{topic_prefix}{start}.public.items"
        return {
            "name": f"{topic_prefix}{start}-to-{end}",
            "source": {"kafka": {**brokers, "topics": [topic]}},
            "sink": {"postgres": {"dsn": writes_to[end], "routes": [{"topic": topic, "table": "items"}]}},
        }

    kept = 2 * (WRITES // 2 - WRITES // 8)
    reader = Reader(kafka.bootstrap, registry.url)
    for end in ends:
        kafka.create_topic(f"{topic_prefix}{end}.public.items")

    def events(end: str) -> int:
        return sum(record.value is not None for record in reader.read(f"{topic_prefix}{end}.public.items"))

    with running(tmp_path, capture("a"), capture("b")):
        wait_for(lambda: all(_streams(dsn) for dsn in ends.values()))
        with running(tmp_path, reverse("a", "b"), reverse("b", "a")):
            firsts = zip(ends.values(), (0, 10_000_000), strict=True)
            writers = [threading.Thread(target=write, args=each) for each in firsts]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            wait_for(lambda: count(database) == count(second) == kept and rows(database) == rows(second), PATIENCE)
            # One more write on each side, so that an echo of anything before it would have come by now.
            for number, dsn in enumerate(ends.values()):
                with psycopg.connect(dsn, autocommit=True) as connection:
                    connection.execute("INSERT INTO items VALUES (%s)", (90_000_000 + number,))
            wait_for(lambda: count(database) == count(second) == kept + 2)
            for end in ends:
                wait_for(lambda end=end: events(end) >= WRITES + 1)  # type: ignore[misc]
        wait_for(lambda: all(_caught_up(dsn) for dsn in ends.values()))
    assert [events(end) for end in ends] == [WRITES + 1, WRITES + 1]
    assert rows(database) == rows(second)
    reader.close()


def _drop_role(dsn: str, role: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


def _streams(dsn: str) -> bool:
    query = "SELECT bool_or(active) FROM pg_replication_slots WHERE database = current_database()"
    with psycopg.connect(dsn) as connection:
        return bool(connection.execute(query).fetchone()[0])  # type: ignore[index]


def _caught_up(dsn: str) -> bool:
    """Whether the slot was told that everything up to now is delivered."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        end = connection.execute("SELECT pg_current_wal_lsn()").fetchone()[0]  # type: ignore[index]
        query = (
            "SELECT bool_and(confirmed_flush_lsn >= %s) FROM pg_replication_slots WHERE database = current_database()"
        )
        return bool(connection.execute(query, (end,)).fetchone()[0])  # type: ignore[index]

"""A counter behind a capture that is killed under load: what the capture sends twice is added once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.reading import wait_for
from tests.reverse.conftest import Rig
from tests.reverse.test_loop import _streams, second
from tests.running import Running

__all__ = ["second"]

pytestmark = pytest.mark.pg("newest")
ROWS = 5
KILLS = 3


def write(dsn: str, added: list[int], ended: threading.Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not ended.is_set():
            number = len(added)
            statement = "UPDATE stock SET quantity = quantity + %s WHERE id = %s"
            with connection.transaction():
                connection.execute(statement, (number % 7, number % ROWS))
                connection.execute(statement, (1, (number + 1) % ROWS))
            added.append(number % 7 + 1)


def test_a_counter_is_right_behind_a_capture_that_is_killed(
    rig: Rig, database: str, second: str, registry: Any, tmp_path: Path
) -> None:
    rig.sql("CREATE TABLE stock (id int PRIMARY KEY, quantity bigint NOT NULL)")
    with psycopg.connect(second, autocommit=True) as connection:
        connection.execute("CREATE TABLE stock (id int PRIMARY KEY, quantity bigint NOT NULL)")
        connection.execute("ALTER TABLE stock REPLICA IDENTITY FULL")
        connection.execute("INSERT INTO stock SELECT n, 0 FROM generate_series(0, %s::int) n", (ROWS - 1,))
    brokers = {"brokers": rig.kafka.bootstrap, "registry": registry.url}
    topic = f"{rig.name}.public.stock"
    rig.kafka.create_topic(topic, partitions=2)
    capture = {
        "name": rig.name,
        "source": {"postgres": {"dsn": second, "tables": ["public.stock"]}},
        "sink": {"kafka": brokers},
        "checkpoint": {"interval": 30.0},
        "http": {"enabled": False},
    }
    back = rig.document(
        {"topic": topic, "table": "stock", "conflict": {"columns": {"quantity": "delta"}, "detect": "none"}},
        source={**brokers, "topics": [topic]},
        name=f"{rig.name}-back",
    )
    added: list[int] = []
    ended = threading.Event()
    writer = threading.Thread(target=write, args=(second, added, ended))
    with Running(back) as running:
        for _ in range(KILLS):
            process = rig.start(capture)
            wait_for(lambda: _streams(second))
            if not writer.is_alive():
                writer.start()
            before = rig.offsets()
            running.until(lambda mark=before: rig.offsets() > mark + 100)  # type: ignore[misc]
            process.kill()
        ended.set()
        writer.join()
        rig.start(capture)
        with psycopg.connect(second) as connection:
            right = connection.execute("SELECT id, quantity FROM stock ORDER BY 1").fetchall()
        running.until(lambda: rig.sql("SELECT id, quantity FROM stock ORDER BY 1") == right)
        assert sum(running.pipeline.progress.duplicates.values()) > 0
    assert sum(quantity for _, quantity in right) == sum(added)

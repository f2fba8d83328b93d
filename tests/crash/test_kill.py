"""kill -9 at twelve points of the loop, then restart: no gap, order kept, duplicates bounded and identical."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.process import POINTS
from tests.reading import Reader, wait_for

ROOT = Path(__file__).parents[2]
COUNTS = {
    "before the slot is made": 1,
    "after the slot is made": 1,
    "while a snapshot is written": 3,
    "before the stream starts": 1,
    "after frames were read": 20,
    "before a checkpoint": 4,
    "after the flush, before the position": 4,
    "after the position, before the acknowledgement": 4,
    "after the acknowledgement": 4,
}
DEFAULT_COUNT = 12


class Writer:
    """Commits transactions of several rows, updates, deletes and COPY, until told to end."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            number = 1000
            while not self._end.is_set():
                with connection.transaction():
                    number += 10
                    with connection.cursor().copy("COPY items (id, v) FROM STDIN") as copy:
                        for offset in range(4):
                            copy.write_row((number + offset, 0))
                    connection.execute("UPDATE items SET v = v + 1 WHERE id = %s", [number])
                    connection.execute("UPDATE items SET v = v + 1 WHERE id % 7 = 0 AND id > %s", [number - 100])
                    connection.execute("DELETE FROM items WHERE id = %s", [number - 49])
                self._end.wait(0.002)


def start(config: Path, *point: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.crash.process", str(config), *point]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "src"})


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err.decode()


@pytest.fixture
def config(contrib_database: str, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path) -> Path:
    with psycopg.connect(contrib_database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL)")
        connection.execute("CREATE TABLE finish (id int PRIMARY KEY)")
        connection.execute("INSERT INTO items SELECT i, 0 FROM generate_series(1, 900) AS i")
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "name": topic_prefix,
                "source": {"postgres": {"dsn": contrib_database, "max_batch_changes": 40, "max_batch_bytes": 4096}},
                "sink": {"kafka": {"brokers": kafka.bootstrap, "registry": registry.url}},
                "checkpoint": {"interval": 0.2},
                "http": {"enabled": False},
            }
        )
    )
    return path


def identity(record: Any) -> str:
    """What a consumer may deduplicate by: everything but the processing time."""
    value = {name: item for name, item in record.value.items() if not name.startswith("ts_")}
    return json.dumps([record.key, value], sort_keys=True, default=str)


@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_when_the_process_is_killed(
    point: str, config: Path, contrib_database: str, kafka: Any, registry: Any, topic_prefix: str
) -> None:
    with Writer(contrib_database):
        victim = start(config, point, str(COUNTS.get(point, DEFAULT_COUNT)))
        _, err = victim.communicate(timeout=60)
        assert victim.returncode == -signal.SIGKILL, err.decode()
        heir = start(config)
        reader = Reader(kafka.bootstrap, registry.url)
        items = f"{topic_prefix}.public.items"
        # At least two checkpoints' worth of the heir's own work.
        seen = len(reader.read(items))
        wait_for(lambda: len(reader.read(items)) > seen + 200)
    with psycopg.connect(contrib_database, autocommit=True) as connection:
        connection.execute("INSERT INTO finish VALUES (1)")
        expected = dict(connection.execute("SELECT id, v FROM items").fetchall())
    wait_for(lambda: reader.read(f"{topic_prefix}.public.finish"))
    stop(heir)
    records = reader.read(items)
    assert replayed(records) == expected
    streamed = [record for record in records if record.value is not None and record.value["op"] != "r"]
    assert_transactions_whole_and_ordered(streamed)


def replayed(records: list[Any]) -> dict[int, int]:
    """The table as a consumer of the topic has it."""
    state: dict[int, int] = {}
    for record in records:
        key = record.key["id"]
        if record.value is None or record.value["op"] == "d":
            state.pop(key, None)
        else:
            state[key] = record.value["after"]["v"]
    return state


def assert_transactions_whole_and_ordered(records: list[Any]) -> None:
    """First occurrences come in commit order, and a repeated event is the same event."""
    identities = [identity(record) for record in records]
    counts = Counter(identities)
    assert max(counts.values()) <= 3, "an event came more often than there were restarts"
    firsts: list[Any] = []
    seen: set[str] = set()
    by_event: dict[tuple[int, int, str, int], str] = {}
    for record, name in zip(records, identities, strict=True):
        source = record.value["source"]
        event = (source["txId"], source["lsn"], record.value["op"], record.key["id"])
        by_event.setdefault(event, name)
        assert by_event[event] == name, "a repeated event differs from its first delivery"
        if name not in seen:
            seen.add(name)
            firsts.append(record)
    # `sequence` starts with the commit before the event's own: it never goes back among first deliveries.
    previous = [int(json.loads(record.value["source"]["sequence"])[0] or 0) for record in firsts]
    assert previous == sorted(previous)
    inserted = Counter(r.value["source"]["txId"] for r in firsts if r.value["op"] == "c")
    assert set(inserted.values()) == {4}, "a transaction's four copied rows came together or not at all"

"""`pycdc run` killed at moments that nobody chose, while it reads tables of every kind of key whose keys change: the
topics equal the tables."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.faults.harness import ROOT, Rig, snapshot_finished
from tests.reading import PATIENCE, Read, wait_for
from tests.services.kafka import KafkaAddress

ROWS = int(os.environ.get("PYCDC_KILL_ROWS", "50000"))
KILLS = int(os.environ.get("PYCDC_KILLS", "4"))
SMALL = 3000

TABLES = f"""
CREATE TABLE pairs (a text COLLATE "C", b int, v int NOT NULL, PRIMARY KEY (b, a));
CREATE TABLE loose (k text COLLATE loose PRIMARY KEY, v int NOT NULL);
CREATE TABLE uuids (k uuid PRIMARY KEY, v int NOT NULL);
CREATE TABLE bare (k int NOT NULL, v int NOT NULL);
ALTER TABLE bare REPLICA IDENTITY FULL;
INSERT INTO items SELECT i, 0 FROM generate_series(901, {ROWS}) i;
INSERT INTO pairs SELECT 'a' || i % 7, i / 7, 0 FROM generate_series(1, {SMALL}) i;
INSERT INTO loose SELECT 'É' || i, 0 FROM generate_series(1, {SMALL}) i;
INSERT INTO uuids SELECT md5(i::text)::uuid, 0 FROM generate_series(1, {SMALL}) i;
INSERT INTO bare SELECT i, 0 FROM generate_series(1, {SMALL}) i;
"""
LOOSE = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
KEYS = {"items": ("id",), "pairs": ("b", "a"), "loose": ("k",), "uuids": ("k",), "bare": ("k",)}


class Writer(threading.Thread):
    """Inserts, updates, deletes, and changes keys, in every table, until told to end."""

    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn = dsn
        self._random = random.Random(3)
        self.end = threading.Event()
        self.done = 0

    def run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.end.is_set():
                with connection.transaction():
                    for table in KEYS:
                        connection.execute(self._statement(table).encode())
                self.done += 1
                self.end.wait(0.01)

    def _statement(self, table: str) -> str:
        new, old = self._key(table, fresh=True), self._key(table, fresh=False)
        where = " AND ".join(f"{name} = {value}" for name, value in zip(KEYS[table], old, strict=True))
        choice = self._random.random()
        if choice < 0.25:
            columns = ", ".join((*KEYS[table], "v"))
            return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(new)}, 1)"
        if choice < 0.7:
            return f"UPDATE {table} SET v = v + 1 WHERE {where}"
        if choice < 0.8:
            return f"DELETE FROM {table} WHERE {where}"
        if table == "loose":
            # Another text that the collation calls the same: another key of the topic.
            return f"UPDATE loose SET k = translate(k, 'Ée', 'eÉ') WHERE {where}"
        changes = ", ".join(f"{name} = {value}" for name, value in zip(KEYS[table], new, strict=True))
        return f"UPDATE {table} SET {changes} WHERE {where}"

    def _key(self, table: str, *, fresh: bool) -> tuple[str, ...]:
        count = ROWS if table == "items" else SMALL
        number = self._random.randint(10**6, 10**9) if fresh else self._random.randint(1, count)
        if table == "pairs":
            return (str(number // 7), f"'a{number % 7}'")
        if table == "loose":
            return (f"'É{number}'",)
        if table == "uuids":
            return (f"'{uuid.UUID(int=number)}'" if fresh else f"md5('{number}')::uuid",)
        return (str(number),)


@contextmanager
def writing(dsn: str) -> Iterator[Writer]:
    writer = Writer(dsn)
    writer.start()
    try:
        yield writer
    finally:
        writer.end.set()
        writer.join()


class Command:
    """`pycdc run`, as a user starts it."""

    def __init__(self, config: Path, log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pycdc", "run", str(config)],
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, number: int) -> int:
        if self.alive():
            self._process.send_signal(number)
        return self._process.wait(PATIENCE)


class Ends:
    """How many records the topics have."""

    def __init__(self, brokers: str, name: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": brokers, "group.id": "ends", "log_level": 0})
        self._topics = [f"{name}.public.{table}" for table in KEYS]

    def total(self) -> int:
        there = self._consumer.list_topics(timeout=60).topics
        partitions = [TopicPartition(topic, 0) for topic in self._topics if topic in there]
        return sum(self._consumer.get_watermark_offsets(partition, timeout=60)[1] for partition in partitions)

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def start(rig: Rig) -> Iterator[Callable[[Path], Command]]:
    started: list[Command] = []

    def run(config: Path) -> Command:
        started.append(Command(config, rig.folder / "run.log"))
        return started[-1]

    yield run
    for command in started:
        command.end(signal.SIGKILL)


@pytest.fixture
def ends(rig: Rig, kafka: KafkaAddress) -> Iterator[Ends]:
    ends = Ends(kafka.bootstrap, rig.name)
    yield ends
    ends.close()


def replayed(records: list[Read], key: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """The table as a consumer of the topic has it."""
    state: dict[tuple[str, ...], int] = {}
    for record in records:
        if record.value is None:
            continue
        deleted = record.value["op"] == "d"
        row = record.value["before" if deleted else "after"]
        before = record.value["before"]
        if record.key is None and before is not None:
            state.pop(tuple(str(before[name]) for name in key), None)
        identity = tuple(str((record.key or row)[name]) for name in key)
        if deleted:
            state.pop(identity, None)
        else:
            state[identity] = row["v"]
    return state


def wait_for_marker(rig: Rig) -> None:
    for _ in range(2):
        number = rig.execute("INSERT INTO finish DEFAULT VALUES RETURNING id")[0][0]
        topic = f"{rig.name}.public.finish"
        wait_for(lambda: any(r.value and r.value["after"]["id"] == number for r in rig.reader.read(topic)))  # noqa: B023


@pytest.mark.slow
@pytest.mark.pg("newest")
@pytest.mark.parametrize("method", ["pinned", "chunks"])
def test_topics_equal_tables_whenever_the_command_is_killed(
    rig: Rig, ends: Ends, start: Callable[[Path], Command], method: str
) -> None:
    try:
        rig.execute(LOOSE)
    except psycopg.errors.FeatureNotSupported:
        rig.execute('CREATE COLLATION loose FROM "C"')  # a server without ICU
    rig.execute(TABLES)
    config = rig.config(source={"snapshot_method": method, "snapshot_chunk": 5000}, checkpoint={"interval": 0.1})
    choose = random.Random(method)
    with writing(rig.dsn) as writer:
        kills = 0
        while kills < KILLS and not snapshot_finished(config):
            before, wanted = ends.total(), choose.randint(1, ROWS // (3 * KILLS))
            command = start(config)
            wait_for(lambda: ends.total() >= before + wanted or not command.alive())  # noqa: B023
            assert command.end(signal.SIGKILL) == -signal.SIGKILL, command.log.read_text()
            kills += not snapshot_finished(config)
        assert kills, "nothing was killed in the middle of a snapshot"
        command = start(config)
        wait_for(lambda: snapshot_finished(config) or not command.alive(), 300)
        assert writer.done > 100
    wait_for_marker(rig)
    expected = {table: contents(rig, table) for table in KEYS}
    assert command.end(signal.SIGTERM) == 0, command.log.read_text()
    for table, key in KEYS.items():
        assert replayed(rig.reader.read(f"{rig.name}.public.{table}"), key) == expected[table], table
    assert ends.total() < 3 * (ROWS + 4 * SMALL), "what was delivered is read again only around a kill"


def contents(rig: Rig, table: str) -> dict[tuple[str, ...], int]:
    columns = ", ".join(f"{name}::text" for name in KEYS[table])
    return {tuple(row[:-1]): row[-1] for row in rig.execute(f"SELECT {columns}, v FROM {table}")}

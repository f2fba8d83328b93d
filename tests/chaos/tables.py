"""The tables of a round, who writes to them, and what a consumer must know of them afterwards.

Every row has an id of its own, whatever table it is in, and a version `v` that each update raises.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos.pipelines import Event
from tests.reading import PATIENCE

COLUMNS = "id int DEFAULT nextval('ids'), v bigint NOT NULL DEFAULT 0, flags int NOT NULL DEFAULT 1, filler text"
TABLES = f"""
CREATE SEQUENCE ids;
CREATE TABLE finish (id int DEFAULT nextval('ids') PRIMARY KEY, v bigint NOT NULL DEFAULT 0);
CREATE TABLE keyed ({COLUMNS}, PRIMARY KEY (id));
CREATE TABLE other ({COLUMNS}, PRIMARY KEY (id));
CREATE TABLE keyless ({COLUMNS});
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE root ({COLUMNS}, part int NOT NULL DEFAULT 0, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
CREATE TABLE root_0 PARTITION OF root FOR VALUES IN (0);
CREATE TABLE root_1 PARTITION OF root FOR VALUES IN (1);
CREATE TABLE root_2 PARTITION OF root FOR VALUES IN (2);
"""


def execute(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@dataclass
class World:
    """A database, its tables under the names that they have now, and what was done to them."""

    dsn: str
    names: dict[str, str] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)
    """How often the rows of a table, by its first name, may have been read again."""
    rewinds: int = 0
    """How often all may have been delivered again."""
    lossy: set[str] = field(default_factory=set)
    """Topics that keep rows which are gone: after TRUNCATE, DROP, or while a table was not published."""
    done: list[str] = field(default_factory=list)
    refused: bool = False
    """Whether the pipeline may end, with a word on what was done to publication or slot."""

    def fill(self, rows: int) -> None:
        execute(self.dsn, TABLES)
        self.names = {name: name for name in ("keyed", "other", "keyless", "root", "root_0", "root_1", "root_2")}
        filler = "repeat('x', 100 + i % 300)"
        for name, share in (("keyed", 1.0), ("other", 0.1), ("keyless", 0.3)):
            execute(
                self.dsn, f"INSERT INTO {name} (filler) SELECT {filler} FROM generate_series(1, {int(rows * share)}) i"
            )
        execute(
            self.dsn,
            f"INSERT INTO root (filler, part) SELECT {filler}, i % 3 FROM generate_series(1, {rows // 3}) i; ANALYZE",
        )

    def rows(self) -> dict[int, int]:
        """All rows that there are, by SQL."""
        found = execute(
            self.dsn,
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'public' AND c.relkind = 'r'",
        )
        return {
            int(number): int(v) for (name,) in found for number, v in execute(self.dsn, f"SELECT id, v FROM {name}")
        }


def differences(world: World, rows: dict[int, int], events: list[Event]) -> list[str]:
    """What a consumer that goes through the topics has wrong at the end."""
    state: dict[int, Event] = {}
    for event in events:
        state[event.id] = event
    wrong = []
    lost = [number for number in rows if number not in state]
    if lost:
        wrong.append(f"{len(lost)} rows never came, such as {lost[:5]}")
    stale = [f"{n}: {state[n].v} for {v}" for n, v in rows.items() if n in state and state[n].v != v]
    if stale:
        wrong.append(f"{len(stale)} rows have an older state, such as {stale[:5]}")
    kept = [e for n, e in state.items() if n not in rows and e.op != "d" and e.topic not in world.lossy]
    if kept:
        wrong.append(f"{len(kept)} rows are gone and were not deleted, such as {kept[:5]}")
    return wrong


def doubled(world: World, events: list[Event]) -> list[str]:
    """Records beyond what may be repeated: changes by rewinding only, rows that were read with DDL too."""
    counts = Counter(events)
    wrong = []
    for event, count in counts.items():
        allowed = 1 + world.rewinds
        if event.op == "r":
            allowed += max(world.repeats.values(), default=0)
        if event.op != "d" and count > allowed:
            wrong.append(f"{event} came {count} times")
    return [f"{len(wrong)} records too often, such as {wrong[:3]}"] if wrong else []


class Writers:
    """Transactions on threads until the end."""

    def __init__(self, world: World, seed: int, count: int = 2, pause: float = 0.01) -> None:
        self._world = world
        self._pause = pause
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + number),), daemon=True)
            for number in range(count)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self, rng: random.Random) -> None:
        while not self._end.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._world.dsn, autocommit=True) as connection:
                while not self._end.wait(self._pause):
                    with suppress(psycopg.ProgrammingError, psycopg.errors.LockNotAvailable):
                        self._write(connection, rng)

    def _write(self, connection: psycopg.Connection[Any], rng: random.Random) -> None:
        names = [name for first, name in self._world.names.items() if not first.startswith("root_")]
        name = rng.choice(names)
        part = f"{rng.randrange(3)}" if name == self._world.names.get("root") else None
        columns, values = ("filler, part", f"'n', {part}") if part is not None else ("filler", "'n'")
        statements: list[Callable[[], str]] = [
            lambda: f"INSERT INTO {name} ({columns}) VALUES ({values})",
            lambda: f"UPDATE {name} SET v = v + 1 WHERE id % 97 = {rng.randrange(97)}",
            lambda: f"DELETE FROM {name} WHERE id % 997 = {rng.randrange(997)}",
        ]
        with connection.transaction():
            for _ in range(rng.randrange(1, 4)):
                connection.execute(rng.choice(statements)().encode())

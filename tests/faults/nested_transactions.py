"""Random transactions with savepoints, and what a consumer must find of those that were committed.

Nothing here is the engine's: Postgres itself notes each change that a transaction made, in a table that is not
captured, and a rollback takes the notes along. Topics are read with the Confluent client, records with the json module.
"""

from __future__ import annotations

import base64
import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.services.kafka import KafkaAddress

WRITERS = 3
TABLES = "\n".join(
    [
        "CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer int, seq int, pad text);",
        "CREATE TABLE expected (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " xid text NOT NULL DEFAULT pg_current_xact_id()::text, tbl text, op text, change jsonb);",
        *(f"CREATE TABLE notes_{n} (id bigint PRIMARY KEY, seq int);" for n in range(WRITERS)),
        *(f"CREATE TABLE scratch_{n} (id bigint PRIMARY KEY);" for n in range(WRITERS)),
    ]
)
CAPTURED = ["public.entries", "public.notes_*", "public.scratch_*"]
EXPECTED = "INSERT INTO expected (tbl, op, change) "


@dataclass(slots=True)
class Writer:
    """One session. `prepares`: some of its transactions are prepared, and end a moment later.

    `wild`: it alters and empties tables behind savepoints too, where Postgres has faults of its own as long as the
    transaction goes on, and writes logical messages anywhere.
    """

    connection: psycopg.Connection[Any]
    number: int
    dice: random.Random
    prepares: bool
    wild: bool
    most: int
    columns: list[str] = field(default_factory=list)
    seq: int = 0

    def write(self) -> None:
        columns = list(self.columns)
        self._level(0)
        if self.dice.random() < 0.5:
            self._say()
        gid = f"{uuid.uuid4()}" if self.prepares and self.dice.random() < 0.4 else ""
        kept = self.dice.random() < 0.8
        if gid:
            self.connection.execute(f"PREPARE TRANSACTION '{gid}'".encode())
            self.connection.commit()
            self.connection.autocommit = True
            self.connection.execute(f"{'COMMIT' if kept else 'ROLLBACK'} PREPARED '{gid}'".encode())
            self.connection.autocommit = False
        elif kept:
            self.connection.commit()
        else:
            self.connection.rollback()
        if not kept:
            self.columns = columns

    def _level(self, depth: int) -> None:
        for _ in range(self.dice.randint(1, 4)):
            if depth < 3 and self.dice.random() < 0.5:
                self._within(depth)
            else:
                self.dice.choice(self._steps(depth))()

    def _steps(self, depth: int) -> list[Callable[[], None]]:
        plain = [self._insert, self._insert, self._change]
        schema = [self._note, self._empty] if self.wild or not depth else []
        return [*plain, *schema, self._say] if self.wild else [*plain, *schema]

    def _within(self, depth: int) -> None:
        name, columns = f"s{depth}", list(self.columns)
        self._run(f"SAVEPOINT {name}")
        self._level(depth + 1)
        if self.dice.random() < 0.4:
            self._run(f"ROLLBACK TO SAVEPOINT {name}")
            self.columns = columns
        elif self.dice.random() < 0.7:
            self._run(f"RELEASE SAVEPOINT {name}")

    def _run(self, statement: str) -> None:
        self.connection.execute(statement.encode())

    def _insert(self) -> None:
        rows = self.dice.randint(1, self.most)
        self._run(
            "WITH made AS (INSERT INTO entries (writer, seq, pad) "
            f"SELECT {self.number}, {self.seq} + i, repeat('x', i % 60) FROM generate_series(1, {rows}) AS i "
            f"RETURNING *) {EXPECTED} SELECT 'entries', 'c', to_jsonb(made) FROM made"
        )
        self.seq += rows

    def _change(self) -> None:
        """Update some of its rows, and delete some."""
        self._run(
            "WITH made AS (UPDATE entries SET seq = seq + 1000000 WHERE id IN (SELECT id FROM entries "
            f"WHERE writer = {self.number} AND seq < 1000000 ORDER BY id DESC LIMIT {self.dice.randint(1, 50)}) "
            f"RETURNING *) {EXPECTED} SELECT 'entries', 'u', to_jsonb(made) FROM made"
        )
        self._run(
            "WITH gone AS (DELETE FROM entries WHERE id IN (SELECT id FROM entries "
            f"WHERE writer = {self.number} AND seq >= 1000000 ORDER BY id LIMIT {self.dice.randint(0, 5)}) "
            f"RETURNING id) {EXPECTED} SELECT 'entries', 'd', to_jsonb(gone) FROM gone"
        )

    def _note(self) -> None:
        """Alter a table of its own, and write rows of the new form."""
        table = f"notes_{self.number}"
        if self.columns and self.dice.random() < 0.5:
            self._run(f"ALTER TABLE {table} DROP COLUMN {self.columns.pop()}")
        elif self.dice.random() < 0.7:
            self.columns.append(f"c{self.dice.randrange(1 << 32)}")
            self._run(f"ALTER TABLE {table} ADD COLUMN {self.columns[-1]} int DEFAULT {self.seq}")
        self._run(
            f"WITH made AS (INSERT INTO {table} SELECT nextval('entries_id_seq'), i "
            f"FROM generate_series(1, {self.dice.randint(1, 20)}) i RETURNING *) "
            f"{EXPECTED} SELECT '{table}', 'c', to_jsonb(made) FROM made"
        )

    def _empty(self) -> None:
        table = f"scratch_{self.number}"
        self._run(
            f"WITH made AS (INSERT INTO {table} VALUES (nextval('entries_id_seq')) RETURNING *) "
            f"{EXPECTED} SELECT '{table}', 'c', to_jsonb(made) FROM made"
        )
        self._run(f"TRUNCATE {table}; {EXPECTED} VALUES ('{table}', 't', NULL)")

    def _say(self) -> None:
        self.seq += 1
        text = f"{self.number}-{self.seq}"
        self._run(f"SELECT pg_logical_emit_message(true, 'theirs', '{text}')")
        self._run(f"{EXPECTED} VALUES ('message', 'm', '\"{text}\"')")


class Writers:
    """Several sessions that write until told to end."""

    def __init__(self, dsn: str, seed: int, *, prepares: bool = False, wild: bool = False, most: int = 400) -> None:
        self._end = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(dsn, number, random.Random(seed * WRITERS + number)))
            for number in range(WRITERS)
        ]
        self._prepares, self._wild, self._most = prepares, wild, most

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        assert not self._errors, self._errors

    def _run(self, dsn: str, number: int, dice: random.Random) -> None:
        try:
            with psycopg.connect(dsn) as connection:
                writer = Writer(connection, number, dice, self._prepares, self._wild, self._most)
                while not self._end.is_set():
                    writer.write()
                    self._end.wait(dice.uniform(0, 0.05 if self._wild else 0.2))
        except BaseException as error:
            self._errors.append(error)


Change = tuple[str, str, str, str]
"""A transaction's id, a table, an operation, and the row as canonical JSON."""


def expected(dsn: str) -> list[Change]:
    """What Postgres noted, transaction by transaction, each in its order."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT xid, tbl, op, change FROM expected ORDER BY n").fetchall()
    return [(xid, table, op, _canonical(change)) for xid, table, op, change in rows]


def found(kafka: KafkaAddress, prefix: str) -> list[Change]:
    """What a read_committed consumer finds, topic by topic, in the order of offsets."""
    changes: list[Change] = []
    tables = ["entries", *(f"{kind}_{n}" for kind in ("notes", "scratch") for n in range(WRITERS))]
    for table in tables:
        for message in kafka.consume_all(f"{prefix}.public.{table}"):
            if (data := message.value()) is not None:
                value = json.loads(data)
                row = {"id": value["before"]["id"]} if value["op"] == "d" else value["after"]
                changes.append((str(value["source"]["txId"]), table, value["op"], _canonical(row)))
    for message in kafka.consume_all(f"{prefix}.message"):
        data = message.value()
        assert data is not None
        value = json.loads(data)
        text = base64.b64decode(value["message"]["content"]).decode()
        if value["message"]["prefix"] == "theirs":
            changes.append((str(value["source"]["txId"]), "message", "m", _canonical(text)))
    return changes


def _canonical(row: Any) -> str:
    return json.dumps(row, sort_keys=True)


def differences(dsn: str, changes: list[Change], *, once: bool) -> dict[str, int]:
    """How many changes are missing, were never committed, came twice, or came in another order."""
    noted, came = Counter(expected(dsn)), Counter(changes)
    firsts = _in_order(dict.fromkeys(changes))
    out = {
        "missing": len(noted.keys() - came.keys()),
        "never committed": len(came.keys() - noted.keys()),
        "too few": sum(came[change] < many for change, many in noted.items() if change in came),
        "doubled": sum(many > noted[change] for change, many in came.items() if change in noted) if once else 0,
        "in another order": sum(
            rows != firsts.get(key) for key, rows in _in_order(dict.fromkeys(expected(dsn))).items() if key in firsts
        ),
    }
    return {name: many for name, many in out.items() if many}


def _in_order(changes: dict[Change, None]) -> dict[tuple[str, str], list[Change]]:
    """By transaction and table."""
    out: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        out.setdefault(change[:2], []).append(change)
    return out

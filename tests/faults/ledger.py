"""Transactions that note what they wrote, and a consumer that finds each of their changes once.

Nothing here is the engine's: transactions are written with psycopg, topics are read with the Confluent client under
``read_committed``, records are decoded by the json module (`sink.kafka.format: json`).
"""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import psycopg
from confluent_kafka import Message

from tests.services.kafka import KafkaAddress

TABLES = """
CREATE TABLE ledger (tx uuid PRIMARY KEY, changes int NOT NULL);
CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tx uuid NOT NULL, seq int NOT NULL, pad text);
CREATE TABLE removals (id bigint PRIMARY KEY, tx uuid NOT NULL);
"""
"""`entries` holds (tx, seq) of each insert and update; `removals` the ids that were deleted from it."""


@dataclass(slots=True)
class LedgerWriter:
    """Commits transactions until told to end: each notes in `ledger` how many changes of `entries` it made.

    `plain`: only inserts, so that each change is a row, whether a snapshot or the stream brings it.
    """

    dsn: str
    plain: bool = False
    pause: float = 0.04
    most: int = 12
    transactions: int = 0
    confirmed: set[str] = field(default_factory=set)
    """Transactions whose commit the server confirmed."""
    _end: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> LedgerWriter:
        for number in range(2):
            self._threads.append(threading.Thread(target=self._run, args=(random.Random(number),)))
            self._threads[-1].start()
        return self

    def __exit__(self, *args: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _run(self, dice: random.Random) -> None:
        while not self._end.is_set():
            try:
                with psycopg.connect(self.dsn) as connection:
                    while not self._end.is_set():
                        tx = write(connection, dice.randint(1, self.most), plain=self.plain)
                        self._conclude(connection, tx, keep=dice.random() < 0.9)
                        self._end.wait(self.pause)
            except psycopg.OperationalError:
                self._end.wait(0.05)

    def _conclude(self, connection: psycopg.Connection[Any], tx: uuid.UUID, *, keep: bool) -> None:
        if keep:
            connection.commit()
            self.transactions += 1
            self.confirmed.add(str(tx))
        else:
            connection.rollback()


def write(connection: psycopg.Connection[Any], rows: int, *, plain: bool = False) -> uuid.UUID:
    """What one transaction does; the caller ends it."""
    tx = uuid.uuid4()
    first = connection.execute(
        "INSERT INTO entries (tx, seq, pad) SELECT %s, i, repeat('x', i %% 50) FROM generate_series(0, %s - 1) AS i "
        "RETURNING id",
        [tx, rows],
    ).fetchone()
    changes = rows
    if not plain:
        assert first is not None
        connection.execute("UPDATE entries SET seq = %s WHERE id = %s", [rows, first[0]])
        connection.execute(
            "WITH gone AS (DELETE FROM entries WHERE id = %s - 40 RETURNING id) "
            "INSERT INTO removals SELECT id, %s FROM gone",
            [first[0], tx],
        )
        changes += 1
    connection.execute("INSERT INTO ledger VALUES (%s, %s)", [tx, changes])
    return tx


@dataclass(slots=True)
class Delivered:
    """What a read_committed consumer finds in the topics, each with how often it is there.

    Transactions and changes are counted by the letter of what brought them: a row that the stream has brought may be
    read in a chunk of a snapshot too, once.
    """

    transactions: Counter[tuple[str, str]]
    changes: Counter[tuple[str, str, int]]
    deletes: Counter[int]
    tombstones: Counter[int]

    def doubled(self) -> dict[str, int]:
        """How many of each kind came more than once."""
        kinds: Sequence[tuple[str, Counter[Any]]] = (
            ("transactions", self.transactions),
            ("changes", self.changes),
            ("deletes", self.deletes),
            ("tombstones", self.tombstones),
        )
        return {name: many for name, counts in kinds if (many := sum(n > 1 for n in counts.values()))}


def delivered(kafka: KafkaAddress, prefix: str, decode: Callable[[bytes], Any] = json.loads) -> Delivered:
    """Read all of it, to the last stable offset; what is parked because of its schema too."""
    found = Delivered(Counter(), Counter(), Counter(), Counter())
    ledger, entries = f"{prefix}.public.ledger", f"{prefix}.public.entries"
    topics = ledger, entries, f"{prefix}.dead-letter"
    for message in chain.from_iterable(kafka.consume_all(topic) for topic in topics):
        key, data = message.key(), message.value()
        assert key is not None
        value: Any = None if data is None else decode(data)
        if _belongs_to(message) == ledger:
            found.transactions[value["op"], value["after"]["tx"]] += 1
        elif value is None:
            found.tombstones[decode(key)["id"]] += 1
        elif value["op"] == "d":
            found.deletes[decode(key)["id"]] += 1
        else:
            found.changes[value["op"], value["after"]["tx"], value["after"]["seq"]] += 1
    return found


def _belongs_to(message: Message) -> str:
    """Return the topic of the record, or the one that a parked record was meant for."""
    headers = dict(message.headers() or [])
    return headers["__pycdc.topic"].decode() if "__pycdc.topic" in headers else str(message.topic())


def missing_and_phantoms(dsn: str, found: Delivered) -> dict[str, int]:
    """How much of what the database committed is not in the topics, and how much there is that it did not commit."""
    with psycopg.connect(dsn) as connection:
        ledger = {str(tx): changes for tx, changes in connection.execute("SELECT tx, changes FROM ledger")}
        removed = {row[0] for row in connection.execute("SELECT id FROM removals")}
    expected = {(tx, seq) for tx, changes in ledger.items() for seq in range(changes)}
    transactions, came = {tx for _, tx in found.transactions}, {(tx, seq) for _, tx, seq in found.changes}
    differences: dict[str, set[Any]] = {
        "transactions missing": ledger.keys() - transactions,
        "transactions that were rolled back": transactions - ledger.keys(),
        "changes missing": expected - came,
        "changes that were rolled back": came - expected,
        "deletes missing": removed - found.deletes.keys(),
        "deletes that were rolled back": found.deletes.keys() - removed,
        "tombstones missing": removed - found.tombstones.keys(),
    }
    return {name: len(what) for name, what in differences.items() if what}


def half_visible(dsn: str, found: Delivered) -> int:
    """Return how many transactions are there in part only."""
    with psycopg.connect(dsn) as connection:
        ledger = {str(tx): changes for tx, changes in connection.execute("SELECT tx, changes FROM ledger")}
    came = Counter(tx for _, tx, _ in found.changes)
    noted = {tx for _, tx in found.transactions}
    return sum(tx not in noted or came[tx] != ledger[tx] for tx in noted | came.keys())


def is_complete(dsn: str, kafka: KafkaAddress, prefix: str, decode: Callable[[bytes], Any] = json.loads) -> bool:
    """Whether all that is committed by now can be read."""
    found = delivered(kafka, prefix, decode)
    return not any("missing" in name for name in missing_and_phantoms(dsn, found))

"""What a sample business does with its database: deals at random, each a transaction, and a count of what they changed.

A business knows how many row changes it committed, by table and operation as Debezium counts them. That is what is
compared with what came back from the broker.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import LiteralString, Protocol

import psycopg

ChangeCounts = Counter[tuple[str, str]]
"""Row changes by table and operation: c, u, d, and r for rows that were there before capturing began."""


class Business(Protocol):
    """What a clerk works for."""

    @property
    def written(self) -> ChangeCounts: ...

    @property
    def transactions(self) -> set[int]: ...

    def open(self) -> None:
        """Create the tables, and the rows that are there before capturing begins."""

    def trade(self) -> int:
        """Do one deal, as one transaction; return the number of row changes."""


class Workload:
    """The part that all have: one connection in autocommit, the choice of the next deal, and the count."""

    def __init__(self, connection: psycopg.Connection, chance: random.Random) -> None:
        self.written = ChangeCounts()
        """Committed row changes. Replaced as a whole, never changed in place."""
        self.transactions: set[int] = set()
        """Ids of these transactions, noted before they commit."""
        self._connection = connection
        self._chance = chance
        self._pending = ChangeCounts()
        self._lock = threading.Lock()
        self._deals: list[Callable[[], None]] = []
        self._weights: list[int] = []

    def _offer(self, deals: list[tuple[Callable[[], None], int]]) -> None:
        """Set the transactions of the workload, and how often each is done."""
        self._deals = [deal for deal, _ in deals]
        self._weights = [weight for _, weight in deals]

    def trade(self) -> int:
        """See `Business.trade`."""
        before = self.written.total()
        with self._transaction():
            self._chance.choices(self._deals, self._weights)[0]()
        return self.written.total() - before

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._pending = ChangeCounts()
            with self._connection.transaction():
                made = self._connection.execute("SELECT pg_current_xact_id()::text").fetchone()
                assert made is not None
                self.transactions.add(int(made[0]))
                yield
            self.written = self.written + self._pending

    def _count_as_existing(self) -> None:
        """Count what was written so far as rows of the snapshot."""
        self.written = ChangeCounts({(table, "r"): count for (table, _), count in self.written.items()})

    def _insert(self, table: str, statement: LiteralString, row: Sequence[object]) -> int:
        """Insert a row and return the id that the statement returns."""
        made = self._connection.execute(statement, row).fetchone()
        assert made is not None
        self._pending[table, "c"] += 1
        number: int = made[0]
        return number

    def _one(self, table: str, op: str, statement: LiteralString, values: Sequence[object]) -> None:
        self._pending[table, op] += self._connection.execute(statement, values).rowcount

    def _each(self, table: str, op: str, statement: LiteralString, rows: Sequence[Sequence[object]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(statement, rows)
            self._pending[table, op] += cursor.rowcount

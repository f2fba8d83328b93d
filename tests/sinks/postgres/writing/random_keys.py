"""Random transactions over a table whose key is DEFERRABLE, and the records by which a capture tells of them.

Within a transaction several rows may have one key; at its end each has its own. Knows nothing of the product.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

NAMES = ("a", "b", "c")
KEYS = range(1, 7)


class Record(NamedTuple):
    """A record of the topic. `transaction` is the place of its transaction in the source's order."""

    transaction: int
    key: int
    value: dict[str, Any] | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(eq=False)
class Row:
    key: int
    name: str

    @property
    def image(self) -> dict[str, Any]:
        return {"id": self.key, "name": self.name}


@dataclass
class Source:
    """`rows` are those that are there. `inserts`: new rows may take a key before another row leaves it."""

    chance: random.Random
    inserts: bool = True
    rows: list[Row] = field(default_factory=lambda: [Row(key, name) for key, name in enumerate("abca", 1)])
    lsns: Iterator[int] = field(default_factory=lambda: count(1000))
    number: int = 0

    def transaction(self) -> list[Record]:
        """Change rows, and return the records."""
        self.number += 1
        while True:
            before = [(row, row.key, row.name) for row in self.rows]
            kept, records = list(self.rows), list[Record]()
            for _ in range(self.chance.randint(1, 4)):
                records += self._statement()
            if len({row.key for row in self.rows}) == len(self.rows) and records:
                return records
            self.rows = kept
            for row, key, name in before:
                row.key, row.name = key, name

    def end(self, partitions: int) -> list[Record]:
        """A transaction behind all others, which has a record in each partition."""
        self.number += 1
        rows = [Row(1000 * partitions + number, "end") for number in range(partitions)]
        self.rows += rows
        return [record for row in rows for record in self.told("c", row.key, None, row.image)]

    def _statement(self) -> list[Record]:
        chance = self.chance
        kind = chance.choice(("insert", "exchange", "exchange", "move", "delete", "update"))
        if kind == "insert":
            taken = {row.key for row in self.rows}
            free = [key for key in KEYS if self.inserts or key not in taken]
            if not free:
                return []
            row = Row(chance.choice(free), chance.choice(NAMES))
            self.rows.append(row)
            return self.told("c", row.key, None, row.image)
        if not self.rows:
            return []
        if kind == "exchange":
            moving = chance.sample(self.rows, chance.randint(1, len(self.rows)))
            goals = [row.key for row in moving]
            chance.shuffle(goals)
            return [record for row, goal in zip(moving, goals, strict=True) for record in self._moved(row, goal)]
        row = chance.choice(self.rows)
        if kind == "move":
            return self._moved(row, chance.choice(KEYS))
        if kind == "delete":
            return self.removed(row)
        before = row.image
        row.name = chance.choice(NAMES)
        return self.told("u", row.key, before, row.image)

    def removed(self, row: Row) -> list[Record]:
        """Delete a row."""
        self.rows.remove(row)
        return [*self.told("d", row.key, row.image, None), Record(self.number, row.key, None, (_mark("d"),))]

    def _moved(self, row: Row, goal: int) -> list[Record]:
        if goal == row.key:
            return []
        before = row.image
        row.key = goal
        to = ("__debezium.newkey", json.dumps({"id": goal}).encode())
        of = ("__debezium.oldkey", json.dumps({"id": before["id"]}).encode())
        lsn = next(self.lsns)
        return [
            *self.told("d", before["id"], before, None, to, lsn=lsn),
            Record(self.number, before["id"], None, (to, _mark("d"))),
            *self.told("c", goal, None, row.image, of, lsn=lsn),
        ]

    def told(
        self, op: str, key: int, before: Any, after: Any, *headers: tuple[str, bytes | None], lsn: int | None = None
    ) -> list[Record]:
        """Return the record of a change."""
        lsn = next(self.lsns) if lsn is None else lsn
        source = {
            "name": "s",
            "db": "d",
            "ts_ms": 1,
            "txId": self.number,
            "lsn": lsn,
            "sequence": json.dumps([str(self.number), str(lsn)]),
        }
        value = {"op": op, "before": before, "after": after, "source": source}
        return [Record(self.number, key, value, (*headers, _mark(op)))]


def _mark(op: str) -> tuple[str, bytes]:
    return "__pycdc.deferrable", op.encode()

"""What a demonstration shows while it runs, and what it says at its end. Data only; the views make text of it."""

from __future__ import annotations

from dataclasses import dataclass

from pycdc.demo.event_stats import ConsumedEvent, ConsumedLag
from pycdc.demo.workload import ChangeCounts

OPERATIONS = {"r": "snapshot", "c": "create", "u": "update", "d": "delete"}
"""Debezium's letters in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class DemoAddresses:
    """Where to look with other tools."""

    postgres: str
    brokers: str
    registry: str
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """The replication slot as Postgres sees it.

    In bytes of WAL: `behind` from the confirmed position to the end, `retained` from what decoding may need again,
    which Postgres moves up only now and then.
    """

    name: str
    active: bool
    confirmed: str
    behind: int
    retained: int


@dataclass(frozen=True, slots=True)
class DemoStatus:
    """One moment. `written` and `read` count the shop's changes; `others` are events of other sessions' changes."""

    addresses: DemoAddresses
    pipeline: str
    last_error: str | None
    elapsed: float
    seconds: float
    """0: until it is ended."""
    written: ChangeCounts
    read: ChangeCounts
    others: int
    newest: tuple[ConsumedEvent, ...]
    rates: tuple[float, ...]
    lag: ConsumedLag | None
    slot: Slot | None


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The end. `rate` in events a second while the shop was open; `first_event` in seconds from the start."""

    written: ChangeCounts
    read: ChangeCounts
    others: int
    tombstones: int
    rate: float
    lag: ConsumedLag | None
    first_event: float | None
    slot: Slot | None

    @property
    def matches(self) -> bool:
        """Every change was read back exactly once."""
        return self.written == self.read

    @property
    def differences(self) -> list[tuple[str, str, int, int]]:
        """Table, operation, written and read, where the two differ."""
        return [
            (table, op, self.written[table, op], self.read[table, op])
            for table, op in sorted(self.written.keys() | self.read.keys())
            if self.written[table, op] != self.read[table, op]
        ]


def by_operation(counts: ChangeCounts) -> dict[str, int]:
    """Sum over the tables, by Debezium's letter."""
    return {op: sum(count for (_, each), count in counts.items() if each == op) for op in OPERATIONS}

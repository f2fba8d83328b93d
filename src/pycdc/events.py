"""The nouns of the way back: partitions, offsets, and what a record of a topic says about a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pycdc.model import Row


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


@dataclass(frozen=True, slots=True)
class Offsets:
    """A place in several partitions: the next offset of each. What it does not name, it says nothing about."""

    next: Mapping[Partition, int]

    def __gt__(self, other: Offsets) -> bool:
        """Whether it is further than `other` in some partition."""
        return any(offset > other.next.get(partition, -1) for partition, offset in self.next.items())

    def __str__(self) -> str:
        return ", ".join(f"{partition}@{offset}" for partition, offset in sorted(self.next.items()))


@dataclass(frozen=True, slots=True)
class Applied:
    """The checkpoint of the way back: it is stored by the transaction that applied the events before it.

    `held` are partitions that cannot be taken further now: seconds after which to read on from `position`.
    """

    position: Offsets
    held: Mapping[Partition, float] = field(default_factory=dict)


@dataclass(slots=True)
class Event:
    """One record, decoded. Its repr shows where it is, never what it holds.

    `row` is the row after the change, or a business event's fields; None for a delete, whose last state, as far as it
    is told, is `before`. A field that is not in `row` was not sent, which is not the same as null. `key` is the
    decoded message key: usually a dict. `timestamp` is the record's, in milliseconds since the Unix epoch. `op` and
    `source` are those of an envelope, None where there is none; they are read when they are asked for, by `reread`.
    `problem` says why a record could not be decoded; then only its bytes (`raw_key`, `raw_value`) are there.
    """

    partition: Partition
    offset: int
    timestamp: int
    key: Any = None
    row: Row | None = None
    before: Row | None = None
    deleted: bool = False
    headers: tuple[tuple[str, bytes | None], ...] = ()
    raw_key: bytes | None = None
    raw_value: bytes | None = None
    problem: str | None = None
    envelope: Row | None = None
    reread: Callable[[bytes], Row] | None = None

    @property
    def op(self) -> str | None:
        op: str | None = self._whole_envelope().get("op")
        return op

    @property
    def source(self) -> Row | None:
        source: Row | None = self._whole_envelope().get("source")
        return source

    def _whole_envelope(self) -> Row:
        if self.envelope is None:
            try:
                self.envelope = self.reread(self.raw_value) if self.reread and self.raw_value else {}
            except ValueError:
                self.envelope = {}  # the row was fine, and what follows it is not needed for it
        return self.envelope

    @property
    def identity(self) -> tuple[str, bytes] | None:
        """What its followers share with it: topic and key. None without a key: nothing follows it."""
        return None if self.raw_key is None else (self.partition.topic, self.raw_key)

    def __str__(self) -> str:
        return f"{self.partition} offset {self.offset}"

    def __repr__(self) -> str:
        return f"Event({self})"


@dataclass(slots=True)
class EventBatch:
    """Events in the order of each partition, and the offsets behind them.

    `starts` are the offsets that the source had read to before: an event that was passed over shows in them, a gap
    that the topic has does not. The sink takes out of `events` what it cannot apply now. Always `urgent`: its offsets
    are stored by the transaction that applies it, so that no lock outlives a batch.
    """

    events: list[Event] = field(default_factory=list)
    position: Offsets | None = None
    whole: bool = True
    urgent: bool = True
    starts: dict[Partition, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Topic, ``u`` or ``d``, and how many events."""
        tally: dict[tuple[str, str], int] = {}
        for event in self.events:
            key = (event.partition.topic, "d" if event.deleted else "u")
            tally[key] = tally.get(key, 0) + 1
        for (topic, op), count in tally.items():
            yield topic, op, count

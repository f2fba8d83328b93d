"""The nouns of the way back: partitions, offsets, and what a record of a topic says about a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

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


_PARTITION: Final = attrgetter("partition")


class Field(NamedTuple):
    """A field of a topic's rows, as a lane reads it. Any of them may be None.

    number    an int
    text      the UTF-8 bytes of a text
    decimal   an int, in units of 10 to the power of minus `scale`
    any       what a `Row` holds
    """

    name: str
    kind: Literal["number", "text", "decimal", "any"] = "any"
    scale: int = 0


class Removal(NamedTuple):
    """A delete among the rows of a lane. `tombstone`: a null value, told by the message key alone."""

    key: tuple[Any, ...]
    tombstone: bool


LaneRow = tuple[Any, ...] | Removal
"""What a record is to a lane: the values of its fields, those of the key first, or that the row goes."""


@dataclass(slots=True)
class Load:
    """A batch that went by lanes: no `Event` was made of it. `parts` are the sinks' own, one for each topic.

    `removed` counts deletes by topic, `newest` are the timestamps of the last records, and `events` decodes all of it
    after all.
    """

    parts: list[Any]
    count: int
    topics: Mapping[str, int]
    removed: Mapping[str, int]
    newest: Mapping[Partition, int]
    events: Callable[[], list[Event]]


@dataclass(slots=True)
class EventBatch:
    """Events in the order of each partition, and the offsets behind them.

    `starts` are the offsets that the source had read to before: an event that was passed over shows in them, a gap
    that the topic has does not. The sink takes out of `events` what it cannot apply now. Always `urgent`: its offsets
    are stored by the transaction that applies it, so that no lock outlives a batch. With a `load` it has no events
    until somebody asks for them by `decode`.
    """

    events: list[Event] = field(default_factory=list)
    position: Offsets | None = None
    whole: bool = True
    urgent: bool = True
    starts: dict[Partition, int] = field(default_factory=dict)
    load: Load | None = None

    @property
    def size(self) -> int:
        return len(self)

    def __len__(self) -> int:
        return len(self.events) if self.load is None else self.load.count

    def decode(self) -> None:
        """Make events of the load."""
        if self.load is not None:
            self.events, self.load = self.load.events(), None

    def newest(self) -> Mapping[Partition, int]:
        """The timestamp of each partition's last record."""
        if self.load is not None:
            return self.load.newest
        return {event.partition: event.timestamp for event in self.events}

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """Topic, ``u`` or ``d``, and how many events."""
        total, deleted = (self.load.topics, self.load.removed) if self.load is not None else self._counted()
        for topic, count in total.items():
            if count > deleted.get(topic, 0):
                yield topic, "u", count - deleted.get(topic, 0)
        for topic, count in deleted.items():
            yield topic, "d", count

    def _counted(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        total: Counter[str] = Counter()
        for partition, count in Counter(map(_PARTITION, self.events)).items():
            total[partition.topic] += count
        return total, Counter(event.partition.topic for event in self.events if event.deleted)

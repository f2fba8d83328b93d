"""The nouns of the apply side: partitions, offsets, and what a record of a topic says about a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pycdc.model.change import Row


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """A place in several partitions: the next offset of each. What it does not name, it says nothing about."""

    next: Mapping[Partition, int]

    def __gt__(self, other: PartitionOffsets) -> bool:
        """Return whether it is further than `other` in some partition."""
        return any(offset > other.next.get(partition, -1) for partition, offset in self.next.items())

    def __str__(self) -> str:
        return ", ".join(f"{partition}@{offset}" for partition, offset in sorted(self.next.items()))


@dataclass(frozen=True, slots=True)
class Applied:
    """The checkpoint of an apply pipeline: it is stored by the transaction that applied the events before it.

    `held` are partitions that cannot be taken further now: seconds after which to read on from `position`.
    `unapplied` are all events behind it of those of them that may be helped by what follows: they come again with that,
    or after these seconds.
    """

    position: PartitionOffsets
    held: Mapping[Partition, float] = field(default_factory=dict)
    unapplied: Sequence[Event] = ()


_ADDED: Final = frozenset(
    f"__{name}" for name in ("deleted", "op", "table", "db", "schema", "lsn", "ts_ms", "ts_us", "ts_ns", "txId")
)


def added_by_flattening(name: str) -> bool:
    """Return whether Debezium's flattening adds a field of this name to rows: nobody misses a column for it."""
    return name[:2] == "__" and (name in _ADDED or name.startswith(("__source_", "__transaction_")))


class Unwritable(ValueError):
    """What a record says cannot be understood or written: a fault of that record alone, whatever it is made of.

    The message names kinds and columns, never a value.
    """


class JsonText(str):
    """The text of a JSON document, which a string is not that merely stands in one."""

    __slots__ = ()


class Bits(str):
    """Bits whose number is that of the column they come from, whatever it was in the value."""

    __slots__ = ()


class Microseconds(str):
    """An interval whose months, if there were any, went into its microseconds."""

    __slots__ = ()


class Forms(NamedTuple):
    """What is known of the values of a record, beside what they look like.

    `typed`: a schema came with them, and they are what it says; else they are JSON's. `captured`: JSON that a capture
    wrote in Kafka Connect's way, and no application in its own. The others are options of `values`, as far as somebody
    told them; `money_digits` belongs to `decimal`.
    """

    typed: bool
    captured: bool = False
    decimal: str | None = None
    time: str | None = None
    interval: str | None = None
    binary: str | None = None
    money_digits: int | None = 2


@dataclass(slots=True)
class Event:
    """One record, decoded. Its repr shows where it is, never what it holds.

    `row` is the row after the change, or a business event's fields; None for a delete, whose last state, as far as it
    is told, is `before`. A field that is not in `row` was not sent, which is not the same as null. `key` is the
    decoded message key: usually a dict. `timestamp` is the record's, in milliseconds since the Unix epoch. `op` and
    `source` are those of an envelope, None where there is none; they are read when they are asked for, by `reread`.
    `problem` says why a record could not be decoded; then only its bytes (`raw_key`, `raw_value`) are there.

    `unsent` are fields that were not sent, by the record itself, `missing_before` those that `before` does not hold,
    and `doubtful` those of which that is not known: see `column_presence`. `schema` is that of a delete's value, if
    it has one. A change of the key is told in two records: `other_key` is the new key on its delete, the old one on its
    create, and empty where the header cannot be read. `by_function`: a user's function made its rows, so that they say
    nothing of which row it was.

    `forms` says what is known of the values, None for those that Python code made; `key_forms` the same of the key.
    A decoder leaves `key` to `key_reader`, which is asked for it when somebody wants it, and may raise Unwritable: most
    rows tell their keys themselves, and a key that nobody needs may be anything. `added` are fields of a flattened
    record that are not the row's.
    A null value that `repeats` the record before it, a delete of the same key, has nothing to add to it; where nobody
    knows yet whether it does, `look_back` tells.
    `made` is what users' functions made of it, by their paths, so that they run once however often it is routed.
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
    added: Row | None = None
    forms: Forms | None = None
    key_forms: Forms | None = None
    key_reader: Callable[[bytes], tuple[Any, Forms | None]] | None = None
    other_key: Row | None = None
    by_function: bool = False
    settled: bool = False
    unsent: frozenset[str] = frozenset()
    missing_before: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    schema: Any = None
    made: dict[str, Any] | None = None
    repeats: bool = False
    look_back: Callable[[], bool] | None = None

    def is_behind_delete(self) -> bool:
        """Return whether it is a null value that repeats the delete before it; the log is read again to find out."""
        if self.look_back is not None:
            self.repeats, self.look_back = self.look_back(), None
        return self.repeats

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            """Fill the slot of a key that was not read yet; Python calls this for an empty slot."""
            if name != "key" or self.key_reader is None:
                raise AttributeError(name)
            self.key, self.key_forms = self.key_reader(self.raw_key)
            return self.key

    def read_key_later(self, reader: Callable[[bytes], tuple[Any, Forms | None]]) -> None:
        """Leave the key in `raw_key` until somebody asks for it."""
        self.key_reader = reader
        del self.key

    @property
    def op(self) -> str | None:
        op: str | None = self._whole_envelope().get("op")
        return op

    @property
    def truncates(self) -> bool:
        """Whether it says that a table was emptied. It has no row, which is a problem for all who do not ask this."""
        return self.row is None and not self.deleted and self.envelope is not None and self.envelope.get("op") == "t"

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


class FieldPath(NamedTuple):
    """A field of a topic's rows, as the columnar path reads it. Any of them may be None.

    number an int text the UTF-8 bytes of a text document the same of a JSON document decimal an int, in units of 10 to
    the power of minus `scale` any what a `Row` holds
    """

    name: str
    kind: Literal["number", "text", "document", "decimal", "any"] = "any"
    scale: int = 0


class Removal(NamedTuple):
    """A delete among columnar rows. `tombstone`: a null value, of which only the message key is known."""

    key: tuple[Any, ...]
    tombstone: bool


ColumnarRow = tuple[Any, ...] | Removal
"""What a record is to the columnar path: the values of its fields, those of the key first, or that the row goes."""


@dataclass(slots=True)
class Load:
    """A batch of columns: no `Event` was made of it. `parts` are the sinks' own, one for each topic.

    `removed` counts deletes by topic, `newest` are the timestamps of the last records, and `events` decodes all of it
    after all. `headers` returns those of each record.
    """

    parts: list[Any]
    count: int
    topics: Mapping[str, int]
    removed: Mapping[str, int]
    newest: Mapping[Partition, int]
    events: Callable[[], list[Event]]
    headers: Callable[[], list[Sequence[tuple[str, bytes | None]] | None]]


@dataclass(slots=True)
class EventBatch:
    """Events in the order of each partition, and the offsets behind them.

    `starts` are the offsets that the source had read to before: an event that was passed over shows in them, a gap
    that the topic has does not. The sink takes out of `events` what it cannot apply now. Always `checkpoint_now`:
    its offsets are stored by the transaction that applies it, so that no lock outlives a batch. With a `load` it
    has no events until somebody asks for them by `decode`.
    """

    events: list[Event] = field(default_factory=list)
    position: PartitionOffsets | None = None
    ends_at_commit: bool = True
    checkpoint_now: bool = True
    flush_now: bool = False
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
        """Return the timestamp of each partition's last record."""
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


def events_of(batches: Sequence[EventBatch]) -> list[Event]:
    """Return all events of batches, those of loads too."""
    for batch in batches:
        batch.decode()
    return [event for batch in batches for event in batch.events]

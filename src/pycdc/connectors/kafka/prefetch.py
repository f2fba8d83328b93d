"""Records that were read, on their way to a batch: decoded by a thread of its own where there are many.

The sink spends half of its time waiting for the database, and another half on work of its own: so the next batch is
decoded meanwhile. A few records are decoded at once, because a thread costs more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from itertools import islice
from operator import lt
from typing import Any, Final, NamedTuple

from confluent_kafka import Message

from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.engine_interfaces import NotColumnar
from pycdc.errors import PycdcError
from pycdc.model.absence_headers import DEFERRABLE, NEW_KEY, OLD_KEY, UNSENT
from pycdc.model.event import Event, EventBatch, Load, Partition, PartitionOffsets
from pycdc.model.origin import HEADERS
from pycdc.observability.logger import get_logger

log = get_logger()

MANY: Final = 200
"""Records from which on a batch is decoded ahead, and by columns where that can be done."""
_APART: Final = HEADERS | {UNSENT, NEW_KEY, OLD_KEY, DEFERRABLE}
"""Headers of records that are looked at one by one: a mark holds for a transaction, others say more than rows."""


class RecordOffsets(NamedTuple):
    """Records, where each is from, and its offset."""

    messages: list[Message]
    partitions: list[Partition]
    offsets: list[int]

    def lasts(self) -> dict[Partition, int]:
        """Return the place of each partition's last record."""
        first = self.partitions[0]
        if self.partitions.count(first) == len(self.partitions):
            return {first: len(self.partitions) - 1}
        return {partition: place for place, partition in enumerate(self.partitions)}


class Prefetch:
    """Records that were read, until they are a batch.

    `generations` counts how often each partition began anew: one that did so meanwhile is left out of the batch.
    """

    def __init__(self, generations: Mapping[Partition, int], columnar_decoder: ColumnarDecoder | None = None) -> None:
        self._places = RecordOffsets([], [], [])
        self._starts: dict[Partition, int] = {}
        self._now = generations
        self._generations: dict[Partition, int] = {}
        self._columnar_decoder = columnar_decoder
        self._ahead: Future[Load | list[Event]] | None = None

    def add(self, partition: Partition, start: int, messages: list[Message]) -> int:
        """Take what is at `start` or behind it, in ascending order; returns the offset to go on at."""
        offsets = [message.offset() or 0 for message in messages]
        if offsets[0] < start or not all(map(lt, offsets, islice(offsets, 1, None))):
            messages, offsets = _ascending(messages, offsets, start)
        if not offsets:
            return start
        self._starts.setdefault(partition, start)
        self._generations.setdefault(partition, self._now[partition])
        self._places.messages.extend(messages)
        self._places.partitions.extend([partition] * len(messages))
        self._places.offsets.extend(offsets)
        return offsets[-1] + 1

    def decode_ahead(self, decoder: Decoder, executor: Executor) -> None:
        if len(self._places.messages) >= MANY:
            self._ahead = executor.submit(_ahead, decoder, self._columnar_decoder, self._places)

    def batch(self, decoder: Decoder, generations: Mapping[Partition, int]) -> EventBatch | None:
        """Return the batch, None where nothing is left. Raises PycdcError where the registry cannot be asked."""
        made = _decoded(decoder, self._places) if self._ahead is None else self._ahead.result()
        stale = {
            partition for partition, generation in self._generations.items() if generations.get(partition) != generation
        }
        if isinstance(made, Load) and not stale:
            offsets = self._places.offsets
            return self._of({partition: offsets[last] + 1 for partition, last in self._places.lasts().items()}, made)
        events = made.events() if isinstance(made, Load) else made
        if stale:
            events = [event for event in events if event.partition not in stale]
        if not events:
            return None
        return self._of({event.partition: event.offset + 1 for event in events}, events)

    def _of(self, ends: dict[Partition, int], made: Load | list[Event]) -> EventBatch:
        starts = {partition: self._starts[partition] for partition in ends}
        if isinstance(made, Load):
            return EventBatch(position=PartitionOffsets(ends), starts=starts, load=made)
        return EventBatch(made, PartitionOffsets(ends), starts=starts)


def _ascending(messages: list[Message], offsets: list[int], start: int) -> tuple[list[Message], list[int]]:
    """Return records without those that lie before `start`, or before what came already."""
    taken: tuple[list[Message], list[int]] = [], []
    for message, offset in zip(messages, offsets, strict=True):
        if offset >= start:
            taken[0].append(message)
            taken[1].append(offset)
            start = offset + 1
    return taken


def _ahead(decoder: Decoder, columnar_decoder: ColumnarDecoder | None, places: RecordOffsets) -> Load | list[Event]:
    try:
        if columnar_decoder is not None:
            return _loaded(decoder, columnar_decoder, places)
    except NotColumnar:
        pass  # event by event everything can be read
    except PycdcError:
        raise
    except Exception as error:
        log.debug("a batch is decoded event by event", reason=type(error).__name__)
    return _decoded(decoder, places)


def _loaded(decoder: Decoder, columnar_decoder: ColumnarDecoder, places: RecordOffsets) -> Load:
    """Decode records as columns. Raises NotColumnar."""
    messages = places.messages
    headers: Any = [message.headers() for message in messages]
    if any(headers) and any(name in _APART for own in headers if own for name, _ in own):
        raise NotColumnar
    lasts = places.lasts()
    parts, counts, removed = [], {}, {}
    for topic in dict.fromkeys(partition.topic for partition in lasts):
        own = messages
        if len(lasts) > 1:
            spots = zip(messages, places.partitions, strict=True)
            own = [message for message, partition in spots if partition.topic == topic]
        part, removals = columnar_decoder.part(topic, [one.key() for one in own], [one.value() for one in own])
        parts.append(part)
        counts[topic] = len(own)
        if removals:
            removed[topic] = removals
    newest = {partition: messages[last].timestamp()[1] for partition, last in lasts.items()}
    return Load(parts, len(messages), counts, removed, newest, lambda: _decoded(decoder, places), lambda: headers)


def _decoded(decoder: Decoder, places: RecordOffsets) -> list[Event]:
    return [decoded(decoder, *place) for place in zip(*places, strict=True)]


def decoded(decoder: Decoder, message: Message, partition: Partition, offset: int) -> Event:
    """Return the record as an event, whatever it holds. Raises PycdcError where the registry cannot be asked."""
    _, timestamp = message.timestamp()
    headers: tuple[tuple[str, bytes | None], ...] = ()
    try:
        headers = tuple(message.headers() or ())
        return decoder.event(partition, offset, timestamp, message.key(), message.value(), headers)
    except (PycdcError, MemoryError, OSError):
        raise
    except Exception as error:
        problem = f"the record cannot be decoded ({type(error).__name__})"
        raw = {"raw_key": message.key(), "raw_value": message.value()}
        return Event(partition, offset, timestamp, headers=headers, problem=problem, **raw)


def portions(messages: list[Message], most: int) -> Iterator[list[Message]]:
    """Yield messages in order, in lists of `most` bytes of values unless one message alone has more."""
    if not messages or sum(map(len, messages)) <= most:
        yield from [messages] if messages else []
        return
    portion: list[Message] = []
    size = 0
    for message in messages:
        if portion and size + len(message) > most:
            yield portion
            portion, size = [], 0
        portion.append(message)
        size += len(message)
    yield portion

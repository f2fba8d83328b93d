"""Records that were read, on their way to a batch: decoded by a thread of its own where there are many.

The sink spends half of its time waiting for the database, and another half on work of its own: so the next batch is
decoded meanwhile. A few records are decoded at once, because a thread costs more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Final

from confluent_kafka import Message

from pycdc.connectors.kafka.decoding import Decoder
from pycdc.events import Event, EventBatch, Offsets, Partition

MANY: Final = 200
"""Records from which on a batch is decoded ahead."""

Place = tuple[Message, Partition, int]
"""A record, where it is from, and its offset."""


class Fetched:
    """`starts` are the offsets that each partition was read to before; `turns` count how often it began anew: one that
    did so meanwhile is left out of the batch."""

    def __init__(self, places: list[Place], starts: dict[Partition, int], turns: Mapping[Partition, int]) -> None:
        self._places = places
        self._starts = starts
        self._turns = {partition: turns[partition] for partition in starts}
        self._events: Future[list[Event]] | None = None

    def decode_ahead(self, decoder: Decoder, executor: Executor) -> None:
        if len(self._places) >= MANY:
            self._events = executor.submit(_decoded, decoder, self._places)

    def batch(self, decoder: Decoder, turns: Mapping[Partition, int]) -> EventBatch | None:
        """None where nothing is left. Raises PycdcError where the registry cannot be asked."""
        events = _decoded(decoder, self._places) if self._events is None else self._events.result()
        stale = {partition for partition, turn in self._turns.items() if turns.get(partition) != turn}
        if stale:
            events = [event for event in events if event.partition not in stale]
        if not events:
            return None
        ends = {event.partition: event.offset + 1 for event in events}
        return EventBatch(events, Offsets(ends), starts={partition: self._starts[partition] for partition in ends})


def _decoded(decoder: Decoder, places: list[Place]) -> list[Event]:
    event = decoder.event
    return [
        event(
            partition,
            offset,
            message.timestamp()[1],
            message.key(),
            message.value(),
            tuple(message.headers() or ()),
        )
        for message, partition, offset in places
    ]


def portions(messages: list[Message], most: int) -> Iterator[list[Message]]:
    """The same in order, in lists of `most` bytes of values unless one message alone has more; none for none."""
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

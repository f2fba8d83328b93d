"""Reading topics without being seen: partitions are assigned by hand, no group is joined, no offset is committed."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from pycdc.clients.kafka_errors import LastError, unreadable
from pycdc.clients.kafka_inspection import OffsetSpan
from pycdc.clients.kafka_settings import consumer_settings
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.connectors.kafka.prefetch import decoded
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.errors import ConnectionLost, PycdcError
from pycdc.model.event import Event, Partition

_POLL: Final = 0.5
_PATIENCE: Final = 30.0
"""Seconds without a record or an end after which the brokers count as away."""


def read_events(
    settings: KafkaSourceConfig, group: str, decoder: Decoder, spans: Mapping[Partition, OffsetSpan]
) -> Generator[Event]:
    """Yield the events of each partition from `first` up to `end`; those that come later are left unread.

    Raises PycdcError where the brokers do not answer, or an offset is not in its topic.
    """
    open_ends = {partition: span.end for partition, span in spans.items() if span.first < span.end}
    if not open_ends:
        return
    trouble = LastError()
    consumer = Consumer({**consumer_settings(settings, group), "client.id": "pycdc-dry-run", "error_cb": trouble})
    try:
        consumer.assign([TopicPartition(p.topic, p.number, spans[p].first) for p in open_ends])
        waited = 0.0
        while open_ends:
            message = consumer.poll(_POLL)
            waited = 0.0 if message is not None else waited + _POLL
            if waited >= _PATIENCE:
                raise _away(trouble, settings.brokers)
            event = None if message is None else _event(message, decoder, open_ends)
            if event is not None:
                yield event
    finally:
        consumer.close()


def event_at(
    settings: KafkaSourceConfig, group: str, decoder: Decoder, partition: Partition, offset: int
) -> Event | None:
    """Return the event there; None where none is, or no more. Raises PycdcError where the brokers do not answer."""
    found = read_events(settings, group, decoder, {partition: OffsetSpan(offset, offset + 1)})
    try:
        return next(found, None)
    except PycdcError as error:
        if error.retry:
            raise
        return None
    finally:
        found.close()


def _event(message: Message, decoder: Decoder, open_ends: dict[Partition, int]) -> Event | None:
    """Return the message as an event, None for what is none; close its partition at the end of what is read."""
    partition, offset = Partition(message.topic() or "", message.partition() or 0), message.offset() or 0
    error = message.error()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF:
            open_ends.pop(partition, None)
        elif error.fatal() or not error.retriable():
            raise unreadable(error, str(partition))
        return None
    if offset + 1 >= open_ends.get(partition, 0):
        end = open_ends.pop(partition, 0)
        if offset >= end:
            return None
    return decoded(decoder, message, partition, offset)


def _away(trouble: LastError, brokers: str) -> ConnectionLost:
    reason = "they do not answer" if trouble.error is None else trouble.error.str()
    return ConnectionLost(f"the brokers at {brokers} cannot be read: {reason}", hint="check source.kafka.brokers")

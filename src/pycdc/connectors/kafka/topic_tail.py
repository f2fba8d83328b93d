"""The newest records of topics, read beside everybody else: no consumer group is joined, and nothing is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pycdc.clients.kafka_errors import LastError, refused_option, unreadable
from pycdc.model.event import Partition

_LOOK: Final = 0.5
"""Seconds between looks for new topics."""
_ANSWER: Final = 10.0
_MOST: Final = 1000
_PASSING: Final = {KafkaError._PARTITION_EOF, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
_CONSUMER: Final = ("group.", "isolation.", "enable.auto.", "auto.offset.", "partition.", "session.")


class TopicTail:
    """Topics whose name `wanted` accepts, from their present end on; those made later from their beginning.

    `client` are librdkafka's settings for the cluster, which `section` of the configuration names. Raises PycdcError.
    """

    def __init__(self, client: Mapping[str, Any], wanted: Callable[[str], bool], section: str = "source.kafka") -> None:
        self._wanted = wanted
        self._section = section
        self._brokers = str(client["bootstrap.servers"])
        self._trouble = LastError()
        self._known: dict[Partition, int] = {}
        """The next offset of each partition."""
        self._next_look = 0.0
        shared = {name: value for name, value in client.items() if not name.startswith(_CONSUMER)}
        own = {
            "group.id": "pycdc-lag",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "latest",
            "fetch.wait.max.ms": 50,
        }
        try:
            self._consumer = Consumer({**shared, **own, "error_cb": self._trouble})
        except KafkaException as error:
            raise refused_option(error, f"{section}.options") from None
        self._look(at_end=True)

    @property
    def topics(self) -> set[str]:
        """Those that are read."""
        return {partition.topic for partition in self._known}

    def read(self, timeout: float) -> list[Message]:
        """Return what is there; wait at most `timeout` seconds for the first record, and for no other."""
        if time.monotonic() >= self._next_look:
            self._look(at_end=False)
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        records = [one for one in (first, *self._consumer.consume(_MOST, 0)) if self._is_record(one)]
        for record in records:
            self._known[Partition(record.topic() or "", record.partition() or 0)] = (record.offset() or 0) + 1
        return records

    def ends(self) -> dict[Partition, int]:
        """Return the offset behind the last record of each partition."""
        return {partition: self._end(partition) for partition in self._known}

    def close(self) -> None:
        self._consumer.close()

    def _look(self, *, at_end: bool) -> None:
        self._next_look = time.monotonic() + _LOOK
        try:
            found = self._consumer.list_topics(timeout=_ANSWER).topics
        except KafkaException as error:
            where = f"the cluster at {self._brokers}"
            raise unreadable(self._trouble.error or error.args[0], where, self._section) from None
        wanted = [
            Partition(topic, number) for topic in filter(self._wanted, found) for number in found[topic].partitions
        ]
        new = [partition for partition in wanted if partition not in self._known]
        for partition in new:
            self._known[partition] = self._end(partition) if at_end else 0
        if new:
            self._consumer.assign([TopicPartition(p.topic, p.number, offset) for p, offset in self._known.items()])

    def _end(self, partition: Partition) -> int:
        try:
            found = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=_ANSWER, cached=False)
        except KafkaException as error:
            raise unreadable(self._trouble.error or error.args[0], str(partition), self._section) from None
        return int(found[1])

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is not None and error.code() not in _PASSING:
            raise unreadable(error, f"{message.topic()}[{message.partition()}]", self._section)
        return error is None


def written_at(record: Message) -> float:
    """Seconds since the Unix epoch, by the clock of whoever wrote it; now, where the record has no timestamp."""
    kind, milliseconds = record.timestamp()
    return time.time() if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000

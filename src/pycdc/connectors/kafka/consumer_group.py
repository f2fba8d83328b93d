"""The consumer group's committed offsets: for those who watch its lag, and to tell whose group it is.

One group works for one database. Two pipelines of one name that write into two databases would be one group, share its
partitions, and leave each database without what the other got. So the offsets carry the database's identity, as their
metadata, and whoever finds another one there does not go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pycdc.clients.kafka_errors import unreadable
from pycdc.clients.kafka_inspection import TopicInspection, committed
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Partition
from pycdc.observability.logger import get_logger

log = get_logger()

_OF_DATABASE: Final = "pycdc database "
"""What metadata begins with that names a database."""
_ANSWER: Final = 10.0
"""Seconds for a question to the brokers."""
_SHORT: Final = 1.0
"""The same while records wait."""
_LOOK: Final = 5.0
"""Seconds after which those who took partitions at the same time have told whose they are."""


class ConsumerGroup:
    """The offsets that one process commits to the group.

    `name` is the group's; `begin` sets the database. For the consumer's thread.
    """

    def __init__(self, consumer: Consumer, inspection: TopicInspection, name: str, brokers: str) -> None:
        self._consumer = consumer
        self._inspection = inspection
        self._name = name
        self._brokers = brokers
        self._database: str | None = None
        self._partitions: list[Partition] = []
        self._uncommitted: dict[Partition, int] = {}
        self._look_at = inf

    def begin(self, database: str | None) -> None:
        """Set the database, before the group is joined. Raises EnvironmentNotReady where it is another one's group."""
        self._database = database
        if database is not None:
            self._partitions = self._inspection.partitions()
            try:
                self._require_own(_ANSWER)
            except KafkaException as error:
                raise unreadable(error.args[0], f"the consumer group {self._name}") from None

    def claimed(self, offsets: Mapping[Partition, int]) -> None:
        self._uncommitted.update(offsets)

    def released(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._uncommitted.pop(partition, None)

    def check(self) -> None:
        """Commit whose the partitions are that were taken, and a little later look at what others committed.

        Two that begin at the same time find nothing before.
        """
        if self._uncommitted:
            self.applied(self._uncommitted)
            self._uncommitted = {}
            self._look_at = time.monotonic() + _LOOK
        if time.monotonic() >= self._look_at:
            try:
                self._require_own(_SHORT)
                self._look_at = inf
            except KafkaException as error:
                self._look_at = time.monotonic() + _LOOK
                log.debug("the group's offsets were not told", reason=error.args[0].str())

    def applied(self, offsets: Mapping[Partition, int]) -> None:
        """Commit offsets. The sink's database knows them already, so nobody waits for an answer."""
        metadata = "" if self._database is None else _OF_DATABASE + self._database
        places = [TopicPartition(p.topic, p.number, offset, metadata) for p, offset in offsets.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            log.debug("the group's offsets were not committed", reason=error.args[0].str())

    def _require_own(self, seconds: float) -> None:
        metadata = committed(self._consumer, self._partitions, seconds)
        require_own(self._brokers, self._name, metadata, self._database)


def require_own(brokers: str, group: str, metadata: Iterable[TopicPartition], database: str | None) -> None:
    """Raise EnvironmentNotReady where a process committed offsets for another database."""
    for place in metadata:
        owner = place.metadata or ""
        if owner.startswith(_OF_DATABASE) and owner != f"{_OF_DATABASE}{database}":
            raise EnvironmentNotReady(
                f"consumer group {group} works for another database ({owner.removeprefix(_OF_DATABASE)}, and this is "
                f"{database}): each would get a part of the partitions",
                hint="for two databases, give one of the pipelines another source.kafka.group; where this database "
                "takes the other's place (restored, upgraded), or after the group was changed, stop all processes of "
                "the group and delete it, since where to go on is stored in the database: "
                f"kafka-consumer-groups --bootstrap-server {brokers} --delete --group {group}",
            )

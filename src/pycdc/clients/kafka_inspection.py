"""What is asked of the brokers from outside a pipeline: topics, ends of partitions, the consumer group. Joins none."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from pycdc.clients.kafka_errors import GONE, SOURCE_OPTIONS, LastError, refused_option, unreadable
from pycdc.clients.kafka_settings import consumer_settings
from pycdc.clients.kafka_topics import has_controller
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.errors import EnvironmentNotReady, PycdcError
from pycdc.model.event import Partition
from pycdc.model.patterns import names_any

T = TypeVar("T")

_CONSUMER: Final = (
    "group.",
    "isolation.",
    "enable.auto.",
    "enable.partition.",
    "auto.offset.",
    "partition.",
    "queued.",
    "fetch.",
    "session.",
    "statistics.",
)
_COORDINATOR_COMES: Final = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
)
_PAUSE: Final = 0.1
_ASKING: Final = 16
"""Groups whose offsets are asked for at the same time."""


@dataclass(frozen=True, slots=True)
class OffsetSpan:
    """The offsets that a partition has: `first`, and `end` behind the last that a committed record may have."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A process of the group: `host` as the brokers see it."""

    id: str
    client: str
    host: str
    partitions: frozenset[Partition]


def matching_topics(settings: KafkaSourceConfig, *, timeout: float = 5.0) -> dict[str, list[str]]:
    """Return the topics that there are for each of `topics`. Raises PycdcError."""
    return TopicInspection(settings, timeout).topics()


def committed(consumer: Consumer, partitions: Iterable[Partition], timeout: float) -> list[TopicPartition]:
    """Return what the consumer's group committed, with its metadata. Raises KafkaException."""
    places = [TopicPartition(*one) for one in partitions]
    return consumer.committed(places, timeout) if places else []


class TopicInspection:
    """Questions to the brokers of `settings`. Each raises PycdcError where they do not answer."""

    def __init__(self, settings: KafkaSourceConfig, timeout: float = 5.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._trouble = LastError()
        self._controller: bool | None = None
        client = {k: v for k, v in consumer_settings(settings, "-").items() if not k.startswith(_CONSUMER)}
        try:
            self._admin = AdminClient({**client, "error_cb": self._trouble})
        except KafkaException as error:
            raise refused_option(error, SOURCE_OPTIONS) from None

    def topics(self) -> dict[str, list[str]]:
        """Return the topics that there are for each of the source's `topics`."""
        return {
            topic: sorted(name for name in self._metadata() if names_any([topic], name))
            for topic in self._settings.topics
        }

    def partitions(self) -> list[Partition]:
        """Return the partitions of all topics that the source reads."""
        return sorted(
            Partition(name, number)
            for name, numbers in self._metadata().items()
            if names_any(self._settings.topics, name)
            for number in numbers
        )

    def named(self, topics: Iterable[str]) -> list[str]:
        """Return those of `topics` that there are."""
        there = self._metadata()
        return [topic for topic in topics if topic in there]

    def ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return the ids of topics, which differ between topics of one name. Brokers before 2.8 have none: left out."""
        out = {}
        for topic, answer in self.ask_ids(topics).items():
            try:
                identity = str(answer.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() not in GONE:
                    raise self._unanswered(error, f"topic {topic}") from None
            else:
                out.update({topic: identity} if identity.strip("A") else {})
        return out

    def ask_ids(self, topics: Collection[str]) -> dict[str, Any]:
        """Ask for the ids; return the answers that come, as futures."""
        if not topics or not self.administered():
            return {}
        return dict(self._admin.describe_topics(TopicCollection(sorted(topics)), request_timeout=self._timeout))

    def administered(self) -> bool:
        """Return whether the brokers answer an administrator, as an embedded one does not."""
        if self._controller is None:
            try:
                cluster = self._admin.list_topics(timeout=self._timeout)
            except KafkaException as error:
                raise self._unanswered(error, f"the cluster at {self._settings.brokers}") from None
            self._controller = has_controller(cluster)
        return self._controller

    def spans(self, partitions: Iterable[Partition]) -> dict[Partition, OffsetSpan]:
        """Return what `partitions` hold; those that do not exist are left out."""
        asked = list(partitions)
        firsts = self._offsets(asked, OffsetSpec.earliest())
        ends = self._offsets(asked, OffsetSpec.latest())
        return {one: OffsetSpan(firsts[one], ends[one]) for one in asked if one in firsts and one in ends}

    def members(self, group: str) -> list[GroupMember]:
        """Return the processes of the group; none where there is no such group."""
        try:
            found = self._coordinated(
                lambda: self._admin.describe_consumer_groups([group], request_timeout=self._timeout)[group].result()
            )
        except KafkaException as error:
            # Brokers since 4.0; older ones describe a dead group.
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return []
            raise self._unanswered(error, f"the consumer group {group}") from None
        if found.state == ConsumerGroupState.DEAD:
            return []
        return [
            GroupMember(
                member.member_id,
                member.client_id,
                member.host.lstrip("/"),
                frozenset(Partition(one.topic, one.partition) for one in member.assignment.topic_partitions),
            )
            for member in found.members
        ]

    def group_exists(self, group: str) -> bool:
        """Return whether the group has members or offsets."""
        try:
            found = self._coordinated(
                lambda: self._admin.describe_consumer_groups([group], request_timeout=self._timeout)[group].result()
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return False
            raise self._unanswered(error, f"the consumer group {group}") from None
        return bool(found.state != ConsumerGroupState.DEAD)

    def readers(self, topics: Collection[str]) -> dict[str, list[str]]:
        """Return the groups that read `topics`, or have offsets there, with the topics of each."""
        places = [Partition(name, number) for name, numbers in self._metadata().items() for number in numbers]
        asked = [one for one in places if one.topic in topics]
        try:
            listed = self._coordinated(lambda: self._admin.list_consumer_groups().result(self._timeout)).valid
            with ThreadPoolExecutor(_ASKING, "pycdc-groups") as executor:
                found = dict(executor.map(partial(self._topics_of, asked), [one.group_id for one in listed]))
        except KafkaException as error:
            raise self._unanswered(error, "the consumer groups") from None
        return {group: names for group, names in sorted(found.items()) if names}

    def _topics_of(self, partitions: list[Partition], group: str) -> tuple[str, list[str]]:
        """Return a group with those topics of `partitions` that it has to do with. Raises KafkaException."""
        members = {one for member in self.members(group) for one in member.partitions}
        asking = Consumer({**consumer_settings(self._settings, group), "error_cb": self._trouble})
        try:
            offsets = [one for one in committed(asking, partitions, self._timeout) if one.offset >= 0]
        finally:
            asking.close()
        read = members.intersection(partitions)
        return group, sorted({one.topic for one in offsets} | {one.topic for one in read})

    def delete_topics(self, topics: Collection[str]) -> None:
        """Delete them, and return once the brokers do not name them any more; those that are not there are left out."""
        for topic, answer in self._admin.delete_topics(list(topics), request_timeout=self._timeout).items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() not in GONE:
                    raise self._unanswered(error, f"topic {topic}") from None
        deadline = time.monotonic() + self._timeout
        while self.named(topics) and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def committed(self, group: str) -> list[TopicPartition]:
        """Return the group's offsets of the partitions that the source reads, with their metadata."""
        # Not by the AdminClient: librdkafka 2.16's ends the process where the group's coordinator has moved.
        try:
            asking = Consumer({**consumer_settings(self._settings, group), "error_cb": self._trouble})
        except KafkaException as error:
            raise refused_option(error, SOURCE_OPTIONS) from None
        try:
            return committed(asking, self.partitions(), self._timeout)
        except KafkaException as error:
            raise self._unanswered(error, f"the consumer group {group}") from None
        finally:
            asking.close()

    def delete_group(self, group: str) -> bool:
        """Forget its offsets; False if there was none. Raises EnvironmentNotReady where it has members."""
        try:
            self._coordinated(
                lambda: self._admin.delete_consumer_groups([group], request_timeout=self._timeout)[group].result()
            )
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return False
            if code == KafkaError.NON_EMPTY_GROUP:
                raise EnvironmentNotReady(f"the consumer group {group} has members", hint="stop them first") from None
            raise self._unanswered(error, f"the consumer group {group}") from None
        return True

    def _coordinated(self, question: Callable[[], T]) -> T:
        """Ask again while the group's coordinator takes up its work, as it does after a broker was started."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return question()
            except KafkaException as error:
                if error.args[0].code() not in _COORDINATOR_COMES or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def _metadata(self) -> Mapping[str, list[int]]:
        try:
            found = self._admin.list_topics(timeout=self._timeout).topics
        except KafkaException as error:
            raise self._unanswered(error, f"the cluster at {self._settings.brokers}") from None
        return {name: list(topic.partitions) for name, topic in found.items()}

    def _offsets(self, partitions: list[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        if not partitions:
            return {}
        asked = {TopicPartition(one.topic, one.number): spec for one in partitions}
        answers = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._timeout
        )
        out = {}
        for place, answer in answers.items():
            partition = Partition(place.topic, place.partition)
            try:
                out[partition] = answer.result().offset
            except KafkaException as error:
                if error.args[0].code() not in GONE:
                    raise self._unanswered(error, str(partition)) from None
        return out

    def _unanswered(self, error: KafkaException, where: str) -> PycdcError:
        self._admin.poll(0)
        # "Timed out" says less than what the connections met before.
        return unreadable(self._trouble.error or error.args[0], where)

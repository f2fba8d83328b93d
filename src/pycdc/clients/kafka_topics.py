"""Topics, as an administrator of the brokers: found or made at their first use, never again; and asked for.

A topic that disappears later is an error (see `kafka_errors.undelivered`), because a new one of that name lacks what
consumers have not read yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ClusterMetadata, ConfigResource, NewTopic, ResourceType, TopicMetadata

from pycdc.clients.kafka_errors import SINK_OPTIONS, LastError, refused_option, unreachable
from pycdc.clients.kafka_wait import patiently
from pycdc.config.kafka import TopicsConfig
from pycdc.errors import ConfigError, EnvironmentNotReady, PycdcError

_POLL: Final = 0.05
_ELECTING: Final = -1


@dataclass(frozen=True, slots=True)
class Cluster:
    """`topics` are those that this user may see."""

    brokers: int
    topics: frozenset[str]


@dataclass(frozen=True, slots=True)
class TopicDurability:
    """On how many of how many `brokers` the topic is; `in_sync` have to confirm a record, None where nobody tells."""

    brokers: int
    replicas: int
    in_sync: int | None
    partitions: int = 1


def has_controller(cluster: ClusterMetadata) -> bool:
    """Return whether the cluster answers an administrator's questions, which librdkafka's mock cluster does not.

    The mock cluster names a controller that is none of its brokers; a real one says -1 between two elections.
    """
    return cluster.controller_id in (_ELECTING, *cluster.brokers)


class TopicAdmin:
    """`client` holds librdkafka settings, `timeout` is seconds for one topic to be there. Raises ConfigError."""

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: TopicsConfig,
        *,
        timeout: float = 15.0,
        stopping: threading.Event | None = None,
    ) -> None:
        self._client = {**client, "allow.auto.create.topics": False}
        self._brokers = str(client["bootstrap.servers"])
        self._topics = topics
        self._timeout = timeout
        self._stopping = stopping
        self._trouble = LastError()
        try:
            self._admin = AdminClient({**self._client, "error_cb": self._trouble})
        except KafkaException as error:
            raise refused_option(error, SINK_OPTIONS) from None
        self._controller: bool | None = None

    def close(self) -> None:
        """Idempotent. A client of this kind ends with the last reference to it, whoever else holds one to this."""
        self.__dict__.pop("_admin", None)

    def ensure(self, topic: str) -> None:
        """Return once `topic` exists and all its partitions have leaders, creating it where that is allowed."""
        if self._describe(topic) is None:
            self._create(topic)
        self._await_leaders(topic)

    def missing(self, topics: Iterable[str], timeout: float) -> list[str]:
        """Return those of `topics` that do not exist; none when the brokers do not tell within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        missing = []
        for topic in topics:
            try:
                found = self._admin.list_topics(topic, timeout=max(0.1, deadline - time.monotonic())).topics[topic]
            except KafkaException:
                break
            if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                missing.append(topic)
        return missing

    def require_creatable(self, topic: str) -> None:
        """Raise what `ensure` would for a topic that is not there, without making it."""
        if self._describe(topic) is not None:
            return
        if not self._topics.create:
            raise self._missing(topic)
        if self._has_controller():
            self._ask_to_create(topic, validate_only=True)

    def setting(self, topic: str, name: str) -> str | None:
        """Return a topic's setting, None where the brokers do not report it (no permission, no such request)."""
        if not self._has_controller():
            return None
        resource = ConfigResource(ResourceType.TOPIC, topic)
        answer = self._admin.describe_configs([resource], request_timeout=self._timeout)[resource]
        try:
            entry = answer.result().get(name)
        except KafkaException:
            return None
        return None if entry is None else entry.value

    def durability(self, topic: str) -> TopicDurability | None:
        """Return how many brokers may be lost without the topic; None for a topic that is not there."""
        metadata = self._metadata(topic)
        partitions = metadata.topics[topic].partitions
        if metadata.topics[topic].error is not None or not partitions:
            return None
        in_sync = self.setting(topic, "min.insync.replicas")
        replicas = min(len(partition.replicas) for partition in partitions.values())
        known = None if in_sync is None else int(in_sync)
        return TopicDurability(len(metadata.brokers), replicas, known, len(partitions))

    def operations(self, topic: str) -> frozenset[str] | None:
        """Return what this user may do with a topic (READ, WRITE …), None where the brokers do not tell."""
        if not self._has_controller():
            return None
        asked = TopicCollection([topic])
        answers = self._admin.describe_topics(asked, include_authorized_operations=True, request_timeout=self._timeout)
        try:
            allowed = answers[topic].result().authorized_operations
        except KafkaException:
            return None
        return None if allowed is None else frozenset(one.name for one in allowed)

    def cluster(self) -> Cluster:
        """Return what the brokers tell of themselves. Raises ConnectionLost or EnvironmentNotReady."""
        found = self._metadata()
        return Cluster(len(found.brokers), frozenset(found.topics))

    def refusals(self, topics: Sequence[str]) -> dict[str, PycdcError]:
        """Return why the brokers would not create these topics; those that they would are not in it."""
        if not topics or not self._has_controller():
            return {}
        asked = [
            NewTopic(topic, self._topics.partitions, self._topics.replication, config=dict(self._topics.settings))
            for topic in topics
        ]
        answers = self._admin.create_topics(asked, request_timeout=self._timeout, validate_only=True)
        out: dict[str, PycdcError] = {}
        for topic, answer in answers.items():
            try:
                answer.result(self._timeout)
            except KafkaException as error:
                refusal = self._refused(topic, error.args[0])
                if isinstance(refusal, PycdcError):
                    out[topic] = refusal
        return out

    def create_command(self, topic: str) -> str:
        """Return the command that does by hand what `ensure` would do."""
        replication = f" --replication-factor {self._topics.replication}" if self._topics.replication > 0 else ""
        settings = "".join(f" --config {name}={value}" for name, value in self._topics.settings.items())
        return (
            f"kafka-topics --bootstrap-server {self._brokers} --create --topic {topic} "
            f"--partitions {self._topics.partitions}{replication}{settings}"
        )

    def _describe(self, topic: str) -> TopicMetadata | None:
        """Return the topic's metadata, None if there is no such topic."""
        found = self._metadata(topic).topics[topic]
        if found.error is None or found.error.code() == KafkaError.LEADER_NOT_AVAILABLE:
            return found
        if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise self._refused(topic, found.error)

    def _create(self, topic: str) -> None:
        if not self._topics.create:
            raise self._missing(topic)
        if self._has_controller():
            self._ask_to_create(topic)
        else:
            self._use(topic)

    def _missing(self, topic: str) -> EnvironmentNotReady:
        return EnvironmentNotReady(f"topic {topic} does not exist", hint=self.create_command(topic))

    def _ask_to_create(self, topic: str, *, validate_only: bool = False) -> None:
        new = NewTopic(topic, self._topics.partitions, self._topics.replication, config=dict(self._topics.settings))
        try:
            answers = self._admin.create_topics([new], request_timeout=self._timeout, validate_only=validate_only)
            answers[topic].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._refused(topic, error.args[0]) from None

    def _use(self, topic: str) -> None:
        """Make a broker without CreateTopics (librdkafka's mock cluster) create the topic by asking for it."""
        AdminClient({**self._client, "allow.auto.create.topics": True}).list_topics(topic, timeout=self._timeout)

    def _has_controller(self) -> bool:
        if self._controller is None:
            cluster = self._metadata()
            self._controller = has_controller(cluster)
        return self._controller

    def _metadata(self, topic: str | None = None) -> ClusterMetadata:
        try:
            return patiently(
                lambda seconds: self._admin.list_topics(topic, timeout=seconds), self._timeout, self._stopping
            )
        except KafkaException as error:
            # The answer that did not come says only that; why is what the callback heard of the connections.
            self._admin.poll(0)
            raise unreachable(self._trouble.error or error.args[0], self._brokers) from None

    def _await_leaders(self, topic: str) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            found = self._describe(topic)
            if found is not None and found.partitions and all(p.leader >= 0 for p in found.partitions.values()):
                return
            if time.monotonic() > deadline:
                raise EnvironmentNotReady(
                    f"topic {topic} has partitions without a leader after {self._timeout:g} s",
                    hint=f"check the brokers, then: kafka-topics --bootstrap-server {self._brokers} "
                    f"--describe --topic {topic}",
                )
            time.sleep(_POLL)

    def _refused(self, topic: str, error: KafkaError) -> EnvironmentNotReady | ConfigError | Exception:
        code = error.code()
        if code == KafkaError.TOPIC_EXCEPTION:
            return ConfigError(
                f"{topic!r} is no legal name for a topic",
                hint="use letters, digits, `.`, `_` and `-`, 249 at most: set `rules: topic` for this table",
            )
        if code in (KafkaError.INVALID_CONFIG, KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_PARTITIONS):
            return ConfigError(
                f"topic {topic} cannot be created as configured: {error.str()}", hint="change `sink.kafka.topics`"
            )
        if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
            return EnvironmentNotReady(
                f"the user may not create or describe topic {topic}: {error.str()}",
                hint=f"give it the ACLs Create and Describe, or have this run: {self.create_command(topic)}",
            )
        return unreachable(error, self._brokers)

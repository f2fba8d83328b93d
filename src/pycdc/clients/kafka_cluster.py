"""What `pycdc doctor` asks of the brokers. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic

from pycdc.clients.kafka_producer_errors import unreachable
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import TopicsConfig
from pycdc.errors import PycdcError


@dataclass(frozen=True, slots=True)
class Cluster:
    """`topics` are those that this user may see."""

    brokers: int
    topics: frozenset[str]


class ClusterInspection(TopicAdmin):
    """Asks where `TopicAdmin` acts."""

    def __init__(self, client: Mapping[str, Any], topics: TopicsConfig, *, timeout: float = 5.0) -> None:
        super().__init__(client, topics, timeout=timeout)

    def cluster(self) -> Cluster:
        """Raises ConnectionLost or EnvironmentNotReady."""
        try:
            found = self._admin.list_topics(timeout=self._timeout)
        except KafkaException as error:
            self._admin.poll(0)
            raise unreachable(self._trouble.error or error.args[0], self._brokers) from None
        return Cluster(len(found.brokers), frozenset(found.topics))

    def refusals(self, topics: Sequence[str]) -> dict[str, PycdcError]:
        """Why the brokers would not create these topics; those that they would are not in it."""
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

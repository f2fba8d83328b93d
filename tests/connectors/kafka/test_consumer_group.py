"""One consumer group works for one database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer

from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.connectors.kafka.consumer_group import ConsumerGroup
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Partition
from tests.reading import wait_for
from tests.services.kafka_mock import MockKafka

TOPIC = "stock"
HERE, THERE = "7412/16384", "7413/16384"


@pytest.fixture(scope="module")
def cluster() -> MockKafka:
    made = MockKafka()
    made.create_topic(TOPIC)
    return made


@pytest.fixture
def name() -> str:
    return f"g-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def consumer(cluster: MockKafka, name: str) -> Iterator[Consumer]:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": name, "enable.auto.commit": False})
    yield consumer
    consumer.close()


def survey(cluster: MockKafka) -> TopicInspection:
    return TopicInspection(KafkaSourceConfig(brokers=cluster.bootstrap, topics=[TOPIC], format="json"))


def group(cluster: MockKafka, consumer: Consumer, name: str, database: str | None) -> ConsumerGroup:
    made = ConsumerGroup(consumer, survey(cluster), name, cluster.bootstrap)
    made.begin(database)
    return made


def told(cluster: MockKafka, name: str) -> list[tuple[int, str]]:
    return [(place.offset, place.metadata) for place in survey(cluster).committed(name) if place.metadata]


def test_a_partition_that_is_taken_says_whose_it_is_before_anything_is_applied(
    cluster: MockKafka, consumer: Consumer, name: str
) -> None:
    mine = group(cluster, consumer, name, HERE)
    mine.claimed({Partition(TOPIC, 0): 3, Partition(TOPIC, 1): 4})
    mine.released([Partition(TOPIC, 1)])
    mine.check()
    wait_for(lambda: told(cluster, name) == [(3, f"pycdc database {HERE}")])


def test_a_group_of_another_database_is_not_joined(cluster: MockKafka, consumer: Consumer, name: str) -> None:
    group(cluster, consumer, name, HERE).applied({Partition(TOPIC, 2): 7})
    wait_for(lambda: told(cluster, name))
    group(cluster, consumer, name, HERE)
    group(cluster, consumer, name, None)
    with pytest.raises(EnvironmentNotReady) as caught:
        group(cluster, consumer, name, THERE)
    assert f"consumer group {name} works for another database" in caught.value.fact
    assert "source.kafka.group" in caught.value.hint
    assert f"--bootstrap-server {cluster.bootstrap} --delete --group {name}" in caught.value.hint


def test_of_two_that_begin_at_once_each_finds_the_other(
    cluster: MockKafka, consumer: Consumer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.connectors.kafka.consumer_group._LOOK", 0.0)
    one, other = (group(cluster, consumer, name, database) for database in (HERE, THERE))
    one.claimed({Partition(TOPIC, 0): 0})
    other.claimed({Partition(TOPIC, 1): 0})
    one.applied({Partition(TOPIC, 0): 0})
    other.applied({Partition(TOPIC, 1): 0})
    wait_for(lambda: len(told(cluster, name)) == 2)
    for mine in (one, other):
        with pytest.raises(EnvironmentNotReady, match="works for another database"):
            mine.check()


def test_offsets_of_others_and_of_a_database_that_does_not_say_who_it_is_are_no_reason(
    cluster: MockKafka, consumer: Consumer, name: str
) -> None:
    group(cluster, consumer, name, None).applied({Partition(TOPIC, 0): 1})
    wait_for(lambda: survey(cluster).committed(name)[0].offset == 1)
    group(cluster, consumer, name, THERE)

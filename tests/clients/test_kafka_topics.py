from __future__ import annotations

import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import TopicsConfig
from pycdc.errors import ConfigError, ConnectionLost, EnvironmentNotReady
from tests.services.kafka import KafkaAddress


def admin_for(kafka: KafkaAddress, **topics: object) -> TopicAdmin:
    return TopicAdmin({"bootstrap.servers": kafka.bootstrap}, TopicsConfig.model_validate(topics))


def test_a_missing_topic_is_created_as_configured(kafka: KafkaAddress, topic_prefix: str) -> None:
    admin = admin_for(kafka, partitions=5, replication=1, settings={"retention.ms": "1234567"})
    admin.ensure(topic_prefix)
    found = kafka.admin().list_topics(topic_prefix, timeout=10).topics[topic_prefix]
    assert len(found.partitions) == 5
    assert admin.setting(topic_prefix, "retention.ms") == "1234567"


def test_the_replication_factor_is_the_brokers_unless_configured(kafka: KafkaAddress, topic_prefix: str) -> None:
    admin_for(kafka).ensure(topic_prefix)
    found = kafka.admin().list_topics(topic_prefix, timeout=10).topics[topic_prefix]
    assert len(found.partitions) == 1


def test_an_existing_topic_is_left_as_it_is(kafka: KafkaAddress, topic_prefix: str) -> None:
    kafka.create_topic(topic_prefix, partitions=2, config={"retention.ms": "777000"})
    admin = admin_for(kafka, partitions=9, settings={"retention.ms": "1"})
    admin.ensure(topic_prefix)
    assert len(kafka.admin().list_topics(topic_prefix, timeout=10).topics[topic_prefix].partitions) == 2
    assert admin.setting(topic_prefix, "retention.ms") == "777000"


def test_two_instances_may_create_the_same_topic(kafka: KafkaAddress, topic_prefix: str) -> None:
    admin_for(kafka)._create(topic_prefix)
    admin_for(kafka)._create(topic_prefix)
    admin_for(kafka).ensure(topic_prefix)


def test_where_creating_is_switched_off_the_command_is_shown(kafka: KafkaAddress, topic_prefix: str) -> None:
    topics = {"create": False, "partitions": 3, "replication": 2, "settings": {"retention.ms": "5"}}
    with pytest.raises(EnvironmentNotReady, match=topic_prefix) as caught:
        admin_for(kafka, **topics).ensure(topic_prefix)
    assert caught.value.hint == (
        f"kafka-topics --bootstrap-server {kafka.bootstrap} --create --topic {topic_prefix} "
        "--partitions 3 --replication-factor 2 --config retention.ms=5"
    )
    assert topic_prefix not in kafka.topics()


def test_asking_for_a_topic_does_not_create_it(kafka: KafkaAddress, topic_prefix: str) -> None:
    assert admin_for(kafka)._describe(topic_prefix) is None
    assert topic_prefix not in kafka.topics()


@pytest.mark.parametrize(
    "topics", [{"replication": 3}, {"settings": {"no.such.setting": "1"}}, {"settings": {"retention.ms": "soon"}}]
)
def test_what_the_brokers_cannot_create_is_a_configuration_error(
    kafka: KafkaAddress, topic_prefix: str, topics: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=topic_prefix) as caught:
        admin_for(kafka, **topics).ensure(topic_prefix)
    assert "sink.kafka.topics" in caught.value.hint


@pytest.mark.parametrize("name", ["with space", "é", "x" * 250])
def test_an_illegal_name_is_a_configuration_error(kafka: KafkaAddress, name: str) -> None:
    with pytest.raises(ConfigError, match="no legal name"):
        admin_for(kafka).ensure(name)


@pytest.mark.kafka_mock_ok
def test_a_setting_that_nobody_knows_is_none(kafka: KafkaAddress, topic_prefix: str) -> None:
    admin = admin_for(kafka)
    admin.ensure(topic_prefix)
    assert admin.setting(topic_prefix, "no.such.setting") is None


def test_limits_are_readable(kafka: KafkaAddress, topic_prefix: str) -> None:
    kafka.create_topic(topic_prefix, config={"max.message.bytes": "4321"})
    resource = ConfigResource(ResourceType.TOPIC, topic_prefix)
    admin = kafka.admin()
    wanted = admin.describe_configs([resource])[resource].result(10)["max.message.bytes"].value
    assert admin_for(kafka).setting(topic_prefix, "max.message.bytes") == wanted == "4321"


def test_brokers_that_do_not_answer_are_a_lost_connection() -> None:
    admin = TopicAdmin({"bootstrap.servers": "127.0.0.1:1"}, TopicsConfig(), timeout=0.5)
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:1"):
        admin.ensure("t")

"""Brokers that ask who we are: wrong passwords and missing rights end the pipeline with a remedy, not in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from pydantic import SecretStr

from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.kafka.producer import KafkaSink
from tests.proxy import Proxy
from tests.services import kafka as kafka_service
from tests.services.availability import Unavailable
from tests.services.kafka import Kafka, KafkaAddress
from tests.sinks.kafka.records import GivenRecords, is_complete_and_ordered, numbered, numbers

pytestmark = pytest.mark.server

LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Kafka]:
    """A broker whose second listener wants a password, and which lets nobody write without an ACL."""
    broker = kafka_service.launch(
        **{
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.proxied.plain.sasl.jaas.config": f'{LOGIN} user_writer="right" user_guest="right";',
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
        }
    )
    if not isinstance(broker, Kafka):
        raise Unavailable("the broker is not ours to configure")
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def door(guarded: Kafka) -> Iterator[Proxy]:
    with guarded.proxy() as proxy:
        yield proxy


def settings(door: Proxy, user: str, password: str, **more: Any) -> KafkaSinkConfig:
    options: dict[str, Any] = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": SecretStr(password),
    }
    return KafkaSinkConfig(brokers=door.address, format="json", delivery_timeout=10, options={**options, **more})


Open = Callable[..., KafkaSink]


@pytest.fixture
def open_sink(door: Proxy) -> Iterator[Open]:
    opened: list[KafkaSink] = []

    def open_one(found: KafkaSinkConfig, topic: str, timeout: float = 15.0) -> KafkaSink:
        admin = TopicAdmin(client_settings(found.brokers, found.options), found.topics, timeout=timeout)
        opened.append(KafkaSink(GivenRecords([(topic, numbered(0, 100))]), found, MemoryOffsetStore(), topics=admin))
        return opened[-1]

    yield open_one
    for sink in opened:
        sink.close()


def deliver(sink: KafkaSink) -> None:
    sink.write(Batch())
    sink.commit(Checkpoint(Position(Lsn(1))))


def allow(guarded: Kafka, user: str, topic: str, *operations: AclOperation) -> None:
    bindings = [
        AclBinding(
            ResourceType.TOPIC,
            topic,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
    admin = guarded.admin()
    for done in admin.create_acls(bindings).values():
        done.result()


def test_a_wrong_password_is_no_lost_connection_and_is_not_shown(
    door: Proxy, open_sink: Open, topic_prefix: str
) -> None:
    sink = open_sink(settings(door, "writer", "canary-wrong"), topic_prefix, timeout=3.0)
    with pytest.raises(EnvironmentNotReady, match="Authentication failed") as caught:
        sink.write(Batch())
    assert "sasl" in caught.value.hint
    assert "canary" not in str(caught.value)


def test_a_wrong_password_shows_when_the_position_is_loaded_too(door: Proxy, topic_prefix: str) -> None:
    found = settings(door, "writer", "canary-wrong")
    client = client_settings(found.brokers, found.options)
    store = KafkaOffsetStore(client, topic_prefix, "shop", TopicAdmin(client, found.topics), timeout=3.0)
    with pytest.raises(EnvironmentNotReady, match="Authentication failed"):
        store.load()


def test_a_user_without_the_right_to_create_is_told_which_acl_or_command(
    guarded: Kafka, door: Proxy, open_sink: Open, topic_prefix: str
) -> None:
    allow(guarded, "guest", topic_prefix, AclOperation.DESCRIBE)
    sink = open_sink(settings(door, "guest", "right"), topic_prefix)
    with pytest.raises(EnvironmentNotReady, match=topic_prefix) as caught:
        sink.write(Batch())
    assert "kafka-topics" in caught.value.hint


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_user_without_the_right_to_write_is_told_which_acl(
    guarded: Kafka, door: Proxy, open_sink: Open, topic_prefix: str, elsewhere: bool
) -> None:
    """Whoever may write no topic at all may not even start an idempotent producer."""
    guarded.create_topic(topic_prefix)
    user = "writer" if elsewhere else "guest"
    allow(guarded, user, topic_prefix, AclOperation.DESCRIBE)
    if elsewhere:
        allow(guarded, user, f"{topic_prefix}-other", AclOperation.WRITE)
    sink = open_sink(settings(door, user, "right"), topic_prefix)
    with pytest.raises(EnvironmentNotReady, match="refuse writing") as caught:
        deliver(sink)
    assert (topic_prefix in caught.value.fact) is elsewhere
    assert "Write" in caught.value.hint


def test_a_user_with_just_the_rights_that_the_documentation_names_can_do_it_all(
    guarded: Kafka, door: Proxy, open_sink: Open, topic_prefix: str
) -> None:
    allow(guarded, "writer", topic_prefix, AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.WRITE)
    sink = open_sink(settings(door, "writer", "right"), topic_prefix)
    deliver(sink)
    plain = KafkaAddress(guarded.bootstrap)
    assert is_complete_and_ordered(numbers(plain, topic_prefix), 100)


def test_talking_tls_to_a_plain_port_says_so(guarded: Kafka, open_sink: Open, topic_prefix: str) -> None:
    found = KafkaSinkConfig(brokers=guarded.bootstrap, format="json", options={"security.protocol": "SSL"})
    sink = open_sink(found, topic_prefix, timeout=3.0)
    with pytest.raises(ConnectionLost, match="SSL") as caught:
        sink.write(Batch())
    assert "security.protocol" in caught.value.hint

"""What a user's options of the clients may change, and what they may not undo."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from pycdc.clients.kafka_settings import client_settings, consumer_settings, producer_settings
from pycdc.config.kafka import KafkaSinkConfig, KafkaSourceConfig
from pycdc.errors import ConfigError
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.kafka.producer import KafkaSink
from tests.sinks.kafka.records import GivenRecords


def sink_config(timeout: float = 120.0, **options: Any) -> KafkaSinkConfig:
    return KafkaSinkConfig(brokers="b:9092", format="json", delivery_timeout=timeout, options=options)


def test_producers_are_idempotent_wait_for_all_replicas_and_partition_like_java() -> None:
    found = producer_settings(sink_config())
    assert found["enable.idempotence"] is True
    assert found["acks"] == "all"
    assert found["partitioner"] == "murmur2_random"
    assert found["max.in.flight"] == 5
    assert found["bootstrap.servers"] == "b:9092"
    assert found["queue.buffering.max.kbytes"] == 64 * 1024


def test_options_override_the_defaults() -> None:
    options: dict[str, Any] = {"linger.ms": 50, "compression.type": "zstd", "partitioner": "random"}
    found = producer_settings(sink_config(**options))
    assert (found["linger.ms"], found["compression.type"], found["partitioner"]) == (50, "zstd", "random")


def test_the_delivery_timeout_is_the_time_a_message_may_take() -> None:
    assert producer_settings(sink_config(timeout=0.5))["message.timeout.ms"] == 500


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acks", 1),
        ("acks", "0"),
        ("request.required.acks", 1),
        ("enable.idempotence", False),
        ("enable.idempotence", "false"),
        ("queuing.strategy", "lifo"),
        ("message.timeout.ms", 5),
        ("delivery.timeout.ms", 5),
        ("transactional.id", "x"),
        ("bootstrap.servers", "other:9092"),
    ],
)
def test_options_that_would_lose_or_reorder_records_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")) as caught:
        producer_settings(sink_config(**{name: value}))
    assert caught.value.hint


@pytest.mark.parametrize(("name", "value"), [("acks", "all"), ("acks", -1), ("enable.idempotence", True)])
def test_saying_what_holds_anyway_is_no_error(name: str, value: Any) -> None:
    assert producer_settings(sink_config(**{name: value}))["acks"] == "all"


def test_secrets_reach_librdkafka_and_security_options_reach_every_client() -> None:
    options: dict[str, Any] = {"sasl.password": SecretStr("hush"), "security.protocol": "SASL_SSL", "linger.ms": 9}
    found = client_settings("b:9092", options)
    assert found["sasl.password"] == "hush"
    assert found["security.protocol"] == "SASL_SSL"
    assert "linger.ms" not in found


@pytest.mark.parametrize(
    "options",
    [{"no.such.option": 1}, {"linger.ms": "soon"}, {"max.in.flight": 6}, {"sasl.pasword": SecretStr("canary")}],
)
def test_what_librdkafka_refuses_is_a_configuration_error_without_secrets(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        KafkaSink(GivenRecords(), sink_config(**options), MemoryOffsetStore())
    assert "sink.kafka.options" in caught.value.hint
    assert "canary" not in str(caught.value)


def source(**options: str | int | bool) -> KafkaSourceConfig:
    return KafkaSourceConfig(brokers="b:1", topics=["t"], options=dict(options))


def test_what_a_producer_rolled_back_is_never_read() -> None:
    assert consumer_settings(source(), "g")["isolation.level"] == "read_committed"
    for level in ("read_committed", "read_uncommitted"):
        with pytest.raises(ConfigError, match=r"isolation\.level is not free to choose"):
            consumer_settings(source(**{"isolation.level": level}), "g")


@pytest.mark.parametrize("name", ["group.id", "enable.auto.commit", "auto.offset.reset", "bootstrap.servers"])
def test_options_that_exactly_once_rests_on_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"source.kafka.options.{name} is not free to choose"):
        consumer_settings(source(**{name: "x"}), "g")


def test_other_options_go_before_the_defaults() -> None:
    assert consumer_settings(source(**{"fetch.wait.max.ms": 7}), "g")["fetch.wait.max.ms"] == 7

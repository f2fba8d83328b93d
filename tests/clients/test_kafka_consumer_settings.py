"""What a user's options of the consumer may not undo."""

from __future__ import annotations

import pytest

from pycdc.clients.kafka_consumer_settings import consumer_settings
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.errors import ConfigError


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

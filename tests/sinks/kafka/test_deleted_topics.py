"""A topic that is deleted while the pipeline runs stays deleted: another of that name lacks what was not read yet."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest

from pycdc.clients.kafka_settings import producer_settings
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.sinks.kafka.producer import KafkaSink
from tests.services.kafka import KafkaAddress
from tests.sinks.kafka.records import GivenRecords, numbered
from tests.sinks.kafka.test_producer import deliver, settings


def deliver_on(kafka: KafkaAddress, topic: str, timeout: float) -> None:
    """Write to the topic, delete it, and go on writing until that fails."""
    serializer = GivenRecords([(topic, numbered(0, 10))])
    with closing(KafkaSink(serializer, settings(kafka.bootstrap, timeout=timeout), MemoryOffsetStore())) as sink:
        deliver(sink)
        kafka.delete_topic(topic)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            serializer.give([(topic, numbered(0, 10))])
            deliver(sink)


def test_a_topic_deleted_while_running_is_an_error_and_stays_deleted(kafka: KafkaAddress, topic_prefix: str) -> None:
    with pytest.raises(EnvironmentNotReady, match="disappeared") as caught:
        deliver_on(kafka, topic_prefix, timeout=4.0)
    assert not caught.value.retry
    assert topic_prefix not in kafka.topics()


def test_it_is_told_from_slow_brokers_where_deliveries_time_out_before_the_client_knows(
    kafka: KafkaAddress, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patient(settings: KafkaSinkConfig) -> dict[str, Any]:
        return {**producer_settings(settings), "topic.metadata.propagation.max.ms": 60_000}

    monkeypatch.setattr("pycdc.sinks.kafka.producer.producer_settings", patient)
    with pytest.raises(EnvironmentNotReady, match="disappeared"):
        deliver_on(kafka, topic_prefix, timeout=1.0)

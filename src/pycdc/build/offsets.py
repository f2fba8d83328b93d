"""The stores of a capture's checkpoints."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig, TopicsConfig
from pycdc.config.pipeline import CapturePipeline
from pycdc.config.runtime import FileOffsetsConfig, KafkaOffsetsConfig, PostgresOffsetsConfig
from pycdc.errors import ConfigError
from pycdc.interfaces import OffsetStore
from pycdc.offsets.kafka import SETTINGS, KafkaOffsetStore
from pycdc.offsets.memory import MemoryOffsetStore


def build_offsets(config: CapturePipeline, stopping: threading.Event | None = None) -> OffsetStore:
    """Build the store named under `offsets`; without one the sink decides: Kafka's is a topic, others keep nothing."""
    kafka = config.sink.kafka
    chosen = config.offsets
    if chosen is None:
        return MemoryOffsetStore() if kafka is None else _kafka_offsets(config, KafkaOffsetsConfig(), kafka, stopping)
    if chosen.file is not None:
        return _file_offsets(chosen.file)
    if chosen.postgres is not None:
        return _postgres_offsets(config, chosen.postgres, stopping)
    assert chosen.kafka is not None
    return _kafka_offsets(config, chosen.kafka, kafka, stopping)


def stored_source(config: CapturePipeline) -> dict[str, Any]:
    """Return the last checkpoint's source: the key that signs signals is in it. Raises PycdcError."""
    if config.signals.key is not None:
        return {}
    with closing(build_offsets(config)) as offsets:
        stored = offsets.load()
    return {} if stored is None else stored.source


def _file_offsets(chosen: FileOffsetsConfig) -> OffsetStore:
    from pycdc.offsets.file import FileOffsetStore

    return FileOffsetStore(chosen.path)


def _postgres_offsets(
    config: CapturePipeline, chosen: PostgresOffsetsConfig, stopping: threading.Event | None
) -> OffsetStore:
    from pycdc.offsets.postgres import PostgresOffsetStore

    dsn = (chosen.dsn or config.source.postgres.dsn).get_secret_value()
    return PostgresOffsetStore(dsn, config.name, chosen.table, stopping)


def _kafka_offsets(
    config: CapturePipeline, chosen: KafkaOffsetsConfig, kafka: KafkaSinkConfig | None, stopping: threading.Event | None
) -> OffsetStore:
    brokers = chosen.brokers or (kafka.brokers if kafka is not None else None)
    if brokers is None:
        raise ConfigError("offsets.kafka has no brokers, and the sink is not Kafka", hint="set offsets.kafka.brokers")
    client = client_settings(brokers, {**(kafka.options if kafka is not None else {}), **chosen.options})
    topics = kafka.topics if kafka is not None else TopicsConfig()
    topic = chosen.topic or f"pycdc-offsets-{config.name}"
    return KafkaOffsetStore(
        client,
        topic,
        config.name,
        TopicAdmin(client, topics.model_copy(update={"partitions": 1, "settings": SETTINGS}), stopping=stopping),
        stopping=stopping,
    )

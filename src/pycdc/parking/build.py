"""From configuration to what parks rows."""

from __future__ import annotations

import threading

from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.config.parking import ParkingConfig
from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import ConfigError, PycdcError
from pycdc.observability.progress import Progress
from pycdc.parking.sink import ParkingSink
from pycdc.parking.table_policies import TablePolicies
from pycdc.sinks.kafka.dead_letters import DeadLetters
from pycdc.sinks.kafka.parked_topic import SETTINGS, ParkedTopic
from pycdc.sinks.kafka.producer import KafkaSink
from pycdc.sinks.kafka.record_sizes import RefusedRecord
from pycdc.sinks.kafka.transactional import TransactionalKafkaSink
from pycdc.transforms.capture import CaptureTransforms


def parking_sink(
    config: CapturePipeline,
    sink: KafkaSink | TransactionalKafkaSink,
    transforms: CaptureTransforms | None,
    refusals: set[RefusedRecord],
    progress: Progress,
    stopping: threading.Event | None = None,
) -> ParkingSink:
    """Return `sink` with what its rows' rules park. `refusals` outlive it: what brokers found too large.

    Raises PycdcError where the topic of parked rows would not keep them: also where nothing is to be parked yet.
    """
    sink.sizes.keep_refusals(refusals)
    settings = config.parking or ParkingConfig()
    skips_truncates = "t" in config.envelope.skip
    policies, topic = TablePolicies(config), parked_topic(config, stopping)
    try:
        topic.prepare()
    except PycdcError:
        topic.close()
        sink.close()
        raise
    return ParkingSink(sink, transforms, policies, topic, settings.limit, progress, skips_truncates=skips_truncates)


def parked_topic(config: CapturePipeline, stopping: threading.Event | None = None) -> ParkedTopic:
    """Return the topic of parked rows. Raises ConfigError where the sink is not Kafka."""
    kafka = require_kafka(config)
    client = client_settings(kafka.brokers, kafka.options)
    topics = kafka.topics.model_copy(update={"partitions": 1, "settings": SETTINGS})
    admin = TopicAdmin(client, topics, stopping=stopping)
    return ParkedTopic(client, config.parked_topic, admin, stopping=stopping)


def require_kafka(config: CapturePipeline) -> KafkaSinkConfig:
    """Return the Kafka sink. Raises ConfigError where it is another one."""
    if config.sink.kafka is None:
        raise ConfigError("rows are parked in Kafka, and the sink is not Kafka", hint="name another configuration")
    return config.sink.kafka


def dead_letters(config: CapturePipeline) -> DeadLetters:
    """Return the dead letters of a pipeline. Raises ConfigError where the sink is not Kafka."""
    kafka = require_kafka(config)
    client = client_settings(kafka.brokers, kafka.options)
    return DeadLetters(client, kafka, config.dead_letters, config.parked_topic, f"{config.transactional_id}-parked")

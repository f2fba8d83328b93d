from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer

from pycdc.clients.kafka_settings import client_settings
from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import KafkaSinkConfig
from pycdc.demo.broker import EmbeddedBroker
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Position
from pycdc.offsets.kafka import KafkaOffsetStore
from pycdc.sinks.kafka.producer import KafkaSink
from tests.sinks.kafka.records import GivenRecords, numbered


def test_any_client_can_produce_and_consume_in_a_group() -> None:
    with EmbeddedBroker() as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
        producer.produce("t", b"v", b"k")
        assert producer.flush(10) == 0
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["t"])
        message = consumer.poll(15)
        consumer.close()
    assert message is not None
    assert (message.key(), message.value()) == (b"k", b"v")


def test_the_sink_and_its_offset_store_run_on_it() -> None:
    with EmbeddedBroker() as broker:
        settings = KafkaSinkConfig(brokers=broker.bootstrap, format="json")
        client = client_settings(settings.brokers, settings.options)
        offsets = KafkaOffsetStore(client, "offsets", "shop", TopicAdmin(client, settings.topics))
        sink = KafkaSink(GivenRecords([("shop.public.orders", numbered(0, 100))]), settings, offsets)
        sink.write(Batch())
        sink.commit(Checkpoint(Position(Lsn(5))))
        sink.close()
        assert offsets.load() == Checkpoint(Position(Lsn(5)))
        offsets.close()


def test_several_brokers_have_several_addresses() -> None:
    with EmbeddedBroker(brokers=3) as broker:
        assert len(set(broker.bootstrap.split(","))) == 3


@pytest.mark.parametrize("started", [True, False])
def test_stopping_twice_or_before_the_start_is_fine(started: bool) -> None:
    broker = EmbeddedBroker()
    if started:
        broker.start()
    broker.stop()
    broker.stop()

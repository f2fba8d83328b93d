from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pycdc.clients.kafka_topics import TopicAdmin
from pycdc.config.kafka import TopicsConfig
from pycdc.errors import CheckpointCorrupt, ConnectionLost, DeliveryError, EnvironmentNotReady
from pycdc.offsets.encoding import dump
from pycdc.offsets.kafka import SETTINGS, KafkaOffsetStore
from tests.offsets.contract import OffsetStoreContract, OpenStore, at
from tests.services.kafka import KafkaAddress


def store_on(bootstrap: str, topic: str, name: str = "shop", timeout: float = 30.0) -> KafkaOffsetStore:
    client = {"bootstrap.servers": bootstrap, "log_level": 0}
    topics = TopicAdmin(client, TopicsConfig(settings=dict(SETTINGS)), timeout=timeout)
    return KafkaOffsetStore(client, topic, name, topics, timeout=timeout)


@pytest.fixture
def topic(topic_prefix: str) -> str:
    return f"{topic_prefix}-offsets"


@pytest.mark.kafka_mock_ok
class TestKafkaOffsetStore(OffsetStoreContract):
    @pytest.fixture
    def open_store(self, kafka: KafkaAddress, topic: str) -> Iterator[OpenStore]:
        opened: list[KafkaOffsetStore] = []

        def open_one() -> KafkaOffsetStore:
            opened.append(store_on(kafka.bootstrap, topic))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()


def test_the_topic_is_compacted_and_has_one_partition(kafka: KafkaAddress, topic: str) -> None:
    store_on(kafka.bootstrap, topic).store(at(1))
    admin = TopicAdmin({"bootstrap.servers": kafka.bootstrap}, TopicsConfig())
    assert admin.setting(topic, "cleanup.policy") == "compact"
    assert len(kafka.admin().list_topics(topic, timeout=60).topics[topic].partitions) == 1


def test_pipelines_may_share_a_topic(kafka: KafkaAddress, topic: str) -> None:
    store_on(kafka.bootstrap, topic, "shop").store(at(1))
    store_on(kafka.bootstrap, topic, "bank").store(at(9))
    assert store_on(kafka.bootstrap, topic, "shop").load() == at(1)
    assert store_on(kafka.bootstrap, topic, "bank").load() == at(9)
    assert store_on(kafka.bootstrap, topic, "mill").load() is None


@pytest.mark.parametrize("behind", [0, 1, 700, 30_000])
def test_a_topic_of_many_positions_is_read_from_its_end(
    kafka: KafkaAddress, topic: str, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    begins: list[int] = []

    class Recording(Consumer):  # type: ignore[misc]
        def assign(self, partitions: list[TopicPartition]) -> None:
            begins.append(partitions[0].offset)
            super().assign(partitions)

    monkeypatch.setattr("pycdc.offsets.kafka.Consumer", Recording)
    fill(kafka, topic, 30_000)
    store_on(kafka.bootstrap, topic).store(at(7))
    fill(kafka, topic, behind)
    assert store_on(kafka.bootstrap, topic).load() == at(7)
    assert begins[-1] >= 30_000 - 21 * max(500, behind)
    assert store_on(kafka.bootstrap, topic, "mill").load() is None
    assert begins[-1] == 0


def test_a_position_that_was_cleared_is_none_whatever_was_stored_before(kafka: KafkaAddress, topic: str) -> None:
    store = store_on(kafka.bootstrap, topic)
    store.store(at(1))
    fill(kafka, topic, 2_000)
    store.clear()
    fill(kafka, topic, 2_000)
    assert store_on(kafka.bootstrap, topic).load() is None


def fill(kafka: KafkaAddress, topic: str, records: int) -> None:
    """Positions of another pipeline."""
    store_on(kafka.bootstrap, topic, "bank").store(at(9))
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "queue.buffering.max.messages": 2_000_000})
    for _ in range(records):
        producer.produce(topic, dump(at(9)), b"bank", partition=0)
    assert producer.flush(60) == 0


def test_a_damaged_record_is_corrupt(kafka: KafkaAddress, topic: str) -> None:
    store_on(kafka.bootstrap, topic).store(at(1))
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, dump(at(2))[:-3], b"shop", partition=0)
    producer.flush()
    with pytest.raises(CheckpointCorrupt, match=topic):
        store_on(kafka.bootstrap, topic).load()


def test_what_a_transaction_did_not_commit_is_not_loaded(kafka: KafkaAddress, topic: str) -> None:
    """Neither an aborted record nor one whose transaction hangs, which also must not make `load` wait."""
    store_on(kafka.bootstrap, topic).store(at(1))
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topic}-tx"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, dump(at(2)), b"shop", partition=0)
    producer.flush()
    producer.abort_transaction(30)
    assert store_on(kafka.bootstrap, topic).load() == at(1)
    producer.begin_transaction()
    producer.produce(topic, dump(at(3)), b"shop", partition=0)
    producer.flush()
    assert store_on(kafka.bootstrap, topic).load() == at(1)
    producer.commit_transaction(30)
    assert store_on(kafka.bootstrap, topic).load() == at(3)


def test_a_topic_that_forgets_is_refused(kafka: KafkaAddress, topic: str) -> None:
    kafka.create_topic(topic, config={"cleanup.policy": "delete"})
    with pytest.raises(EnvironmentNotReady, match=r"cleanup\.policy=delete") as caught:
        store_on(kafka.bootstrap, topic).store(at(1))
    assert "cleanup.policy=compact" in caught.value.hint


def test_brokers_that_do_not_answer_are_a_lost_connection() -> None:
    with pytest.raises(ConnectionLost):
        store_on("127.0.0.1:1", "offsets", timeout=1.0).load()


@pytest.mark.exclusive
def test_a_position_that_no_broker_confirms_is_not_stored(kafka: KafkaAddress, topic: str) -> None:
    store = store_on(kafka.bootstrap, topic, timeout=3.0)
    store.store(at(1))
    kafka.pause()
    with pytest.raises(DeliveryError, match=topic) as caught:
        store.store(at(2))
    assert caught.value.retry
    kafka.resume()


@pytest.mark.parametrize("method", ["load", "store"])
def test_a_stopped_pipeline_does_not_wait_long_for_brokers_that_are_away(method: str) -> None:
    stopping = threading.Event()
    stopping.set()
    client = {"bootstrap.servers": "127.0.0.1:9", "log_level": 0}
    topics = TopicAdmin(client, TopicsConfig(settings=dict(SETTINGS)), stopping=stopping)
    store = KafkaOffsetStore(client, "t", "shop", topics, stopping=stopping)
    began = time.monotonic()
    with pytest.raises((ConnectionLost, DeliveryError, EnvironmentNotReady)):
        store.load() if method == "load" else store.store(at(100))
    assert time.monotonic() - began < 15, "which is half of what brokers have else"
    store.close()


def test_a_checkpoint_of_very_many_tables_fits_into_a_record(kafka: KafkaAddress, topic: str) -> None:
    """Brokers take a megabyte, if nobody told them otherwise."""
    tables = [{"table": ["public", f"orders_of_customer_{number}"], "request": "added"} for number in range(18_000)]
    grants = {str(16_384 + 7 * number): [200_000 + 3 * number] for number in range(18_000)}
    large = replace(at(100), snapshot={"paused": False, "tables": tables}, membership={"tables": grants})
    assert len(dump(large)) > 1_400_000
    store_on(kafka.bootstrap, topic).store(large)
    assert store_on(kafka.bootstrap, topic).load() == large


def test_a_position_of_another_cluster_is_refused_with_a_remedy(kafka: KafkaAddress, topic: str) -> None:
    """As where a topic was copied: its records are not here."""
    store_on(kafka.bootstrap, topic).store(replace(at(1), cluster="another"))
    with pytest.raises(EnvironmentNotReady, match="Kafka cluster another") as caught:
        store_on(kafka.bootstrap, topic).load()
    assert "sink.kafka.brokers" in caught.value.hint


def test_a_position_behind_another_pipelines_open_transaction_is_waited_for(kafka: KafkaAddress, topic: str) -> None:
    """Until that ends, readers of committed records do not see it: an older one would be taken for the newest."""
    mine = store_on(kafka.bootstrap, topic)
    mine.store(at(1))
    other = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topic}-other", "log_level": 0})
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(topic, dump(at(5)), b"bank", partition=0)
    assert other.flush(30) == 0
    mine.store(at(2))
    assert store_on(kafka.bootstrap, topic).load() == at(1)
    with pytest.raises(ConnectionLost):
        store_on(kafka.bootstrap, topic, timeout=2.0).load(settled=True)
    other.commit_transaction(30)
    assert store_on(kafka.bootstrap, topic).load(settled=True) == at(2)

"""By columns from topics into tables, with real brokers: nothing is lost or doubled, and rows end as the topic says."""

from __future__ import annotations

import json
import signal
import threading
from random import Random
from typing import Any

import pytest
from confluent_kafka import Producer

import pycdc
from pycdc.clients.schema_registry import SchemaRegistry
from pycdc.config.kafka import RegistryConfig
from tests.faults.process import COLUMNAR_POINTS
from tests.reading import wait_for
from tests.reverse.conftest import Rig
from tests.sinks.postgres.columnar_rig import KEY, avro_of

pytestmark = pytest.mark.pg("newest")

ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "quantity", "type": "long"},
    ],
}
Rows = dict[int, tuple[Any, ...]]


@pytest.fixture
def ids(registry: Any, topic_prefix: str) -> tuple[int, int]:
    """Of the schemas of keys and values."""
    client = SchemaRegistry(RegistryConfig(url=registry.url))
    try:
        return (
            client.id_for(f"{topic_prefix}-key", json.dumps(KEY)),
            client.id_for(f"{topic_prefix}-value", json.dumps(ITEM)),
        )
    finally:
        client.close()


def produce(rig: Rig, topic: str, ids: tuple[int, int], count: int, seed: int) -> Rows:
    """So many changes of fifty items, and of some that are deleted for good; the rows that are there in the end."""
    random, rows, passing = Random(seed), Rows(), list[int]()
    producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "linger.ms": 5})
    for number in range(count):
        if passing and random.random() < 0.05:
            gone = passing.pop()
            del rows[gone]
            producer.produce(topic, None, avro_of(ids[0], KEY, {"id": gone}))
            continue
        name = random.choice((None, "cup", 'j"ug'))
        own = random.randrange(50) if random.random() < 0.9 else 100 + number
        passing += [own] if own >= 100 else []
        rows[own] = (own, name, number)
        item = {"id": own, "name": name, "quantity": number}
        producer.produce(topic, avro_of(ids[1], ITEM, item), avro_of(ids[0], KEY, {"id": own}))
    assert producer.flush(20) == 0
    return rows


def document(rig: Rig, registry: Any, topics: list[str], **source: Any) -> dict[str, Any]:
    routes = [{"topic": topic, "table": topic.rpartition(".")[2]} for topic in topics]
    return rig.document(
        source={"registry": registry.url, "topics": topics, **source}, sink={"routes": routes, "dsn": rig.dsn}
    )


@pytest.mark.parametrize("point", COLUMNAR_POINTS)
def test_nothing_is_lost_or_doubled_when_the_process_is_killed(
    rig: Rig, registry: Any, ids: tuple[int, int], point: str
) -> None:
    rig.kafka.create_topic(rig.topic, partitions=2)
    rows = produce(rig, rig.topic, ids, 6000, seed=1)
    options = {"max_batch_events": 1000, "options": {"group.instance.id": "one"}}
    victim = rig.start(document(rig, registry, [rig.topic], **options), point, "2")
    assert victim.wait() == -signal.SIGKILL, victim.log
    assert 0 < rig.offsets() < 6000
    heir = rig.start(document(rig, registry, [rig.topic], **options))
    rig.wait_for_offsets(6000)
    heir.stop()
    assert rig.sql("SELECT * FROM items ORDER BY id") == sorted(rows.values())


def test_topics_of_several_tables_go_by_their_lanes_together(rig: Rig, registry: Any, ids: tuple[int, int]) -> None:
    rig.sql("CREATE TABLE parts (LIKE items INCLUDING ALL)")
    topics = [rig.topic, f"{rig.name}.parts"]
    rows = []
    for seed, topic in enumerate(topics):
        rig.kafka.create_topic(topic, partitions=2)
        rows.append(produce(rig, topic, ids, 4000, seed))
    pipeline = pycdc.Pipeline(document(rig, registry, topics))
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    wait_for(lambda: pipeline.progress.events == 8000 or not thread.is_alive())
    pipeline.stop()
    thread.join(120)
    assert pipeline.progress.columnar > 1000
    assert pipeline.progress.operations[rig.topic, "d"] > 0
    for table, expected in zip(("items", "parts"), rows, strict=True):
        assert rig.sql(f"SELECT * FROM {table} ORDER BY id") == sorted(expected.values())

"""From topics into tables, exactly once: killed, frozen, moved between processes, with records that are no good."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

import pycdc
from pycdc.errors import EnvironmentNotReady, PositionGap
from tests.faults.process import REVERSE_POINTS
from tests.reading import PATIENCE, wait_for
from tests.reverse.conftest import Rig

pytestmark = pytest.mark.pg("newest")

DELTA = {"operation": "delta", "delta": {"quantity": "by"}, "key": {"id": "item"}}


def deltas(count: int, items: int = 10) -> list[tuple[Any, Any]]:
    return [(n % items, {"item": n % items, "by": n}) for n in range(count)]


def totals(events: list[tuple[Any, Any]]) -> list[tuple[int, int]]:
    sums: dict[int, int] = {}
    for item, value in events:
        sums[item] = sums.get(item, 0) + value["by"]
    return sorted(sums.items())


def test_rows_follow_the_topic_and_what_a_producer_rolled_back_is_never_seen(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "transactional.id": rig.name})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(rig.topic, b'{"id": 9, "name": "never"}', b"9")
    producer.flush(20)
    producer.abort_transaction(20)
    rig.produce([(1, {"id": 1, "name": "cup"}), (2, {"id": 2}), (1, {"id": 1, "quantity": 3}), (2, None)])
    process = rig.start(rig.document())
    wait_for(lambda: rig.sql("SELECT id, name, quantity FROM items") == [(1, "cup", 3)])
    process.stop()
    assert rig.offsets() in (5, 6), "one or both of the aborted transaction's own came before"


@pytest.mark.parametrize("point", REVERSE_POINTS)
def test_nothing_is_lost_or_doubled_when_the_process_is_killed(point: str, rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic, partitions=2)
    rig.sql("INSERT INTO items (id) SELECT generate_series(0, 9)")
    events = deltas(600)
    rig.produce(events)
    # A static member comes back without waiting for the session of the dead one to end.
    document = rig.document(DELTA, source={"max_batch_events": 50, "options": {"group.instance.id": "one"}})
    victim = rig.start(document, point, "4")
    assert victim.wait() == -signal.SIGKILL, victim.log
    assert 0 < rig.offsets() < 600
    heir = rig.start(document)
    rig.wait_for_offsets(600)
    heir.stop()
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == totals(events)


@pytest.mark.slow
def test_partitions_move_between_processes_and_a_frozen_one_writes_nothing_more(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic, partitions=4)
    rig.sql("INSERT INTO items (id) SELECT generate_series(0, 19)")
    events = deltas(4000, 20)
    options = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    document = rig.document(DELTA, source={"max_batch_events": 20, "options": options})
    first = rig.start(document)
    rig.produce(events[:1000])
    wait_for(lambda: rig.offsets() >= 200)
    second = rig.start(document)
    rig.produce(events[1000:2000])
    wait_for(lambda: rig.claims() > 4)
    rig.produce(events[2000:3000])
    first.freeze()
    rig.produce(events[3000:])
    rig.wait_for_offsets(4000)
    first.thaw()
    claims = rig.claims()
    third = rig.start(document)
    wait_for(lambda: rig.claims() > claims)
    rig.produce([(0, {"item": 0, "by": 1})])
    rig.wait_for_offsets(4001)
    for process in (second, third):
        process.stop()
    assert rig.sql("SELECT sum(quantity) FROM items") == [(sum(v["by"] for _, v in events) + 1,)]
    assert rig.sql("SELECT id, quantity FROM items WHERE id > 0 ORDER BY id") == totals(events)[1:]


def test_a_poison_record_is_parked_with_those_behind_it_and_the_rest_goes_on(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rows = [(n, {"id": n, "name": "cup"}) for n in range(40)]
    bad = [(7, {"id": 7, "name": "a\0b"}), (50, {"id": 50, "quantity": 2**70})]
    rig.produce([*rows, *bad, (7, {"id": 7, "name": "later"}), (8, {"id": 8, "name": "jug"})])
    process = rig.start(rig.document(sink={"on_error": "park"}))
    rig.wait_for_offsets(44)
    process.stop()
    assert rig.sql("SELECT name, count(*) FROM items GROUP BY 1 ORDER BY 1") == [("cup", 39), ("jug", 1)]
    assert rig.sql('SELECT "offset", error, sqlstate FROM pycdc.parked ORDER BY 1') == [
        (40, "Unwritable", None),
        (41, "NumericValueOutOfRange", "22003"),
        (42, "Follower", None),
    ]


def test_an_offset_that_the_topic_no_longer_has_is_an_error_and_not_a_jump(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(n, {"id": n}) for n in range(10)])
    process = rig.start(rig.document())
    rig.wait_for_offsets(10)
    process.stop()
    rig.produce([(n, {"id": n}) for n in range(10, 20)])
    admin = rig.kafka.admin()
    admin.delete_records([TopicPartition(rig.topic, 0, 15)])[TopicPartition(rig.topic, 0)].result(PATIENCE)
    with pytest.raises(PositionGap, match="not in the topic any more"):
        pycdc.Pipeline(rig.document()).run()
    assert rig.offsets() == 10


def test_a_server_that_lost_the_last_transactions_gets_them_again(rig: Rig, postgres: Any) -> None:
    """A standby that was promoted too early, or a restored backup: rows and offsets are both of before.

    The copy is another database, so the group is deleted first.
    """
    rig.kafka.create_topic(rig.topic)
    rig.sql("INSERT INTO items (id) SELECT generate_series(0, 9)")
    events = deltas(300)
    rig.produce(events[:100])
    process = rig.start(rig.document(DELTA))
    rig.wait_for_offsets(100)
    process.stop()
    rig.disconnect()
    lagging = postgres.create_database(rig.dsn)
    rig.connect()
    process = rig.start(rig.document(DELTA))
    rig.produce(events[100:200])
    rig.wait_for_offsets(200)
    process.stop()
    rig.connect(lagging)
    assert rig.offsets() == 100
    rig.produce(events[200:])
    with pytest.raises(EnvironmentNotReady, match="works for another database"):
        pycdc.Pipeline(rig.document(DELTA)).run()
    admin = rig.kafka.admin()
    admin.delete_consumer_groups([rig.name])[rig.name].result(PATIENCE)
    process = rig.start(rig.document(DELTA))
    rig.wait_for_offsets(300)
    process.stop()
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == totals(events)
    rig.disconnect()
    postgres.drop_database(lagging)


def test_a_topic_that_is_not_there_is_told_and_a_pattern_finds_those_that_come(rig: Rig) -> None:
    with pytest.raises(EnvironmentNotReady, match=f"topic {rig.topic} does not exist"):
        pycdc.Pipeline(rig.document()).run()
    rig.kafka.create_topic(rig.topic)
    document = rig.document(source={"topics": [f"{rig.name}.*"]})
    document["sink"]["postgres"]["routes"][0]["topic"] = "*.items"
    pipeline = pycdc.Pipeline(document)
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    try:
        rig.produce([(1, {"id": 1})])
        wait_for(lambda: rig.sql("SELECT id FROM items") == [(1,)])
    finally:
        pipeline.stop()
        thread.join(120)
    assert pipeline.progress.events == 1
    assert str(pipeline.progress.position) == f"{rig.topic}[0]@1"

"""What an apply pipeline does while its database, its brokers or a table are away: it stays in its group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition

import pycdc
from pycdc.connectors.kafka.partition_claims import PartitionClaims
from pycdc.observability.health import judge
from pycdc.sinks.postgres import schema_drift as targets
from tests.proxy import Proxy
from tests.reading import wait_for
from tests.reverse.conftest import Rig
from tests.running import Running

pytestmark = pytest.mark.pg("newest")

DELTA = {"operation": "delta", "delta": {"quantity": "by"}, "key": {"id": "item"}}
QUICK = {"first_delay": 0.02, "max_delay": 0.2}


@contextmanager
def running(document: dict[str, Any]) -> Iterator[pycdc.Pipeline]:
    with Running(document) as run:
        yield run.pipeline


def deltas(count: int, items: int = 10) -> list[tuple[Any, Any]]:
    return [(n % items, {"item": n % items, "by": n}) for n in range(count)]


def totals(events: list[tuple[Any, Any]]) -> list[tuple[int, int]]:
    sums: dict[int, int] = {}
    for item, value in events:
        sums[item] = sums.get(item, 0) + value["by"]
    return sorted(sums.items())


def through(rig: Rig, proxy: Proxy) -> str:
    return psycopg.conninfo.make_conninfo(rig.dsn, host=proxy.host, port=proxy.port)


@pytest.fixture
def assigned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many partitions each assignment of the group had: one that never leaves it has one assignment."""
    calls: list[int] = []
    original = PartitionClaims.on_assign

    def counting(self: PartitionClaims, consumer: Any, partitions: list[TopicPartition]) -> None:
        calls.append(len(partitions))
        original(self, consumer, partitions)

    monkeypatch.setattr(PartitionClaims, "on_assign", counting)
    return calls


@pytest.mark.parametrize(
    ("every", "limits"),
    [
        (1, {"max_batch_events": 20}),
        (3, {"max_batch_events": 20}),
        (3, {"max_batch_events": 150, "max_batch_bytes": 1024}),
    ],
    ids=["each", "some", "parts of what was read"],
)
def test_nothing_is_lost_or_doubled_when_commits_break_off_again_and_again(
    every: int, limits: dict[str, int], rig: Rig, postgres_proxy: Proxy, assigned: list[int]
) -> None:
    """In turns the COMMIT never arrives, and its confirmation does not: only the stored offset knows which it was."""
    rig.kafka.create_topic(rig.topic, partitions=2)
    rig.sql("INSERT INTO items (id) SELECT generate_series(0, 9)")
    events = deltas(300)
    rig.produce(events)
    dsn = through(rig, postgres_proxy)
    postgres_proxy.cut_at(b"COMMIT", behind=b"SET next_offset", every=every)
    document = rig.document(DELTA, sink={"dsn": dsn}, source=limits, retries=QUICK)
    with running(document) as pipeline:
        wait_for(lambda: rig.offsets() == 300)
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == totals(events)
    assert pipeline.progress.reconnects >= (20 if every == 1 else 2)
    assert assigned == [2], "it stayed in its group"


@pytest.mark.parametrize("outage", ["refuse", "read-only"])
def test_a_database_that_is_away_is_waited_for_within_the_group_and_health_tells(
    outage: str, rig: Rig, postgres_proxy: Proxy, assigned: list[int]
) -> None:
    rig.kafka.create_topic(rig.topic, partitions=2)
    rig.sql("INSERT INTO items (id) SELECT generate_series(0, 9)")
    events = deltas(300)
    # A process that does not ask for records for six seconds would be thrown out of its group.
    options = {"session.timeout.ms": 6000, "max.poll.interval.ms": 6000}
    document = rig.document(
        DELTA, sink={"dsn": through(rig, postgres_proxy)}, source={"options": options}, retries=QUICK
    )
    with running(document) as pipeline:
        rig.produce(events[:100])
        rig.wait_for_offsets(100)
        name = rig.sql("SELECT current_database()")[0][0]
        if outage == "refuse":
            postgres_proxy.refuse()
        else:
            rig.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            postgres_proxy.reset_connections()
        rig.produce(events[100:200])
        wait_for(lambda: pipeline.progress.state == "retrying")
        wait_for(lambda: not judge(pipeline.progress, 7).healthy)
        (reason,) = judge(pipeline.progress, 7).reasons
        assert "trying again: the database of sink.postgres" in reason
        assert rig.offsets() == 100
        if outage == "refuse":
            postgres_proxy.heal()
        else:
            rig.sql("SET default_transaction_read_only = off")
            rig.sql(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        rig.produce(events[200:])
        rig.wait_for_offsets(300)
        wait_for(lambda: pipeline.progress.state == "streaming")
        assert judge(pipeline.progress, 7).healthy
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == totals(events)
    assert assigned == [2]


def test_partitions_that_come_while_the_database_is_away_are_claimed_once_it_is_back(
    rig: Rig, postgres_proxy: Proxy, assigned: list[int]
) -> None:
    rig.kafka.create_topic(rig.topic, partitions=4)
    rig.sql("INSERT INTO items (id) SELECT generate_series(0, 19)")
    events = deltas(400, 20)
    document = rig.document(DELTA, sink={"dsn": through(rig, postgres_proxy)}, retries=QUICK)
    with running(document) as stays:
        wait_for(lambda: sum(assigned) == 4)
        with Running(document) as leaving:
            leaves = leaving.pipeline
            wait_for(lambda: sum(assigned) >= 6)
            rig.produce(events[:200])
            rig.wait_for_offsets(200)
            postgres_proxy.refuse()
            rig.produce(events[200:])
            wait_for(lambda: stays.progress.state == leaves.progress.state == "retrying")
            leaves.stop()
            assert isinstance(leaving.failure(), pycdc.Undelivered)
        before = sum(assigned)
        wait_for(lambda: sum(assigned) >= before + 2)
        assert rig.offsets() == 200
        postgres_proxy.heal()
        rig.wait_for_offsets(400)
    assert rig.sql("SELECT id, quantity FROM items ORDER BY id") == totals(events)


def test_an_idle_pipeline_notices_that_its_database_is_gone(
    rig: Rig, postgres_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.sinks.postgres.sink._PULSE", 0.2)
    rig.kafka.create_topic(rig.topic)
    with running(rig.document(sink={"dsn": through(rig, postgres_proxy)}, retries=QUICK)) as pipeline:
        rig.produce([(1, {"id": 1})])
        rig.wait_for_offsets(1)
        postgres_proxy.refuse()
        wait_for(lambda: pipeline.progress.state == "retrying")
        postgres_proxy.heal()
        wait_for(lambda: pipeline.progress.state == "streaming")


@pytest.mark.parametrize("fault", [Proxy.refuse, Proxy.blackhole])
def test_brokers_that_are_gone_are_noticed_and_an_idle_topic_is_healthy(
    fault: Callable[[Proxy], None], rig: Rig, kafka_proxy: Proxy
) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    with running(rig.document(source={"brokers": kafka_proxy.address})) as pipeline:
        rig.wait_for_offsets(1)
        since = time.monotonic()
        wait_for(lambda: pipeline.progress.last_message > since + 5)
        assert judge(pipeline.progress, 5).healthy
        fault(kafka_proxy)
        wait_for(lambda: not judge(pipeline.progress, 5).healthy)
        assert "no message from the server" in judge(pipeline.progress, 5).reasons[0]
        kafka_proxy.heal()
        rig.produce([(2, {"id": 2})])
        wait_for(lambda: rig.offsets() == 2)
        wait_for(lambda: judge(pipeline.progress, 5).healthy)


def test_a_table_that_changed_halts_its_topic_alone_and_goes_on_by_itself(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, assigned: list[int]
) -> None:
    monkeypatch.setattr(targets, "LOOK_AGAIN", 0.5)
    monkeypatch.setattr("pycdc.sinks.postgres.sink.LOOK_AGAIN", 0.5)
    other = f"{rig.name}.other"
    rig.sql("CREATE TABLE other (id int PRIMARY KEY)")
    for topic in (rig.topic, other):
        rig.kafka.create_topic(topic)
    document = rig.document({"set": {"name": "name"}}, source={"topics": [rig.topic, other]})
    document["sink"]["postgres"]["routes"].append({"topic": other, "table": "other"})
    with running(document) as pipeline:
        rig.produce([(1, {"id": 1, "name": "cup"})])
        rig.wait_for_offsets(1)
        rig.sql("ALTER TABLE items RENAME COLUMN name TO title")
        rig.produce([(n, {"id": n, "name": "jug"}) for n in range(2, 50)])
        wait_for(lambda: rig.topic in pipeline.progress.halted)
        rig.topic, items = other, rig.topic
        rig.produce([(n, {"id": n}) for n in range(100)])
        wait_for(lambda: rig.sql("SELECT count(*) FROM other") == [(100,)])
        # Each time that it looks again it is not halted for a moment.
        wait_for(lambda: "no column name" in pipeline.progress.halted.get(items, ""))
        assert rig.offsets() == 101
        rig.sql("ALTER TABLE items RENAME COLUMN title TO name")
        rig.wait_for_offsets(149)
        assert pipeline.progress.halted == {}
    assert rig.sql("SELECT count(*), count(name) FROM items") == [(49, 49)]
    assert pipeline.progress.events == 149, "what was not taken is not counted"
    assert sum(assigned) == 2


def test_a_child_that_came_first_is_written_once_its_parent_is_there(rig: Rig) -> None:
    lines = f"{rig.name}.lines"
    rig.sql("CREATE TABLE lines (id int PRIMARY KEY, item int REFERENCES items, n int)")
    for topic in (rig.topic, lines):
        rig.kafka.create_topic(topic)
    document = rig.document(source={"topics": [rig.topic, lines]})
    document["sink"]["postgres"]["routes"].append({"topic": lines, "table": "lines"})
    with running(document):
        rig.topic, items = lines, rig.topic
        rig.produce([(1, {"id": 1, "item": 7, "n": n}) for n in range(30)])
        rig.topic = items
        wait_for(lambda: rig.sql("SELECT to_regclass('pycdc.apply_offsets')") != [(None,)] and rig.claims() == 2)
        rig.produce([(n, {"id": n}) for n in range(7)])
        wait_for(lambda: rig.sql("SELECT count(*) FROM items") == [(7,)])
        assert rig.sql("SELECT * FROM lines") == []
        rig.produce([(7, {"id": 7})])
        rig.wait_for_offsets(38)
    assert rig.sql("SELECT id, item, n FROM lines") == [(1, 7, 29)]

"""What a running pipeline tells of itself: what became of events, and how far it is."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from confluent_kafka import Producer

from pycdc.model.event import Partition
from pycdc.observability.server import StatusServer
from tests.reverse.conftest import Rig
from tests.running import Running

pytestmark = pytest.mark.pg("newest")


def test_rows_and_events_are_counted_by_what_became_of_them(rig: Rig) -> None:
    rig.sql("ALTER TABLE items ADD CHECK (quantity >= 0)")
    rig.kafka.create_topic(rig.topic)
    rig.produce((n, {"id": n, "name": "a"}) for n in range(5))
    progress = None
    with Running(rig.document(sink={"on_error": "park"}, http={"port": 0})) as running:
        progress = running.pipeline.progress
        with StatusServer(running.pipeline.config.http, progress) as server:
            # A row that is made and deleted in one batch is neither.
            running.until(lambda: rig.offsets() == 5)
            rig.produce([(9, {"id": 9, "quantity": -1}), (9, {"id": 9}), (8, b"no row".decode()), (1, None)])
            running.until(lambda: rig.offsets() == 9 and progress.partitions)
            running.until(lambda: not progress.partitions[Partition(rig.topic, 0)].behind)
            with urllib.request.urlopen(f"{server.url}/metrics") as answer:
                metrics = answer.read().decode().splitlines()
            with urllib.request.urlopen(f"{server.url}/status") as answer:
                told: dict[str, Any] = json.load(answer)
    assert progress.applied == {("public.items", "upsert"): 5, ("public.items", "delete"): 1}
    assert progress.parked == {"CheckViolation": 1, "Follower": 1, "Unwritable": 1}
    assert told["parked"] == dict(progress.parked)
    assert told["partitions"] == {f"{rig.topic}[0]": {"next": 9, "end": 9, "lag_records": 0, "lag_seconds": 0.0}}
    assert progress.transactions == progress.applying.count == progress.committing.count > 0
    assert 'pycdc_parked_total{reason="CheckViolation"} 1.0' in metrics
    assert f'pycdc_partition_offset{{partition="0",topic="{rig.topic}"}} 9.0' in metrics
    assert f"pycdc_transactions_total {float(progress.transactions)}" in metrics


def test_rows_that_are_not_there_are_counted_as_skipped(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.sql("INSERT INTO items VALUES (1)")
    rig.produce((n, {"id": n, "name": "a"}) for n in range(3))
    with Running(rig.document({"operation": "update", "missing": "ignore"})) as running:
        running.until(lambda: rig.offsets() == 3)
    progress = running.pipeline.progress
    assert progress.applied == {("public.items", "update"): 1}
    assert progress.skipped == {("public.items", "RowMissing"): 2}


def test_the_end_of_a_producers_transaction_is_no_lag(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    producer = Producer({"bootstrap.servers": rig.kafka.bootstrap, "transactional.id": rig.name})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(rig.topic, b'{"id": 1}', b"1")
    producer.commit_transaction(10)
    with Running(rig.document()) as running:
        places = running.pipeline.progress.partitions
        running.until(lambda: places and places[Partition(rig.topic, 0)].next == 2)
        assert places[Partition(rig.topic, 0)].behind == 0
        assert running.pipeline.progress.lag_seconds == 0
        assert rig.offsets() == 1
    assert not places


def test_a_process_without_a_partition_tells_no_lag(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.produce([(1, {"id": 1})])
    with Running(rig.document()) as first:
        rig.wait_for_offsets(1)
        with Running(rig.document()) as second:
            second.until(lambda: second.pipeline.progress.last_message)
            both = [one.pipeline.progress for one in (first, second)]
            second.until(lambda: sorted(len(progress.partitions) for progress in both) == [0, 1])
            assert {progress.lag_seconds for progress in both} <= {None, 0.0}

"""Signals of the topic and the table, to a pipeline in a process of its own, killed where it passes them on."""

from __future__ import annotations

import json
import signal

import pytest
from confluent_kafka import Producer

from tests.faults.harness import Rig, replayed
from tests.faults.process import SIGNAL_POINTS
from tests.reading import Read, wait_for
from tests.services.kafka import KafkaAddress

TABLE = "CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32), data varchar(2048))"
WISH = {
    "type": "execute-snapshot",
    "data": {
        "data-collections": ["public.items"],
        "additional-conditions": [{"data-collection": "public.items", "filter": "id <= 20"}],
    },
}


def send(kafka: KafkaAddress, rig: Rig) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(f"{rig.name}-signal", json.dumps(WISH), rig.name)
    assert producer.flush(30) == 0


def incremental(rig: Rig) -> list[Read]:
    return [record for record in rig.records() if record.value and record.value["source"]["snapshot"] == "incremental"]


@pytest.mark.slow
@pytest.mark.pg("newest")
@pytest.mark.parametrize("point", [None, *SIGNAL_POINTS])
def test_a_signal_of_the_topic_is_obeyed_wherever_the_process_is_killed(
    point: str | None, rig: Rig, kafka: KafkaAddress
) -> None:
    config = rig.config(source={"tables": ["items", "finish"]}, signals={"topic": f"{rig.name}-signal"})
    process = rig.start(config, *([] if point is None else [point, "1"]))
    rig.finish()
    send(kafka, rig)
    if point is not None:
        assert process.wait() == -signal.SIGKILL, process.log
        process = rig.start(config)
    wait_for(lambda: len(incremental(rig)) >= 20)
    expected = rig.finish()
    process.stop()
    assert replayed(rig.records()) == expected
    deliveries = [record.key["id"] for record in incremental(rig)]
    assert sorted(set(deliveries)) == list(range(1, 21))
    assert len(deliveries) <= 40, "passed on twice at most"


@pytest.mark.pg("newest")
def test_a_signal_of_the_table_is_obeyed_by_the_command_that_runs_the_pipeline(rig: Rig) -> None:
    rig.execute(TABLE)
    config = rig.config(source={"tables": ["items", "finish"]}, signals={"table": "signals"})
    process = rig.start(config)
    rig.finish()
    rig.execute(f"INSERT INTO signals VALUES ('a', 'execute-snapshot', '{json.dumps(WISH['data'])}')")
    wait_for(lambda: len(incremental(rig)) >= 20)
    expected = rig.finish()
    process.stop()
    assert replayed(rig.records()) == expected
    assert [record.key["id"] for record in incremental(rig)] == list(range(1, 21))
    assert rig.reader.read(f"{rig.name}.public.signals") == []

"""kill -9 while rows of a refused schema are parked: they are as durable as all others."""

from __future__ import annotations

import signal

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.faults.harness import Rig, Writer, assert_order_and_identity, replayed
from tests.reading import wait_for


@pytest.mark.slow
@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    ("point", "passage"),
    [
        ("after a batch was serialised", 20),
        ("after the flush, before the position", 3),
        ("after the position, before the acknowledgement", 3),
    ],
)
def test_no_parked_row_is_lost_when_the_process_is_killed(point: str, passage: int, rig: Rig) -> None:
    source = {"max_batch_changes": 40}
    registry = {"url": rig.registry, "on_incompatible": "park"}
    config = rig.config(source=source, kafka={"registry": registry})
    first = rig.start(config)
    wait_for(lambda: len(rig.records()) == 900)
    first.stop()
    client = SchemaRegistryClient({"url": rig.registry})
    client.set_compatibility(f"{rig.items}-value", "BACKWARD")
    rig.execute("ALTER TABLE items ALTER v TYPE numeric(9,0)")
    letters = f"{rig.name}.dead-letter"
    with Writer(rig.dsn):
        victim = rig.start(config, point, str(passage))
        assert victim.wait() == -signal.SIGKILL, victim.log
        heir = rig.start(config)
        seen = len(rig.reader.read(letters))
        wait_for(lambda: len(rig.reader.read(letters)) >= seen + 200)
    expected = rig.finish()
    heir.stop()
    client.close()
    parked = rig.reader.read(letters)
    assert len(rig.records()) == 900
    assert replayed([*rig.records(), *parked]) == expected
    assert_order_and_identity(parked, deliveries=2)

"""Conflicts of running pipelines: parked, resolved and replayed while they go on."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.build.apply import build_replay
from pycdc.config.pipeline import ApplyPipeline
from pycdc.sinks.postgres.failures.replay import Replayed
from tests.reading import wait_for
from tests.reverse.conftest import Rig

pytestmark = pytest.mark.pg("newest")


def replay(document: dict[str, Any]) -> list[Replayed]:
    with build_replay(ApplyPipeline.model_validate(document)) as parked:
        return [parked.replay(waiting) for waiting in parked.waiting()]


def test_what_is_replayed_while_the_pipeline_runs_is_neither_lost_nor_overtaken(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    rig.sql("ALTER TABLE items ADD COLUMN last int, ADD CONSTRAINT small CHECK (quantity < 1000)")
    rig.sql("INSERT INTO items (id) VALUES (1), (2)")
    route = {"operation": "delta", "delta": {"quantity": "by"}, "set": {"last": "n"}}
    document = rig.document(route, sink={"on_error": "park"}, source={"max_batch_events": 5})
    process = rig.start(document)
    rig.produce([(1, {"id": 1, "by": 1000, "n": 0}), (2, {"id": 2, "by": 1, "n": 0})])
    rig.wait_for_offsets(2)
    assert [done.left for done in replay(document)] == [1]
    rig.sql("ALTER TABLE items DROP CONSTRAINT small")
    sent = 2
    for _ in range(20):
        rig.produce([(key, {"id": key, "by": 1, "n": n}) for n in range(sent, sent + 20) for key in (1, 2)])
        sent += 20
        replay(document)
    total = 2 + 2 * (sent - 2)
    rig.wait_for_offsets(total)
    replay(document)
    assert rig.sql("SELECT count(*) FROM pycdc.parked") == [(0,)]
    assert rig.sql("SELECT id, quantity, last FROM items ORDER BY id") == [
        (1, 1000 + sent - 2, sent - 1),
        (2, 1 + sent - 2, sent - 1),
    ]
    rig.produce([(1, {"id": 1, "by": 1, "n": -1})])
    wait_for(lambda: rig.sql("SELECT last FROM items WHERE id = 1") == [(-1,)])
    process.stop()


def test_a_conflict_is_parked_and_resolved_while_the_pipeline_runs(rig: Rig) -> None:
    rig.kafka.create_topic(rig.topic)
    document = rig.document({"conflict": "park"})
    process = rig.start(document)
    rig.produce([(1, {"id": 1, "name": "cup"})])
    rig.wait_for_offsets(1)
    rig.sql("UPDATE items SET name = 'local'")
    rig.produce([(1, {"id": 1, "name": "pot"}), (1, {"id": 1, "quantity": 3})])
    rig.wait_for_offsets(3)
    with build_replay(ApplyPipeline.model_validate(document)) as parked:
        (met,) = parked.archive.conflicts(unresolved=True)
        done = parked.resolve(met["id"], "existing")
    assert done is not None
    assert (done.applied, done.left) == (2, 0)
    rig.produce([(1, {"id": 1, "quantity": 4})])
    wait_for(lambda: rig.sql("SELECT name, quantity FROM items") == [("local", 4)])
    process.stop()

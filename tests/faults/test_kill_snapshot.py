"""kill -9 within a snapshot, again and again: it goes on where it was, and the topic equals the table."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.faults.harness import Rig, Writer, assert_order_and_identity, replayed
from tests.faults.process import SNAPSHOT_POINTS

ROWS = 4000


@pytest.mark.pg("==15")
def test_a_snapshot_killed_at_eight_points_is_finished_and_complete(rig: Rig) -> None:
    rig.execute(f"INSERT INTO items SELECT i, 0 FROM generate_series(901, {ROWS}) AS i")
    config = rig.config(
        source={"max_batch_bytes": 4096, "snapshot_chunk": 100},
        checkpoint={"interval": 0.05},
    )
    with Writer(rig.dsn, pause=0.02):
        for point in SNAPSHOT_POINTS:
            victim = rig.start(config, point, "3")
            assert victim.wait() == -signal.SIGKILL, f"{point}: {victim.log}"
        heir = rig.start(config)
        rig.wait_for_more(200)
    expected = rig.finish()
    heir.stop()
    records = rig.records()
    assert replayed(records) == expected
    assert_order_and_identity(records, deliveries=len(SNAPSHOT_POINTS) + 1)
    reads = Counter(record.key["id"] for record in records if record.value is not None and record.value["op"] == "r")
    assert max(reads.values()) < 6, "nine times would be from zero after each kill"

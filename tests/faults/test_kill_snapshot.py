"""kill -9 within a snapshot, again and again: it goes on where it was, and the topic equals the table."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.faults.harness import Rig, Writer, assert_order_and_identity, replayed
from tests.faults.process import SNAPSHOT_POINTS

ROWS = 4000


@pytest.mark.slow
@pytest.mark.pg("==15")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_snapshot_killed_at_eight_points_is_finished_and_complete(rig: Rig, workers: int) -> None:
    rig.execute(f"INSERT INTO items SELECT i, 0 FROM generate_series(901, {ROWS}) AS i")
    config = rig.config(
        source={"max_batch_bytes": 4096, "snapshot_chunk": 100, "workers": workers},
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
    assert max(reads.values()) < 8, "nine times would be from zero after each kill"


@pytest.mark.slow
@pytest.mark.pg("newest")
def test_what_was_delivered_by_workers_is_not_delivered_again(rig: Rig) -> None:
    rig.execute(f"INSERT INTO items SELECT (i * 48271) % 65537 + 1000, 0 FROM generate_series(1, {10 * ROWS}) AS i")
    config = rig.config(source={"max_batch_bytes": 16384, "workers": 2}, checkpoint={"interval": 0.01})
    victim = rig.start(config, "after progress was stored", "12")
    assert victim.wait() == -signal.SIGKILL, victim.log
    before = len({record.key["id"] for record in rig.records()})
    heir = rig.start(config)
    with Writer(rig.dsn, pause=0.02):
        rig.wait_for_more(8 * ROWS, timeout=120)
    expected = rig.finish()
    heir.stop()
    records = rig.records()
    assert replayed(records) == expected
    reads = Counter(record.key["id"] for record in records if record.value is not None and record.value["op"] == "r")
    assert before > 1000
    assert sum(reads.values()) < len(reads) + before / 2, "most of what was delivered is not read again"

"""kill -9 at twelve points of the loop, then restart: no gap, order kept, duplicates bounded and identical."""

from __future__ import annotations

import signal

import pytest

from tests.faults.harness import Rig, Writer, assert_order_and_identity, replayed
from tests.faults.process import POINTS

FIRST = {"before the slot is made", "after the slot is made", "before the stream starts"}
CHECKPOINTS = {name for name in POINTS if "checkpoint" in name or "position" in name or "acknowledge" in name}


def passage(point: str) -> int:
    """At which passage to die: late enough that some of the work was done, early enough to be reached."""
    if point in FIRST:
        return 1
    if point == "while a snapshot is written":
        return 3
    return 5 if point in CHECKPOINTS else 30


@pytest.mark.slow
@pytest.mark.pg("==15")
@pytest.mark.parametrize("point", POINTS)
def test_nothing_is_lost_when_the_process_is_killed(point: str, rig: Rig) -> None:
    config = rig.config(source={"max_batch_changes": 40, "max_batch_bytes": 4096})
    with Writer(rig.dsn):
        victim = rig.start(config, point, str(passage(point)))
        assert victim.wait() == -signal.SIGKILL, victim.log
        heir = rig.start(config)
        rig.wait_for_more(200)
    expected = rig.finish()
    heir.stop()
    records = rig.records()
    assert replayed(records) == expected
    assert_order_and_identity(records, deliveries=2)

from __future__ import annotations

import pytest

from pycdc.observability.health import judge
from pycdc.observability.progress import Progress

NOW = 1000.0


@pytest.mark.parametrize(
    ("state", "heard", "delivered", "reason"),
    [
        ("starting", 0.0, 0.0, None),
        ("streaming", NOW - 1, NOW - 1, None),
        ("streaming", NOW - 60, NOW - 60, None),
        ("streaming", NOW - 61, NOW, "no message from the server for 61 s"),
        ("streaming", NOW, NOW - 61, "the sink has made no progress for 61 s"),
        ("streaming", 0.0, NOW, None),
        ("snapshot", 0.0, NOW - 1, None),
        ("snapshot", NOW - 500, NOW - 1, None),
        ("snapshot", 0.0, NOW - 61, "the sink has made no progress for 61 s"),
        ("retrying", NOW - 500, NOW - 5, None),
        ("retrying", NOW - 500, NOW - 70, "no progress for 70 s, trying again: the server went away"),
        ("stopping", NOW, NOW, None),
        ("stopping", NOW, NOW - 61, "the sink has made no progress for 61 s"),
        ("stopped", NOW, NOW, "the pipeline has stopped: the server went away"),
    ],
)
def test_health_follows_the_server_and_the_sink(state: str, heard: float, delivered: float, reason: str | None) -> None:
    progress = Progress(state=state, last_message=heard, last_delivery=delivered, last_error="the server went away")
    health = judge(progress, 60.0, NOW)
    assert health.reasons == (() if reason is None else (reason,))
    assert health.healthy is (reason is None)


def test_a_topic_that_halts_is_told_and_no_reason_to_restart() -> None:
    progress = Progress(state="streaming", last_message=NOW, last_delivery=NOW, halted={"orders": "no column x"})
    health = judge(progress, 60.0, NOW)
    assert health.healthy
    assert health.as_json()["halted"] == {"orders": "no column x"}
    progress.halted.clear()
    assert "halted" not in judge(progress, 60.0, NOW).as_json()


def test_a_sink_that_holds_the_pipeline_up_is_not_taken_for_a_silent_server() -> None:
    progress = Progress(state="streaming", last_message=100.0, last_delivery=100.0, in_sink_since=101.0)
    assert judge(progress, 60.0, 170.0).reasons == ("the sink has made no progress for 70 s",)


def test_a_silent_server_is_not_taken_for_a_sink_that_is_stuck() -> None:
    progress = Progress(state="streaming", last_message=100.0, last_delivery=100.0)
    assert judge(progress, 60.0, 170.0).reasons == ("no message from the server for 70 s",)


def test_a_sink_that_is_stuck_is_named() -> None:
    progress = Progress(state="streaming", last_message=100.0, last_delivery=100.0, in_sink_since=101.0)
    progress.sink_server = "the database of sink.postgres at db, port 5432"
    (reason,) = judge(progress, 60.0, 170.0).reasons
    assert (
        reason == "the sink has made no progress for 70 s: the database of sink.postgres at db, port 5432 may be slow"
    )

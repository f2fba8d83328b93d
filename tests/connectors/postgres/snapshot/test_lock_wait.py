"""Waiting for others yields, says what for, and has an end."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import pytest

from pycdc.clients.postgres_errors import TableLocked
from pycdc.connectors.postgres.snapshot import lock_wait as waiting
from pycdc.observability.health import judge
from pycdc.observability.progress import Progress


def result_of(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def locked(times: int) -> Any:
    left = [TableLocked("somebody has it")] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


def test_a_lock_is_waited_for_by_turns_and_health_tells_it_after_a_while() -> None:
    progress = Progress()
    steps = waiting.for_locks(locked(3), progress, "publish the tables")
    next(steps)
    assert progress.waits_for == "a lock, to publish the tables"
    assert judge(progress, 60.0, progress.waits_since + 59).healthy
    (reason,) = judge(progress, 60.0, progress.waits_since + 61).reasons
    assert reason == "has waited 61 s for a lock, to publish the tables"
    assert result_of(steps) == "done"
    assert progress.waits_for == ""


def test_a_lock_that_is_never_free_is_an_error_in_the_end() -> None:
    with pytest.raises(TableLocked):
        result_of(waiting.for_locks(locked(100), Progress(), "publish the tables", seconds=0.0))


def test_what_takes_its_time_elsewhere_is_given_up_with_whoever_waits() -> None:
    closed: list[bool] = []

    class Made:
        def close(self) -> None:
            closed.append(True)

    def make(given_up: threading.Event) -> Made:
        assert given_up.wait(120)
        return Made()

    steps = waiting.elsewhere(make, Progress())
    next(steps)
    steps.close()
    assert closed == [True]

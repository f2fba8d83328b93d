"""What statistics tell of the brokers."""

from __future__ import annotations

import json
import time

import pytest

from pycdc.connectors.kafka.broker_liveness import BrokerLiveness
from pycdc.model.event import Partition
from pycdc.observability.progress import Progress


def statistics(**brokers: tuple[str, int]) -> str:
    return json.dumps({"brokers": {name: {"state": state, "rxidle": idle} for name, (state, idle) in brokers.items()}})


def test_the_last_message_is_that_of_the_broker_that_was_heard_last() -> None:
    progress = Progress()
    BrokerLiveness(progress)(statistics(a=("UP", 9_000_000), b=("UP", 2_000_000), c=("DOWN", 0)))
    assert time.monotonic() - progress.last_message == pytest.approx(2, abs=0.5)


def test_brokers_that_are_down_or_were_never_heard_move_nothing() -> None:
    progress = Progress(last_message=5.0)
    BrokerLiveness(progress)(statistics(a=("DOWN", 10), b=("UP", -1), c=("TRY_CONNECT", 0)))
    BrokerLiveness(progress)("{}")
    assert progress.last_message == 5.0


def answers(count: int, *, state: str = "active") -> str:
    """The broker of the partition and the group's coordinator, which is the same one by another connection."""
    broker = {"nodeid": 1, "source": "learned", "state": "UP", "rxidle": 0, "rx": count}
    coordinator = {"nodeid": -1, "source": "logical", "state": "UP", "rxidle": 0, "rx": 100 + count}
    part = {"partition": 0, "broker": 1, "fetch_state": state}
    topics = {"items": {"partitions": {"0": part}}}
    return json.dumps({"brokers": {"b:1/1": broker, "GroupCoordinator": coordinator}, "topics": topics})


def test_bytes_are_a_sign_of_life_and_what_a_partition_holds_is_known_by_whole_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("pycdc.connectors.kafka.broker_liveness.time.monotonic", lambda: now)
    progress, partition = Progress(), Partition("items", 0)
    liveness = BrokerLiveness(progress)
    assert liveness.answered(partition) == 0
    liveness(answers(5))
    now = 110.0
    liveness(answers(5))
    assert (progress.last_message, liveness.answered(partition)) == (110, 100)
    liveness(answers(6))
    assert liveness.answered(partition) == 110
    liveness(answers(7, state="stopped"))
    assert liveness.answered(partition) == 0

"""What statistics tell of the brokers."""

from __future__ import annotations

import json
import time

import pytest

from pycdc.connectors.kafka.broker_liveness import BrokerLiveness
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

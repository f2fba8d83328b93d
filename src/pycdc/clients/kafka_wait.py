"""Waiting for brokers that may be away, which ends soon once the pipeline is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

T = TypeVar("T")

_SLICE: Final = 0.5
STOP_GRACE: Final = 2.0
"""Seconds that brokers still have for an answer once the pipeline was stopped."""
_AWAY: Final = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}


class StoppableLimit:
    """A time limit of `seconds`, and of `STOP_GRACE` from when `stopping` is first seen to be set."""

    def __init__(self, seconds: float, stopping: threading.Event | None) -> None:
        self._deadline = time.monotonic() + seconds
        self._stopping = stopping
        self._heard = False

    @property
    def left(self) -> float:
        now = time.monotonic()
        if not self._heard and self._stopping is not None and self._stopping.is_set():
            self._heard = True
            self._deadline = min(self._deadline, now + STOP_GRACE)
        return max(0.0, self._deadline - now)


def patiently(ask: Callable[[float], T], seconds: float, stopping: threading.Event | None) -> T:
    """Return what `ask` answers, which gets the seconds that it may take. Raises its KafkaException at the end."""
    patience = StoppableLimit(seconds, stopping)
    while True:
        turn = min(_SLICE, patience.left) if stopping is not None else patience.left
        try:
            return ask(max(turn, 0.1))
        except KafkaException as error:
            if error.args[0].code() not in _AWAY or patience.left <= 0:
                raise

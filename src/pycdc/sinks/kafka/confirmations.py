"""Whether brokers confirm what is sent to them; and when they do not, that it is said."""

from __future__ import annotations

import time
from typing import Final

from pycdc.observability.outages import Outages

_REPORTED_AFTER: Final = 3.0
"""Seconds without a confirmation after which brokers count as away."""


class Confirmations:
    """The confirmations of one producer. It is asked for them while somebody waits."""

    def __init__(self, brokers: str, outages: Outages) -> None:
        self._name = f"the brokers of sink.kafka at {brokers}"
        self._outages = outages
        self._left: int | None = None
        self._since = 0.0

    def wait(self, left: int, trouble: str) -> None:
        """So many records are not confirmed yet; `trouble` is what the client last said of the brokers."""
        now = time.monotonic()
        if self._left is None or left < self._left:
            self._since = now
            self._outages.end(self._name)
        self._left = left
        seconds = now - self._since
        if seconds >= _REPORTED_AFTER:
            hint = "check that they are up and reachable (sink.kafka.brokers), and have enough replicas"
            self._outages.begin(self._name, trouble or "nothing is confirmed", hint, seconds=seconds)

    def all(self) -> None:
        """Take note that nothing is left to be confirmed."""
        self._left = None
        self._outages.end(self._name)

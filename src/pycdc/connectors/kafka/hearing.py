"""When a broker was last heard of, from librdkafka's statistics: else absent brokers look like an idle topic."""

from __future__ import annotations

import json
import time
from typing import Final

from pycdc.observability.progress import Progress

INTERVAL: Final = 2000
"""Milliseconds between two statistics."""


class Hearing:
    """A `stats_cb`. A consumer's brokers answer several times a second, whether there are records or not."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __call__(self, statistics: str) -> None:
        silences = [
            broker["rxidle"] / 1_000_000
            for broker in json.loads(statistics).get("brokers", {}).values()
            if broker.get("state") == "UP" and broker.get("rxidle", -1) >= 0
        ]
        if silences:
            self._progress.last_message = max(self._progress.last_message, time.monotonic() - min(silences))

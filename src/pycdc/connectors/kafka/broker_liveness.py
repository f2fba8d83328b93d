"""When a broker was last heard of, from librdkafka's statistics: else absent brokers look like an idle topic."""

from __future__ import annotations

import json
import time
from typing import Final

from pycdc.clients.kafka_errors import LastError
from pycdc.observability.progress import Progress

_SILENT: Final = 5.0
"""Seconds without a word after which brokers count as away: one that has no records answers a heartbeat in three."""


class BrokerLiveness:
    """A `stats_cb`. A consumer's brokers answer several times a second, whether there are records or not.

    `name` is what they are called, `trouble` knows what the client last said of them.
    """

    def __init__(self, progress: Progress, name: str = "", trouble: LastError | None = None) -> None:
        self._progress = progress
        self._name = name
        self._trouble = trouble or LastError()

    def __call__(self, statistics: str) -> None:
        silences = [
            broker["rxidle"] / 1_000_000
            for broker in json.loads(statistics).get("brokers", {}).values()
            if broker.get("state") == "UP" and broker.get("rxidle", -1) >= 0
        ]
        if silences:
            self._progress.last_message = max(self._progress.last_message, time.monotonic() - min(silences))
        self._report()

    def _report(self) -> None:
        """Say that brokers are not heard any more, or that they are again."""
        heard = self._progress.last_message
        silent = time.monotonic() - heard
        if not heard or silent < _SILENT:
            self._progress.outages.end(self._name)
            return
        error = self._trouble.error
        reason = "nothing was heard" if error is None else error.str()
        hint = "check that they are up and can be reached: source.kafka.brokers"
        self._progress.outages.begin(self._name, reason, hint, source=True, seconds=silent)

"""When a broker was last heard of, from librdkafka's statistics: else absent brokers look like an idle topic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pycdc.clients.kafka_errors import LastError
from pycdc.model.event import Partition
from pycdc.observability.progress import Progress

_SILENT: Final = 5.0
"""Seconds without a word after which brokers count as away: one that has no records answers a heartbeat in three."""


class BrokerLiveness:
    """A `stats_cb`. A consumer's brokers answer several times a second, whether there are records or not.

    `name` is what they are called, `trouble` knows what the client last said of them. Bytes are a sign of life; what a
    partition holds is known as of the last answer that came whole, and a large record may be long on its way.
    """

    def __init__(self, progress: Progress, name: str = "", trouble: LastError | None = None) -> None:
        self._progress = progress
        self._name = name
        self._trouble = trouble or LastError()
        self._answers: dict[int, tuple[int, float]] = {}
        self._read_from: dict[Partition, int] = {}

    def answered(self, partition: Partition) -> float:
        """Return when the broker that a partition is read from gave its last whole answer; 0 where it is not read."""
        return self._answers.get(self._read_from.get(partition, -1), (0, 0.0))[1]

    def __call__(self, statistics: str) -> None:
        told = json.loads(statistics)
        brokers = told.get("brokers", {}).values()
        self._count_answers(brokers)
        self._read_from = {
            Partition(topic, part["partition"]): part["broker"]
            for topic, facts in told.get("topics", {}).items()
            for part in facts["partitions"].values()
            if part.get("fetch_state") == "active"
        }
        silences = [
            broker["rxidle"] / 1_000_000
            for broker in brokers
            if broker.get("state") == "UP" and broker.get("rxidle", -1) >= 0
        ]
        if silences:
            self._progress.last_message = max(self._progress.last_message, time.monotonic() - min(silences))
        self._report()

    def _count_answers(self, brokers: Iterable[Mapping[str, Any]]) -> None:
        """Note when each broker gave its last answer.

        The group's coordinator answers by a connection of its own, which says nothing of records.
        """
        for broker in brokers:
            number, count = broker.get("nodeid", -1), broker.get("rx", 0)
            if number >= 0 and broker.get("source") != "logical" and self._answers.get(number, (-1,))[0] != count:
                self._answers[number] = count, time.monotonic()

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

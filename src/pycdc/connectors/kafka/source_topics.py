"""The topics of a source: that they are there, where their partitions begin, and that they stay the same ones.

Rules:

1. A partition whose offset is stored begins there, and only if its topic is the one that the offset is of: a topic that
   was deleted and made anew has another id (KIP-516), and what it holds was never read.
2. `start` is for what there is when the pipeline first sees a topic that it was told by name, or runs for the first
   time. All of these partitions get their offset then, so that a partition, or a topic of a pattern, that is found
   later is known to be new: it begins at its first record.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.clients.topic_identity import another_topic
from pycdc.config.kafka import KafkaSourceConfig
from pycdc.engine_interfaces import Claims
from pycdc.errors import EnvironmentNotReady
from pycdc.model.event import Partition
from pycdc.model.patterns import expression

_ANSWER: Final = 10.0
"""Seconds for a question to the brokers."""
_LOOK: Final = 5.0
"""Seconds between two looks at the topics' ids."""


def subscription(topic: str) -> str:
    """Return a topic or a pattern as librdkafka reads it: a name that begins with ``^`` is a regular expression."""
    return f"^{expression(topic).pattern}$" if "*" in topic else topic


class SourceTopics:
    """The topics that `source` names. All methods raise PycdcError."""

    def __init__(self, source: KafkaSourceConfig) -> None:
        self._source = source
        self.inspection = TopicInspection(source, _ANSWER)
        self._ids: dict[str, str] = {}
        self._asked: dict[str, Any] = {}
        self._look_at = 0.0

    def require(self) -> None:
        """Raise EnvironmentNotReady for a topic that is named and missing: a typing mistake would wait in silence."""
        named = [topic for topic in self._source.topics if "*" not in topic]
        missing = sorted(set(named) - set(self.inspection.named(named)))
        if missing:
            raise EnvironmentNotReady(
                f"topic {missing[0]} does not exist",
                hint=f"check source.kafka.topics, or create it: kafka-topics --bootstrap-server "
                f"{self._source.brokers} --create --topic {missing[0]}",
            )

    def begin(self, claims: Claims) -> None:
        """Have the offsets stored at which the partitions begin that there are now, where `start` is for them."""
        if self._source.start == "earliest":
            return  # which is where those begin too that are found later
        known = claims.topics()
        there = self.inspection.partitions()
        new = [one for one in there if not known or (one.topic not in known and one.topic in self._source.topics)]
        if new:
            claims.begin({one: span.end for one, span in self.inspection.spans(new).items()}, self.ids(new))

    def firsts(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return where partitions begin whose offset was never stored."""
        spans = self.inspection.spans(partitions)
        for partition in sorted(set(partitions) - spans.keys()):
            raise EnvironmentNotReady(f"{partition} does not exist", hint="check source.kafka.topics")
        return {one: span.first for one, span in spans.items()}

    def ids(self, partitions: Iterable[Partition]) -> dict[str, str]:
        """Return the ids of the partitions' topics, as they are now."""
        return self.inspection.ids({partition.topic for partition in partitions})

    def claimed(self, ids: Mapping[str, str]) -> None:
        """Remember these ids: `check` compares the topics with them."""
        self._ids.update(ids)

    def check(self) -> None:
        """Return whether they are the same topics still. Asks from time to time, and does not wait for the answer."""
        if self._asked:
            if all(answer.done() for answer in self._asked.values()):
                asked, self._asked = self._asked, {}
                self._compare(asked)
        elif time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK
            self._asked = self.inspection.ask_ids(self._ids.keys())

    def _compare(self, asked: Mapping[str, Any]) -> None:
        for topic, answer in asked.items():
            if answer.exception() is None and (now := str(answer.result().topic_id)) != self._ids[topic]:
                raise another_topic(topic, self._ids[topic], now)

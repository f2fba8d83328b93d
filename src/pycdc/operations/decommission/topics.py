"""The topics between both systems: of the group's tables, and what the captures write beside them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pycdc.clients.kafka_inspection import TopicInspection
from pycdc.config.pipeline import CapturePipeline
from pycdc.model.patterns import names_any
from pycdc.operations.cutover.gates import Closed
from pycdc.operations.decommission.pipelines import ApplyRemnants, CaptureRemnants
from pycdc.operations.decommission.remnant import OnProgress, Remnant
from pycdc.serialization.names import topic_name


class TopicRemnants:
    """Topics from `capture` to `apply`. `keep`: they stay for others."""

    def __init__(self, capture: CaptureRemnants, apply: ApplyRemnants, *, keep: bool) -> None:
        self.name = f"topics {capture.capture.name}"
        self._capture, self._apply, self._keep = capture, apply, keep
        self._brokers = TopicInspection(apply.apply.source.kafka, 30.0)

    def unread(self, own: Collection[str]) -> str:
        """Raise Closed where a consumer group that is not of `own` reads one of them."""
        if self._keep:
            return "they stay"
        if not self._brokers.administered():
            return "the brokers do not answer"
        found = {group: topics for group, topics in self._brokers.readers(self._there()).items() if group not in own}
        if found:
            readers = "; ".join(f"{group} reads {', '.join(topics)}" for group, topics in found.items())
            raise Closed(f"{readers}: end it and delete its offsets, or set keep_topics")
        return "nobody else reads them"

    def kept(self) -> list[Remnant]:
        if self._keep:
            return [Remnant("topic", topic, "keep_topics is on") for topic in self._there()]
        if not self._brokers.administered():
            reason = "an embedded broker deletes nothing, and forgets all when it ends"
            return [Remnant("topic", topic, reason) for topic in self._there()]
        return []

    def present(self) -> list[Remnant]:
        if self._keep or not self._brokers.administered():
            return []
        return [Remnant("topic", topic) for topic in self._there()]

    def remove(self, on_progress: OnProgress) -> None:
        topics = [one.name for one in self.present()]
        if topics:
            self._brokers.delete_topics(topics)
            on_progress(f"deleted topics {', '.join(topics)}")

    def _there(self) -> list[str]:
        source = self._apply.apply.source.kafka
        of_tables = [
            topic
            for topics in self._brokers.topics().values()
            for topic in topics
            if names_any(self._apply.mine, topic) and names_any(source.topics, topic)
        ]
        beside = [] if self._capture.others else self._brokers.named(_beside(self._capture.capture))
        return sorted({*of_tables, *beside})


def _beside(capture: CapturePipeline) -> Sequence[str]:
    """Return what a capture names after itself: of messages, transactions, heartbeats, dead letters, its position."""
    topics = [capture.message_topic, f"{capture.name}.transaction", f"__debezium-heartbeat.{capture.name}"]
    topics.append(capture.dead_letters)
    if capture.offsets is None or (capture.offsets.kafka is not None and capture.offsets.kafka.topic is None):
        topics.append(f"pycdc-offsets-{capture.name}")
    return [topic_name(topic) for topic in topics]

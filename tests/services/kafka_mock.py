"""librdkafka's mock cluster, for tests that can live with it where no Kafka is to be had."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Producer

from .availability import Unavailable
from .kafka import READ_SECONDS, KafkaAddress


class MockKafka(KafkaAddress):
    """Lives as long as this object. A topic appears when it is first used, and has four partitions.

    Keeps about 5 MB or 100,000 messages of a partition, and shows readers what no transaction committed.
    """

    transactions_isolated = False
    partitions = 4

    def __init__(self) -> None:
        # The configured server is never asked: the client finds the mock's address by itself.
        self._host = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
        broker = next(iter(self._host.list_topics(timeout=READ_SECONDS).brokers.values()))
        super().__init__(f"{broker.host}:{broker.port}")

    def create_topic(self, name: str, *, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """It takes no other number of partitions than its own, and ignores ``config``."""
        if partitions not in (1, self.partitions):
            raise Unavailable(f"the mock cluster gives a topic {self.partitions} partitions, not {partitions}")
        self._host.list_topics(name, timeout=READ_SECONDS)
        return name

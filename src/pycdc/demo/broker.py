"""An embedded Kafka broker: librdkafka's mock cluster, for demonstrations and light tests.

It speaks the protocol to any client over loopback. What it lacks: CreateTopics (a topic of four partitions appears at
its first use), isolation of transactions, and memory: it keeps about 5 MB or 100,000 records a partition.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Final

from confluent_kafka import Producer

from pycdc.errors import EnvironmentNotReady

_START_TIMEOUT: Final = 10.0


class EmbeddedBroker:
    """A context manager; the cluster lives as long as it."""

    def __init__(self, brokers: int = 1) -> None:
        self._brokers = brokers
        self._host: Producer | None = None
        self.bootstrap = ""
        """Addresses, once started."""

    def start(self) -> EmbeddedBroker:
        # The address is required and ignored; the client that asks for a mock cluster hosts it.
        self._host = Producer(
            {
                "bootstrap.servers": "embedded",
                "test.mock.num.brokers": self._brokers,
                "logger": logging.getLogger(__name__),
            }
        )
        found = self._host.list_topics(timeout=_START_TIMEOUT).brokers.values()
        if len(found) != self._brokers:
            self.stop()
            raise EnvironmentNotReady(
                "the embedded broker did not start", hint="run a Kafka broker and name it instead"
            )
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in found)
        return self

    def stop(self) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

"""Three brokers of Apache Kafka, each a controller too, of which one at a time may be killed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaException
from confluent_kafka.admin import TopicMetadata

from .availability import ServerFailed
from .kafka import JAVA_OPTIONS, SINGLE_NODE, Kafka, KafkaAddress, Ports, chosen, cluster_id, installed_node

NODES = (1, 2, 3)
COMMON = {
    **SINGLE_NODE,
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # Three servers on a busy machine are late sometimes. So long a killed one stays a leader.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
    # The log cleaner takes 128 MB as it starts, half of the heap here: sometimes there was none left.
    "log.cleaner.dedupe.buffer.size": "8388608",
}
JAVA = [*JAVA_OPTIONS, "-Xmx256m", "-Xms64m"]
TRANSACTIONS = "__transaction_state"
READY_SECONDS = 120.0


class KafkaCluster(KafkaAddress):
    """All brokers of our own. Each topic has a replica on each, and a record two to be confirmed."""

    def __init__(self, brokers: dict[int, Kafka]) -> None:
        super().__init__(",".join(one.bootstrap for one in brokers.values()))
        self.brokers = brokers

    def leader(self, topic: str, partition: int = 0) -> int:
        """The broker that leads a partition; waited for where there is none now."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            found = self._topics(topic)[topic].partitions.get(partition)
            if found is not None and found.leader in self.brokers:
                return int(found.leader)
            time.sleep(0.1)
        raise TimeoutError(f"{topic} has no leader")

    def coordinator(self, transactional_id: str) -> int:
        """The broker that keeps the state of a producer's transactions, by the hash that brokers use."""
        number = 0
        for letter in transactional_id:
            number = (number * 31 + ord(letter)) & 0xFFFFFFFF
        count = len(self._topics(TRANSACTIONS)[TRANSACTIONS].partitions)
        return self.leader(TRANSACTIONS, (number & 0x7FFFFFFF) % count)

    def is_in_sync(self) -> bool:
        """Whether another broker may be lost: each replica of each partition has all."""
        return all(
            len(partition.isrs) == len(partition.replicas) == len(self.brokers)
            for topic in self._topics().values()
            for partition in topic.partitions.values()
        )

    def start(self) -> None:
        """Start those that do not run. No single one answers: a controller needs another."""
        with ThreadPoolExecutor(len(self.brokers)) as executor:
            list(executor.map(Kafka.start, self.brokers.values()))

    def heal(self) -> None:
        for one in self.brokers.values():
            one.resume()
        self.start()

    def log_text(self) -> str:
        return "\n".join(one.log_text() for one in self.brokers.values())

    def close(self) -> None:
        for one in self.brokers.values():
            one.close()

    def _topics(self, *names: str) -> Mapping[str, TopicMetadata]:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                found: Mapping[str, TopicMetadata] = self.admin().list_topics(*names, timeout=10).topics
                return found
            except KafkaException:
                if time.monotonic() > deadline:
                    raise


def launch() -> KafkaCluster:
    """Three brokers that answer, or ``Unavailable``."""
    wanted, features = chosen()
    ports = _distinct_ports()
    common = {**COMMON, "controller.quorum.voters": ",".join(f"{one.node}@127.0.0.1:{one.controller}" for one in ports)}
    cluster = cluster_id()

    def make(one: Ports) -> Kafka:
        return installed_node(one, {**one.properties(), **common}, wanted, features, JAVA, cluster)

    with ThreadPoolExecutor(len(ports)) as executor:
        found = KafkaCluster(dict(zip(NODES, executor.map(make, ports), strict=True)))
    try:
        found.start()
    except ServerFailed:
        found.close()
        raise
    return found


def _distinct_ports() -> list[Ports]:
    """A port that nobody listens on yet may be given twice."""
    while True:
        made = [Ports(node) for node in NODES]
        if len({port for one in made for port in (one.client, one.hidden, one.proxied, one.controller)}) == 4 * 3:
            return made

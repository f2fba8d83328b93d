"""Apache Kafka for tests: one node in KRaft mode."""

from __future__ import annotations

import base64
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.proxy import Proxy

from . import docker, maven
from .availability import ServerFailed, Unavailable
from .process import (
    LOG_TAIL,
    Control,
    ServerProcess,
    accepts_connections,
    free_port,
    run,
    temporary_folder,
    wait_until_ready,
)

VARIABLE = "PYCDC_TEST_KAFKA"
CHOSEN_VERSION = "PYCDC_TEST_KAFKA_VERSION"
CHOSEN_TRANSACTIONS = "PYCDC_TEST_TRANSACTION_VERSION"
VERSION = "4.3.0"
IMAGE = f"apache/kafka:{VERSION}"


def libraries(version: str) -> maven.Libraries:
    """The jars of a version."""
    return maven.Libraries(
        "kafka",
        (
            f"org.apache.kafka:kafka_2.13:{version}",
            f"org.apache.kafka:kafka-tools:{version}",
            # Without it Kafka logs nothing at all.
            "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
        ),
    )


LIBRARIES = libraries(VERSION)
HEAP = ["-Xmx1g", "-Xms256m"]
JAVA_OPTIONS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
"""For a server that lives for minutes: a start in two seconds is worth more here than the last compiler's code."""

LOG4J = """
status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = {log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d %p [%c{{1}}] %m%n
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""
START_SECONDS = 90.0
READ_SECONDS = 120.0


class KafkaAddress:
    """A Kafka that somebody else runs: topics can be made, written and read, but it cannot be stopped."""

    transactions_isolated = True
    """Whether ``read_committed`` hides what was not committed. The mock cluster's does not."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def __repr__(self) -> str:
        return f"<Kafka {self.bootstrap}>"

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def create_topic(self, name: str, *, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Make a topic and wait until it can be used; its name."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(config or {}))
        admin = self.admin()
        admin.create_topics([topic])[name].result(READ_SECONDS)
        _wait_for_leaders(admin, name, partitions)
        return name

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until the broker does not know it any more."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(READ_SECONDS)
        deadline = time.monotonic() + READ_SECONDS
        while name in admin.list_topics(timeout=READ_SECONDS).topics:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {name} is still there")
            time.sleep(0.02)

    def topics(self) -> set[str]:
        return set(self.admin().list_topics(timeout=READ_SECONDS).topics)

    def consume_all(
        self, topic: str, *, isolation: str = "read_committed", timeout: float = READ_SECONDS, **options: Any
    ) -> list[Message]:
        """All that ``topic`` holds, in the order of offsets within each partition; nothing if there is no such topic.

        It reads up to the high watermark, or for ``read_committed`` up to the last stable offset; ``TimeoutError`` when
        it does not get there. ``options`` go to the consumer, with ``_`` for ``.``.
        """
        settings = {name.replace("_", "."): value for name, value in options.items()}
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"read-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                # The end of a partition is seen in an empty answer, for which the broker otherwise waits half a second.
                "fetch.wait.max.ms": 10,
                **settings,
            }
        )
        try:
            return _read_to_end(consumer, topic, time.monotonic() + timeout)
        finally:
            consumer.close()

    # What only our own server can do.

    def stop(self, *, timeout: float = 30.0) -> None:
        raise self._not_ours()

    def start(self) -> None:
        raise self._not_ours()

    def kill(self) -> None:
        raise self._not_ours()

    def pause(self) -> None:
        raise self._not_ours()

    def resume(self) -> None:
        raise self._not_ours()

    def proxy(self) -> Proxy:
        raise self._not_ours()

    def log_text(self) -> str:
        raise self._not_ours()

    def heal(self) -> None:
        """Nothing to heal: a broker that is not ours was not touched."""

    def close(self) -> None:
        """Nothing to close."""

    def _not_ours(self) -> Exception:
        return Unavailable(f"{self!r} is not ours to stop")


class Kafka(KafkaAddress):
    """A Kafka of our own. It keeps its port and its data when it is started again."""

    def __init__(self, control: Control, *, ports: Ports, log: Path | None) -> None:
        super().__init__(f"127.0.0.1:{ports.client}")
        self.control = control
        self._ports = ports
        self._log = log

    def start(self) -> None:
        self.control.start()
        try:
            wait_until_ready(self.control, self._answers, name=repr(self), timeout=START_SECONDS)
        except ServerFailed as failure:
            # Its output is empty: what went wrong is in its log.
            raise ServerFailed(f"{failure}\n{self.log_text()[-LOG_TAIL:]}") from None

    def stop(self, *, timeout: float = 30.0) -> None:
        self.control.signal(signal.SIGTERM)
        self.control.wait(timeout)

    def kill(self) -> None:
        self.control.signal(signal.SIGKILL)
        self.control.wait(10)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self.control.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.control.signal(signal.SIGCONT)

    def proxy(self) -> Proxy:
        """A proxy in front of the broker; a client that starts from its address stays behind it. One at a time."""
        return Proxy("127.0.0.1", self._ports.hidden, listen_port=self._ports.proxied)

    def log_text(self) -> str:
        written = self._log.read_text(errors="replace") if self._log and self._log.exists() else ""
        return self.control.log_text() + written

    def heal(self) -> None:
        self.resume()
        if not self.control.running:
            self.start()

    def close(self) -> None:
        # Its data is thrown away, so there is nothing to stop in good order.
        self.control.signal(signal.SIGKILL)
        self.control.close()

    def _answers(self) -> bool:
        port = self._ports.client
        return accepts_connections(port) and accepts_connections(self._ports.hidden) and _lists_brokers(self.bootstrap)


class Ports:
    """The ports of one node. Clients of ``hidden`` are told to come to ``proxied``, where a proxy may listen."""

    def __init__(self, node: int = 1) -> None:
        self.node = node
        self.client, self.hidden, self.proxied, self.controller = (free_port() for _ in range(4))

    def properties(self, *, listen: str = "127.0.0.1") -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "listeners": f"PLAINTEXT://{listen}:{self.client},PROXIED://{listen}:{self.hidden},"
            f"CONTROLLER://{listen}:{self.controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.client},PROXIED://127.0.0.1:{self.proxied}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
        }


SINGLE_NODE = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After a kill the broker may register again only when its old session has expired: 9 s by default.
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "1500",
}


def describe() -> str:
    """Where ``launch`` would take it from, for the report's header."""
    if os.environ.get(VARIABLE):
        return f"{os.environ[VARIABLE]} ({VARIABLE})"
    if docker.engine_answers():
        return f"{IMAGE} (docker)"
    try:
        maven.java()
    except Unavailable as reason:
        return f"none: {reason}"
    return f"Apache Kafka {VERSION} (java, {'cached' if maven.cached(LIBRARIES) else 'by Maven'})"


def launch(**properties: str) -> KafkaAddress:
    """A Kafka that answers, or ``Unavailable``. ``properties``, with ``_`` for ``.``, go to a broker of our own."""
    address = os.environ.get(VARIABLE)
    if address:
        return KafkaAddress(address)
    own = {name.replace("_", "."): value for name, value in properties.items()}
    wanted, features = chosen()
    contained = docker.engine_answers() and wanted is LIBRARIES and not features
    server = _containerised(own) if contained else _installed(own, wanted, features)
    try:
        server.start()
    except BaseException:
        server.close()
        raise
    return server


def _containerised(own: Mapping[str, str]) -> Kafka:
    ports = Ports()
    properties = {**ports.properties(listen="0.0.0.0"), **SINGLE_NODE, **own}
    properties["controller.quorum.voters"] = f"1@localhost:{ports.controller}"
    environment = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}
    published = {port: port for port in (ports.client, ports.hidden)}
    return Kafka(docker.Container(IMAGE, ports=published, environment=environment), ports=ports, log=None)


def chosen() -> tuple[maven.Libraries, dict[str, str]]:
    """The version and the features that the environment asks for: `make chaos-exactly-once` goes through several."""
    version, level = os.environ.get(CHOSEN_VERSION), os.environ.get(CHOSEN_TRANSACTIONS)
    return libraries(version) if version else LIBRARIES, {"transaction.version": level} if level else {}


def _installed(own: Mapping[str, str], wanted: maven.Libraries, features: Mapping[str, str]) -> Kafka:
    ports = Ports()
    properties = {**ports.properties(), **SINGLE_NODE, **own}
    properties["controller.quorum.bootstrap.servers"] = f"127.0.0.1:{ports.controller}"
    return installed_node(ports, properties, wanted, features, [*JAVA_OPTIONS, *HEAP], cluster_id(), "--standalone")


def cluster_id() -> str:
    """An id as Kafka makes them, which may not begin with a dash."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def installed_node(
    ports: Ports,
    properties: dict[str, str],
    wanted: maven.Libraries,
    features: Mapping[str, str],
    java_options: Sequence[str],
    cluster: str,
    *formatting: str,
) -> Kafka:
    """One node, by Java, formatted and not started."""
    java = maven.java()
    jars = maven.resolve(wanted)
    folder = temporary_folder("kafka")
    properties = {**properties, "log.dirs": str(folder / "data")}
    (folder / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    (folder / "log4j2.properties").write_text(LOG4J.format(log=folder / "kafka.log"))
    program = [
        java,
        *java_options,
        f"-Djava.io.tmpdir={folder}",
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        f"{jars}/*",
    ]
    _format(program, folder, features, cluster, formatting)
    control = ServerProcess(
        [*program, "kafka.Kafka", "server.properties"], log=folder / "output.log", cwd=folder, end_signal=signal.SIGKILL
    )
    return Kafka(control, ports=ports, log=folder / "kafka.log")


def _format(
    program: list[str], folder: Path, features: Mapping[str, str], cluster: str, formatting: Sequence[str]
) -> None:
    tool = [*program, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties", *formatting]
    for name, level in features.items():
        tool += ["--feature", f"{name}={level}"]
    code, output = run(tool, cwd=folder, timeout=120)
    if code != 0:
        raise ServerFailed(f"Kafka's storage cannot be formatted:\n{output}")


def _lists_brokers(bootstrap: str) -> bool:
    # Below emergency: that nobody answers yet is no news while waiting.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": _ignore})
    try:
        return bool(admin.list_topics(timeout=5).brokers)
    except KafkaException:
        return False


def _ignore(error: KafkaError) -> None:
    """librdkafka reports here each connection that fails; the caller sees the same as a timeout."""


def _wait_for_leaders(admin: AdminClient, topic: str, partitions: int) -> None:
    deadline = time.monotonic() + READ_SECONDS
    while time.monotonic() < deadline:
        known = admin.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
        if len(known) >= partitions and all(partition.leader >= 0 for partition in known.values()):
            return
        time.sleep(0.02)
    raise TimeoutError(f"topic {topic} has no leaders")


def _read_to_end(consumer: Consumer, topic: str, deadline: float) -> list[Message]:
    metadata = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic]
    if metadata.error is not None and metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return []
    unread = set(metadata.partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in unread])
    messages: list[Message] = []
    while unread:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"partitions {sorted(unread)} of {topic} not read to their end; {len(messages)} messages"
            )
        for message in consumer.consume(1000, timeout=0.05):
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition())
            elif not error.retriable():
                raise KafkaException(error)
    return messages

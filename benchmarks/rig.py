"""The servers of the benchmarks: those of the tests, started when a scenario first asks for them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar, cast

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka import __version__ as librdkafka_client
from tests.services import kafka, matrix, registry
from tests.services.installations import installations
from tests.services.kafka import KafkaAddress
from tests.services.postgres import PostgresServer
from tests.services.process import temporary_folder
from tests.services.registry import RegistryAddress

from benchmarks.processes import Observed
from pycdc.version import __version__

POSTGRES = {"shared_buffers": "1GB", "max_wal_size": "20GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
"""So that no checkpoint and no vacuum falls into one run and not into another."""


class Closable(Protocol):
    def close(self) -> None: ...


Kept = TypeVar("Kept", bound=Closable)


class Rig:
    """Postgres, Kafka and a registry, and what else is kept running, for as long as it is entered.

    `warm`: whether JVMs run for a while before they are measured.
    """

    def __init__(self, postgres: int = 15, *, warm: bool = True) -> None:
        self._version = postgres
        self.warm = warm
        self.folder = temporary_folder("bench")
        self.name = _name()
        self._kept: dict[str, Closable] = {}
        self._databases: list[str] = []

    def __enter__(self) -> Rig:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_kept()
        for name in ("registry", "kafka", "postgres"):
            if name in self.__dict__:
                self.__dict__[name].close()

    @cached_property
    def postgres(self) -> PostgresServer:
        known = matrix.sources()
        source = next((one for one in known if self._version in one.numbers[:1]), known[-1])
        server = source.launch()
        server.configure(**POSTGRES)
        return server

    @cached_property
    def kafka(self) -> KafkaAddress:
        return kafka.launch()

    @cached_property
    def registry(self) -> RegistryAddress:
        return registry.launch()

    def kept(self, name: str, start: Callable[[], Kept]) -> Kept:
        """What `start` starts when it is first asked for, and again after `end_kept`: a JVM that is warm by then."""
        if name not in self._kept:
            self._kept[name] = start()
        return cast(Kept, self._kept[name])

    def end_kept(self) -> None:
        while self._kept:
            self._kept.popitem()[1].close()

    def clear(self) -> None:
        """Drop databases and topics, and take another name: what one scenario leaves must not slow the next."""
        for dsn in self._databases:
            self.postgres.drop_database(dsn)
        self._databases.clear()
        if "kafka" in self.__dict__:
            admin = self.kafka.admin()
            topics = [name for name in admin.list_topics(timeout=30).topics if not name.startswith("__")]
            for deleted in admin.delete_topics(topics).values() if topics else ():
                deleted.result(60)
        self.name = _name()

    def database(self, script: str = "") -> str:
        """A new database after `script`; its DSN."""
        dsn = self.postgres.create_database()
        self._databases.append(dsn)
        if script:
            execute(dsn, script)
        return dsn

    def versions(self) -> dict[str, str]:
        found = {"pycdc": __version__, "confluent-kafka": librdkafka_client, "postgres": self.postgres.version}
        if "kafka" in self.__dict__:
            found["kafka"] = kafka.VERSION
        if "registry" in self.__dict__:
            found["registry"] = f"Apicurio {registry.VERSION}"
        return found


def _name() -> str:
    """Slots and topics begin with it."""
    return f"b{uuid.uuid4().hex[:6]}"


def execute(dsn: str, *statements: str) -> None:
    """Each statement in a transaction of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def program(name: str) -> Path:
    """A client program of Postgres' newest installation on this machine that has it."""
    for one in reversed(installations()):
        if (one.bin / name).exists():
            return one.bin / name
    raise FileNotFoundError(f"{name} is in none of the Postgres installations of this machine")


class Engine(Protocol):
    """A pipeline of pycdc or a peer's, running."""

    @property
    def observed(self) -> Observed: ...
    def check(self) -> bool:
        """False; raises where it has ended by itself."""


def wait_until(
    running: Engine, condition: Callable[[], bool], what: str, timeout: float = 600.0, *, pause: float = 0.002
) -> float:
    """The monotonic time at which `condition` was first seen to hold, while `running` runs. TimeoutError."""
    looked = time.monotonic()

    def holds() -> bool:
        nonlocal looked
        if time.monotonic() > looked + 1.0:
            looked = time.monotonic()
            running.check()
        return condition()

    return wait_for(holds, what, timeout, pause)


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 300.0, pause: float = 0.002) -> float:
    """The monotonic time at which `condition` was first seen to hold. TimeoutError."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {timeout:.0f} s")
        time.sleep(pause)
    return time.monotonic()


class Watermarks:
    """How many records topics hold, asked of the broker."""

    def __init__(self, brokers: str, topics: Sequence[str]) -> None:
        self._topics = topics
        self._settings = {"bootstrap.servers": brokers, "group.id": "watermarks", "log_level": 3}
        self._consumer = Consumer(self._settings)

    def total(self) -> int:
        """Over all partitions of one each; 0 for a topic that is not there yet."""
        return sum(map(self._high, self._topics))

    def _high(self, topic: str) -> int:
        try:
            return int(self._consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10, cached=False)[1])
        except KafkaException:
            # After a broker that was stopped for a while this client may go on saying that the partition has no leader.
            self.close()
            self._consumer = Consumer(self._settings)
            return 0

    def close(self) -> None:
        self._consumer.close()

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from tests.faults.harness import Process
from tests.reading import wait_for
from tests.services.kafka import KafkaAddress

TABLES = "CREATE TABLE items (id int PRIMARY KEY, name text, quantity bigint NOT NULL DEFAULT 0);"


class Rig:
    """A topic, a database, and processes of one pipeline between them."""

    def __init__(self, dsn: str, kafka: KafkaAddress, name: str, folder: Path) -> None:
        self.dsn, self.kafka, self.name, self.folder = dsn, kafka, name, folder
        self.topic = f"{name}.items"
        self._processes: list[Process] = []
        self._connection: psycopg.Connection[Any] | None = None
        self.connect()
        self.sql(TABLES)

    def connect(self, dsn: str | None = None) -> None:
        """Work with another database from here on, or with the same one again."""
        self.disconnect()
        self.dsn = dsn or self.dsn
        self._connection = psycopg.connect(self.dsn, autocommit=True)

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def sql(self, statement: str) -> list[Any]:
        assert self._connection is not None
        cursor = self._connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def produce(self, events: Iterable[tuple[Any, Any]], **settings: Any) -> None:
        """Pairs of key and value as JSON; a value of None is a tombstone."""
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 5, **settings})
        for key, value in events:
            data = None if value is None else json.dumps(value).encode()
            producer.produce(self.topic, data, json.dumps(key).encode())
        assert producer.flush(20) == 0

    def document(self, route: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
        source = {"brokers": self.kafka.bootstrap, "topics": [self.topic], **sections.pop("source", {})}
        routes = [{"topic": self.topic, "table": "items", **(route or {})}]
        sink = {"dsn": self.dsn, "routes": routes, **sections.pop("sink", {})}
        return {
            "name": self.name,
            "source": {"kafka": source},
            "sink": {"postgres": sink},
            "retries": {"max_delay": 0.5},
            "http": {"enabled": False},
            **sections,
        }

    def start(self, document: dict[str, Any], *point: str) -> Process:
        path = self.folder / f"{len(self._processes)}.json"
        path.write_text(json.dumps(document))
        process = Process(path, *point)
        self._processes.append(process)
        return process

    def wait_for_offsets(self, total: int) -> None:
        """Until that many records are applied, over all partitions."""
        wait_for(lambda: self.offsets() == total)

    def offsets(self) -> int:
        if self.sql("SELECT to_regclass('pycdc.apply_offsets')") == [(None,)]:
            return 0
        return int(self.sql("SELECT coalesce(sum(next_offset), 0) FROM pycdc.apply_offsets")[0][0])

    def claims(self) -> int:
        """How often partitions were taken over, by anybody."""
        return int(self.sql("SELECT coalesce(sum(epoch), 0) FROM pycdc.apply_offsets")[0][0])

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        self.disconnect()


@pytest.fixture
def rig(database: str, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(database, kafka, topic_prefix, tmp_path)
    yield rig
    rig.close()

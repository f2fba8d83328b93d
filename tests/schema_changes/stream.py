"""A stream of a whole database into memory: what consumers would read, and what the tables held when it was written."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import fastavro
import psycopg
from psycopg.rows import dict_row

from pycdc.config import validate_capture
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch
from pycdc.observability.progress import Progress
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.serializer import Serializer
from tests.reading import PATIENCE

Row = dict[str, Any]
MARKS = "shop.message"
"""Where logical messages go."""


class Versions:
    """A registry in memory: ids by text, and the texts of each subject in the order they were first registered."""

    def __init__(self) -> None:
        self.subjects: dict[str, list[str]] = {}
        self._texts: list[str] = []
        self._parsed: dict[int, Any] = {}

    def __call__(self, topic: str, part: str, schema: Schema) -> int:
        text = avro_text(schema)
        if text not in self._texts:
            self._texts.append(text)
        versions = self.subjects.setdefault(f"{topic}-{part}", [])
        if text not in versions:
            versions.append(text)
        return self._texts.index(text)

    def decode(self, data: bytes | None) -> Any:
        if data is None:
            return None
        number = int.from_bytes(data[1:5], "big")
        if number not in self._parsed:
            self._parsed[number] = fastavro.parse_schema(json.loads(self._texts[number]))
        stream = io.BytesIO(data[5:])
        value = fastavro.schemaless_reader(stream, self._parsed[number], None)
        assert not stream.read(), "bytes left over behind the record"
        return value


@dataclass(frozen=True)
class Seen:
    """A record that is no tombstone."""

    topic: str
    id: int
    key: Any
    value: Any

    def is_mark(self, mark: str) -> bool:
        return self.topic == MARKS and bool(self.value["message"]["content"] == mark.encode())

    @property
    def table(self) -> str:
        return f"{self.value['source']['schema']}.{self.value['source']['table']}"

    @property
    def op(self) -> str:
        return str(self.value["op"])

    @property
    def after(self) -> Row | None:
        row: Row | None = self.value["after"]
        return row


class Stream:
    """Tables may come at any time: the publication is of all of them. Nothing is acknowledged before `settle`."""

    def __init__(self, dsn: str, *, via_root: bool = False, tables: Sequence[str] = ("*.*",), **sections: Any) -> None:
        self.admin = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)
        option = "WITH (publish_via_partition_root = true)" if via_root else ""
        self.admin.execute(f"CREATE PUBLICATION everything FOR ALL TABLES {option}".encode())
        source = {
            "dsn": dsn,
            "tables": list(tables),
            "publication": "everything",
            "manage_publication": False,
            "slot": f"slot_{uuid.uuid4().hex}",
            "snapshot": "never",
        }
        self.config = validate_capture(
            {"name": "shop", "source": {"postgres": source}, "sink": {"console": {}}, **sections}
        )
        self.versions = Versions()
        self._stored: Checkpoint | None = None
        self._latest: tuple[PostgresConnector, Batch] | None = None
        self._waiting: list[Seen] = []
        self.execute("CREATE TABLE anything (id int PRIMARY KEY)")
        self.start()
        self.read()
        self.settle()

    def start(self) -> None:
        """From the last settled position on, as a new process."""
        self._serializer = Serializer(self.config, "db", AvroFormat(self.versions), lambda table, column: None)
        progress = Progress()
        self._connector = PostgresConnector(self.config, progress)
        self._batches = self._connector.batches(self._stored)
        self._waiting = []
        # What is written before the slot is made never comes, and a slot may take a while.
        while (batch := next(self._batches)) is not None or progress.state != "streaming":
            self._take(batch)

    def stop(self) -> None:
        self._batches.close()  # type: ignore[attr-defined]
        self._connector.close()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.settle()
        self.stop()
        try:
            yield
        finally:
            self.start()

    def settle(self) -> None:
        """Store the position of what was read, and acknowledge it."""
        if self._latest is not None:
            connector, batch = self._latest
            self._stored = connector.checkpoint(batch)
            connector.acknowledge(self._stored)
            self._latest = None

    def close(self) -> None:
        self.stop()
        self.admin.close()

    # -- writing

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.admin.execute(statement.encode())

    def write(self, statements: Sequence[str], *, together: bool = False) -> list[Row]:
        """Execute; the rows that came to be in the tables, in order. `together`: in one transaction."""
        with self.admin.transaction() if together else closing(_Nothing()):
            return [row for statement in statements for row in self._write(statement)]

    def _write(self, statement: str) -> list[Row]:
        if not statement.startswith(("INSERT", "UPDATE")):
            self.admin.execute(statement.encode())
            return []
        return self.admin.execute(f"{statement} RETURNING *".encode()).fetchall()

    # -- reading

    def read(self, timeout: float = PATIENCE) -> list[Seen]:
        """All that was written until now and was not read yet. Order is that of each topic."""
        mark = uuid.uuid4().hex
        self.admin.execute("SELECT pg_logical_emit_message(true, 'here', %s)", [mark])
        deadline = time.monotonic() + timeout
        while not any(seen.is_mark(mark) for seen in self._waiting):
            assert time.monotonic() < deadline, "the stream does not get there"
            self._take(next(self._batches))
        found = [seen for seen in self._waiting if seen.topic != MARKS]
        self._waiting = []
        return found

    def _take(self, batch: Batch | None) -> None:
        if batch is None:
            return
        if batch.position is not None:
            self._latest = (self._connector, batch)
        for topic, records in self._serializer.serialize(batch):
            for record in records:
                if record["value"] is not None:
                    number = int.from_bytes(record["value"][1:5], "big")
                    decode = self.versions.decode
                    self._waiting.append(Seen(topic, number, decode(record["key"]), decode(record["value"])))

    def texts(self, table: str, part: str = "value") -> list[str]:
        return self.versions.subjects.get(f"shop.{table}-{part}", [])


class _Nothing:
    def close(self) -> None:
        """There is nothing to close."""

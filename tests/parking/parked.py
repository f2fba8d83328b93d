"""What is parked, as a plain consumer finds it, and `pycdc parked` as a user calls it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from click.testing import CliRunner

from pycdc.cli import main
from tests.running import Running
from tests.services.kafka import KafkaAddress


class Parked(NamedTuple):
    """A record of the topic of parked rows: its headers, and the document that its pieces are."""

    headers: dict[str, str]
    document: dict[str, Any]

    @property
    def frame(self) -> bytes:
        return base64.b64decode(self.document["frame"])


class Rig:
    """One database, one topic prefix, one configuration."""

    def __init__(self, dsn: str, kafka: KafkaAddress, name: str, folder: Path) -> None:
        self.dsn = dsn
        self.kafka = kafka
        self.name = name
        self._path = folder / "pipeline.json"

    def document(self, delivery: str = "exactly_once", **sections: Any) -> dict[str, Any]:
        kafka = {"brokers": self.kafka.bootstrap, "format": "json", "delivery": delivery}
        document = {
            "name": self.name,
            "source": {"postgres": {"dsn": self.dsn, "tables": ["public.*"], "snapshot": "never"}},
            "sink": {"kafka": {**kafka, **sections.pop("kafka", {})}},
            "rules": [{"tables": "public.items", "on_error": "park"}],
            "checkpoint": {"interval": 0.1},
            "http": {"enabled": False},
            **sections,
        }
        self._path.write_text(json.dumps(document))
        return document

    @contextmanager
    def running(self, document: dict[str, Any]) -> Iterator[Running]:
        with Running(document) as pipeline:
            pipeline.until_streaming()
            yield pipeline

    def execute(self, *statements: str) -> None:
        """Each is a transaction."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def pycdc(self, command: str, *arguments: str) -> Any:
        """What `pycdc parked COMMAND … --json` prints."""
        done = CliRunner().invoke(main, ["parked", command, str(self._path), *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def rows(self, table: str = "items") -> list[tuple[str, Any]]:
        """Operation and row of each record of a table's topic, in its order."""
        found = []
        for message in self.kafka.consume_all(f"{self.name}.public.{table}"):
            value = json.loads(message.value() or b"null")
            if value is not None:
                found.append((value["op"], value["after"] or value["before"]))
        return found

    def values(self, key: int, column: str = "v") -> list[Any]:
        """That column of each record of a key."""
        return [row[column] for _, row in self.rows() if row["id"] == key]

    def parked(self) -> list[Parked]:
        """What the topic of parked rows holds once it is compacted."""
        newest: dict[bytes, Any] = {}
        for message in self.kafka.consume_all(f"{self.name}.parked"):
            newest.pop(message.key() or b"", None)
            if message.value() is not None:
                newest[message.key() or b""] = message
        rows: dict[str, list[Any]] = {}
        for key, message in newest.items():
            rows.setdefault(key.decode().rpartition("/")[0], []).append(message)
        found = []
        for pieces in rows.values():
            pieces.sort(key=lambda message: int(message.key().decode().rpartition("/")[2]))
            headers = {name: value.decode() for name, value in pieces[0].headers()}
            if len(pieces) < int(headers["__pycdc.parts"]):
                continue  # the others are still on their way
            found.append(Parked(headers, json.loads(b"".join(message.value() for message in pieces))))
        return found

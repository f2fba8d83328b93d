"""A database, and processes of a pipeline that are handed events."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.model.event import Applied, EventBatch, Partition, PartitionOffsets
from pycdc.observability.progress import Progress
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.routing.router import Functions
from pycdc.sinks.postgres.schema_drift import KnownTables
from pycdc.sinks.postgres.sink import PostgresSink

TABLES = """
CREATE TABLE items (id int PRIMARY KEY, name varchar(5), quantity int NOT NULL DEFAULT 0 CHECK (quantity >= 0),
    doc jsonb, tags text[], email text UNIQUE, long text NOT NULL DEFAULT '');
CREATE TABLE lines (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item int NOT NULL REFERENCES items, note text);
"""

NO_KEY = object()
"""In the place of a record's key."""
Headers = tuple[tuple[str, bytes | None], ...]


class Rig:
    """`next` are the offsets at which each topic goes on. Topics have one partition."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = psycopg.connect(dsn, autocommit=True)
        self._made: list[PostgresSink | ApplyOffsets] = []
        self.ends: dict[str, int] = {}

    def sql(self, statement: str) -> list[Any]:
        cursor = self.connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def process(
        self,
        *routes: dict[str, Any],
        known: KnownTables | None = None,
        stopping: threading.Event | None = None,
        functions: Functions | None = None,
        pipeline: str = "back",
        **options: Any,
    ) -> Process:
        routes = routes or ({"topic": "items", "table": "items"},)
        settings = PostgresSinkConfig.model_validate({"dsn": self.dsn, "routes": routes, **options})
        progress = Progress()
        apply_offsets = ApplyOffsets(self.dsn, pipeline, has_inbox=settings.inbox is not None)
        sink = PostgresSink(settings, pipeline, apply_offsets, progress, known, functions, stopping=stopping)
        self._made += [sink, apply_offsets]
        topics = sorted({route["topic"] for route in routes if "*" not in route["topic"]})
        return Process(self, sink, apply_offsets, progress, topics)

    def close(self) -> None:
        for made in self._made:
            made.close()
        self.connection.close()


class Process:
    def __init__(
        self, rig: Rig, sink: PostgresSink, apply_offsets: ApplyOffsets, progress: Progress, topics: list[str]
    ) -> None:
        self._rig = rig
        self._decoder = Decoder(None)
        self.sink, self.apply_offsets, self.progress = sink, apply_offsets, progress
        places = apply_offsets.claim([Partition(topic, 0) for topic in topics], lambda partition: 0)
        self.begins = places[Partition(topics[0], 0)]
        rig.ends.update({partition.topic: offset for partition, offset in places.items()})

    def apply(self, *values: Any, key: Callable[[Any], Any] = lambda value: value.get("id")) -> Applied | None:
        """Each value is an event: a dict, bytes, or a pair of key and value."""
        return self.feed(
            *(("items", *value) if isinstance(value, tuple) else ("items", key(value), value) for value in values)
        )

    def feed(self, *records: Any, headers: Headers = ()) -> Applied | None:
        """Topic, key and value of each, perhaps headers. What is not taken is not repeated."""
        batch = EventBatch()
        for topic, its_key, value, *own in records:
            offset = self._rig.ends.get(topic, 0)
            raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
            of_record = tuple(own[0]) if own else headers
            raw_key = None if its_key is NO_KEY else json.dumps(its_key).encode()
            event = self._decoder.event(Partition(topic, 0), offset, 0, raw_key, raw, of_record)
            batch.events.append(event)
            self._rig.ends[topic] = offset + 1
        moved = {event.partition: event.offset + 1 for event in batch.events}
        batch.position = PartitionOffsets(moved)
        before = dict(self._rig.ends)
        try:
            self.sink.write(batch)
            taken = self.sink.commit(Applied(batch.position))
        except BaseException:
            for event in reversed(batch.events):
                self._rig.ends[event.partition.topic] = event.offset
            raise
        if taken is not None:
            self._rig.ends = before | {one.topic: offset for one, offset in taken.position.next.items()}
        return taken

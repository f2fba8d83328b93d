"""Records of a table with many types, and two processes that are fed them: one by columns, one event by event."""

from __future__ import annotations

import io
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from random import Random
from typing import Any

import fastavro
import psycopg

from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.connectors.kafka import prefetch as fetched
from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.errors import PycdcError
from pycdc.model.event import Applied, EventBatch, Partition
from pycdc.observability.progress import Progress
from pycdc.sinks.postgres.bookkeeping.apply_offsets import ApplyOffsets
from pycdc.sinks.postgres.columnar_apply import ColumnarRoutes
from pycdc.sinks.postgres.sink import PostgresSink

TABLE = """CREATE TABLE things (id bigint PRIMARY KEY, small int CHECK (small < 900), big bigint, flag boolean,
    f double precision, price numeric(12,2), name text, word varchar(5), d date, at timestamp, tz timestamptz,
    raw bytea, doc jsonb, u uuid, nums int[], words text[], owner text NOT NULL DEFAULT 'nobody')"""
HELD_BACK = "__debezium_unavailable_value"


def _named(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "connect.name": name}


COLUMNS: dict[str, Any] = {
    "small": "int",
    "big": "long",
    "flag": "boolean",
    "f": "double",
    "price": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
    "name": "string",
    "word": "string",
    "d": _named("int", "io.debezium.time.Date"),
    "at": _named("long", "io.debezium.time.MicroTimestamp"),
    "tz": _named("string", "io.debezium.time.ZonedTimestamp"),
    "raw": "bytes",
    "doc": _named("string", "io.debezium.data.Json"),
    "u": _named("string", "io.debezium.data.Uuid"),
    "nums": {"type": "array", "items": "int"},
    "words": {"type": "array", "items": ["null", "string"]},
}
_TEXTS = (
    "plain",
    "",
    'quo"te',
    "back\\slash",
    "line\nbreak",
    "NULL",
    "null",
    "{a,b}",
    "Grüße",
    " spaces ",
    "None",
    ",",
)
ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": "long"},
        *({"name": name, "type": ["null", kind], "default": None} for name, kind in COLUMNS.items()),
    ],
}
SOURCE = {
    "type": "record",
    "name": "Source",
    "fields": [{"name": "db", "type": "string"}, {"name": "lsn", "type": ["null", "long"]}],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", ROW]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": SOURCE},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"]},
    ],
}
FLAT = {**ROW, "fields": [*ROW["fields"], {"name": "__deleted", "type": ["null", "string"]}]}
KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
SCHEMAS = {1: KEY, 2: ENVELOPE, 3: FLAT}
_PARSED = {number: fastavro.parse_schema(schema) for number, schema in SCHEMAS.items()}


def avro(number: int, datum: Any) -> bytes:
    return avro_of(number, _PARSED[number], datum)


def avro_of(number: int, schema: Any, datum: Any) -> bytes:
    """In Confluent's wire format."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, datum)
    return b"\0" + number.to_bytes(4, "big") + out.getvalue()


def key(number: int) -> bytes:
    return avro(1, {"id": number})


def row(random: Random, number: int) -> dict[str, Any]:
    """Any of its values may be null."""
    values = {
        "small": random.choice((0, -1, 63, 64, 127, 128, 899)),
        "big": random.choice((0, -(2**63), 2**63 - 1, 8191, 8192, -70_000)),
        "flag": random.random() < 0.5,
        "f": random.choice((0.0, -1.5, 1e300, float("inf"), float("-inf"), float("nan"))),
        "price": Decimal(random.randrange(-(10**6), 10**6)).scaleb(-2),
        "name": random.choice(_TEXTS),
        "word": random.choice(("", "five5", '"', "\\")),
        "d": random.choice((0, -1, 20_000, 2**31 - 1)),
        "at": random.randrange(-(10**15), 10**16),
        "tz": "2026-01-01T00:00:01.000000Z",
        "raw": random.choice((b"", b"\0\xff", b'"')),
        "doc": random.choice(('{"a": [1, "\\"", null]}', "null", '"x"')),
        "u": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "nums": random.choice(([], [1, -2])),
        "words": random.choice(([], ["a", None, '"', "NULL"])),
    }
    kept = {name: None if random.random() < 0.2 else value for name, value in values.items()}
    return {"id": number, **kept}


class Record:
    """A message, as far as it is looked at."""

    def __init__(self, its_key: bytes | None, value: bytes | None, headers: Any = None) -> None:
        self._key, self._value, self._headers = its_key, value, headers
        self.place = 0

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def offset(self) -> int:
        return self.place

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000 + self.place


def written(form: str, after: dict[str, Any], before: dict[str, Any] | None = None) -> Record:
    if form == "flat":
        return Record(key(after["id"]), avro(3, {**after, "__deleted": "false"}))
    datum = {"before": before, "after": after, "source": {"db": "shop", "lsn": 2**40}, "op": "u", "ts_ms": 5}
    return Record(key(after["id"]), avro(2, datum))


def deleted(form: str, before: dict[str, Any]) -> Record:
    headers = [("__pycdc.before", b"id")]
    if form == "flat":
        return Record(key(before["id"]), avro(3, {**before, "__deleted": "true"}), headers)
    datum = {"before": before, "after": None, "source": {"db": "shop", "lsn": None}, "op": "d", "ts_ms": None}
    return Record(key(before["id"]), avro(2, datum), headers)


def tombstone(number: int) -> Record:
    return Record(key(number), None)


class Side:
    """One process on a database of its own, by columns or event by event."""

    def __init__(self, dsn: str, *, columnar: bool, route: dict[str, Any], **options: Any) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        settings = {"dsn": dsn, "routes": [{"topic": "t", "table": "things", **route}], **options}
        self._settings = PostgresSinkConfig.model_validate(settings)
        self.progress = Progress()
        self.apply_offsets = ApplyOffsets.of(self._settings, "back")
        self.columnar_routes = ColumnarRoutes()
        self._decoder = Decoder(lambda number: json.dumps(SCHEMAS[number]))
        for known in (
            key(1),
            written("envelope", row(Random(0), 1)).value(),
            written("flat", row(Random(0), 1)).value(),
        ):
            self._decoder.event(Partition("t", 0), 0, 0, known, known)
        self._reader = ColumnarDecoder(self._decoder, self.columnar_routes) if columnar else None
        self._made: list[PostgresSink] = []
        self.begin()

    def begin(self) -> None:
        """With a new sink."""
        self.sink = PostgresSink(
            self._settings, "back", self.apply_offsets, self.progress, columnar_routes=self.columnar_routes
        )
        self._made.append(self.sink)
        self.next = self.apply_offsets.claim([Partition("t", 0)], lambda partition: 0)[Partition("t", 0)]

    def sql(self, statement: str) -> list[Any]:
        cursor = self.connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

    def feed(self, records: list[Record]) -> str:
        """Apply a batch; what the pipeline would be told of it."""
        return self.apply(self.read(records))

    def read(self, records: list[Record]) -> EventBatch:
        partition, turns = Partition("t", 0), Counter({Partition("t", 0): 1})
        for place, record in enumerate(records, self.next):
            record.place = place
        taken = fetched.Prefetch(turns, self._reader)
        taken.add(partition, self.next, records)
        with ThreadPoolExecutor(1) as executor:
            taken.decode_ahead(self._decoder, executor)
            batch = taken.batch(self._decoder, turns)
        assert batch is not None
        return batch

    def apply(self, batch: EventBatch) -> str:
        assert batch.position is not None
        try:
            self.sink.write(batch)
            stored = self.sink.commit(Applied(batch.position)) or Applied(batch.position)
        except PycdcError as error:
            self.begin()
            return str(error)
        self.progress.delivered(batch)
        self.next = stored.position.next[Partition("t", 0)]
        return f"{batch.size} {sorted(batch.counts())} {batch.newest()} {batch.starts} {stored}"

    def state(self) -> Any:
        """Everything that is left behind."""
        progress = self.progress
        return (
            self.sql("SELECT things::text FROM things ORDER BY id"),
            self.sql("SELECT topic, partition, next_offset FROM pycdc.apply_offsets"),
            self.sql('SELECT "offset", key, value, error, detail FROM pycdc.parked ORDER BY 1'),
            self.sql('SELECT "table", kind, decision, key, incoming FROM pycdc.conflicts ORDER BY id'),
            (progress.applied, progress.parked, progress.skipped, progress.conflicts, progress.duplicates),
            (progress.events, progress.tables, progress.operations, progress.retried),
        )

    def close(self) -> None:
        for sink in self._made:
            sink.close()
        self.apply_offsets.close()
        self.connection.close()

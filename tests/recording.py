"""A sink that keeps what the serialiser made, and reads it back as a consumer would."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, field
from typing import Any

import fastavro

from pycdc.config.pipeline import CapturePipeline
from pycdc.interfaces import Checkpoint, OffsetStore
from pycdc.model.change import Batch
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.serializer import Serializer


def plain(schema: Any) -> Any:
    """The schema without logical types, so that fastavro returns what is really in the bytes."""
    if isinstance(schema, dict):
        return {key: plain(value) for key, value in schema.items() if key != "logicalType"}
    return [plain(item) for item in schema] if isinstance(schema, list) else schema


class Schemas:
    """A registry in memory: ids by text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._parsed: dict[int, Any] = {}

    def __call__(self, topic: str, kind: str, schema: Schema) -> int:
        text = avro_text(schema)
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text)

    def decode(self, data: bytes) -> tuple[str, Any]:
        """The schema's text and the value of a record in Confluent's wire format."""
        assert data[0] == 0
        number = int.from_bytes(data[1:5], "big")
        if number not in self._parsed:
            self._parsed[number] = fastavro.parse_schema(plain(json.loads(self.texts[number])))
        stream = io.BytesIO(data[5:])
        value = fastavro.schemaless_reader(stream, self._parsed[number])
        assert stream.read() == b"", "bytes left over behind the record"
        return self.texts[number], value


@dataclass
class Recorded:
    topic: str
    key_schema: str | None
    key: Any
    value_schema: str | None
    value: Any
    headers: list[list[str | None]] = field(default_factory=list)
    partition: int | None = None
    timestamp: int | None = None


def readable(value: Any) -> Any:
    """As the recordings write it: bytes as hex, floats that JSON cannot say by name."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"double": str(value)}
    if isinstance(value, dict):
        return {key: readable(item) for key, item in value.items()}
    return [readable(item) for item in value] if isinstance(value, list) else value


class RecordingSink:
    """Keeps every record, decoded."""

    def __init__(self, config: CapturePipeline, offsets: OffsetStore) -> None:
        self.schemas = Schemas()
        self.records: list[Recorded] = []
        self._offsets = offsets
        self._serializer = Serializer(config, "db", AvroFormat(self.schemas), lambda table, column: None)

    def write(self, batch: Batch) -> None:
        for topic, records in self._serializer.serialize(batch):
            self.records += [self._recorded(topic, record) for record in records]

    def _recorded(self, topic: str, record: dict[str, Any]) -> Recorded:
        key = (None, None) if record["key"] is None else self.schemas.decode(record["key"])
        value = (None, None) if record["value"] is None else self.schemas.decode(record["value"])
        headers = [[name, data and data.decode()] for name, data in record.get("headers", [])]
        place = record.get("partition"), record.get("timestamp")
        return Recorded(topic, key[0], readable(key[1]), value[0], readable(value[1]), headers, *place)

    def commit(self, checkpoint: Checkpoint) -> None:
        self._offsets.store(checkpoint)

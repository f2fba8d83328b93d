"""Runs from the texts of rows, and what the serialiser makes of them, decoded."""

from __future__ import annotations

import json
from typing import Any

from pycdc.config.pipeline import CapturePipeline
from pycdc.model.change import Batch, Op, Run, Table
from pycdc.rows.encoder import EncodedParts
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.serializer import Serializer
from tests.connectors.postgres import frames
from tests.recording import Schemas, readable
from tests.serialization.runs import transaction

FIRST_LSN = 90_000_000


def run_of(
    op: Op, table: Table, *rows: list[ColumnBytes], old: list[list[ColumnBytes]] | None = None, kind: bytes = b"K"
) -> Run:
    """A run of `rows` (for a delete, the old ones); `old` are the old rows of an update, of that kind of tuple."""
    made = []
    for index, row in enumerate(rows):
        if op is Op.READ:
            made.append(b"\t".join(rb"\N" if text is None else text for text in row))  # type: ignore[misc]
            continue
        if op is Op.CREATE:
            payload = frames.insert(table.oid, row)
        elif op is Op.UPDATE:
            payload = frames.update(table.oid, row, old[index] if old else None, kind)
        elif op is Op.DELETE:
            payload = frames.delete(table.oid, row, kind)
        else:
            payload = frames.truncate(table.oid)
        made.append(frames.xlog(payload, FIRST_LSN + 100 * index))
    return Run(op, table, transaction(previous=0), 0, made, "true" if op is Op.READ else None)


def serializer(config: CapturePipeline, form: RecordFormat) -> Serializer:
    return Serializer(config, "db", form, lambda table, column: None)


def avro(config: CapturePipeline, *runs: Run) -> list[tuple[str, EncodedParts]]:
    """Topic and record of each, with key and value decoded; ``value_schema`` is the schema's text."""
    schemas = Schemas()
    out = []
    for topic, records in serializer(config, AvroFormat(schemas)).serialize(Batch(list(runs))):
        for record in records:
            key = None if record["key"] is None else readable(schemas.decode(record["key"])[1])
            schema, value = (None, None) if record["value"] is None else schemas.decode(record["value"])
            out.append((topic, {**record, "key": key, "value": readable(value), "value_schema": schema}))
    return out


def as_json(config: CapturePipeline, *runs: Run, schemas: bool = False) -> list[tuple[str, EncodedParts]]:
    """The same through the JSON form; a null value is None, the text ``null`` is "null"."""
    out = []
    for topic, records in serializer(config, JsonFormat(schemas=schemas)).serialize(Batch(list(runs))):
        for record in records:
            read = {part: _loaded(record[part]) for part in ("key", "value")}
            out.append((topic, {**record, **read}))
    return out


def _loaded(data: bytes | None) -> Any:
    return data if data is None else "null" if data == b"null" else json.loads(data)

"""Debezium's envelope as JSON: Kafka Connect's JsonConverter with ``schemas.enable`` false or true."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pycdc.model.change import Run, Transaction
from pycdc.rows.change_events import RecordPlan
from pycdc.rows.encoder import Append, EncodedParts, Lacking, Slow
from pycdc.rows.schema import Schema, connect_json, json_datum
from pycdc.serialization.record_format import TableEncoder
from pycdc.serialization.source_info import ProcessingTime, SourceOrigin, TransactionMetadata, block_datum, source_datum


@dataclass(frozen=True, slots=True)
class PreparedJson:
    """The schemas, and their JSON where it is sent along."""

    key: Schema | None
    value: Schema
    key_json: Any
    value_json: Any


class JsonFormat:
    def __init__(self, *, schemas: bool) -> None:
        self._schemas = schemas

    def prepare(self, topic: str, key: Schema | None, value: Schema) -> PreparedJson:
        return PreparedJson(key, value, None if key is None else connect_json(key), connect_json(value))

    def source_block(self, transaction: Transaction, origin: SourceOrigin) -> None:
        return None

    def rows(
        self,
        runs: list[tuple[Run, Any]],
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        append: Append,
        slow: Slow,
        lacking: Lacking,
    ) -> bool:
        return False

    def event(
        self,
        event: RecordPlan,
        run: Run,
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
    ) -> EncodedParts:
        encoder, prepared = target.encoder, target.form
        key = None
        if event.key is not None and prepared.key is not None:
            key = _renamed(encoder.key_datums(event.key), [name for name, _ in prepared.key.fields])
        if target.flat is not None:
            return self._flat(event, run, target, origin, moment, block, key)
        fields = [name for name, _ in _row_schema(prepared.value).fields]
        value = {
            "before": None if event.before is None else _renamed(encoder.datums(event.before), fields),
            "after": None if event.after is None else _renamed(encoder.datums(event.after), fields),
            "source": source_datum(run, origin, event.lsn),
            "transaction": block_datum(block),
            "op": event.op.value,
            "ts_ms": moment.ms,
            "ts_us": moment.us,
            "ts_ns": moment.ns,
        }
        return self.datums(prepared, key, value)

    def _flat(
        self,
        event: RecordPlan,
        run: Run,
        target: TableEncoder,
        origin: SourceOrigin,
        moment: ProcessingTime,
        block: TransactionMetadata | None,
        key: Any,
    ) -> EncodedParts:
        prepared, flat = target.form, target.flat
        row = event.before if event.after is None else event.after
        if row is None or flat is None:
            return {"key": self._write_key(prepared, key), "value": None}
        datums = target.encoder.datums(row)
        fields = [name for name, _ in prepared.value.fields[: len(datums)]]
        added = flat.datums(run, event.op, origin, moment, block, event.lsn)
        return self.datums(prepared, key, {**_renamed(datums, fields), **added})

    def datums(self, prepared: PreparedJson, key: Any, value: Any) -> EncodedParts:
        return {
            "key": self._write_key(prepared, key),
            "value": self._write(prepared.value, prepared.value_json, value),
        }

    def _write_key(self, prepared: PreparedJson, key: Any) -> bytes | None:
        return None if prepared.key is None or key is None else self._write(prepared.key, prepared.key_json, key)

    def _write(self, schema: Schema, schema_json: Any, value: Any) -> bytes:
        payload = json_datum(schema, value)
        document = {"schema": schema_json, "payload": payload} if self._schemas else payload
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def _row_schema(envelope: Schema) -> Schema:
    return next(schema for name, schema in envelope.fields if name == "after")


def _renamed(datums: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Field names adjusted for the schema, which has them in the same order."""
    return dict(zip(names, datums.values(), strict=True))

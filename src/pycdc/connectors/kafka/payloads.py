"""What a capture's own records tell beside their rows: when they were committed, and what a message says."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

import fastavro

_HEADER: Final = 5


class Payloads:
    """Reads records with Confluent's prefix by their schema, others as JSON. `schema_text` is asked by registry id."""

    def __init__(self, schema_text: Callable[[int], str] | None) -> None:
        self._schema_text = schema_text
        self._schemas: dict[int, Any] = {}

    def committed_at(self, data: bytes | None) -> float | None:
        """Seconds since the Unix epoch by the source's clock; None where the record has none, or is a snapshot's."""
        value = self._record(data)
        source = value.get("source")
        if not isinstance(source, dict) or source.get("snapshot") not in (None, "false"):
            return None
        micros = source.get("ts_us") or (source.get("ts_ms") or 0) * 1000
        return micros / 1e6 if micros else None

    def message(self, data: bytes | None) -> tuple[str, bytes] | None:
        """Prefix and content of a logical message."""
        message = self._record(data).get("message")
        if not isinstance(message, dict):
            return None
        content = message.get("content") or b""
        return str(message.get("prefix")), b64decode(content) if isinstance(content, str) else content

    def _record(self, data: bytes | None) -> dict[str, Any]:
        """Empty for what is no record: a tombstone, or somebody else's bytes."""
        if not data:
            return {}
        value = self._avro(data) if data[0] == 0 and self._schema_text is not None else _json(data)
        return value if isinstance(value, dict) else {}

    def _avro(self, data: bytes) -> Any:
        assert self._schema_text is not None
        number = int.from_bytes(data[1:_HEADER], "big")
        if number not in self._schemas:
            self._schemas[number] = fastavro.parse_schema(json.loads(self._schema_text(number)))
        return fastavro.schemaless_reader(io.BytesIO(data[_HEADER:]), self._schemas[number], None)


def _json(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value["payload"] if isinstance(value, dict) and value.keys() == {"schema", "payload"} else value

"""What a capture's own records tell beside their rows: when they were committed, and what a message says."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

from pycdc.connectors.kafka.json_decoder import JsonDecoder
from pycdc.errors import PycdcError, UnknownSchema
from pycdc.rows.avro_decoder import ReadValue, compile_reader
from pycdc.rows.avro_schema import parse_avro

_HEADER: Final = 5


class RecordTimes:
    """Reads records with Confluent's prefix by their schema, others as JSON. `schema_text` is asked by registry id.

    What cannot be read tells nothing, whoever wrote it.
    """

    def __init__(self, schema_text: Callable[[int], str] | None) -> None:
        self._schema_text = schema_text
        self._json = JsonDecoder()
        self._readers: dict[int, ReadValue] = {}

    def committed_at(self, data: bytes | None) -> float | None:
        """Seconds since the Unix epoch by the source's clock; None where the record has none, or is a snapshot's."""
        value = self._record(data)
        source = value.get("source")
        if not isinstance(source, dict) or source.get("snapshot") not in (None, "false"):
            return None
        micros, millis = source.get("ts_us"), source.get("ts_ms")
        if type(micros) is not int or not micros:
            micros = millis * 1000 if type(millis) is int else 0
        return micros / 1e6 if 0 < micros < _FARTHEST else None

    def message(self, data: bytes | None) -> tuple[str, bytes] | None:
        """Prefix and content of a logical message."""
        message = self._record(data).get("message")
        if not isinstance(message, dict):
            return None
        content = message.get("content") or b""
        try:
            return str(message.get("prefix")), b64decode(content) if isinstance(content, str) else bytes(content)
        except (ValueError, TypeError):
            return None

    def _record(self, data: bytes | None) -> dict[str, Any]:
        """Empty for what is no record: a tombstone, or somebody else's bytes."""
        if not data:
            return {}
        try:
            value = self._avro(data) if data[0] == 0 and self._schema_text is not None else self._json.read(data).value
        except Exception as error:
            if isinstance(error, PycdcError) and not isinstance(error, UnknownSchema):
                raise
            return {}
        return value if isinstance(value, dict) else {}

    def _avro(self, data: bytes) -> Any:
        assert self._schema_text is not None
        number = int.from_bytes(data[1:_HEADER], "big")
        if number not in self._readers:
            self._readers[number] = compile_reader(parse_avro(self._schema_text(number)))
        return self._readers[number](data, _HEADER)[0]


_FARTHEST: Final = 2**62
"""Microseconds."""

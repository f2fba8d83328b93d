"""Header values as Connect's SimpleHeaderConverter prints them.

A decimal is a number, other bytes are base64, and of a string within something only quotes and backslashes are escaped.
"""

from __future__ import annotations

import json
from base64 import b64encode
from decimal import Decimal
from typing import Any

from pycdc.rows.schema import DECIMAL, Datum, Schema

Header = tuple[str, bytes | None]


def header_text(schema: Schema, value: Datum) -> bytes | None:
    """Return a field's value as a header; text and bytes stand there without quotes."""
    if value is None:
        return None
    if isinstance(value, bytes) and schema.name != DECIMAL:
        return b64encode(value)
    return (value if isinstance(value, str) else _printed(schema, value)).encode("utf-8", "surrogateescape")


def key_text(schema: Schema, key: dict[str, Any]) -> bytes:
    """Return a key as the converter prints a struct: ``{"id":9}`` (golden/headers.jsonl)."""
    fields = zip(schema.fields, key.values(), strict=True)
    return (
        "{" + ",".join([f"{_quoted(name)}:{_printed(field, value)}" for (name, field), value in fields]) + "}"
    ).encode()


def _printed(schema: Schema, value: Any) -> str:
    if value is None:
        return "null"
    if schema.type == "struct":
        return key_text(schema, {name: value[name] for name, _ in schema.fields}).decode()
    if schema.type == "array" and schema.items is not None:
        return "[" + ",".join([_printed(schema.items, item) for item in value]) + "]"
    if schema.type == "map" and schema.items is not None:
        return "{" + ",".join([f"{_quoted(key)}:{_printed(schema.items, item)}" for key, item in value.items()]) + "}"
    if schema.name == DECIMAL:
        unscaled = int.from_bytes(value, "big", signed=True)
        return str(Decimal(f"{unscaled}E{-int(dict(schema.parameters)['scale'])}"))
    if isinstance(value, bytes):
        return f'"{b64encode(value).decode()}"'
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

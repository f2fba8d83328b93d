"""Read the other key of a changed one.

Debezium puts the new key on the delete that a change begins with, and the old one on the create that it ends with, in
headers, as Connect's SimpleHeaderConverter or JsonConverter prints them.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from pycdc.model.absence_headers import NEW_KEY, OLD_KEY
from pycdc.model.change import Row
from pycdc.rows.avro_logical_types import logical

_JSON: Final = json.JSONDecoder(strict=False, parse_float=Decimal)
"""Of a text, only quotes and backslashes are escaped there."""
_HEADERS: Final = (NEW_KEY, OLD_KEY)


def has_other_key(headers: tuple[tuple[str, bytes | None], ...]) -> bool:
    return any(name in _HEADERS for name, _ in headers)


def value_of_other(headers: tuple[tuple[str, bytes | None], ...]) -> bytes | None:
    return next((value for name, value in headers if name in _HEADERS), None)


def other_key(headers: tuple[tuple[str, bytes | None], ...], schema: Any) -> Row | None:
    """Return the other key as a decoded key is; None where there is none, or it cannot be read.

    `schema` is that of the record's own key, None for JSON without one.
    """
    try:
        key = _header_value(headers)
        if not isinstance(key, dict) or schema is None:
            return key if isinstance(key, dict) else None
        kinds, named = {}, dict[str, Any]()
        for field in schema["fields"]:
            kinds[field["name"]] = _kind(field["type"], named)
        return {name: _value(kinds[name], value) for name, value in key.items()}
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        return None


def with_schema_of(key: bytes, headers: tuple[tuple[str, bytes | None], ...]) -> bytes | None:
    """Return the other key as JSON beside the schema that stands beside the record's own; None where none does."""
    try:
        own = json.loads(key)
        if not isinstance(own, dict) or own.keys() != {"schema", "payload"}:
            return None
        return json.dumps({"schema": own["schema"], "payload": _header_value(headers)}, default=float).encode()
    except (ValueError, TypeError, RecursionError):
        return None


def _header_value(headers: tuple[tuple[str, bytes | None], ...]) -> Any:
    found = value_of_other(headers)
    key = None if found is None else _JSON.decode(found.decode())
    return key["payload"] if isinstance(key, dict) and key.keys() == {"schema", "payload"} else key


def _kind(kind: Any, named: dict[str, Any]) -> Any:
    """Return the type without null; Avro writes out a record once, and then calls it by its name."""
    if isinstance(kind, list):
        kind = next(branch for branch in kind if branch != "null")
    if isinstance(kind, dict) and "name" in kind:
        names = [kind["name"], *([f"{kind['namespace']}.{kind['name']}"] if "namespace" in kind else [])]
        named.update(dict.fromkeys(names, kind))
    return named.get(kind, kind) if isinstance(kind, str) else kind


def _value(kind: Any, value: Any) -> Any:
    if isinstance(kind, list):
        kind = next(branch for branch in kind if branch != "null")
    if value is None or not isinstance(kind, dict):
        return b64decode(value, validate=True) if kind == "bytes" and value is not None else value
    if kind.get("logicalType") == "decimal":
        return value if isinstance(value, int | Decimal) else Decimal(value)
    if kind["type"] == "bytes":
        value = b64decode(value, validate=True)
    if kind["type"] == "record" and isinstance(value, Mapping):
        value = {field["name"]: _value(field["type"], value[field["name"]]) for field in kind["fields"]}
    convert = logical(kind)
    return value if convert is None else convert(value)

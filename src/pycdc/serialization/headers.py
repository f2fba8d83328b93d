"""Header values as Connect's SimpleHeaderConverter prints them."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

from pycdc.errors import PycdcError
from pycdc.rows.schema import DECIMAL, Datum, Schema, json_datum

Header = tuple[str, bytes | None]


def key_text(key: dict[str, Any]) -> bytes:
    """A key as the converter prints a struct: ``{"id":9}`` (golden/headers.jsonl)."""
    return json.dumps(key, separators=(",", ":"), ensure_ascii=False, default=_hex).encode()


def _hex(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise PycdcError(f"a key holds a {type(value).__name__}, which no header can show")


def header_text(schema: Schema, value: Datum) -> bytes | None:
    """A column's value: text as it is, numbers in digits, bytes in base64, the rest as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value
    elif schema.name == DECIMAL:
        text = str(_decimal(value, int(dict(schema.parameters)["scale"])))
    elif isinstance(value, bytes):
        text = base64.b64encode(value).decode("ascii")
    else:
        text = json.dumps(json_datum(schema, value), separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")


def _decimal(unscaled: bytes, scale: int) -> Decimal:
    # From its parts, because arithmetic would round to the context's precision.
    number = int.from_bytes(unscaled, "big", signed=True)
    return Decimal((number < 0, tuple(map(int, str(abs(number)))), -scale))

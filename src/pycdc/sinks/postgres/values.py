"""Values of events as the text that Postgres' input functions read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from pycdc.sinks.postgres.tables import TargetColumn

_JSON: Final = ("json", "jsonb")


class Unwritable(ValueError):
    """A value that the column's type cannot hold. The message names kinds, never the value."""


def text_of(value: Any, column: TargetColumn) -> str | None:
    """None is NULL. Raises Unwritable."""
    if value is None:
        return None
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise Unwritable(f"column {column.name}: Postgres stores no NUL character in text")
        return str(value)
    if kind is dict or kind is list:
        return _composed(value, column)
    return _scalar(value, column.base in _JSON, column)


def _composed(value: Any, column: TargetColumn) -> str:
    if column.base in _JSON:
        return _json(value)
    if isinstance(value, list) and column.category == "A":
        return array_of([_element(item, column) for item in value])
    raise Unwritable(f"column {column.name} of type {column.base} takes no {type(value).__name__}")


def _element(value: Any, column: TargetColumn) -> Any:
    """An array's element: nested lists stay lists."""
    if isinstance(value, list):
        return [_element(item, column) for item in value]
    if value is None or isinstance(value, str):
        return value
    if column.element in _JSON:
        return _json(value)
    return _scalar(value, False, column)


def _scalar(value: Any, is_json: bool, column: TargetColumn) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else f"{value:+f}inity"
    if isinstance(value, bytes | bytearray):
        return "\\x" + value.hex()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    if is_json:
        return _json(value)
    raise Unwritable(f"column {column.name} of type {column.base} takes no {type(value).__name__}")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False)
    except (TypeError, ValueError):
        raise Unwritable("a value cannot be written as JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError


def array_of(items: Sequence[Any]) -> str:
    """An array literal of texts, Nones and lists of them.

    The usual column, in which nothing has to be escaped, is joined at once and looked over afterwards: psycopg's own
    takes twenty times as long.
    """
    if None not in items:
        try:
            body = '","'.join(items)
        except TypeError:
            return _nested(items)
        if "\\" not in body and body.count('"') == 2 * (len(items) - 1):
            return '{"' + body + '"}'
    return _nested(items)


def _nested(items: Sequence[Any]) -> str:
    out = []
    for item in items:
        if item is None:
            out.append("NULL")
        elif isinstance(item, list):
            out.append(_nested(item))
        elif "\\" in item or '"' in item:
            out.append('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"')
        else:
            out.append('"' + item + '"')
    return "{" + ",".join(out) + "}"

"""Values of Python as the text that Postgres' input functions read.

What a text of a record means is not told here: see `readings`.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any, Final
from uuid import UUID

from pycdc.model.event import Bits, Microseconds, Unwritable
from pycdc.rows.date_texts import RANGES, TIMES, require_no_zone, utc_text
from pycdc.rows.special_values import SPECIAL
from pycdc.rows.target_column import TargetColumn

__all__ = ["JSON", "Unwritable", "array_of", "exact_sum", "json_text", "text_of", "whole_or_not"]

JSON: Final = ("json", "jsonb")
_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_BEFORE_POINT: Final = 131_072
_BEHIND_POINT: Final = 16_383
"""Digits that a numeric may have."""
_SHORT: Final = 10_000
"""Bits of an integer that Python prints."""
_LISTS: Final = frozenset((*JSON, "vector", "halfvec"))
"""Types of elements that are lists themselves."""
_MONEY: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


def text_of(value: Any, column: TargetColumn) -> str | None:
    """Return a value's text, None for NULL. Raises Unwritable, and nothing else."""
    if value is None:
        return None
    try:
        text = _text(value, column.base, column)
        if "\0" in text:
            raise Unwritable("Postgres stores no NUL character in text")
    except Unwritable as error:
        raise Unwritable(f"column {column.name} of type {column.base}: {error}") from None
    except Exception as error:
        kind, why = type(value).__name__, type(error).__name__
        raise Unwritable(f"column {column.name} of type {column.base} takes no such {kind} ({why})") from None
    return text


def _text(value: Any, base: str, column: TargetColumn) -> str:
    """May raise anything."""
    if base in JSON:
        return str(value) if isinstance(value, str) else json_text(value)
    special = SPECIAL.get(base)
    if special is not None:
        value = special(value)
    if isinstance(value, str):
        return _of_str(value, base)
    if isinstance(value, list) and column.category == "A":
        return (_boxes if column.element == "box" else array_of)(_elements(value, column))
    return _scalar(value, base)


def _elements(items: list[Any], column: TargetColumn) -> list[Any]:
    """Those of the usual types are their own texts, and in all of a column's values."""
    kinds = set(map(type, items))
    if column.element not in _OWN and kinds <= _USUAL:
        return items if int not in kinds else [None if item is None else str(item) for item in items]
    return [_element(item, column) for item in items]


def _element(value: Any, column: TargetColumn) -> Any:
    """Convert an array's element: nested lists stay lists."""
    if isinstance(value, list) and column.element not in _LISTS:
        return [_element(item, column) for item in value]
    return None if value is None else _text(value, column.element, column)


_TEXTS: Final = frozenset(("text", "varchar", "bpchar", "citext"))
"""Types in which a number has the digits that it would have as a numeric, and no exponent."""
_USUAL: Final = frozenset((int, str, type(None)))
_OWN: Final = frozenset((*JSON, *SPECIAL, *TIMES, *RANGES, "money", "bit", "varbit", "interval"))
"""Types whose texts or numbers have ways of their own."""


def _of_str(value: str, base: str) -> str:
    if base in TIMES:
        return utc_text(value, base)
    if base in RANGES:
        require_no_zone(value)
    if base == "money" and _MONEY.fullmatch(value) is None:
        raise Unwritable("no plain number, and what else it may be depends on the server's locale")
    if base == "varbit" and isinstance(value, Bits):
        raise Unwritable("the record does not tell how many bits the value has: make the column bit(n)")
    if base == "interval" and isinstance(value, Microseconds):
        raise Unwritable(
            "the record does not tell months from hours: have the capture write `values.interval: string`, or say "
            "`source.kafka.values: {interval: numeric}` to take hours for months"
        )
    return str(value)


def _scalar(value: Any, base: str) -> str:
    if isinstance(value, bool):
        bits = base in ("bit", "varbit")
        return ("1" if bits else "true") if value else "0" if bits else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() < _SHORT else str(_bounded(Decimal(value)))
    if isinstance(value, Decimal):
        return format(_bounded(value), "f") if base in _TEXTS else str(_bounded(value))
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "NaN" if math.isnan(value) else f"{value:+f}inity"
    if isinstance(value, bytes | bytearray):
        return "\\x" + value.hex()
    if isinstance(value, datetime | date | time):
        return utc_text(value.isoformat(), base) if base in TIMES else value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    raise Unwritable(f"it takes no {type(value).__name__}")


def _bounded(number: Decimal) -> Decimal:
    """Refuse a number that a few bytes give more digits than anything can handle."""
    if number.is_finite() and not (
        number.adjusted() < _BEFORE_POINT and int(number.as_tuple().exponent) >= -_BEHIND_POINT
    ):
        raise Unwritable("a number with more digits than a numeric has")
    return number


def whole_or_not(number: int | Decimal) -> int | Decimal:
    """Return a number to add, as an integer where it is a usual one. Raises Unwritable for any other value."""
    if isinstance(number, int):
        return number
    if not number.is_finite():
        raise Unwritable("no number")
    whole = _bounded(number).to_integral_value()
    return int(whole) if number == whole and number.adjusted() < 1_000 else number


def exact_sum(first: int | Decimal, second: int | Decimal) -> int | Decimal:
    """Add with all digits: the default context rounds to 28. Raises Unwritable."""
    if isinstance(first, int) and isinstance(second, int):
        return first + second
    return _EXACT.add(_bounded(Decimal(first)), _bounded(Decimal(second)))


_TOKEN: Final = f"pycdc-{secrets.token_hex(16)}:"
_NUMBERS: Final = re.compile(f'"{_TOKEN}([^"]*)"')
"""Python's writer of JSON has no way to write a number as it is: it goes as a text that nobody can foresee."""


def json_text(value: Any) -> str:
    """Return a document's text, with every digit of its numbers. May raise anything."""
    text = json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(r"\1", text) if _TOKEN in text else text


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise Unwritable("JSON has neither NaN nor infinity")
        return f"{_TOKEN}{_bounded(value)}"
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    raise TypeError


def array_of(items: Sequence[Any]) -> str:
    """Write an array literal of texts, Nones and lists of them.

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


def _boxes(items: Sequence[Any]) -> str:
    """Write an array literal of box, the one type whose arrays have semicolons between their elements."""
    parts = [_boxes(one) if isinstance(one, list) else "NULL" if one is None else one for one in items]
    return "{" + ";".join(parts) + "}"


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

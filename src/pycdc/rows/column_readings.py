"""What a value of a record means for its column: told by the schema beside it, by options, or by the column's type.

Never by what a text looks like: where a value can be read in more than one way, it is refused with the column's name
and the remedy. What cannot be read in any other way needs no telling: ``12.5`` is no base64.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from pycdc.model.event import Forms, JsonText, Microseconds, Unwritable
from pycdc.rows import temporal_texts
from pycdc.rows.connect_types import bits_text, date_text, exact, interval_text, nanos_text, time_text, timestamp_text
from pycdc.rows.date_texts import RANGES, TIMES, require_fixed
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import JSON, text_of

ReadColumn = Callable[[Any, TargetColumn], Any]
_REMEDY: Final = "set `source.kafka.values` as the capture's `values` are, or have it write Avro or json_schema"
_URL_SAFE: Final = str.maketrans("-_+/", "+/!!")
_CHECKED: Final = TIMES | RANGES | {"money"}
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


class ColumnReading:
    """Reads values of all records of the same forms; None: values that Python code made, whose texts are Postgres'."""

    def __init__(self, forms: Forms | None) -> None:
        self._forms = forms
        self._meanings: Mapping[str, ReadColumn] = {} if forms is None else _meanings(forms)

    def text(self, value: Any, column: TargetColumn) -> str | None:
        """Return the text of a value for `column`, None for NULL. Raises Unwritable, and nothing else."""
        meaning = self._meanings.get(column.element if column.category == "A" else column.base)
        if meaning is not None and value is not None:
            try:
                value = _each(value, column, meaning) if column.category == "A" else meaning(value, column)
            except Unwritable as error:
                raise Unwritable(f"column {column.name} of type {column.base}: {error}") from None
            except Exception as error:
                kind, why = type(value).__name__, type(error).__name__
                raise Unwritable(f"column {column.name} of type {column.base} takes no such {kind} ({why})") from None
        return text_of(value, column)

    def has_meaning(self, column: TargetColumn) -> bool:
        """Return whether `text` differs from `text_of`."""
        return (column.element if column.category == "A" else column.base) in self._meanings

    def is_plain(self, column: TargetColumn) -> bool:
        """Return whether a text is the column's text."""
        return not self.has_meaning(column) and column.base not in _CHECKED


@lru_cache(maxsize=256)
def reading(forms: Forms | None) -> ColumnReading:
    return ColumnReading(forms)


def _each(value: Any, column: TargetColumn, meaning: ReadColumn) -> Any:
    """Read the elements of an array; one that came as a text is an array's literal."""
    if not isinstance(value, list):
        return value
    nested = column.element not in JSON
    return [
        None
        if item is None
        else _each(item, column, meaning)
        if nested and isinstance(item, list)
        else meaning(item, column)
        for item in value
    ]


def _meanings(forms: Forms) -> Mapping[str, ReadColumn]:
    """By the type of the column, or of its elements."""
    typed: dict[str, ReadColumn] = {
        **dict.fromkeys(JSON, _json_of_schema),
        **dict.fromkeys(TIMES, _refused_number),
        "bytea": lambda value, column: _bytea(value, forms),
        "interval": lambda value, column: _hours(value, column, forms),
    }
    if forms.typed:
        return typed
    return {
        **dict.fromkeys(JSON, lambda value, column: _json(value, forms)),
        **dict.fromkeys(("numeric", "money"), lambda value, column: _decimal(value, column, forms)),
        **dict.fromkeys(("bit", "varbit"), lambda value, column: _bits(value, column, forms)),
        "hstore": _hstore,
        "bytea": typed["bytea"],
        "date": lambda value, column: _date(value, column, forms),
        "time": lambda value, column: _time(value, column, forms),
        "timestamp": lambda value, column: _timestamp(value, column, forms),
        "timestamptz": _zoned,
        "timetz": _zoned,
        "interval": lambda value, column: _interval(value, forms),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _refused_number(value: Any, column: TargetColumn) -> Any:
    if _is_number(value):
        raise Unwritable("a number, of which nothing tells what it counts and since when: send ISO 8601")
    if isinstance(value, str):
        require_fixed(value)
    return value


def _without_option(option: str) -> Unwritable:
    return Unwritable(f"the record does not tell its form (`values.{option}`): {_REMEDY}")


# Documents.


def _json_of_schema(value: Any, column: TargetColumn) -> Any:
    """Take a string that is no document by its schema for a string of JSON."""
    return json.dumps(value, ensure_ascii=False) if type(value) is str else value


def _json(value: Any, forms: Forms) -> Any:
    if type(value) is not str:
        return value
    if forms.captured:
        return JsonText(value)
    if value.lstrip()[:1] in ("{", "[") and _is_document(value):
        raise Unwritable(
            "a string that holds a JSON object or array, which an application means as a string and a capture as the "
            f"document: {_REMEDY}, or send the document itself"
        )
    return json.dumps(value, ensure_ascii=False)


def _is_document(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _hstore(value: Any, column: TargetColumn) -> Any:
    """Take a JSON object for a document: an hstore's own text has another form."""
    return JsonText(value) if type(value) is str and value[:1] == "{" and _is_document(value) else value


# Bytes and bits.


def _bytea(value: Any, forms: Forms) -> Any:
    if type(value) is not str:
        return value
    if value[:2] == "\\x":  # in no notation's alphabet
        return bytes.fromhex(value[2:])
    if forms.binary is None or (forms.typed and forms.binary == "bytes"):
        raise _without_option("binary")
    if forms.binary == "hex":
        return bytes.fromhex(value)
    if forms.binary == "base64-url-safe":
        return b64decode(value.translate(_URL_SAFE), validate=True)
    return b64decode(value, validate=True)


def _bits(value: Any, column: TargetColumn, forms: Forms) -> Any:
    if type(value) is not str:
        return value
    if not forms.captured:
        if _BASE64.fullmatch(value):
            raise _without_option("binary")
        return value
    return bits_text(b64decode(value, validate=True), column.typmod)


# Numbers.


def _decimal(value: Any, column: TargetColumn, forms: Forms) -> Any:
    if isinstance(value, dict):
        return exact(b64decode(value["value"], validate=True), value["scale"])
    if type(value) is not str or forms.decimal in ("string", "double"):
        return value
    if forms.decimal is None:
        if _BASE64.fullmatch(value):
            raise _without_option("decimal")
        return value
    scale = _money_scale(forms) if column.base == "money" else _scale(column)
    return exact(b64decode(value, validate=True), scale)


def _money_scale(forms: Forms) -> int:
    """Return the digits of money: a capture takes them from its server, JSON without a schema does not have them."""
    if forms.money_digits is None:
        raise Unwritable(
            "bytes of an amount of money whose digits after the point nothing tells: set "
            "`source.kafka.values.money_fraction_digits` to those of the source's lc_monetary (2 in most)"
        )
    return forms.money_digits


def _scale(column: TargetColumn) -> int:
    """Return the scale of numeric's modifier: see `rows.codecs.numeric.precision_and_scale`."""
    if column.typmod < 4:
        raise Unwritable("bytes of a decimal whose scale neither the record nor the column tells")
    return ((column.typmod - 4 & 0x7FF) ^ 0x400) - 0x400


# Times.


_UNITS: Final = {"connect": 1000, "microseconds": 1, "adaptive_microseconds": 1}
"""Microseconds of what is counted, where that does not depend on the column's precision."""


def _zoned(value: Any, column: TargetColumn) -> Any:
    return _structured(value, column) if isinstance(value, dict) else _refused_number(value, column)


def _structured(value: dict[str, Any], column: TargetColumn) -> str:
    """Return the text of a structure, which shows its type by its fields."""
    return temporal_texts.BY_COLUMN[column.base](value)


def _date(value: Any, column: TargetColumn, forms: Forms) -> Any:
    if isinstance(value, dict):
        return _structured(value, column)
    if type(value) is not int:
        return _refused_number(value, column)
    if forms.time in (None, "isostring", "structured"):
        raise _without_option("time")
    return date_text(value)


def _time(value: Any, column: TargetColumn, forms: Forms) -> Any:
    if isinstance(value, dict):
        return _structured(value, column)
    if type(value) is not int:
        return _refused_number(value, column)
    return time_text(_micros(value, column, forms.time, forms.time == "adaptive"))


def _timestamp(value: Any, column: TargetColumn, forms: Forms) -> Any:
    if isinstance(value, dict):
        return _structured(value, column)
    if type(value) is not int:
        return _refused_number(value, column)
    if forms.time == "nanoseconds":
        return nanos_text(value)
    return timestamp_text(_micros(value, column, forms.time, forms.time in ("adaptive", "adaptive_microseconds")))


def _micros(value: int, column: TargetColumn, mode: str | None, adaptive: bool) -> int:
    if mode is None or mode in ("isostring", "structured"):
        raise _without_option("time")
    if mode == "nanoseconds":
        return value // 1000
    if adaptive:
        return value * 1000 if 0 <= column.typmod <= 3 else value
    return value * _UNITS[mode]


def _interval(value: Any, forms: Forms) -> Any:
    if isinstance(value, dict):
        return temporal_texts.duration(value)
    if type(value) is not int:
        return value
    if forms.interval != "numeric":
        raise _without_option("interval")
    return str(interval_text(value))


def _hours(value: Any, column: TargetColumn, forms: Forms) -> Any:
    if isinstance(value, Microseconds) and forms.interval == "numeric":
        return str(value)
    return _refused_number(value, column)

"""Write columns as array literals, a whole column at a time; each value's text is that of `text_of`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pycdc.engine_interfaces import NotColumnar
from pycdc.model.event import FieldPath, Forms, JsonText
from pycdc.rows.column_presence import ColumnPresence
from pycdc.rows.column_readings import reading
from pycdc.rows.date_texts import TIMES
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import JSON, Unwritable, array_of, text_of

Array = Callable[[Sequence[Any]], str]
"""Raises Unfit for what has to be looked at by itself."""

_TEXTS: Final = frozenset((str, type(None)))
_TYPED: Final = reading(Forms(True))
"""Columns are of Avro. Where options matter, `reading` refuses without them, and the batch goes event by event."""


def array_for(field: FieldPath, column: TargetColumn, presence: ColumnPresence) -> Array:
    """From values of `field` to an array for `column`."""
    if field.kind == "number":
        if not _TYPED.is_plain(column) and column.category != "N" and column.base not in JSON:
            raise NotColumnar
        return _numbers
    if field.kind == "text":
        if column.base == "timestamptz":
            return lambda values: _moments(values, presence.octets)
        if _TYPED.is_plain(column):
            return lambda values: _texts(values, presence.octets)
        return lambda values: _decoded(values, str, column, presence.octets)
    if field.kind == "document":
        if column.base in JSON or column.category == "S":
            return lambda values: _texts(values, presence.octets)
        return lambda values: _decoded(values, JsonText, column, presence.octets)
    if field.kind == "decimal" and column.base == "numeric":
        return lambda values: _decimals(values, field.scale)
    if field.kind == "decimal":
        raise NotColumnar
    return lambda values: _anything(values, column, presence)


def constant(text: str | None, count: int) -> str:
    return array_of([text] * count)


def _numbers(values: Sequence[int | None]) -> str:
    """Return an array literal of numbers: the list's own text is nearly that."""
    return "{" + repr(list(values))[1:-1].replace("None", "NULL") + "}"


def _decimals(values: Sequence[int | None], scale: int) -> str:
    """``1234e-2`` is 12.34, with two digits behind the point."""
    if None in values:
        return "{" + ",".join(["NULL" if value is None else f"{value}e-{scale}" for value in values]) + "}"
    return "{" + repr(list(values))[1:-1].replace(",", f"e-{scale},") + f"e-{scale}" + "}"


def _texts(values: Sequence[bytes | None], unavailable: bytes) -> str:
    """Nulls are joined as what no text may hold, so that a column is looked over at once."""
    nulls = values.count(None)
    body = b'"' + b'","'.join([b"\0" if value is None else value for value in values] if nulls else values) + b'"'  # type: ignore[arg-type]
    if body.count(b"\0") != nulls or unavailable in body:
        raise NotColumnar
    try:
        if b"\\" not in body and body.count(b'"') == 2 * len(values):
            return "{" + body.replace(b'"\0"', b"NULL").decode() + "}"
        return array_of([None if value is None else value.decode() for value in values])
    except UnicodeDecodeError:
        raise NotColumnar from None


def _moments(values: Sequence[bytes | None], unavailable: bytes) -> str:
    """Return an array literal of times: they are texts as they are, but for words, which have one of these letters."""
    text = _texts(values, unavailable)
    if any(letter in text for letter in "dDwW"):
        raise NotColumnar
    return text


def _anything(values: Sequence[Any], column: TargetColumn, presence: ColumnPresence) -> str:
    if presence.any_not_sent(values):
        raise NotColumnar
    if set(map(type, values)) <= _TEXTS:
        text = array_of(values)
        if "\0" in text:
            raise NotColumnar
        if _TYPED.is_plain(column) or (column.base in TIMES and _is_local(text, len(values) - values.count(None))):
            return text
    return _each(values, column)


def _is_local(text: str, count: int) -> bool:
    """Return whether dates and times in an array say no zone: `count` is how many are not null."""
    return "+" not in text and "Z" not in text and text.count("-") <= 2 * count


def _each(values: Sequence[Any], column: TargetColumn) -> str:
    text = _TYPED.text if _TYPED.has_meaning(column) else text_of
    try:
        if column.base == "bytea":
            return array_of(["\\x" + value.hex() if type(value) is bytes else text(value, column) for value in values])
        return array_of([text(value, column) for value in values])
    except Unwritable:
        raise NotColumnar from None


def _decoded(values: Sequence[bytes | None], kind: type[str], column: TargetColumn, unavailable: bytes) -> str:
    if unavailable in values:
        raise NotColumnar
    try:
        return _each([None if value is None else kind(value.decode()) for value in values], column)
    except UnicodeDecodeError:
        raise NotColumnar from None

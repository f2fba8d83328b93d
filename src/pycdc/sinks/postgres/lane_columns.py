"""A lane's columns as array literals, a whole column at a time; what they say is what `text_of` says of each value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pycdc.events import Field
from pycdc.interfaces import Unfit
from pycdc.sinks.postgres.tables import TargetColumn
from pycdc.sinks.postgres.values import Unwritable, array_of, text_of

Array = Callable[[Sequence[Any]], str]
"""Raises Unfit for what has to be looked at by itself."""

_TEXTS: Final = frozenset((str, type(None)))


def array_for(field: Field, column: TargetColumn, unavailable: Sequence[Any]) -> Array:
    """From values of `field` to an array for `column`. `unavailable` are the forms of a value that was not sent."""
    if field.kind == "number":
        return _numbers
    if field.kind == "text":
        return lambda values: _texts(values, unavailable[1])
    if field.kind == "decimal" and column.base == "numeric":
        return lambda values: _decimals(values, field.scale)
    if field.kind == "decimal":
        raise Unfit
    return lambda values: _anything(values, column, unavailable)


def constant(text: str | None, count: int) -> str:
    return array_of([text] * count)


def _numbers(values: Sequence[int | None]) -> str:
    """The list's own text is nearly the array's."""
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
        raise Unfit
    try:
        if b"\\" not in body and body.count(b'"') == 2 * len(values):
            return "{" + body.replace(b'"\0"', b"NULL").decode() + "}"
        return array_of([None if value is None else value.decode() for value in values])
    except UnicodeDecodeError:
        raise Unfit from None


def _anything(values: Sequence[Any], column: TargetColumn, unavailable: Sequence[Any]) -> str:
    if any(mark in values for mark in unavailable):
        raise Unfit
    if set(map(type, values)) <= _TEXTS:
        text = array_of(values)
        if "\0" in text:
            raise Unfit
        return text
    try:
        return array_of([text_of(value, column) for value in values])
    except Unwritable:
        raise Unfit from None

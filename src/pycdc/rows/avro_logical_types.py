"""Avro's own logical types, as Python's types where these reach and as Postgres' text beyond them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from pycdc.rows.connect_types import Convert, conversion, date_text, exact, time_text, timestamp_text

_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = date(1, 1, 1).toordinal()
_LAST_DAY: Final = date.max.toordinal()
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_FIRST: Final = (_EPOCH.min - _EPOCH) // timedelta(microseconds=1)
_LAST: Final = (_EPOCH.max - _EPOCH) // timedelta(microseconds=1)


def logical(schema: Mapping[str, Any]) -> Convert | None:
    """Return how values of a logical type, or of one that Connect or Debezium named, are converted; None: not at all.

    Raises ValueError for a schema whose numbers are none.
    """
    name, kind = schema.get("logicalType"), schema["type"]
    if name == "decimal" and kind not in _NO_DIGITS:
        return _decimal(schema.get("scale", 0))
    if name is not None:
        return _BY_NAME.get(f"{kind}-{name}")
    return conversion(schema.get("connect.name"), schema.get("connect.parameters") or {})


_NO_DIGITS: Final = ("string", "int", "long", "float", "double", "boolean", "null")
"""Types that are no decimal whatever they say: Avro ignores a logical type that does not fit."""


def _decimal(scale: Any) -> Convert:
    if type(scale) is not int:
        raise ValueError("the scale of a decimal is no integer")
    return lambda value: exact(value, scale)


def _date(days: int) -> Any:
    ordinal = days + _EPOCH_DAY
    return date.fromordinal(ordinal) if _FIRST_DAY <= ordinal <= _LAST_DAY else date_text(days)


def _time(micros: int) -> Any:
    """24:00:00 is a time to Postgres and none to Python."""
    if not 0 <= micros < 86_400_000_000:
        return time_text(micros)
    seconds, fraction = divmod(micros, 1_000_000)
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60, fraction)


def _timestamp(micros: int) -> Any:
    if _FIRST <= micros <= _LAST:
        return _EPOCH_UTC + timedelta(microseconds=micros)
    text = timestamp_text(micros)
    return text if text.endswith("infinity") else text.removesuffix(" BC") + "+00" + (" BC" if micros < 0 else "")


def _local(micros: int) -> Any:
    return _EPOCH + timedelta(microseconds=micros) if _FIRST <= micros <= _LAST else timestamp_text(micros)


def _duration(value: bytes) -> str:
    months, days, millis = (int.from_bytes(value[at : at + 4], "little") for at in (0, 4, 8))
    return f"{months} mons {days} days {millis // 1000}.{millis % 1000:03d} secs"


def _units(convert: Callable[[int], Any], name: str) -> dict[str, Convert]:
    return {
        f"long-{name}-millis": lambda value: convert(value * 1000),
        f"long-{name}-micros": convert,
        f"long-{name}-nanos": lambda value: convert(value // 1000),
    }


_BY_NAME: Final[dict[str, Convert]] = {
    "int-date": _date,
    "int-time-millis": lambda value: _time(value * 1000),
    "long-time-micros": _time,
    **_units(_timestamp, "timestamp"),
    **_units(_local, "local-timestamp"),
    "string-uuid": UUID,
    "fixed-uuid": lambda value: UUID(bytes=value),
    "fixed-duration": _duration,
}

"""Debezium's dates, times and intervals by their parts (`rows.codecs.structured`) to texts that Postgres reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pycdc.model.event import Unwritable

_SPECIAL: Final = {"POSITIVE_INFINITY": "infinity", "NEGATIVE_INFINITY": "-infinity"}
_DURATION: Final = {"years": "years", "months": "mons", "days": "days", "hours": "hours", "minutes": "mins"}
TemporalParts = Mapping[str, Any]


def _special(convert: Callable[[TemporalParts], str]) -> Callable[[TemporalParts], str]:
    def text(parts: TemporalParts) -> str:
        special = parts.get("specialValue")
        if special is None:
            return convert(parts)
        if special not in _SPECIAL:
            raise Unwritable("a special value that is no infinity")
        return _SPECIAL[special]

    return text


def _numbers(parts: TemporalParts, *names: str) -> list[int]:
    found = [parts.get(name) for name in names]
    if any(type(number) is not int for number in found):
        raise Unwritable(f"a structure without one of {', '.join(names)}")
    return found  # type: ignore[return-value]


def _date(parts: TemporalParts) -> tuple[str, str]:
    """And the era."""
    year, month, day = _numbers(parts, "year", "month", "day")
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}", "" if year > 0 else " BC"


def _time(parts: TemporalParts) -> str:
    hour, minute, second, nanos = _numbers(parts, "hour", "minute", "second", "nanos")
    return f"{hour:02d}:{minute:02d}:{second:02d}.{nanos:09d}"


def _offset(parts: TemporalParts) -> str:
    (east,) = _numbers(parts, "offsetSeconds")
    minutes, seconds = divmod(abs(east), 60)
    return f"{'-' if east < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"


@_special
def date(parts: TemporalParts) -> str:
    return "".join(_date(parts))


def time(parts: TemporalParts) -> str:
    return _time(parts)


def zoned_time(parts: TemporalParts) -> str:
    return _time(parts) + _offset(parts)


@_special
def timestamp(parts: TemporalParts) -> str:
    day, era = _date(parts)
    return f"{day} {_time(parts)}{era}"


@_special
def zoned_timestamp(parts: TemporalParts) -> str:
    day, era = _date(parts)
    return f"{day} {_time(parts)}{_offset(parts)}{era}"


def duration(parts: TemporalParts) -> str:
    numbers = _numbers(parts, *_DURATION, "seconds", "nanos")
    seconds = numbers[-2] * 1_000_000_000 + numbers[-1]
    whole, fraction = divmod(abs(seconds), 1_000_000_000)
    said = [f"{number} {unit}" for number, unit in zip(numbers, _DURATION.values(), strict=False)]
    return " ".join([*said, f"{'-' if seconds < 0 else ''}{whole}.{fraction:09d} secs"])


BY_COLUMN: Final = {
    "date": date,
    "time": time,
    "timetz": zoned_time,
    "timestamp": timestamp,
    "timestamptz": zoned_timestamp,
    "interval": duration,
}
"""By the type of the column that it is written into."""

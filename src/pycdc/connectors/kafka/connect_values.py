"""From Kafka Connect's and Debezium's named types to texts that Postgres reads: days to a date, bytes to bits.

Names stand in an Avro schema as ``connect.name``, in JSON's as ``name``. Values without such a name stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from pycdc.rows.codecs.civil import DAY, civil_of, iso_time

Convert = Callable[[Any], Any]
"""From a decoded value, never None, to what a row holds."""

_INFINITE_DAYS: Final = {2_147_483_647: "infinity", -2_147_483_648: "-infinity"}
_INFINITE_MICROS: Final = 9_223_372_036_825_000_000
"""Debezium's infinite timestamps lie beyond it, rounded in one way or another."""


def _date(days: int) -> str:
    return _INFINITE_DAYS.get(days) or _civil(days)


def _civil(days: int, time: str = "") -> str:
    year, month, day = civil_of(days)
    shown = f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}{time}"
    return shown if year > 0 else shown + " BC"


def _timestamp(micros: int) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    days, of_day = divmod(seconds, 86_400)
    if not -_USUAL_DAYS < days < _USUAL_DAYS:
        return _unusual_timestamp(micros)
    if fraction:
        return f"{_usual_day(days)} {_clock(of_day)}.{fraction:06d}"
    return f"{_usual_day(days)} {_clock(of_day)}"


def _unusual_timestamp(micros: int) -> str:
    if abs(micros) >= _INFINITE_MICROS:
        return "infinity" if micros > 0 else "-infinity"
    days, of_day = divmod(micros, DAY)
    return _civil(days, " " + iso_time(of_day))


_USUAL_DAYS: Final = 700_000
"""Years 54 to 3886: no era, and four digits."""
_usual_day = lru_cache(maxsize=4096)(_civil)


@lru_cache(maxsize=86_400)
def _clock(seconds: int) -> str:
    return iso_time(seconds * 1_000_000)


def _interval(micros: int) -> str:
    return f"{micros} microseconds"


def _variable_decimal(value: Mapping[str, Any]) -> Any:
    """A struct of scale and unscaled bytes; Debezium writes NaN and the like as null, which has no struct."""
    unscaled = int.from_bytes(value["value"], "big", signed=True)
    return Decimal(unscaled).scaleb(-value["scale"])


def _point(value: Mapping[str, Any]) -> str:
    return f"({value['x']!r},{value['y']!r})"


def _bits(parameters: Mapping[str, str]) -> Convert:
    """Little-endian bytes; `length` is the number of bits, where it is known."""
    length = int(parameters.get("length", "0"))

    def convert(value: bytes) -> str:
        number = int.from_bytes(value, "little")
        return format(number, f"0{length}b") if 0 < length < 2**31 - 1 else format(number, f"0{len(value) * 8}b")

    return convert


_BY_NAME: Final[dict[str, Convert]] = {
    "io.debezium.time.Date": _date,
    "org.apache.kafka.connect.data.Date": _date,
    "io.debezium.time.Timestamp": lambda value: _timestamp(value * 1000),
    "org.apache.kafka.connect.data.Timestamp": lambda value: _timestamp(value * 1000),
    "io.debezium.time.MicroTimestamp": _timestamp,
    "io.debezium.time.NanoTimestamp": lambda value: _timestamp(value // 1000),
    "io.debezium.time.Time": lambda value: iso_time(value * 1000),
    "org.apache.kafka.connect.data.Time": lambda value: iso_time(value * 1000),
    "io.debezium.time.MicroTime": iso_time,
    "io.debezium.time.NanoTime": lambda value: iso_time(value // 1000),
    "io.debezium.time.MicroDuration": _interval,
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "io.debezium.data.geometry.Point": _point,
}


def conversion(name: str | None, parameters: Mapping[str, str]) -> Convert | None:
    """What to do with values of a named type; None: nothing."""
    if name == "io.debezium.data.Bits":
        return _bits(parameters)
    return _BY_NAME.get(name or "")

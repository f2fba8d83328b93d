"""From Kafka Connect's and Debezium's named types to texts that Postgres reads: days to a date, bytes to bits.

Names stand in an Avro schema as ``connect.name``, in JSON's as ``name``. Values without such a name stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import lru_cache
from typing import Any, Final

from pycdc.model.event import Bits, JsonText, Microseconds, Unwritable
from pycdc.rows import shape_texts, temporal_texts
from pycdc.rows.codecs.civil import DAY, civil_of, iso_time
from pycdc.rows.codecs.dates import INFINITE
from pycdc.rows.schema import DECIMAL

Convert = Callable[[Any], Any]
"""From a decoded value, never None, to what a row holds."""


class NoValue(Unwritable):
    """A value that Postgres' type does not have."""


DIGITS: Final = 61_500
"""Bytes of the greatest numeric's digits: 131,072 before the point, 16,383 behind it."""
_SCALES: Final = range(-131_072, 16_384)
_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def exact(unscaled: bytes, scale: int) -> Decimal:
    """Return a decimal of big-endian bytes with all digits, whatever the default context is."""
    if scale not in _SCALES or len(unscaled) > DIGITS:
        raise NoValue("more digits than a numeric has")
    return _whole(int.from_bytes(unscaled, "big", signed=True)).scaleb(-scale, _EXACT)


def _whole(number: int) -> Decimal:
    """Python converts in a time that grows with the square; a product of decimals is faster than that."""
    if (size := number.bit_length()) < _AT_ONCE:
        return Decimal(number)
    high, low = number >> size // 2, number & (1 << size // 2) - 1
    return _EXACT.add(_EXACT.multiply(_whole(high), _power_of_two(size // 2)), _whole(low))


@lru_cache(maxsize=32)
def _power_of_two(exponent: int) -> Decimal:
    return _EXACT.power(Decimal(2), exponent)


_AT_ONCE: Final = 1 << 14


_INFINITE_DAYS: Final = {days: text.decode() for policy in INFINITE.values() for text, days in policy.items()}
_FIRST_DAY: Final = -2_440_588
"""4714-11-24 BC, the first one that Postgres has."""
_LAST_DAY: Final = 2_145_031_948
_INFINITE_NANOS: Final = (0x7FFF_FFFF_FFFF_FFFF, -0x8000_0000_0000_0000)
_INFINITE_MICROS: Final = 9_223_372_036_825_000_000
"""Debezium's infinite timestamps lie beyond it, rounded in one way or another."""


def date_text(days: int) -> str:
    if _FIRST_DAY <= days <= _LAST_DAY:
        return _civil(days)
    if days in _INFINITE_DAYS:
        return _INFINITE_DAYS[days]
    raise NoValue("a day that Postgres does not have")


def _civil(days: int, time: str = "") -> str:
    year, month, day = civil_of(days)
    shown = f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}{time}"
    return shown if year > 0 else shown + " BC"


def timestamp_text(micros: int) -> str:
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
    if days < _FIRST_DAY:
        raise NoValue("a moment that Postgres does not have")
    return _civil(days, " " + iso_time(of_day))


def nanos_text(nanos: int) -> str:
    if nanos in _INFINITE_NANOS:
        return "infinity" if nanos > 0 else "-infinity"
    return timestamp_text(nanos // 1000)


def time_text(micros: int) -> str:
    if not 0 <= micros <= DAY:
        raise NoValue("a time that no day has")
    return iso_time(micros)


_USUAL_DAYS: Final = 700_000
"""Years 54 to 3886: no era, and four digits."""
_usual_day = lru_cache(maxsize=4096)(_civil)


@lru_cache(maxsize=86_400)
def _clock(seconds: int) -> str:
    return iso_time(seconds * 1_000_000)


MONTH: Final = 2_629_800_000_000
"""A month's microseconds, as Debezium counts them: 365.25 / 12 days."""


def interval_text(micros: int) -> str:
    text = f"{micros} microseconds"
    return text if abs(micros) < MONTH else Microseconds(text)


def _variable_decimal(value: Mapping[str, Any]) -> Any:
    """Read a struct of scale and unscaled bytes; Debezium writes NaN and the like as null, which has no struct."""
    return exact(value["value"], value["scale"])


def _connect_decimal(parameters: Mapping[str, str]) -> Convert:
    """Those whose scale Avro's own decimals do not have: less than nothing, or beyond the precision."""
    if "scale" not in parameters:
        raise NoValue("a decimal whose schema has no scale")
    scale = int(parameters["scale"])
    return lambda value: exact(value, scale)


def bits_text(data: bytes, length: int) -> Bits:
    """Little-endian bytes; `length` is the number of bits, where it is known."""
    number = int.from_bytes(data, "little")
    return Bits(format(number, f"0{length if 0 < length < _MOST_BITS else len(data) * 8}b"))


def _bits(parameters: Mapping[str, str]) -> Convert:
    length = int(parameters.get("length", "0"))
    return lambda value: bits_text(value, length)


_MOST_BITS: Final = 1 << 26


_BY_NAME: Final[dict[str, Convert]] = {
    "io.debezium.time.Date": date_text,
    "org.apache.kafka.connect.data.Date": date_text,
    "io.debezium.time.Timestamp": lambda value: timestamp_text(value * 1000),
    "org.apache.kafka.connect.data.Timestamp": lambda value: timestamp_text(value * 1000),
    "io.debezium.time.MicroTimestamp": timestamp_text,
    "io.debezium.time.NanoTimestamp": nanos_text,
    "io.debezium.time.Time": lambda value: time_text(value * 1000),
    "org.apache.kafka.connect.data.Time": lambda value: time_text(value * 1000),
    "io.debezium.time.MicroTime": time_text,
    "io.debezium.time.NanoTime": lambda value: time_text(value // 1000),
    "io.debezium.time.MicroDuration": interval_text,
    "io.debezium.time.NanoDuration": lambda value: interval_text(value // 1000),
    "io.debezium.time.StructuredDate": temporal_texts.date,
    "io.debezium.time.StructuredTime": temporal_texts.time,
    "io.debezium.time.StructuredZonedTime": temporal_texts.zoned_time,
    "io.debezium.time.StructuredTimestamp": temporal_texts.timestamp,
    "io.debezium.time.StructuredZonedTimestamp": temporal_texts.zoned_timestamp,
    "io.debezium.time.StructuredDuration": temporal_texts.duration,
    "io.debezium.data.Json": JsonText,
    "io.debezium.data.VariableScaleDecimal": _variable_decimal,
    "io.debezium.data.geometry.Point": shape_texts.point,
    "io.debezium.data.geometry.Circle": shape_texts.circle,
    "io.debezium.data.geometry.Line": shape_texts.line,
    "io.debezium.data.geometry.Geometry": shape_texts.geometry,
    "io.debezium.data.SparseDoubleVector": shape_texts.sparse_vector,
}


def conversion(name: str | None, parameters: Mapping[str, str]) -> Convert | None:
    """Return how values of a named type are converted; None: not at all."""
    if name == "io.debezium.data.Bits":
        return _bits(parameters)
    if name == DECIMAL:
        return _connect_decimal(parameters)
    return _BY_NAME.get(name or "")

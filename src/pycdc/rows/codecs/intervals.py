"""interval, under IntervalStyle postgres: ``1 year 2 mons -3 days +04:05:06.789``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, NamedTuple

from pycdc.model.change import PgType
from pycdc.rows.avro import long, sized
from pycdc.rows.codecs import structured
from pycdc.rows.codecs.civil import DAY, SCALE, int64
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.dates import semantic
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Datum

MONTH: Final = 2_629_800_000_000
"""365.25 / 12 days, in microseconds."""
_INT32: Final = 0x7FFF_FFFF
_INTERVAL = re.compile(
    rb"(?:([+-]?\d+) years?(?: |$))?(?:([+-]?\d+) mons?(?: |$))?(?:([+-]?\d+) days?(?: |$))?"
    rb"(?:([+-])?(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?"
)


class Interval(NamedTuple):
    """The time is in microseconds; every part has its own sign."""

    years: int
    months: int
    days: int
    time: int


def interval_of(text: Text) -> Interval:
    if text in (b"infinity", b"-infinity"):
        raise Unrepresentable("an interval without an end")
    match = _INTERVAL.fullmatch(text)
    if match is None or not text:
        raise ValueError("not an interval")
    years, months, days, sign, hours, minutes, seconds, fraction = match.groups()
    time = 0
    if hours is not None:
        time = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000
        time += int(fraction) * SCALE[len(fraction)] if fraction else 0
    return Interval(int(years or 0), int(months or 0), int(days or 0), -time if sign == b"-" else time)


def _micros(text: Text) -> int:
    years, months, days, time = interval_of(text)
    return int64((years * 12 + months) * MONTH + days * DAY + time)


def _iso(text: Text) -> str:
    years, months, days, time = interval_of(text)
    sign = "-" if time < 0 else ""
    minutes, micros = divmod(abs(time), 60_000_000)
    seconds = f"{micros // 1_000_000}.{micros % 1_000_000:06d}".rstrip("0").rstrip(".")
    hours, minutes = divmod(minutes, 60)
    return (
        f"P{years}Y{months}M{days}DT{sign if hours else ''}{hours}H{sign if minutes else ''}{minutes}M"
        f"{sign if micros else ''}{seconds}S"
    )


def _parse(text: Text) -> object:
    # A timedelta has no months, fewer days than an interval, and an end.
    if text in (b"infinity", b"-infinity"):
        return text.decode()
    years, months, days, time = interval_of(text)
    if years or months:
        return text.decode()
    try:
        return timedelta(days=days, microseconds=time)
    except OverflowError:
        return text.decode()


def _structured(pg: PgType) -> Codec:
    """Of interval. Each part has the sign that it has in Postgres."""
    precision = {"precision": structured.DIGITS if pg.typmod == -1 else pg.typmod & 0xFFFF}

    def value(text: Text) -> Datum:
        years, months, days, time = interval_of(text)
        sign, whole = (-1 if time < 0 else 1), abs(time)
        hours, minutes, seconds = whole // 3_600_000_000, whole // 60_000_000 % 60, whole // 1_000_000 % 60
        if hours > _INT32:
            raise Unrepresentable("more hours than 32 bits hold")
        parts = (years, months, days, sign * hours, sign * minutes, sign * seconds, sign * (whole % 1_000_000) * 1000)
        return {**dict(zip(structured.PARTS, parts, strict=True)), **precision}

    return codec(structured.DURATION, value, parse=_parse, zero={**dict.fromkeys(structured.PARTS, 0), **precision})


def _interval(pg: PgType, options: CodecOptions) -> Codec:
    if options.values.time == "structured":
        return _structured(pg)
    if options.values.interval == "string":
        zero = "P0Y0M0DT0H0M0S"
        schema = semantic("string", "io.debezium.time.Interval")
        return codec(schema, _iso, parse=_parse, zero=zero, unavailable=zero, encode=lambda v: sized(_iso(v).encode()))
    schema = semantic("int64", "io.debezium.time.MicroDuration")
    return codec(schema, _micros, parse=_parse, zero=0, unavailable=0, encode=lambda text: long(_micros(text)))


FAMILY: Final[dict[str, Factory]] = {"interval": _interval}

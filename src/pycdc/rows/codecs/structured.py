"""Dates, times and intervals by their parts: the mode ``structured``, which Debezium has since 3.7.

Nothing is converted: a year before the first is astronomical (0 is 1 BC), an infinity has a name and no parts. Only
timestamptz is in UTC, as the server prints it to this session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.codecs.civil import DAY, civil_of, date_days, time_micros, timestamp_micros, zoned_time_micros
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.options import CodecOptions
from pycdc.rows.schema import Datum, Schema

_SPECIAL: Final = {b"infinity": "POSITIVE_INFINITY", b"-infinity": "NEGATIVE_INFINITY"}
_INT: Final = Schema("int32", optional=True)
_BYTE: Final = Schema("int8", optional=True)
_TEXT: Final = Schema("string", optional=True)
_DATE: Final = (("year", _INT), ("month", _BYTE), ("day", _BYTE))
_TIME: Final = (("hour", _BYTE), ("minute", _BYTE), ("second", _BYTE), ("nanos", _INT))
_OFFSET: Final = (("offsetSeconds", _INT),)
_SPECIAL_VALUE: Final = (("specialValue", _TEXT),)
_PRECISION: Final = (("precision", _INT),)
_DURATION: Final = (
    *((name, _INT) for name in ("years", "months", "days", "hours", "minutes")),
    ("seconds", Schema("int64", optional=True)),
    ("nanos", _INT),
)


def _schema(name: str, *fields: tuple[str, Schema]) -> Schema:
    return Schema("struct", name=f"io.debezium.time.Structured{name}", version=1, fields=fields)


DATE: Final = _schema("Date", *_DATE, *_SPECIAL_VALUE)
TIME: Final = _schema("Time", *_TIME, *_PRECISION)
ZONED_TIME: Final = _schema("ZonedTime", *_TIME, *_OFFSET, *_PRECISION)
TIMESTAMP: Final = _schema("Timestamp", *_DATE, *_TIME, *_SPECIAL_VALUE, *_PRECISION)
ZONED_TIMESTAMP: Final = _schema(
    "ZonedTimestamp", *_DATE, *_TIME, *_OFFSET, ("zoneId", _TEXT), *_SPECIAL_VALUE, *_PRECISION
)
DURATION: Final = _schema("Duration", *_DURATION, *_PRECISION)
PARTS: Final = tuple(name for name, _ in _DURATION)
"""Of an interval."""
DIGITS: Final = 6
"""Of a fraction of a second, where the column does not say."""


def _filled(schema: Schema, parts: dict[str, Datum]) -> dict[str, Datum]:
    """Return a structure with all fields."""
    return {**dict.fromkeys(name for name, _ in schema.fields), **parts}


def _date_parts(days: int) -> dict[str, Datum]:
    return dict(zip(("year", "month", "day"), civil_of(days), strict=True))


def _time_parts(micros: int) -> dict[str, Datum]:
    seconds, fraction = divmod(micros, 1_000_000)
    return {
        "hour": seconds // 3600,
        "minute": seconds // 60 % 60,
        "second": seconds % 60,
        "nanos": fraction * 1000,
    }


def date_codec(parse: Callable[[Text], object]) -> Codec:
    def value(text: Text) -> Datum:
        special = _SPECIAL.get(text)
        return _filled(DATE, {"specialValue": special} if special else _date_parts(date_days(text)))

    return codec(DATE, value, parse=parse, zero=_filled(DATE, _date_parts(0)))


def time_codec(pg: PgType, options: CodecOptions, parse: Callable[[Text], object]) -> Codec:
    """Of time. Debezium has no form for its end of day."""
    precision = {"precision": _precision(pg)}
    whole_days = options.compat.end_of_day == "kept"

    def value(text: Text) -> Datum:
        micros = time_micros(text)
        if micros == DAY and not whole_days:
            raise Unrepresentable("Debezium has no structure for 24:00")
        return {**_time_parts(micros), **precision}

    return codec(TIME, value, parse=parse, zero={**_time_parts(0), **precision})


def zoned_time_codec(pg: PgType, parse: Callable[[Text], object]) -> Codec:
    precision = {"precision": _precision(pg)}

    def value(text: Text) -> Datum:
        micros, east = zoned_time_micros(text)
        return {**_time_parts(micros), "offsetSeconds": east, **precision}

    return codec(ZONED_TIME, value, parse=parse, zero={**_time_parts(0), "offsetSeconds": 0, **precision})


def timestamp_codec(pg: PgType, parse: Callable[[Text], object]) -> Codec:
    return _timestamp(TIMESTAMP, {"precision": _precision(pg)}, parse)


def zoned_timestamp_codec(pg: PgType, parse: Callable[[Text], object]) -> Codec:
    precision = {"precision": _precision(pg)}
    made = _timestamp(ZONED_TIMESTAMP, {"offsetSeconds": 0, "zoneId": "Z", **precision}, parse)
    return replace(made, zero={**made.zero, "zoneId": None})


def _timestamp(schema: Schema, rest: dict[str, Datum], parse: Callable[[Text], object]) -> Codec:
    precision = {"precision": rest["precision"]}

    def value(text: Text) -> Datum:
        special = _SPECIAL.get(text)
        if special:
            return _filled(schema, {"specialValue": special, **precision})
        days, of_day = divmod(timestamp_micros(text), DAY)
        return _filled(schema, {**_date_parts(days), **_time_parts(of_day), **rest})

    zero = _filled(schema, {**_date_parts(0), **_time_parts(0), **rest})
    return codec(schema, value, parse=parse, zero=zero)


def _precision(pg: PgType) -> int:
    return DIGITS if pg.typmod == -1 else pg.typmod

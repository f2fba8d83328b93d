"""date, time and timetz."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, time, timedelta, timezone
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.avro import CONTINUED, SHORT, long, sized
from pycdc.rows.codecs import structured
from pycdc.rows.codecs.civil import DAY, SCALE, SECONDS, date_days, iso_date, iso_time, time_micros, zoned_time_micros
from pycdc.rows.codecs.codec import Codec, Text, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Schema

INFINITE: Final = {
    "stream": {b"infinity": 2_146_033_979, b"-infinity": -2_147_472_691},
    "stream_3_6": {b"infinity": -2_147_472_692, b"-infinity": -2_147_472_691},
    "snapshot": {b"infinity": -622_191_234, b"-infinity": -625_821_272},
    "sentinel": {b"infinity": 2_147_483_647, b"-infinity": -2_147_483_648},
}
"""Days for the infinite dates: what Debezium's overflows leave, and the ends of an int32."""
INFINITE_ISO: Final = {
    "stream": {b"infinity": "+5877611-06-21Z", b"-infinity": "-5877611-06-22Z"},
    "stream_3_6": {b"infinity": "-5877611-06-21Z", b"-infinity": "-5877611-06-22Z"},
    "snapshot": {b"infinity": "+292278994-08-16Z", b"-infinity": "+292269055-12-02Z"},
    "sentinel": {b"infinity": "infinity", b"-infinity": "-infinity"},
}


class Written(dict[Text, bytes]):
    """Dates to their Avro bytes; forgets all of them when full."""

    __slots__ = ("infinite",)
    limit: Final = 1 << 16

    def __init__(self, infinite: dict[bytes, int]) -> None:
        super().__init__()
        self.infinite = infinite

    def days(self, text: Text) -> int:
        known = self.infinite.get(text)
        return date_days(text) if known is None else known

    def __missing__(self, text: Text) -> bytes:
        written = long(self.days(text))
        if len(self) >= self.limit:
            self.clear()
        self[text] = written
        return written


_WRITTEN: Final = {policy: Written(infinite) for policy, infinite in INFINITE.items()}


def semantic(kind: str, name: str) -> Schema:
    return Schema(kind, name=name, version=1)


def _iso(name: str, value: Callable[[Text], str], parse: Callable[[Text], object], zero: str) -> Codec:
    schema = semantic("string", name)
    return codec(schema, value, parse=parse, zero=zero, unavailable=zero, encode=lambda v: sized(value(v).encode()))


def _parse_date(text: Text) -> object:
    # Python's years are 1 to 9999.
    try:
        return date.fromisoformat(text.decode())
    except ValueError:
        return text.decode()


def _infinite_policy(options: CodecOptions) -> str:
    """Return which line of `INFINITE` holds."""
    policy = options.compat.infinite_dates
    if policy == "sentinel":
        return policy
    return "snapshot" if options.snapshot else "stream" if policy == "debezium" else "stream_3_6"


def _date(pg: PgType, options: CodecOptions) -> Codec:
    policy = _infinite_policy(options)
    if options.values.time == "structured":
        return structured.date_codec(_parse_date)
    if options.values.time == "isostring":
        return _iso_date(INFINITE_ISO[policy])
    written = _WRITTEN[policy]
    connect = options.values.time == "connect"
    table = f"DATES_{policy.upper()}"
    return codec(
        semantic("int32", "org.apache.kafka.connect.data.Date" if connect else "io.debezium.time.Date"),
        written.days,
        parse=_parse_date,
        zero=0,
        unavailable=0,
        encode=written.__getitem__,
        inline=f"{table}[v]",
        names={table: written},
    )


def _iso_date(infinite: dict[bytes, str]) -> Codec:
    def value(text: Text) -> str:
        return infinite.get(text) or iso_date(date_days(text)) + "Z"

    zero = "1970-01-01Z"
    schema = semantic("string", "io.debezium.time.IsoDate")
    return codec(
        schema, value, parse=_parse_date, zero=zero, unavailable=zero, encode=lambda v: sized(value(v).encode())
    )


def _parse_time(text: Text) -> object:
    # Python has no 24:00:00.
    try:
        return time.fromisoformat(text.decode())
    except ValueError:
        return text.decode()


LONG6: Final = (
    "(CONTINUED[t_z & 16383] + CONTINUED[t_z >> 14 & 16383] + SHORT[t_z >> 28]"
    " if 268435456 <= (t_z := ({micros}) << 1) < 4398046511104 else long(t_z >> 1))"
)
"""An integer that usually takes six bytes; both ends of the range are those of the tables."""
VARINTS: Final = {"SHORT": SHORT, "CONTINUED": CONTINUED, "long": long}
_CLOCK: Final = "SECONDS[v[:8]] + (int(v[9:]) * SCALE[n - 9] if n > 8 else 0)"

_UNITS: Final = {
    "ms": (1, 1000, f"({_CLOCK}) // 1000"),
    "us": (1, 1, _CLOCK),
    "ns": (1000, 1, f"({_CLOCK}) * 1000"),
}
"""What microseconds are multiplied and divided by, and the same as an expression."""


def _time_unit(mode: str, precision: int) -> tuple[str, str, str]:
    """Connect type, name and unit of a time column; precision -1 is 6."""
    if mode == "connect":
        return "int32", "org.apache.kafka.connect.data.Time", "ms"
    if mode == "nanoseconds":
        return "int64", "io.debezium.time.NanoTime", "ns"
    if mode == "adaptive" and 0 <= precision <= 3:
        return "int32", "io.debezium.time.Time", "ms"
    return "int64", "io.debezium.time.MicroTime", "us"


def _time(pg: PgType, options: CodecOptions) -> Codec:
    if options.values.time == "structured":
        return structured.time_codec(pg, options, _parse_time)
    if options.values.time == "isostring":
        return _iso_time(options)
    kind, name, unit = _time_unit(options.values.time, pg.typmod)
    factor, divisor, expression = _UNITS[unit]

    def value(text: Text) -> int:
        return time_micros(text) * factor // divisor

    return codec(
        semantic(kind, name),
        value,
        parse=_parse_time,
        zero=0,
        unavailable=0,
        encode=lambda text: long(value(text)),
        inline=LONG6.format(micros=expression),
        names={**VARINTS, "SECONDS": SECONDS, "SCALE": SCALE},
    )


def _iso_time(options: CodecOptions) -> Codec:
    kept = options.compat.end_of_day == "kept"

    def value(text: Text) -> str:
        micros = time_micros(text)
        return iso_time(micros if kept else micros % DAY) + "Z"

    zero = "00:00:00Z"
    schema = semantic("string", "io.debezium.time.IsoTime")
    return codec(
        schema, value, parse=_parse_time, zero=zero, unavailable=zero, encode=lambda v: sized(value(v).encode())
    )


def _parse_timetz(text: Text) -> object:
    micros, east = zoned_time_micros(text)
    if micros == DAY:
        return text.decode()
    seconds, fraction = divmod(micros, 1_000_000)
    zone = timezone(timedelta(seconds=east))
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60, fraction, zone)


def _timetz(pg: PgType, options: CodecOptions) -> Codec:
    if options.values.time == "structured":
        return structured.zoned_time_codec(pg, _parse_timetz)
    kept = options.compat.end_of_day != "wrapped"

    def value(text: Text) -> str:
        micros, east = zoned_time_micros(text)
        utc = micros - east * 1_000_000
        return iso_time(utc if utc == micros and kept else utc % DAY) + "Z"

    return _iso("io.debezium.time.ZonedTime", value, _parse_timetz, "00:00:00Z")


FAMILY: Final[dict[str, Factory]] = {"date": _date, "time": _time, "timetz": _timetz}

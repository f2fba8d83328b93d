"""timestamp and timestamptz."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from pycdc.model.change import PgType
from pycdc.rows.avro import long, sized
from pycdc.rows.codecs import structured
from pycdc.rows.codecs.civil import MIDNIGHTS, SCALE, SECONDS, int64, iso_timestamp, timestamp_micros
from pycdc.rows.codecs.codec import Codec, Text, codec
from pycdc.rows.codecs.dates import LONG6, VARINTS, semantic
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Datum

_GREATEST, _LEAST = 0x7FFF_FFFF_FFFF_FFFF, -0x8000_0000_0000_0000
_OVERFLOWN: Final = 9_223_372_036_825_200_000, -9_223_372_036_832_400_000
"""Microseconds that Debezium 3.6 writes for the infinite timestamps; as milliseconds 3.7 writes the same numbers."""
INFINITE: Final = {
    "limits": {
        "ns": (_GREATEST, _LEAST),
        "us": (_GREATEST, _LEAST),
        "ms": _OVERFLOWN,
        "iso": ("+292278994-08-16T23:00:00Z", "-292275055-05-16T23:00:00Z"),
    },
    "debezium_3_6": {
        "ns": (_GREATEST, _LEAST),
        "us": _OVERFLOWN,
        "ms": (9_223_372_036_825_200, -9_223_372_036_832_400),
        "iso": ("+294247-01-10T04:00:25.2Z", "-290308-12-21T19:59:27.6Z"),
    },
}
"""The infinite timestamps by `Compatibility.infinite_timestamps` and unit."""
_INFINITE_TEXTS: Final = (b"infinity", b"-infinity")

_MICROS: Final = (
    "MIDNIGHTS[v[:10]] + SECONDS[v[11:19]] + (int(v[20:]) if n == 26 else int(v[20:]) * SCALE[n - 20] if n > 19 else 0)"
)
_LONG8: Final = (
    "(b''.join((CONTINUED[t_z & 16383], CONTINUED[t_z >> 14 & 16383], CONTINUED[t_z >> 28 & 16383], SHORT[t_z >> 42]))"
    " if 4398046511104 <= (t_z := ({micros}) << 1) < 72057594037927936 else long(t_z >> 1))"
)
_NAMES: Final = {**VARINTS, "SECONDS": SECONDS, "MIDNIGHTS": MIDNIGHTS, "SCALE": SCALE, "int64": int64}


_UNITS: Final[dict[str, Callable[[Text], Datum]]] = {
    "ms": lambda text: timestamp_micros(text) // 1000,
    "us": lambda text: int64(timestamp_micros(text)),
    "ns": lambda text: int64(timestamp_micros(text) * 1000),
    "iso": lambda text: iso_timestamp(timestamp_micros(text)),
}
"""What becomes of a finite timestamp."""


def _value(unit: str, options: CodecOptions) -> Callable[[Text], Any]:
    infinite = dict(zip(_INFINITE_TEXTS, INFINITE[options.compat.infinite_timestamps][unit], strict=True))
    finite = _UNITS[unit]

    def value(text: Text) -> Any:
        known = infinite.get(text)
        return finite(text) if known is None else known

    return value


def _parse(text: Text) -> object:
    # Python's years are 1 to 9999, and it has no infinity.
    try:
        return datetime.fromisoformat(text.decode())
    except ValueError:
        return text.decode()


def _counted(name: str, value: Callable[[Text], int], inline: str) -> Codec:
    return codec(
        semantic("int64", name),
        value,
        parse=_parse,
        zero=0,
        unavailable=0,
        encode=lambda text: long(value(text)),
        inline=inline,
        names=_NAMES,
    )


def _timestamp(pg: PgType, options: CodecOptions) -> Codec:
    mode = options.values.time
    if mode == "structured":
        return structured.timestamp_codec(pg, _parse)
    if mode == "isostring":
        zero, value = "1970-01-01T00:00:00Z", _value("iso", options)
        schema = semantic("string", "io.debezium.time.IsoTimestamp")
        return codec(
            schema, value, parse=_parse, zero=zero, unavailable=zero, encode=lambda v: sized(value(v).encode())
        )
    millis = LONG6.format(micros=f"({_MICROS}) // 1000")
    if mode == "connect":
        return _counted("org.apache.kafka.connect.data.Timestamp", _value("ms", options), millis)
    if mode == "nanoseconds":
        return _counted("io.debezium.time.NanoTimestamp", _value("ns", options), f"long(int64(({_MICROS}) * 1000))")
    if mode != "microseconds" and 0 <= pg.typmod <= 3:
        return _counted("io.debezium.time.Timestamp", _value("ms", options), millis)
    return _counted("io.debezium.time.MicroTimestamp", _value("us", options), _LONG8.format(micros=_MICROS))


def _parse_zoned(text: Text) -> object:
    try:
        return datetime.fromisoformat(text.decode()).astimezone(UTC)
    except (ValueError, OverflowError):
        return text.decode()


_ZULU: Final = (
    "(join(({head}, v[:10], b'T',"
    " v[11:{end}] if n == {full} else v[11:19] + {none} if n == 22 else v[11:-3].ljust({width}, b'0'), b'Z'))"
    " if 22 <= n < 30 and v[4] == 45 and v[-3:] == b'+00' else {slow}(v))"
)
"""Most values need no arithmetic: the session is in UTC, and the text nearly what Debezium writes."""
_JOIN: Final = b"".join


@cache
def _zoned(digits: int) -> tuple[Callable[[Text], str], Callable[[Text], bytes]]:
    """`value` and `encode` for so many digits of fraction; the same functions each time, as their names are shared."""
    width = 9 + digits if digits else 8

    def zulu(text: Text) -> bytes:
        if 22 <= len(text) < 30 and text[4] == 45 and text[-3:] == b"+00":
            time = text[11:-3] if len(text) > 22 or not digits else text[11:19] + b"."
            return text[:10] + b"T" + time.ljust(width, b"0") + b"Z"
        return text if text in _INFINITE_TEXTS else iso_timestamp(timestamp_micros(text), digits).encode()

    return lambda text: zulu(text).decode(), lambda text: sized(zulu(text))


def _timestamptz(pg: PgType, options: CodecOptions) -> Codec:
    if options.values.time == "structured":
        return structured.zoned_timestamp_codec(pg, _parse_zoned)
    digits = pg.typmod if 0 <= pg.typmod <= 6 else 6
    value, encode = _zoned(digits)
    width = 9 + digits if digits else 8
    head = sized(b"." * (12 + width))[:1]
    inline = _ZULU.format(
        head=repr(head),
        end=11 + width,
        full=14 + width,
        none=repr(b"." + b"0" * digits if digits else b""),
        width=width,
        slow=f"zoned_{digits}",
    )
    return codec(
        semantic("string", "io.debezium.time.ZonedTimestamp"),
        value,
        parse=_parse_zoned,
        zero="1970-01-01T00:00:00Z",
        unavailable="1970-01-01T00:00:00Z",
        encode=encode,
        inline=inline,
        names={f"zoned_{digits}": encode, "join": _JOIN},
    )


FAMILY: Final[dict[str, Factory]] = {"timestamp": _timestamp, "timestamptz": _timestamptz}

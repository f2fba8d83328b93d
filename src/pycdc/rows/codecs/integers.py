"""int2, int4, int8, oid, float4, float8 and bool."""

from __future__ import annotations

import struct
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.avro import CONTINUED, SHORT, long, unsigned
from pycdc.rows.codecs.codec import Codec, Text, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import Schema

_SINGLE = struct.Struct("<f").pack
_DOUBLE = struct.Struct("<d").pack

INTEGER: Final = (
    "(SHORT[t_z] if (t_z := (t_i << 1 if (t_i := int(v)) >= 0 else (~t_i << 1) | 1)) < 16384"
    " else CONTINUED[t_z & 16383] + SHORT[t_z >> 14] if t_z < 268435456 else unsigned(t_z))"
)


def _integer(kind: str) -> Factory:
    made = codec(
        Schema(kind),
        int,
        zero=0,
        unavailable=0,
        encode=lambda text: long(int(text)),
        inline=INTEGER,
        names={"SHORT": SHORT, "CONTINUED": CONTINUED, "unsigned": unsigned},
    )
    return lambda pg, options: made


def _single(text: Text) -> bytes:
    try:
        return _SINGLE(float(text))
    except OverflowError:
        raise ValueError("a float4 out of range") from None


def _boolean(text: Text) -> bool:
    if text == b"t":
        return True
    if text == b"f":
        return False
    raise ValueError("not a boolean")


def _bool(pg: PgType, options: CodecOptions) -> Codec:
    return codec(
        Schema("boolean"),
        _boolean,
        zero=False,
        unavailable=False,
        encode=lambda text: b"\x01" if _boolean(text) else b"\x00",
        inline='(b"\\x01" if v == b"t" else b"\\x00")',
    )


def _float4(pg: PgType, options: CodecOptions) -> Codec:
    return codec(
        Schema("float32"),
        float,
        zero=0.0,
        unavailable=0.0,
        encode=_single,
        inline="single(float(v))",
        names={"single": _SINGLE},
    )


def _float8(pg: PgType, options: CodecOptions) -> Codec:
    return codec(
        Schema("float64"),
        float,
        zero=0.0,
        unavailable=0.0,
        encode=lambda text: _DOUBLE(float(text)),
        inline="double(float(v))",
        names={"double": _DOUBLE},
    )


FAMILY: Final[dict[str, Factory]] = {
    "int2": _integer("int16"),
    "int4": _integer("int32"),
    "int8": _integer("int64"),
    "oid": _integer("int64"),
    "float4": _float4,
    "float8": _float8,
    "bool": _bool,
}

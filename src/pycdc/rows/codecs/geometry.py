"""point, as Debezium's Point with its well-known binary."""

from __future__ import annotations

import re
import struct
from typing import Final

from pycdc.model import PgType
from pycdc.rows.codecs.codec import Codec, Text, codec
from pycdc.rows.codecs.options import Factory, Options
from pycdc.rows.schema import Datum, Schema

POINT: Final = Schema(
    "struct",
    name="io.debezium.data.geometry.Point",
    version=1,
    doc="Geometry (POINT)",
    fields=(
        ("x", Schema("float64")),
        ("y", Schema("float64")),
        ("wkb", Schema("bytes", optional=True)),
        ("srid", Schema("int32", optional=True)),
    ),
)
_POINT = re.compile(rb"\(([^,()]+),([^,()]+)\)")
_WKB = struct.Struct("<bIdd").pack
"""Byte order (little), geometry type (point), x and y."""


def coordinates(text: Text) -> tuple[float, float]:
    match = _POINT.fullmatch(text)
    if match is None:
        raise ValueError("not a point")
    return float(match[1]), float(match[2])


def _datum(x: float, y: float) -> Datum:
    return {"x": x, "y": y, "wkb": _WKB(1, 1, x, y), "srid": None}


def _point(pg: PgType, options: Options) -> Codec:
    zero = _datum(0.0, 0.0)
    return codec(POINT, lambda text: _datum(*coordinates(text)), parse=coordinates, zero=zero, unavailable=zero)


FAMILY: Final[dict[str, Factory]] = {"point": _point}

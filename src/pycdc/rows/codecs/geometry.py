"""point, PostGIS' geometry and geography, and pgvector's vector, halfvec and sparsevec."""

from __future__ import annotations

import re
import struct
from binascii import unhexlify
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal

from pycdc.model.change import PgType
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
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


def point_datum(x: float, y: float) -> Datum:
    return {"x": x, "y": y, "wkb": _WKB(1, 1, x, y), "srid": None}


def _point(pg: PgType, options: CodecOptions) -> Codec:
    zero = point_datum(0.0, 0.0)
    return codec(POINT, lambda text: point_datum(*coordinates(text)), parse=coordinates, zero=zero, unavailable=zero)


def _shape(name: str) -> Schema:
    fields = (("wkb", Schema("bytes")), ("srid", Schema("int32", optional=True)))
    return Schema("struct", name=f"io.debezium.data.geometry.{name}", version=1, doc=name, fields=fields)


_GEOMETRY_3_6: Final = _shape("Geometry")
_EXTENSIONS: Final = Schema("map", optional=True, items=Schema("string"))
GEOMETRY: Final = replace(_GEOMETRY_3_6, version=2, fields=(*_GEOMETRY_3_6.fields, ("extensions", _EXTENSIONS)))
"""Since Debezium 3.7, which has Postgres' own shapes in it too."""


_HAS_SRID: Final = 0x2000_0000
"""The flag in EWKB's geometry type."""
_EMPTY: Final = bytes.fromhex("010700000000000000")
"""GEOMETRYCOLLECTION EMPTY."""


def _ewkb(text: Text) -> Datum:
    """PostGIS prints hex of its extended well-known binary, which Debezium passes on with the SRID beside it."""
    raw = unhexlify(text)
    if len(raw) < 5:
        raise ValueError("not a geometry")
    order: Literal["little", "big"] = "little" if raw[0] else "big"
    flagged = int.from_bytes(raw[1:5], order) & _HAS_SRID
    srid = int.from_bytes(raw[5:9], order, signed=True) if flagged else None
    return {"wkb": raw, "srid": srid, "extensions": None}


def _postgis(schema: Schema) -> Codec:
    return codec(schema, _ewkb, parse=bytes.decode, zero={"wkb": _EMPTY, "srid": None, "extensions": None})


_POSTGIS_3_6: Final = _postgis(_GEOMETRY_3_6)
_POSTGIS: Final = _postgis(GEOMETRY)
_GEOGRAPHY: Final = _postgis(_shape("Geography"))


def _geometry(pg: PgType, options: CodecOptions) -> Codec:
    return _POSTGIS_3_6 if options.compat.geometric_types == "unknown" else _POSTGIS


def _geography(pg: PgType, options: CodecOptions) -> Codec:
    return _GEOGRAPHY


def _coordinates(text: Text) -> list[float]:
    if text[:1] != b"[" or text[-1:] != b"]":
        raise ValueError("not a vector")
    return [float(part) for part in text[1:-1].split(b",")]


def _halves(text: Text) -> list[float]:
    """Half precision, wider than its range only in texts that are none."""
    found = _coordinates(text)
    if any(abs(number) > 65_504 for number in found):
        raise ValueError("not a halfvec")
    return found


def _vector(name: str, kind: str, value: Callable[[Text], list[float]]) -> Factory:
    schema = Schema("array", name=f"io.debezium.data.{name}", version=1, items=Schema(kind))
    made = codec(schema, value, zero=[])
    return lambda pg, options: made


SPARSE: Final = Schema(
    "struct",
    name="io.debezium.data.SparseDoubleVector",
    version=1,
    doc="Sparse double vector",
    fields=(("dimensions", Schema("int16")), ("vector", Schema("map", items=Schema("float64"), keys=Schema("int16")))),
)
_SPARSE = re.compile(rb"\{((?:\d+:[^,:{}]+(?:,\d+:[^,:{}]+)*)?)\}/(\d+)")
_MOST_DIMENSIONS: Final = 0x7FFF


def _sparse(text: Text) -> Datum:
    match = _SPARSE.fullmatch(text)
    if match is None:
        raise ValueError("not a sparsevec")
    if int(match[2]) > _MOST_DIMENSIONS:
        raise Unrepresentable("Debezium's schema takes no more than 32767 dimensions")
    parts = (part.split(b":") for part in match[1].split(b",") if part)
    return {"dimensions": int(match[2]), "vector": {int(place): float(number) for place, number in parts}}


_SPARSEVEC: Final = codec(SPARSE, _sparse, parse=bytes.decode, zero={"dimensions": 0, "vector": {}})


def _sparsevec(pg: PgType, options: CodecOptions) -> Codec:
    return _SPARSEVEC


FAMILY: Final[dict[str, Factory]] = {
    "point": _point,
    "geometry": _geometry,
    "geography": _geography,
    "vector": _vector("DoubleVector", "float64", _coordinates),
    "sparsevec": _sparsevec,
    "halfvec": _vector("FloatVector", "float32", _halves),
}

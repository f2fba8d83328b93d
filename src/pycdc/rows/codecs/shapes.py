"""box, lseg, path, polygon, circle and line, as Debezium 3.7 writes them: well-known binary, or coordinates.

Their fields are optional even where the column is NOT NULL, and have no default, as Debezium declares them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from pycdc.rows.codecs.codec import Text, codec
from pycdc.rows.codecs.geometry import GEOMETRY, POINT, point_datum
from pycdc.rows.codecs.options import Factory
from pycdc.rows.schema import Datum, Schema

CIRCLE: Final = Schema(
    "struct",
    name="io.debezium.data.geometry.Circle",
    version=1,
    doc="Geometry (CIRCLE)",
    fields=(("center", POINT), ("radius", Schema("float64"))),
)
LINE: Final = Schema(
    "struct",
    name="io.debezium.data.geometry.Line",
    version=1,
    doc="Geometry (LINE)",
    fields=(("a", Schema("float64")), ("b", Schema("float64")), ("c", Schema("float64"))),
)
_PAIR: Final = rb"\(([^,()]+),([^,()]+)\)"
_PAIRS = re.compile(_PAIR)
_LIST: Final = rb"%s(?:,%s)*" % (_PAIR, _PAIR)
_BOX = re.compile(rb"%s,%s" % (_PAIR, _PAIR))
_LSEG = re.compile(rb"\[%s,%s\]" % (_PAIR, _PAIR))
_OPEN = re.compile(rb"\[%s\]" % _LIST)
_CLOSED = re.compile(rb"\(%s\)" % _LIST)
_CIRCLE = re.compile(rb"<%s,([^,<>]+)>" % _PAIR)
_LINE = re.compile(rb"\{([^,{}]+),([^,{}]+),([^,{}]+)\}")
_LINE_HEAD = struct.Struct("<bII").pack
"""Byte order (little), geometry type and number of points."""
_POLYGON_HEAD = struct.Struct("<bIII").pack
"""The same with the number of rings before that of points."""

Point = tuple[float, float]


def _points(text: Text, *shapes: re.Pattern[bytes]) -> list[Point]:
    if not any(shape.fullmatch(text) for shape in shapes):
        raise ValueError("not such a shape")
    return [(float(x), float(y)) for x, y in _PAIRS.findall(text)]


def _coordinates(points: Sequence[Point]) -> bytes:
    flat = [number for point in points for number in point]
    return struct.pack(f"<{len(flat)}d", *flat)


def _string(points: Sequence[Point]) -> bytes:
    return _LINE_HEAD(1, 2, len(points)) + _coordinates(points)


def _ring(points: Sequence[Point]) -> bytes:
    """Write a polygon's only ring, which ends where it began."""
    ring = points if points[0] == points[-1] else [*points, points[0]]
    return _POLYGON_HEAD(1, 3, 1, len(ring)) + _coordinates(ring)


def _geometry(wkb: bytes, **extensions: str) -> Datum:
    return {"wkb": wkb, "srid": None, "extensions": extensions}


def _box(text: Text) -> Datum:
    (right, top), (left, bottom) = _points(text, _BOX)
    corners = [(right, top), (right, bottom), (left, bottom), (left, top), (right, top)]
    return _geometry(_POLYGON_HEAD(1, 3, 1, 5) + _coordinates(corners), type="box")


def _lseg(text: Text) -> Datum:
    return _geometry(_string(_points(text, _LSEG)), type="lseg")


def _path(text: Text) -> Datum:
    points = _points(text, _OPEN, _CLOSED)
    return _geometry(_string(points), closed="false" if text[:1] == b"[" else "true", type="path")


def _polygon(text: Text) -> Datum:
    return _geometry(_ring(_points(text, _CLOSED)), type="polygon")


def _exact_polygon(text: Text) -> Datum:
    """With a mark where the last point is the first again, which the ring does not tell."""
    points = _points(text, _CLOSED)
    if len(points) == 1 or points[0] != points[-1]:
        return _geometry(_ring(points), type="polygon")
    return _geometry(_ring(points), closed="true", type="polygon")


def _circle(text: Text) -> Datum:
    match = _CIRCLE.fullmatch(text)
    if match is None:
        raise ValueError("not a circle")
    return {"center": point_datum(float(match[1]), float(match[2])), "radius": float(match[3])}


def _line(text: Text) -> Datum:
    match = _LINE.fullmatch(text)
    if match is None:
        raise ValueError("not a line")
    return {"a": float(match[1]), "b": float(match[2]), "c": float(match[3])}


def _shape(
    schema: Schema, value: Callable[[Text], Datum], zero: Datum, exact: Callable[[Text], Datum] | None = None
) -> Factory:
    made = replace(codec(schema, value, parse=bytes.decode, zero=zero), optional=True)
    honest = replace(codec(schema, exact or value, parse=bytes.decode, zero=zero), optional=True)
    return lambda pg, options: honest if options.compat.geometric_types == "structs" else made


_UNIT: Final = [(0.0, 0.0), (1.0, 0.0)]
FAMILY: Final[dict[str, Factory]] = {
    "box": _shape(
        GEOMETRY,
        _box,
        _geometry(_ring([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]), type="box"),
    ),
    "lseg": _shape(GEOMETRY, _lseg, _geometry(_string(_UNIT), type="lseg")),
    "path": _shape(GEOMETRY, _path, _geometry(_string(_UNIT), type="path")),
    "polygon": _shape(
        GEOMETRY,
        _polygon,
        _geometry(_ring([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]), type="polygon"),
        _exact_polygon,
    ),
    "circle": _shape(CIRCLE, _circle, {"center": point_datum(0.0, 0.0), "radius": 0.0}),
    "line": _shape(LINE, _line, {"a": 0.0, "b": 1.0, "c": 0.0}),
}

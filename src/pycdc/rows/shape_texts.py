"""Debezium's structs of geometric types back to the texts that Postgres reads: the inverse of `rows.codecs.shapes`.

`extensions` says which of Postgres' types the well-known binary was; without it, it is PostGIS', and stays as it is.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final

from pycdc.model.event import Unwritable

_POLYGON: Final = 3
_POINT: Final = struct.Struct("<dd")


def point(value: Mapping[str, Any]) -> str:
    return f"({value['x']},{value['y']})"


def circle(value: Mapping[str, Any]) -> str:
    center = value["center"]
    return f"<{center if isinstance(center, str) else point(center)},{value['radius']}>"


def line(value: Mapping[str, Any]) -> str:
    return f"{{{value['a']},{value['b']},{value['c']}}}"


def geometry(value: Mapping[str, Any]) -> Any:
    """Return the text of a geometric value. Raises Unwritable for bytes that are none of the type's."""
    extensions = value.get("extensions") or {}
    shape = _SHAPES.get(extensions.get("type", ""))
    if shape is None:
        return value
    raw = value["wkb"] if isinstance(value["wkb"], bytes) else b64decode(value["wkb"], validate=True)
    return shape(_points(raw), extensions)


def sparse_vector(value: Mapping[str, Any]) -> str:
    """Avro has the vector as entries, JSON as pairs."""
    pairs = [(one["key"], one["value"]) if isinstance(one, Mapping) else one for one in value["vector"]]
    return f"{{{','.join(f'{int(place)}:{float(number)!r}' for place, number in sorted(pairs))}}}/{value['dimensions']}"


def _points(raw: bytes) -> list[str]:
    """Return the points of a LINESTRING or of a POLYGON's only ring."""
    if len(raw) < 9 or raw[0] != 1:
        raise Unwritable("a geometry that is not in little-endian order")
    at = 13 if int.from_bytes(raw[1:5], "little") == _POLYGON else 9
    count = int.from_bytes(raw[at - 4 : at], "little")
    if len(raw) != at + count * _POINT.size or not count:
        raise Unwritable("a geometry with other points than it counts")
    return [f"({x!r},{y!r})" for x, y in _POINT.iter_unpack(raw[at:])]


def _box(points: list[str], extensions: Mapping[str, str]) -> str:
    return f"{points[0]},{points[2]}"


def _lseg(points: list[str], extensions: Mapping[str, str]) -> str:
    return f"[{','.join(points)}]"


def _path(points: list[str], extensions: Mapping[str, str]) -> str:
    joined = ",".join(points)
    return f"({joined})" if extensions.get("closed") == "true" else f"[{joined}]"


def _polygon(points: list[str], extensions: Mapping[str, str]) -> str:
    """Return a polygon's text, without the last point: a ring ends where it began, and the polygon's text does not."""
    if len(points) > 1 and points[0] == points[-1] and extensions.get("closed") != "true":
        points = points[:-1]
    return f"({','.join(points)})"


_SHAPES: Final[dict[str, Callable[[list[str], Mapping[str, str]], str]]] = {
    "box": _box,
    "lseg": _lseg,
    "path": _path,
    "polygon": _polygon,
}

"""Types that Postgres writes in a way of its own: from what Python has for their values to that text."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from pycdc.model.event import JsonText, Unwritable
from pycdc.rows import shape_texts

_NUMBERS: Final = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}
"""How Debezium spells in strings what is no number."""
_HAS_SRID: Final = 0x2000_0000


def _numeric(value: Any) -> Any:
    return _NUMBERS.get(value, value) if isinstance(value, str) else value


def _hstore(value: Any) -> Any:
    if isinstance(value, JsonText):
        value = json.loads(value)
        if not isinstance(value, dict):
            raise Unwritable("an hstore's JSON is no object")
    if not isinstance(value, dict):
        return value
    return ", ".join(f"{_quoted(str(key))}=>{_pair(item)}" for key, item in value.items())


def _pair(item: Any) -> str:
    if item is None:
        return "NULL"
    if not isinstance(item, str):
        raise Unwritable("an hstore holds texts, and no other values")
    return _quoted(item)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _vector(value: Any) -> Any:
    return "[" + ",".join(map(_coordinate, value)) + "]" if isinstance(value, list) else value


def _coordinate(value: Any) -> str:
    if isinstance(value, bool | str) or value is None:
        raise Unwritable("a vector holds numbers, and no other values")
    return repr(value) if isinstance(value, float) else str(value)


def _point(value: Any) -> Any:
    return f"({_coordinate(value['x'])},{_coordinate(value['y'])})" if isinstance(value, dict) else value


def _geometry(value: Any) -> Any:
    """PostGIS reads hex of its extended well-known binary, in which the SRID stands."""
    if not isinstance(value, dict):
        return value
    wkb, srid = _bytes(value), value.get("srid")
    order: Literal["little", "big"] = "little" if wkb[0] else "big"
    kind = int.from_bytes(wkb[1:5], order)
    if srid is not None and not kind & _HAS_SRID:
        number = int(srid).to_bytes(4, order, signed=True)
        wkb = wkb[:1] + (kind | _HAS_SRID).to_bytes(4, order) + number + wkb[5:]
    return wkb.hex()


def _bytes(value: Mapping[str, Any]) -> bytes:
    """JSON has them in base64, whatever the options are."""
    wkb = value["wkb"]
    return b64decode(wkb, validate=True) if isinstance(wkb, str) else bytes(wkb)


def _shape(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Of JSON without a schema, whose structs have no name."""
    return lambda value: read(value) if isinstance(value, dict) else value


SPECIAL: Final[dict[str, Callable[[Any], Any]]] = {
    "numeric": _numeric,
    "hstore": _hstore,
    "vector": _vector,
    "halfvec": _vector,
    "sparsevec": _shape(shape_texts.sparse_vector),
    "point": _point,
    **dict.fromkeys(("box", "lseg", "path", "polygon"), _shape(shape_texts.geometry)),
    "circle": _shape(shape_texts.circle),
    "line": _shape(shape_texts.line),
    "geometry": _geometry,
    "geography": _geometry,
}
"""By the type's name. Each leaves alone what it does not know, and may raise anything."""

"""Columns that a configuration declares: SQL's name of a type to a `Column`."""

from __future__ import annotations

import re
from typing import Final

from pycdc.model.change import Column, PgType

_NAMES: Final = {
    "smallint": "int2",
    "integer": "int4",
    "int": "int4",
    "bigint": "int8",
    "boolean": "bool",
    "real": "float4",
    "double precision": "float8",
    "float": "float8",
    "decimal": "numeric",
    "character varying": "varchar",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
_KNOWN: Final = {
    *_NAMES.values(),
    *("oid", "text", "bytea", "date", "interval", "uuid", "json", "jsonb"),
}
_TYPE = re.compile(r"([a-z0-9 ]+?) ?(?:\( ?(\d+) ?(?:, ?(\d+) ?)?\))?( with(?:out)? time zone)?(\[\])?( not null)?")


def declared_column(name: str, text: str) -> Column | None:
    """Return the column, None for a type that is not known. It may be NULL unless the text ends in ``not null``.

    Types have no OID, because no server was asked.
    """
    match = _TYPE.fullmatch(" ".join(text.lower().split()))
    if match is None:
        return None
    base, first, second, zone, array, required = match.groups()
    spelled = base + (zone or "")
    kind = _NAMES.get(spelled, spelled)
    if kind not in _KNOWN:
        return None
    typmod = _typmod(kind, first, second)
    if typmod is None:
        return None
    type_ = PgType(0, kind, typmod)
    if array:
        type_ = PgType(0, f"_{kind}", typmod, element=PgType(0, kind))
    return Column(name, type_, nullable=not required)


def _typmod(kind: str, first: str | None, second: str | None) -> int | None:
    if first is None:
        return -1
    if kind == "numeric" and int(first) >= 1:
        return (int(first) << 16 | int(second or 0)) + 4
    if second is not None:
        return None
    if kind == "varchar" and int(first) >= 1:
        return int(first) + 4
    if kind in ("time", "timetz", "timestamp", "timestamptz", "interval") and int(first) <= 6:
        return int(first)
    return None

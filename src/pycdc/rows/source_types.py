"""A column's type in Postgres as parameters of its field's schema: Debezium's ``column.propagate.source.type``.

Length and scale are those of the JDBC driver: digits of numbers, characters of texts, of times what their text has at
most, and the greatest integer where there is no limit.
"""

from __future__ import annotations

from typing import Final

from pycdc.config.values import CompatibilityConfig
from pycdc.model.change import Column, PgType

PREFIX: Final = "__debezium.source.column."
_UNLIMITED: Final = 2_147_483_647
_UNCONSTRAINED: Final = 131_089
"""Characters of a numeric without precision, as the driver has it."""
_LENGTHS: Final = {
    "int2": 5,
    "int4": 10,
    "int8": 19,
    "oid": 10,
    "float4": 8,
    "float8": 17,
    "char": 1,
    "bool": 1,
    "date": 13,
    "interval": 49,
}
_CLOCKS: Final = {"time": 8, "timetz": 14, "timestamp": 22, "timestamptz": 28}
"""Characters without a fraction of a second."""
_SCALES: Final = {"float4": 8, "float8": 17}
_SERIALS: Final = {"int2": "smallserial", "int4": "serial", "int8": "bigserial"}
_VECTORS: Final = ("vector", "halfvec", "sparsevec")


def source_type(
    column: Column, name: str, compatibility: CompatibilityConfig, *, snapshot: bool
) -> tuple[tuple[str, str], ...]:
    """Return the parameters of a column whose name in the record is `name`. `snapshot`: a snapshot reads the rows."""
    length, scale = _length_and_scale(column.type, compatibility, snapshot=snapshot)
    said = {
        "type": type_name(column, compatibility, snapshot=snapshot),
        "length": length,
        "scale": scale,
        "name": name,
    }
    return tuple((PREFIX + part, str(value)) for part, value in said.items() if value is not None)


def type_name(column: Column, compatibility: CompatibilityConfig, *, snapshot: bool) -> str:
    """Return the type's name in capitals: a domain's own, serial for a column that a sequence fills."""
    pg, older = column.type, compatibility.source_types == "debezium_3_6"
    if pg.name in _SERIALS and not pg.domain and "nextval(" in (column.default or "") and (snapshot or not older):
        return _SERIALS[pg.name].upper()
    called = pg.declared or pg.name
    return (f'"{pg.schema}"."{called}"' if pg.schema and older and snapshot else called).upper()


def _length_and_scale(
    pg: PgType, compatibility: CompatibilityConfig, *, snapshot: bool
) -> tuple[int | None, int | None]:
    base = pg.element.name if pg.element is not None and pg.kind == "b" else pg.name
    if base == "numeric" and pg.typmod == -1:
        if compatibility.source_types == "declared":
            return None, None
        return (0, None) if snapshot and pg.element is None else (_UNCONSTRAINED, 0)
    if pg.name in _VECTORS and compatibility.source_types != "debezium_3_6":
        return (None if pg.typmod == -1 else pg.typmod), 0
    return _length(base, pg.typmod), _scale(base, pg.typmod)


def _length(base: str, typmod: int) -> int:
    if base in _LENGTHS:
        return _LENGTHS[base]
    if base in _CLOCKS:
        digits = 6 if typmod == -1 else typmod
        return _CLOCKS[base] + (digits and digits + 1)
    if base == "numeric":
        return typmod - 4 >> 16 & 0xFFFF
    if base in ("varchar", "bpchar") and typmod != -1:
        return typmod - 4
    return typmod if base in ("bit", "varbit") and typmod != -1 else _UNLIMITED


def _scale(base: str, typmod: int) -> int:
    if base in _CLOCKS or base == "interval":
        return 6 if typmod == -1 else typmod & 0xFFFF
    return typmod - 4 & 0xFFFF if base == "numeric" else _SCALES.get(base, 0)

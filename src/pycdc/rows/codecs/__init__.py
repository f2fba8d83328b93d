"""Everything pycdc knows about the values of Postgres' types, one file a type family.

Values arrive as text under DateStyle ISO, IntervalStyle postgres, TimeZone UTC, extra_float_digits 3, bytea_output
hex and lc_monetary C.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pycdc.config.values import HONEST, CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs import (
    binary,
    bits,
    dates,
    geometry,
    hstore,
    integers,
    intervals,
    numeric,
    shapes,
    text,
    timestamps,
)
from pycdc.rows.codecs.arrays import array_codec
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable
from pycdc.rows.codecs.defaults import default_datum
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.codecs.unknown import bit_array_codec, money_array_codec, unknown_codec

__all__ = ["Codec", "Text", "Unrepresentable", "codec_for", "default_datum", "is_unknown"]

_FACTORIES: Final[dict[str, Factory]] = {
    **integers.FAMILY,
    **numeric.FAMILY,
    **text.FAMILY,
    **bits.FAMILY,
    **binary.FAMILY,
    **dates.FAMILY,
    **timestamps.FAMILY,
    **intervals.FAMILY,
    **hstore.FAMILY,
    **geometry.FAMILY,
    **shapes.FAMILY,
}
_NO_ARRAYS: Final = frozenset(("money", "name", "interval", "varbit", "xml", "point"))
"""Types whose arrays Debezium drops."""
_SPACED: Final = ("int2vector", "oidvector")
"""They have elements, but no braces."""


def codec_for(
    type: PgType,  # noqa: A002
    values: ValuesConfig,
    compat: CompatibilityConfig,
    *,
    dimensions: int = 0,
    snapshot: bool = False,
) -> Codec | None:
    """Return the codec of a column; None where `values.unknown_types` drops it.

    `dimensions` is the column's declared number of array dimensions. `snapshot` is for rows that COPY reads instead of
    the WAL; it makes a difference only where `compat` asks for Debezium's.
    """
    options = CodecOptions(values, compat, snapshot, dimensions)
    if compat.geometric_types == "unknown" and (type.element or type).name in shapes.FAMILY:
        return unknown_codec(type, options)
    if type.kind == "e":
        return text.enum_codec(type, options)
    factory = _factory(type)
    if factory is not None:
        return factory(type, options)
    return _array(type, options) if _is_array(type) else unknown_codec(type, options)


def is_unknown(type: PgType, compat: CompatibilityConfig = HONEST) -> bool:  # noqa: A002
    """Return whether Debezium has no form for the type, so that `values.unknown_types` decides."""
    if compat.geometric_types == "unknown" and (type.element or type).name in shapes.FAMILY:
        return True
    if type.kind == "e" or _factory(type) is not None:
        return False
    return not _is_array(type) or _element_is_unknown(type.element) or _bits(type)


def _factory(pg: PgType) -> Factory | None:
    return _FACTORIES.get(pg.name) if pg.kind == ("r" if pg.name in text.RANGES else "b") else None


def _is_array(pg: PgType) -> bool:
    return pg.element is not None and pg.kind == "b" and pg.name not in _SPACED


def _bits(pg: PgType) -> bool:
    return pg.element is not None and pg.element.name == "bit"


def _element_is_unknown(element: PgType | None) -> bool:
    if element is None or (element.domain and element.kind != "e") or _is_array(element):
        return True
    return element.kind != "e" and (element.name in _NO_ARRAYS or _factory(element) is None)


def _array(pg: PgType, options: CodecOptions) -> Codec | None:
    element = pg.element
    if element is not None and element.name == "money" and element.typmod not in (-1, 2):
        return money_array_codec(element.typmod, options)
    if element is None or _element_is_unknown(element):
        return unknown_codec(pg, options)
    if options.dimensions > 1 and options.compat.arrays == "text":
        return text.text_codec(text.PLAIN, options)
    if element.domain and options.compat.enum_labels != "followed":
        # Debezium does not see the labels through the domain.
        element = replace(element, labels=())
    if element.typmod == -1:
        # An array's modifier is that of its elements.
        element = replace(element, typmod=pg.typmod)
    # Debezium reads arrays through JDBC in the stream too: infinite dates are those of its snapshot.
    item = codec_for(element, options.values, options.compat, snapshot=True)
    if item is None:
        return None
    return bit_array_codec(item, options) if _bits(pg) else array_codec(element, item, options)

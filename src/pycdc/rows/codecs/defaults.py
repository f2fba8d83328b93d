"""What a column's default expression becomes in the schema.

As Debezium 3.6.3 does: a literal is parsed, a function call becomes a stand-in of the type, anything else is no
default, and so is every default of a type outside `_TYPES`, of a domain, and of a numeric without a scale.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Final

from pycdc.model import PgType
from pycdc.rows.codecs.codec import Codec
from pycdc.rows.codecs.numeric import precision_and_scale
from pycdc.rows.schema import NO_DEFAULT, Datum

_FUNCTION = re.compile(r"\(?[A-Za-z0-9_.]+\(.*\)", re.DOTALL)
_NOW: Final = frozenset(("current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"))
_CAST = r"""(?:::(?:[\w .]|"[^"]*"|\(\d+(?:,\s*-?\d+)?\))+)"""
_QUOTED = re.compile(rf"B?'((?:[^']|'')*)'{_CAST}*", re.DOTALL)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)|\((-\d+(?:\.\d+)?)\)")
_TYPES: Final = frozenset(
    """
    bit varbit bool bpchar varchar text numeric float4 float8 int2 int4 int8
    json jsonb xml uuid date time timestamp timestamptz interval
    """.split()  # noqa: SIM905
)
_STAND_INS: Final = {
    "json": "{}",
    "jsonb": "{}",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "timestamptz": "1970-01-01 00:00:00+00",
    "numeric": "0",
}
"""Types for which a function's stand-in differs from `Codec.zero`, as Postgres prints it."""


def default_datum(expression: str, type: PgType, codec: Codec) -> Datum:  # noqa: A002
    """The default as a datum of the codec's schema, or NO_DEFAULT. `expression` is what pg_get_expr prints."""
    if type.domain or codec.schema.type == "struct":
        return NO_DEFAULT
    literal = _literal(expression.strip())
    if type.kind == "e":
        return NO_DEFAULT if literal is None or literal not in type.labels else literal
    if type.name not in _TYPES or type.kind != "b":
        return NO_DEFAULT
    if literal is not None:
        return _datum(literal, type, codec)
    return _stand_in(type, codec) if _calls(expression.strip()) else NO_DEFAULT


def _literal(expression: str) -> str | None:
    quoted = _QUOTED.fullmatch(expression)
    if quoted:
        return quoted[1].replace("''", "'")
    number = _NUMBER.fullmatch(expression)
    if number:
        return number[1] or number[2]
    return expression if expression in ("true", "false") else None


def _calls(expression: str) -> bool:
    return _FUNCTION.match(expression) is not None or expression.lower() in _NOW


def _stand_in(pg: PgType, codec: Codec) -> Datum:
    stand_in = _STAND_INS.get(pg.name)
    return codec.zero if stand_in is None else _datum(stand_in, pg, codec)


def _datum(literal: str, pg: PgType, codec: Codec) -> Datum:
    try:
        datum = codec.value(_as_printed(literal, pg).encode())
    except (ValueError, InvalidOperation):
        return NO_DEFAULT
    # JSON, in which schemas are written, has neither NaN nor infinity.
    return NO_DEFAULT if isinstance(datum, float) and not math.isfinite(datum) else datum


def _as_printed(literal: str, pg: PgType) -> str:
    """The literal as Postgres would print it in a column of the type."""
    if literal in ("infinity", "-infinity"):
        raise ValueError("no default is infinite")
    if pg.name == "bool":
        return {"true": "t", "false": "f"}.get(literal, literal)
    modifier = precision_and_scale(pg.typmod) if pg.name == "numeric" else None
    return _at_scale(literal, modifier[1]) if modifier else literal


def _at_scale(literal: str, scale: int) -> str:
    number = Decimal(literal)
    if not number.is_finite():
        return literal
    scaled = number.quantize(Decimal(1).scaleb(-scale))
    if scaled != number:
        raise ValueError("the default has more digits than the column's scale")
    return f"{scaled:f}"

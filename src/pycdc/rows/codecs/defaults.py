"""What a column's default expression becomes in the schema.

As Debezium 3.6.3 does: a literal is parsed, a function call becomes a stand-in of the type, anything else is no
default, and so is every default of a type outside `_TYPES`, of a domain, and of a numeric without a scale.
"""

from __future__ import annotations

import math
import re
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Final, Literal

from pycdc.model.change import PgType
from pycdc.observability.logger import get_logger
from pycdc.rows.codecs.codec import Codec
from pycdc.rows.codecs.numeric import precision_and_scale
from pycdc.rows.schema import NO_DEFAULT, Datum

log = get_logger()

MAX_DIGITS: Final = 200_000
"""More than a numeric of Postgres has."""
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


def default_datum(
    expression: str,
    type: PgType,  # noqa: A002
    codec: Codec,
    policy: Literal["stored", "debezium", "plain", "none"] = "debezium",
) -> Datum:
    """Return the default as a datum of the codec's schema, or NO_DEFAULT.

    `expression` is what pg_get_expr prints, `policy` is `CompatibilityConfig.column_defaults`.
    """
    datum = NO_DEFAULT if policy == "none" else _default(expression, type, codec, stored=policy != "debezium")
    if policy == "plain" and isinstance(datum, str) and datum.lstrip()[:1] in ("{", "["):
        return NO_DEFAULT
    return datum


def _default(expression: str, type: PgType, codec: Codec, *, stored: bool) -> Datum:  # noqa: A002
    if type.domain or codec.schema.type == "struct":
        return NO_DEFAULT
    literal = _literal(expression.strip())
    if type.kind == "e":
        return NO_DEFAULT if literal is None or literal not in type.labels else literal
    if type.name not in _TYPES or type.kind != "b":
        return NO_DEFAULT
    if literal is not None:
        return _datum(literal, type, codec, stored=stored)
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
    return codec.zero if stand_in is None else _datum(stand_in, pg, codec, stored=False)


def _datum(literal: str, pg: PgType, codec: Codec, *, stored: bool) -> Datum:
    try:
        datum = codec.value(_as_printed(literal, pg, stored=stored).encode())
    except (ValueError, InvalidOperation):
        # Not a value of the column's as it stands: its schema has no default then, which is never wrong.
        log.debug("a default has no form in the schema", type=pg.name)
        return NO_DEFAULT
    # JSON, in which schemas are written, has neither NaN nor infinity.
    return NO_DEFAULT if isinstance(datum, float) and not math.isfinite(datum) else datum


def _as_printed(literal: str, pg: PgType, *, stored: bool) -> str:
    """Return the literal as Postgres would print it in a column of the type."""
    if literal in ("infinity", "-infinity"):
        raise ValueError("no default is infinite")
    if pg.name == "bool":
        return {"true": "t", "false": "f"}.get(literal, literal)
    if stored and pg.name == "bpchar" and pg.typmod >= 4:
        return literal.ljust(pg.typmod - 4)
    if stored and pg.name in _CLOCKS and 0 <= pg.typmod < 6:
        return _at_precision(literal, pg.typmod)
    modifier = precision_and_scale(pg.typmod) if pg.name == "numeric" else None
    return _at_scale(literal, modifier[1], rounds=stored) if modifier else literal


_CLOCKS: Final = ("time", "timetz", "timestamp", "timestamptz")
_FRACTION = re.compile(r"(.*:\d\d)\.(\d+)(.*)", re.DOTALL)


def _at_precision(literal: str, digits: int) -> str:
    """Cut a time's fraction to `digits`. Raises ValueError.

    A time whose fraction is rounded away must not become the next second: that needs the calendar.
    """
    match = _FRACTION.fullmatch(literal)
    if match is None or len(match[2]) <= digits:
        return literal
    rounded = Decimal("0." + match[2]).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN)
    if rounded >= 1:
        raise ValueError("the default is rounded to another second")
    return match[1] + str(rounded)[1:] + match[3]


_EXACT: Final = Context(prec=MAX_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN)


def _at_scale(literal: str, scale: int, *, rounds: bool) -> str:
    number = Decimal(literal)
    if not number.is_finite():
        return literal
    # As Postgres stores it: half away from zero. A context of the usual 28 digits would refuse longer numbers.
    scaled = number.quantize(Decimal(1).scaleb(-scale, _EXACT), ROUND_HALF_UP, _EXACT)
    if scaled != number and not rounds:
        raise ValueError("the default has more digits than the column's scale")
    return f"{scaled:f}"

"""numeric and money.

A numeric with a scale is Connect's Decimal: the unscaled integer, big-endian two's complement, as short as it gets.
One without is Debezium's VariableScaleDecimal. Neither holds NaN or infinity.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from pycdc.model.change import PgType
from pycdc.rows.avro import SHORT, long, sized
from pycdc.rows.codecs.codec import Codec, Text, Unrepresentable, codec
from pycdc.rows.codecs.options import CodecOptions, Factory
from pycdc.rows.schema import DECIMAL, Datum, Schema

SPECIAL: Final = {b"NaN": "NAN", b"Infinity": "POSITIVE_INFINITY", b"-Infinity": "NEGATIVE_INFINITY"}
"""How Debezium spells in strings what is no number."""
VARIABLE: Final = Schema(
    "struct",
    name="io.debezium.data.VariableScaleDecimal",
    version=1,
    doc="Variable scaled decimal",
    fields=(("scale", Schema("int32")), ("value", Schema("bytes"))),
)
UNSCALED: Final = (
    "(SHORT[(t_n := (t_i.bit_length() >> 3) + 1) << 1] + t_i.to_bytes(t_n, 'big')"
    " if (t_i := int(v.replace(b'.', b''))) >= 0"
    " else SHORT[(t_n := ((~t_i).bit_length() >> 3) + 1) << 1] + t_i.to_bytes(t_n, 'big', signed=True))"
)
_NUMBER = re.compile(rb"(-?)(\d*)(?:\.(\d*))?")
_DIGITS = 4000
"""Beyond this many digits `int` refuses (sys.int_info.default_max_str_digits); Decimal does not."""


def precision_and_scale(typmod: int) -> tuple[int, int] | None:
    """Split numeric's modifier: precision in the high half, scale in eleven bits, signed since Postgres 15."""
    if typmod < 4:
        return None
    return (typmod - 4) >> 16 & 0xFFFF, ((typmod - 4 & 0x7FF) ^ 0x400) - 0x400


def minimal(number: int) -> bytes:
    """Big-endian two's complement, minimal length."""
    return number.to_bytes(((number if number >= 0 else ~number).bit_length() >> 3) + 1, "big", signed=True)


def split(text: Text) -> tuple[int, int]:
    """Split a plain decimal into unscaled integer and scale."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        if text in SPECIAL:
            raise Unrepresentable("a decimal holds neither NaN nor infinity")
        raise ValueError("not a number")
    sign, whole, fraction = match.groups()
    digits = sign + whole + (fraction or b"")
    return int(digits) if len(digits) < _DIGITS else int(Decimal(digits.decode())), len(fraction or b"")


def rescaled(number: int, scale: int, wanted: int) -> int:
    """Return the unscaled integer at another scale. Raises an error where digits would be lost."""
    unit: int = 10 ** abs(wanted - scale)
    if wanted >= scale:
        return number * unit
    quotient, rest = divmod(number, unit)
    if rest:
        raise Unrepresentable("the number has more digits than the column's scale")
    return quotient


def to_decimal(text: Text) -> Decimal:
    try:
        return Decimal(text.decode())
    except InvalidOperation:
        raise ValueError("not a number") from None


def decimal_schema(scale: int, precision: int | None) -> Schema:
    known = () if precision is None else (("connect.decimal.precision", str(precision)),)
    return Schema("bytes", name=DECIMAL, version=1, parameters=(("scale", str(scale)), *known))


def _numeric(pg: PgType, options: CodecOptions) -> Codec:
    if options.values.decimal == "string":
        return _text(pg, options)
    if options.values.decimal == "double":
        return codec(Schema("float64"), float, parse=to_decimal, zero=0.0)
    modifier = precision_and_scale(pg.typmod)
    return _variable() if modifier is None else _fixed(*modifier)


def _text(pg: PgType, options: CodecOptions) -> Codec:
    _, scale = precision_and_scale(pg.typmod) or (0, 0)

    def value(text: Text) -> str:
        return SPECIAL.get(text) or text.decode()

    def encode(text: Text) -> bytes:
        return sized(SPECIAL[text].encode()) if text in SPECIAL else sized(text)

    return codec(
        Schema("string"),
        value,
        parse=to_decimal,
        zero=f"{0:.{max(scale, 0)}f}",
        unavailable=options.values.unavailable_text,
        encode=encode,
    )


def _fixed(precision: int, scale: int) -> Codec:
    def value(text: Text) -> bytes:
        return minimal(rescaled(*split(text), scale))

    # Postgres prints exactly `scale` digits after the point, but for a negative scale, which appears as zeros.
    return codec(
        decimal_schema(scale, precision),
        value,
        parse=to_decimal,
        zero=b"\x00",
        encode=lambda text: sized(value(text)),
        inline=UNSCALED if scale >= 0 else None,
        names={"SHORT": SHORT} if scale >= 0 else None,
    )


def _stripped(text: Text) -> tuple[int, int]:
    return split(text.rstrip(b"0") if b"." in text else text)


def _variable() -> Codec:
    def value(text: Text) -> Datum:
        number, scale = _stripped(text)
        return {"scale": scale, "value": minimal(number)}

    def encode(text: Text) -> bytes:
        number, scale = _stripped(text)
        return long(scale) + sized(minimal(number))

    return codec(VARIABLE, value, parse=to_decimal, zero={"scale": 0, "value": b"\x00"}, encode=encode)


_NOT_MONEY = re.compile(rb"[^0-9.]")


def plain_money(text: Text) -> bytes:
    """``-$1,234.56`` or ``($1,234.56)`` as ``-1234.56``. The point is lc_monetary's of the pinned session (C)."""
    plain = _NOT_MONEY.sub(b"", text)
    if not plain.strip(b"."):
        raise ValueError("not an amount of money")
    return b"-" + plain if b"-" in text or b"(" in text else plain


def _half_up(number: int, scale: int, wanted: int) -> int:
    if wanted >= scale:
        return rescaled(number, scale, wanted)
    unit: int = 10 ** (scale - wanted)
    magnitude = (abs(number) + unit // 2) // unit
    return magnitude if number >= 0 else -magnitude


def amount(text: Text, digits: int) -> bytes:
    """Return the stored integer as an amount of a server whose lc_monetary has `digits` digits after the point.

    The text shows all digits of that integer, whatever its own point is. -1: the digits are those of the text.
    """
    plain = plain_money(text)
    if digits < 0:
        return plain
    stored = int(plain.replace(b".", b""))
    return f"{Decimal(stored).scaleb(-digits):f}".encode()


_AMOUNT = re.compile(rb"-?\$[\d,]+\.\d\d")


def amounts(text: Text, digits: int) -> bytes:
    """Return what `amount` returns, for each amount in the text of an array of money."""

    def rescaled_amount(match: re.Match[bytes]) -> bytes:
        plain = amount(match[0], digits)
        whole, point, fraction = plain.lstrip(b"-").partition(b".")
        sign = b"-" if plain.startswith(b"-") else b""
        return sign + b"$" + f"{int(whole):,}".encode() + point + fraction

    return _AMOUNT.sub(rescaled_amount, text)


def _money(pg: PgType, options: CodecOptions) -> Codec:
    digits = options.values.money_fraction_digits
    if digits is None:
        digits = 2 if pg.typmod < 0 else pg.typmod
    rounds = options.compat.unrepresentable == "null" or pg.typmod < 0

    def plain(text: Text) -> bytes:
        return amount(text, pg.typmod)

    def parse(text: Text) -> Decimal:
        return to_decimal(plain(text))

    if options.values.decimal == "string":
        zero = "0." + "0" * digits if digits else "0"
        return codec(Schema("string"), lambda text: plain(text).decode(), parse=parse, zero=zero, unavailable=zero)
    if options.values.decimal == "double":
        double = Schema("float64")
        return codec(double, lambda text: float(plain(text)), parse=parse, zero=0.0, unavailable=0.0)

    def value(text: Text) -> bytes:
        number, scale = split(plain(text))
        return minimal(_half_up(number, scale, digits) if rounds else rescaled(number, scale, digits))

    return codec(
        decimal_schema(digits, None),
        value,
        parse=parse,
        zero=b"\x00",
        unavailable=b"\x00",
        encode=lambda text: sized(value(text)),
    )


FAMILY: Final[dict[str, Factory]] = {"numeric": _numeric, "money": _money}

"""Python values as the text that Postgres writes for a column: the inverse of what `Images` shows.

A text of its own type is taken for every type, as Postgres prints it: what Python has no value for (``infinity``, years
beyond 9999, an interval with months) arrives as text and must be able to leave as text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import Column, PgType
from pycdc.rows.codecs import codec_for, is_unknown
from pycdc.rows.codecs.codec import Unrepresentable
from pycdc.rows.codecs.numeric import precision_and_scale

WriteText = Callable[[Any], str]
"""From a value, never None, to its text. Raises Unfit."""


class NotWritable(ValueError):
    """The column cannot hold the value. The message names kinds, never the value."""


class ColumnText:
    """Writes values of one column. Raises Unfit, also where no encoder of `values` could read what it wrote.

    A value without a representation passes where `compatibility.unrepresentable` says that it becomes NULL.
    """

    __slots__ = ("_codec", "_lenient", "plain")

    def __init__(self, column: Column, values: ValuesConfig, compatibility: CompatibilityConfig) -> None:
        self.plain: WriteText = _literal(column)
        codec = codec_for(column.type, values, compatibility, dimensions=column.dimensions)
        self._codec = None if codec is None or codec.always_null else codec
        self._lenient = compatibility.unrepresentable == "null"

    def __call__(self, value: Any) -> bytes:
        try:
            text = self.plain(value).encode()
        except UnicodeEncodeError:
            raise NotWritable("takes no text with lone surrogates") from None
        if b"\0" in text:
            raise NotWritable("takes no text with a NUL character")
        self._try(text, value)
        return text

    def _try(self, text: bytes, value: Any) -> None:
        if self._codec is None:
            return
        try:
            self._codec.encode(text)
        except Unrepresentable as error:
            if not self._lenient:
                raise NotWritable(f"cannot express the value: {error}") from None
        except (ValueError, LookupError, OverflowError, TypeError):
            raise NotWritable(f"takes no {type(value).__name__} like this one") from None


def _literal(column: Column) -> WriteText:
    pg = column.type
    if pg.element is not None and not is_unknown(pg) and column.dimensions <= 1:
        element = pg.element
        if element.typmod == -1 and pg.typmod != -1:
            element = PgType(element.oid, element.name, pg.typmod, element.kind, labels=element.labels)
        return _array(_literal(Column("", element)), ";" if element.name == "box" else ",")
    if pg.kind == "e":
        return _enum(pg)
    if pg.name == "numeric":
        return _numeric(pg)
    if pg.name == "money":
        return _money(pg.typmod)
    if pg.name in ("timestamp", "timestamptz", "time", "timetz"):
        return _rounded(_CLOCKS[pg.name], pg.typmod)
    return _LITERALS.get(pg.name, _text)


def _refused(value: object, wanted: str) -> NotWritable:
    return NotWritable(f"takes {wanted}, not {type(value).__name__}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    raise _refused(value, "str")


def _enum(pg: PgType) -> WriteText:
    def enum(value: Any) -> str:
        text = _text(value)
        if pg.labels and text not in pg.labels:
            raise NotWritable("takes one of its labels, and no other text")
        return text

    return enum


def _integer(bits: int, *, signed: bool = True) -> WriteText:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def integer(value: Any) -> str:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _refused(value, "int")
        if not low <= value <= high:
            raise NotWritable("takes no integer of that size")
        return str(int(value))

    return integer


def _boolean(value: Any) -> str:
    if isinstance(value, bool):
        return "t" if value else "f"
    raise _refused(value, "bool")


def _float(value: Any) -> str:
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise _refused(value, "float")
    number = float(value)
    return repr(number) if math.isfinite(number) else "NaN" if number != number else _infinite(number)


def _infinite(number: float | Decimal) -> str:
    return "Infinity" if number > 0 else "-Infinity"


def _plain(value: Any) -> str:
    """Return a decimal without an exponent."""
    if isinstance(value, bool) or not isinstance(value, Decimal | int):
        raise _refused(value, "Decimal or int")
    number = Decimal(value)
    if number.is_nan():
        return "NaN"
    return f"{number:f}" if number.is_finite() else _infinite(number)


def _numeric(pg: PgType) -> WriteText:
    modifier = precision_and_scale(pg.typmod)
    if modifier is None:
        return _plain
    precision, scale = modifier

    def numeric(value: Any) -> str:
        text = _plain(value)
        if text[-1] in "Ny":
            return text
        whole, _, fraction = text.partition(".")
        digits = fraction.rstrip("0")
        if len(digits) > max(scale, 0):
            raise NotWritable(f"takes no more than {max(scale, 0)} digits after the point")
        if len(whole.lstrip("-").lstrip("0")) > max(precision - scale, 0):
            raise NotWritable("takes no number of that size")
        return f"{whole}.{digits.ljust(scale, '0')}" if scale > 0 else whole

    return numeric


def _money(digits: int) -> WriteText:
    """Return how an amount is shown by a session whose lc_monetary is C, for the integer stored with `digits`."""

    def money(value: Any) -> str:
        whole, _, fraction = _plain(value).partition(".")
        if digits < 0 or digits == 2:
            return f"{whole}.{fraction.ljust(2, '0')}"
        if len(fraction.rstrip("0")) > digits:
            raise NotWritable(f"takes no more than {digits} digits after the point")
        sign, stored = whole[: whole.startswith("-")], whole.lstrip("-") + fraction[:digits].ljust(digits, "0")
        return f"{sign}{stored.zfill(3)[:-2]}.{stored.zfill(3)[-2:]}"

    return money


def _bytea(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex()
    raise _refused(value, "bytes")


def _bits(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str) and re.fullmatch("[01]*", value):
        return value
    raise _refused(value, "bool for one bit, else a str of 0 and 1")


def _uuid(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    try:
        return str(UUID(_text(value)))
    except ValueError as error:
        raise (error if isinstance(error, NotWritable) else NotWritable("takes a UUID")) from None


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise NotWritable("takes what JSON can express, and this cannot be") from None


def _date(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return value
    raise _refused(value, "date")


def _interval(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, timedelta):
        raise _refused(value, "timedelta")
    of_day = timedelta(seconds=value.seconds, microseconds=value.microseconds)
    if not value.days:
        return _clock((datetime.min + of_day).time())
    sign = "+" if value.days < 0 else ""
    clock = f" {sign}{_clock((datetime.min + of_day).time())}" if of_day else ""
    return f"{value.days} day{'' if value.days == 1 else 's'}{clock}"


def _clock(value: time) -> str:
    """Return a time without a zone, and without zeros at the end of the fraction."""
    text = value.replace(tzinfo=None).isoformat("microseconds").rstrip("0")
    return text.rstrip(".") if text[-1] == "." else text


def _timestamp(value: datetime) -> str:
    if value.tzinfo is not None:
        raise NotWritable("takes a datetime without a time zone")
    return f"{value.date().isoformat()} {_clock(value.time())}"


def _timestamptz(value: datetime) -> str:
    if value.utcoffset() is None:
        raise NotWritable("takes a datetime with a time zone")
    utc = value.astimezone(UTC)
    return f"{utc.date().isoformat()} {_clock(utc.time())}+00"


def _time(value: datetime) -> str:
    if value.tzinfo is not None:
        raise NotWritable("takes a time without a time zone")
    return _clock(value.time())


def _timetz(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is None:
        raise NotWritable("takes a time with an offset from UTC")
    seconds = round(offset.total_seconds())
    minutes, second = divmod(abs(seconds), 60)
    zone = f"{'-' if seconds < 0 else '+'}{minutes // 60:02d}"
    zone += f":{minutes % 60:02d}" if minutes % 60 or second else ""
    return f"{_clock(value.time())}{zone}" + (f":{second:02d}" if second else "")


_CLOCKS: Final[dict[str, Callable[[datetime], str]]] = {
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "time": _time,
    "timetz": _timetz,
}
_SOME_DAY: Final = date(2000, 1, 1)


def _rounded(write: Callable[[datetime], str], precision: int) -> WriteText:
    """Digits beyond the column's precision are rounded, as Postgres rounds them."""
    unit = 10 ** (6 - precision) if 0 <= precision <= 6 else 1
    wanted = time if write in (_time, _timetz) else datetime

    def rounded(value: Any) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, wanted):
            raise _refused(value, wanted.__name__)
        moment = value if isinstance(value, datetime) else datetime.combine(_SOME_DAY, value)
        try:
            later = moment + timedelta(microseconds=unit // 2)
            if wanted is time and later.date() != _SOME_DAY:
                later = moment
            return write(later.replace(microsecond=later.microsecond // unit * unit))
        except OverflowError:
            raise NotWritable("takes no time of that size") from None

    return rounded


def _hstore(value: Any) -> str:
    if not isinstance(value, dict):
        raise _refused(value, "dict of str")
    pairs = [(_quoted(_text(key)), "NULL" if item is None else _quoted(_text(item))) for key, item in value.items()]
    return ", ".join(f"{key}=>{item}" for key, item in pairs)


def _point(value: Any) -> str:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise _refused(value, "two floats")
    return f"({_float(value[0])},{_float(value[1])})"


def _vector(value: Any) -> str:
    if not isinstance(value, list | tuple):
        raise _refused(value, "list of float")
    return "[" + ",".join(map(_float, value)) + "]"


def _array(element: WriteText, delimiter: str) -> WriteText:
    def array(value: Any) -> str:
        if not isinstance(value, list | tuple):
            raise _refused(value, "list")
        return "{" + delimiter.join(map(item, value)) + "}"

    def item(value: Any) -> str:
        return "NULL" if value is None else array(value) if isinstance(value, list) else _quoted(element(value))

    return array


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_LITERALS: Final[dict[str, WriteText]] = {
    "int2": _integer(16),
    "int4": _integer(32),
    "int8": _integer(64),
    "oid": _integer(32, signed=False),
    "bool": _boolean,
    "float4": _float,
    "float8": _float,
    "bytea": _bytea,
    "bit": _bits,
    "varbit": _bits,
    "uuid": _uuid,
    "json": _json,
    "jsonb": _json,
    "date": _date,
    "interval": _interval,
    "hstore": _hstore,
    "point": _point,
    "vector": _vector,
    "halfvec": _vector,
}

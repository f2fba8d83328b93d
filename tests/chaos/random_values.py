"""Types of columns and random values of them, as SQL literals. Knows Postgres only, nothing of the product.

Each type says how two values of it are compared: by the text of an expression that is the same exactly where the
database holds the values to be the same.
"""

from __future__ import annotations

import json
import random
import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Generate = Callable[[random.Random], str]
"""A value's text, as the server reads it. None of them is NULL."""

LARGE = 2600
"""Characters or bytes beyond which a value of a table whose storage is EXTERNAL is TOASTed for certain."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """`compare` is SQL over ``{c}``. `key` types may stand in a primary key. `toast` makes a value that is TOASTed.

    `needs` is an extension, or an option under which alone every value survives, as `interval: string`.
    """

    sql: str
    generate: Generate
    compare: str = "{c}::text"
    key: bool = False
    toast: Generate | None = None
    needs: str = ""
    minimum: int = 15


def quoted(text: str) -> str:
    """The SQL literal of a text."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else "'" + escaped + "'"


def array(generate: Generate, most: int = 4) -> Generate:
    """A literal of an array of such values, NULLs among them."""

    def made(chance: random.Random) -> str:
        return _array_text(
            [None if chance.random() < 0.1 else generate(chance) for _ in range(chance.randint(0, most))]
        )

    return made


def full_array(generate: Generate, length: int) -> Generate:
    """A literal of an array of exactly so many values."""
    return lambda chance: _array_text([generate(chance) for _ in range(length)])


def _array_text(items: Sequence[str | None]) -> str:
    return (
        "{"
        + ",".join(
            "NULL" if one is None else '"' + one.replace("\\", "\\\\").replace('"', '\\"') + '"' for one in items
        )
        + "}"
    )


def _integer(bits: int) -> Generate:
    def made(chance: random.Random) -> str:
        span = chance.choice((4, bits - 1))
        return str(chance.randint(-(1 << span), (1 << span) - 1))

    return made


WORDS = (
    "",
    " ",
    "a",
    "A",
    "null",
    "NULL",
    "{}",
    "[1]",
    "true",
    "12e3",
    "1.10",
    "é",
    "🐘",
    "it's",
    'say "x"',
    "a\\b",
    "x,y",
    "\t",
    "__deleted",
)


def _text(chance: random.Random) -> str:
    return chance.choice(WORDS) + (str(chance.randint(0, 99)) if chance.random() < 0.5 else "")


def _short(length: int) -> Generate:
    return lambda chance: _text(chance)[:length]


def noise(chance: random.Random, length: int = LARGE) -> str:
    """Text that no compression makes short."""
    return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


def _double(chance: random.Random) -> str:
    if chance.random() < 0.2:
        return chance.choice(("NaN", "Infinity", "-Infinity", "0", "1e-320", "0.1"))
    return repr(struct.unpack("<d", struct.pack("<d", chance.uniform(-1e6, 1e6)))[0])


def _single(chance: random.Random) -> str:
    return repr(struct.unpack("<f", struct.pack("<f", chance.uniform(-1e3, 1e3)))[0])


def _number(digits: int, scale: int) -> Generate:
    def made(chance: random.Random) -> str:
        whole = chance.randint(0, 10 ** chance.randint(1, digits - scale) - 1)
        fraction = f".{chance.randint(0, 10**scale - 1):0{scale}d}" if scale else ""
        return ("-" if chance.random() < 0.3 else "") + f"{whole}{fraction}"

    return made


def _free_number(chance: random.Random) -> str:
    if chance.random() < 0.3:
        return chance.choice(
            ("0", "0.00", "1.10", "12345678901234567890123456789", "0.000000000000000000000000000001", "1e30")
        )
    return _number(chance.randint(2, 45), 1)(chance)


def _document(chance: random.Random) -> str:
    number = chance.choice(
        ("1", "1.10", "12345678901234567.89", "-0.000000000000000001", "123456789012345678901234567890")
    )
    text = json.dumps(_text(chance).replace("\t", " "), ensure_ascii=False)
    return chance.choice((f'{{"n": {number}, "t": {text}}}', number, text, "null", "true", f"[{number}, {text}]", "{}"))


def _day(chance: random.Random) -> str:
    return _date(chance, 1, 9999)


def _date(chance: random.Random, first: int = 1700, last: int = 2250) -> str:
    return f"{chance.randint(first, last):04d}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"


def _clock(digits: int) -> Generate:
    def made(chance: random.Random) -> str:
        fraction = f".{chance.randint(0, 10**digits - 1):0{digits}d}" if digits else ""
        return f"{chance.randint(0, 23):02d}:{chance.randint(0, 59):02d}:{chance.randint(0, 59):02d}{fraction}"

    return made


def _moment(digits: int, zone: str = "") -> Generate:
    """Its nanoseconds since 1970 are no more than 64 bits."""
    return lambda chance: f"{_date(chance)} {_clock(digits)(chance)}{zone}"


def _interval(chance: random.Random) -> str:
    return f"{chance.randint(-99, 99)} mons {chance.randint(-40, 40)} days {_clock(6)(chance)}"


def _span(chance: random.Random) -> str:
    return f"{chance.randint(0, 400)}:{_clock(6)(chance)[3:]}"


def _bytes(chance: random.Random) -> str:
    return "\\x" + chance.randbytes(chance.randint(0, 12)).hex()


def _bits(length: int) -> Generate:
    return lambda chance: "".join(chance.choices("01", k=length))


def _range(one: Callable[[random.Random], int], text: Callable[[int], str] = str) -> Generate:
    def made(chance: random.Random) -> str:
        if chance.random() < 0.1:
            return "empty"
        low, high = sorted((one(chance), one(chance)))
        return f"[{text(low)},{text(high)})"

    return made


def _uuid(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128)))


def _mood(chance: random.Random) -> str:
    return chance.choice(("sad", "ok", "very 'happy'"))


def _small(chance: random.Random) -> int:
    return chance.randint(-50, 50)


def _lexemes(chance: random.Random) -> str:
    return " ".join(sorted({f"'{noise(chance, 5)}'" for _ in range(3)}))


def _vector(length: int) -> Generate:
    return lambda chance: "[" + ",".join(_single(chance) for _ in range(length)) + "]"


def _big(generate: Generate, size: int) -> Generate:
    return full_array(generate, LARGE // size + 1)


ENUM = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'very ''happy''')"
DOMAINS = (
    "CREATE DOMAIN label AS text",
    "CREATE DOMAIN strict_label AS label CHECK (VALUE <> 'forbidden')",
    "CREATE DOMAIN amount AS numeric(12,3)",
    "CREATE DOMAIN document AS jsonb",
    "CREATE TYPE pair AS (a int, b text)",
)
COLLATION = "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"

SCALELESS = "(SELECT array_agg(trim_scale(x)) FROM unnest({c}) x)::text"
"""Arrays of numbers are equal whatever their scales."""
# Not among them, because Debezium's schemas cannot tell them and the capture refuses them by name: varbit, whose length
# no record tells, and NULL among the elements of an array of an enum.
TYPES: tuple[ColumnType, ...] = (
    ColumnType("smallint", _integer(16), key=True),
    ColumnType("int", _integer(32), key=True),
    ColumnType("bigint", _integer(64), key=True),
    ColumnType("boolean", lambda chance: chance.choice(("t", "f"))),
    ColumnType("oid", lambda chance: str(chance.getrandbits(32))),
    ColumnType("real", _single),
    ColumnType("float8", _double),
    ColumnType("money", lambda chance: _number(9, 2)(chance), "{c}::numeric::text"),
    ColumnType("bit(5)", _bits(5)),
    ColumnType("bit(1)", _bits(1)),
    ColumnType(
        "numeric",
        _free_number,
        "trim_scale({c})::text",
        key=True,
        toast=lambda c: "".join(c.choices("123456789", k=LARGE * 3)),
    ),
    ColumnType("numeric(38,10)", _number(38, 10), "trim_scale({c})::text"),
    ColumnType("numeric(5,0)", _number(5, 0), "trim_scale({c})::text", key=True),
    ColumnType("numeric(3,-2)", lambda chance: str(chance.randint(-999, 999) * 100)),
    ColumnType("numeric(2,4)", lambda chance: f"0.00{chance.randint(0, 99):02d}", "trim_scale({c})::text"),
    ColumnType("amount", _number(12, 3), "trim_scale({c})::text"),
    ColumnType("text", _text, key=True, toast=noise),
    ColumnType("varchar(10)", _short(10), key=True),
    ColumnType("char(5)", _short(5), key=True),
    ColumnType("name", _text),
    ColumnType("label", _text, toast=noise),
    ColumnType("strict_label", _text, toast=noise),
    ColumnType("mood", _mood),
    ColumnType("uuid", _uuid, key=True),
    ColumnType("json", _document, toast=lambda chance: json.dumps({"t": noise(chance)})),
    ColumnType("jsonb", _document, toast=lambda chance: json.dumps({"t": noise(chance)})),
    ColumnType("document", _document, toast=lambda chance: json.dumps({"t": noise(chance)})),
    ColumnType("bytea", _bytes, toast=lambda chance: "\\x" + chance.randbytes(LARGE).hex()),
    ColumnType("tsvector", _lexemes, toast=lambda c: " ".join(f"'{noise(c, 8)}'" for _ in range(400))),
    ColumnType(
        "pair", lambda chance: f"({_integer(16)(chance)},x{chance.randint(0, 9)})", toast=lambda c: f"(1,{noise(c)})"
    ),
    ColumnType("date", _day, key=True),
    ColumnType("time", _clock(6)),
    ColumnType("timetz", lambda chance: _clock(6)(chance) + "+00"),
    ColumnType("timestamp", _moment(6)),
    ColumnType("timestamp(3)", _moment(3)),
    ColumnType("timestamptz", _moment(6, "+00"), key=True),
    ColumnType("interval", _interval, needs="interval: string"),
    ColumnType("interval", _span, "extract(epoch FROM {c})::text"),
    ColumnType("inet", lambda c: f"10.0.{c.randint(0, 9)}.{c.randint(0, 255)}/{c.choice((24, 32))}"),
    ColumnType("cidr", lambda c: f"10.{c.randint(0, 9)}.0.0/16"),
    ColumnType("macaddr", lambda chance: chance.randbytes(6).hex(":")),
    ColumnType("point", lambda chance: f"({_integer(8)(chance)},{_integer(8)(chance)}.5)"),
    ColumnType("int4range", _range(_small)),
    ColumnType("numrange", _range(_small)),
    ColumnType("daterange", _range(lambda c: c.randint(1, 28), lambda day: f"2024-01-{day:02d}")),
    ColumnType("int[]", array(_integer(32)), toast=_big(lambda c: str(c.getrandbits(31)), 4)),
    ColumnType("smallint[]", array(_integer(16)), toast=_big(_integer(16), 2)),
    ColumnType("bigint[]", array(_integer(64)), toast=_big(lambda c: str(c.getrandbits(62)), 8)),
    ColumnType("text[]", array(_text), toast=full_array(lambda c: noise(c, 100), 30)),
    ColumnType("float8[]", array(_double), toast=_big(lambda c: repr(c.random()), 8)),
    ColumnType("real[]", array(_single), toast=_big(_single, 4)),
    ColumnType("boolean[]", array(lambda c: c.choice("tf")), toast=_big(lambda c: c.choice("tf"), 1)),
    ColumnType("numeric[]", array(_number(30, 4)), SCALELESS, toast=full_array(_number(30, 4), 300)),
    ColumnType("numeric(12,2)[]", array(_number(12, 2)), SCALELESS, toast=full_array(_number(12, 2), 400)),
    ColumnType("uuid[]", array(_uuid), toast=full_array(_uuid, 200)),
    ColumnType("date[]", array(_day), toast=full_array(_day, 800)),
    ColumnType("timestamptz[]", array(_moment(6, "+00")), toast=full_array(_moment(6, "+00"), 400)),
    ColumnType("bytea[]", array(_bytes), toast=full_array(lambda c: "\\x" + c.randbytes(100).hex(), 30)),
    ColumnType("mood[]", lambda chance: full_array(_mood, chance.randint(0, 4))(chance)),
    ColumnType("jsonb[]", array(_document), toast=full_array(lambda c: json.dumps({"t": noise(c, 100)}), 30)),
    ColumnType("citext", _text, key=True, needs="citext", toast=noise),
    ColumnType("ltree", lambda chance: f"a.b{chance.randint(0, 9)}", needs="ltree"),
    ColumnType("hstore", lambda chance: f'"a"=>"{chance.randint(0, 9)}", "b"=>NULL', needs="hstore"),
    ColumnType("vector", _vector(3), needs="vector", toast=_vector(LARGE // 4 + 1)),
)

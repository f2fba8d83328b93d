"""docs/types.md, computed by the codecs so that it cannot drift: ``python -m scripts.docs.types_page``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs import Codec, codec_for
from pycdc.rows.codecs.text import RANGES
from pycdc.rows.schema import avro_schema, json_datum

_MOOD: Final = PgType(0, "mood", kind="e", labels=("sad", "ok"))


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a table: the type as SQL names it, an example as Postgres prints it, and what else is set."""

    sql: str
    type: PgType
    text: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def codec(self) -> Codec:
        codec = codec_for(self.type, ValuesConfig(**self.values), CompatibilityConfig())
        if codec is None:
            raise LookupError(f"no codec for {self.sql}")
        return codec


def _row(sql: str, name: str, text: str, typmod: int = -1, **values: Any) -> _Row:
    return _Row(sql, PgType(0, name, typmod, "r" if name in RANGES else "b"), text, values)


def _numeric(precision: int, scale: int) -> int:
    return (precision << 16 | scale) + 4


def _array(sql: str, element: PgType, text: str) -> _Row:
    return _Row(sql, PgType(0, "_" + element.name, element=element), text)


_UUID: Final = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
_SCALARS: Final = (
    _row("boolean", "bool", "t"),
    _row("smallint", "int2", "-5"),
    _row("integer", "int4", "42"),
    _row("bigint", "int8", "9223372036854775807"),
    _row("oid", "oid", "4294967295"),
    _row("real", "float4", "1.5"),
    _row("double precision", "float8", "2.25"),
    _row("numeric(10,2)", "numeric", "1234.50", _numeric(10, 2)),
    _row("numeric", "numeric", "123.450"),
    _row("money", "money", "$1,234.56"),
    _row("bit(1)", "bit", "1", 1),
    _row("bit(5)", "bit", "10110", 5),
    _row("bit varying", "varbit", "1011001"),
    _row("char(5)", "bpchar", "ab   ", 9),
    _row("varchar, text, citext, name", "text", "Grüße"),
    _row("bytea", "bytea", "\\x00ff10"),
    _row("json, jsonb", "jsonb", '{"a": 1}'),
    _row("xml", "xml", "<a>1</a>"),
    _row("uuid", "uuid", _UUID),
    _Row("enum", _MOOD, "ok"),
    _row("date", "date", "2020-02-29"),
    _row("time(0) to time(3)", "time", "13:14:15.123", 3),
    _row("time, time(4) to time(6)", "time", "13:14:15.123456"),
    _row("timetz", "timetz", "13:14:15.12+05:30"),
    _row("timestamp(0) to timestamp(3)", "timestamp", "2020-02-29 13:14:15.123", 3),
    _row("timestamp, timestamp(4) to timestamp(6)", "timestamp", "2020-02-29 13:14:15.123456"),
    _row("timestamptz", "timestamptz", "2020-02-29 11:14:15.12+00"),
    _row("interval", "interval", "3 days 04:05:06.789"),
    _row("inet, cidr, macaddr, macaddr8", "inet", "192.168.1.5/24"),
    _row("int4range, int8range, numrange, tsrange, tstzrange, daterange", "int4range", "[1,10)"),
    _row("hstore", "hstore", '"a"=>"1", "b"=>NULL'),
    _row("ltree", "ltree", "Top.Science"),
    _row("tsvector", "tsvector", "'cat' 'fat'"),
    _row("isbn", "isbn", "0-393-04002-X"),
    _row("point", "point", "(1.5,2.5)"),
    _row("box, lseg, path, polygon", "box", "(2,2),(1,1)"),
    _row("circle", "circle", "<(1,2),3>"),
    _row("line", "line", "{1,-1,0}"),
    _row("geometry, geography (PostGIS)", "geometry", "0101000000000000000000F03F0000000000000040"),
    _row("vector (pgvector)", "vector", "[1,2.5]"),
    _row("halfvec (pgvector)", "halfvec", "[1,2.5]"),
    _array("integer[]", PgType(0, "int4"), "{1,NULL,3}"),
    _array("text[]", PgType(0, "text"), '{a,"b c"}'),
    _array("numeric(8,2)[]", PgType(0, "numeric", _numeric(8, 2)), "{1.50}"),
    _array("timestamptz[]", PgType(0, "timestamptz"), '{"2020-01-01 00:00:00+00"}'),
    _array("enum[]", _MOOD, "{sad,ok}"),
    _Row("any other (composite, tsquery, multirange …)", PgType(0, "addr", kind="c"), '("Main St",12345)'),
)
_MODES: Final = (
    _row("numeric(10,2)", "numeric", "1234.50", _numeric(10, 2), decimal="string"),
    _row("numeric(10,2)", "numeric", "1234.50", _numeric(10, 2), decimal="double"),
    _row("money", "money", "$1,234.56", decimal="string"),
    _row("date", "date", "2020-02-29", time="connect"),
    _row("time", "time", "13:14:15.123456", time="connect"),
    _row("timestamp", "timestamp", "2020-02-29 13:14:15.123456", time="connect"),
    _row("time(3)", "time", "13:14:15.123", 3, time="adaptive_microseconds"),
    _row("time(3)", "time", "13:14:15.123", 3, time="microseconds"),
    _row("timestamp(3)", "timestamp", "2020-02-29 13:14:15.123", 3, time="microseconds"),
    _row("time", "time", "13:14:15.123456", time="nanoseconds"),
    _row("timestamp", "timestamp", "2020-02-29 13:14:15.123456", time="nanoseconds"),
    _row("date", "date", "2020-02-29", time="isostring"),
    _row("time", "time", "13:14:15.120000", time="isostring"),
    _row("timestamp", "timestamp", "2020-02-29 13:14:15.12", time="isostring"),
    _row("date", "date", "0044-03-15 BC", time="structured"),
    _row("time(3)", "time", "13:14:15.12", 3, time="structured"),
    _row("timetz", "timetz", "13:14:15+05:30", time="structured"),
    _row("timestamp", "timestamp", "2020-02-29 13:14:15.12", time="structured"),
    _row("timestamptz", "timestamptz", "2020-02-29 13:14:15.12+00", time="structured"),
    _row("interval", "interval", "1 year 3 days 04:05:06.789", time="structured"),
    _row("interval", "interval", "1 year 3 days 04:05:06.789", interval="string"),
    _row("hstore", "hstore", '"a"=>"1", "b"=>NULL', hstore="map"),
    _row("bytea", "bytea", "\\x00ff10", binary="base64"),
    _row("bytea", "bytea", "\\x00ff10", binary="hex"),
)

_INTRODUCTION: Final = """\
# Types

What becomes of a column's value: its Connect type and semantic name, its Avro schema, its JSON form, and the Python
value that `Change.before` and `Change.after` show. All of it is Debezium's, and so are the bytes. This page is
computed by the codecs: `python -m scripts.docs.types_page > docs/types.md`.

A column that may be NULL is a union of null and the type. A domain is its base type. JSON bytes are base64.
"""
_LIMITS: Final = """\
## Values without a form

- **NaN and infinity in a numeric**, unless `decimal` is `string` or `double`; **timestamps beyond 64 bits** (year
  294247 in microseconds, 2262 in nanoseconds); **intervals beyond 64 bits of microseconds**; **several dimensions in a
  column of one**; **NULL in an array of enums**; **an empty varbit(1)**: `compatibility.unrepresentable` decides.
- **infinity**: timestamptz writes `infinity` and `-infinity`; timestamp the ends of a 64-bit integer of
  microseconds, 9223372036825200000 and -9223372036832400000 in milliseconds; date the ends of a 32-bit integer;
  Debezium's numbers under `compatibility.infinite_timestamps` and `infinite_dates`.
- **24:00:00** is 86400000000 microseconds, in `timetz` and in ISO strings of `time` 24:00:00, hour 24 of a structure
  (`compatibility.end_of_day`).
- **box, lseg, path, polygon, circle, line** are optional even in a NOT NULL column, and NULL where a TOASTed value was
  not sent, as Debezium declares and writes them. `wkb` is well-known binary; `extensions` names the type, tells whether
  a path is closed, and has `closed` with a polygon whose last point is its first again (not under
  `compatibility: debezium`).
- **Years before 1 and after 9999** are exact in the proleptic Gregorian calendar; Python, which has no such years,
  gets the text.
- **Types marked "any other"**, and arrays of money, name, interval, bit, varbit, xml, point, domains and the like are
  text or absent, by `values.unknown_types`.
- **A TOASTed value that was not sent** is `values.unavailable` where the type holds text or bytes, and in arrays of
  text, varchar, char(n), json, uuid, bytea, integer, bigint and date, as Debezium writes it; NULL, the default or zero
  for other types. Whatever the type, the record's header `__pycdc.unavailable` names its field.
"""


def types_markdown() -> str:
    """The whole page."""
    modes = [(f"{row.sql}, `{option}: {value}`", row) for row in _MODES for option, value in row.values.items()]
    return "\n".join(
        (
            _INTRODUCTION,
            "## By default\n",
            _table([(row.sql, row) for row in _SCALARS]),
            "## Under `values`\n",
            _table(modes),
            _LIMITS,
        )
    )


def _table(rows: list[tuple[str, _Row]]) -> str:
    head = "| Postgres | Connect | Avro | example | JSON | Python |\n|---|---|---|---|---|---|\n"
    return head + "".join(_line(title, row) for title, row in rows)


def _line(title: str, row: _Row) -> str:
    codec, text = row.codec, row.text.encode()
    connect = codec.schema.type + (f" `{codec.schema.name}`" if codec.schema.name else "")
    datum = json_datum(codec.schema, codec.value(text))
    cells = (title, connect, _code(_json(avro_schema(codec.schema))), _code(row.text), _code(_json(datum)))
    return f"| {' | '.join(cells)} | {_code(repr(codec.parse(text)))} |\n"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(types_markdown())

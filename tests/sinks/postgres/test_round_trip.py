"""What the capture writes of a value is that value again, or refused with the column's name; the server compares.

Every type in every mode and format, event by event and by columns: no value may come out as another one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from psycopg import sql

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.connectors.kafka.columnar_decoder import ColumnarDecoder
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.engine_interfaces import NotColumnar
from pycdc.model.event import Event, FieldPath, Partition
from pycdc.rows.avro import writer
from pycdc.rows.codecs import codec_for
from pycdc.rows.codecs.codec import Unrepresentable
from pycdc.rows.column_presence import ColumnPresence
from pycdc.rows.column_readings import reading
from pycdc.rows.schema import Schema, avro_text, connect_json, json_datum
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_columns import array_for
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.target_tables import read_table
from tests.generated_examples import examples
from tests.rows.codecs import codec_texts as texts

PINNED = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c lc_monetary=C -c extra_float_digits=3"
PRESENCE = ColumnPresence("__debezium_unavailable_value")
TYPES = """CREATE TYPE mood AS ENUM ('sad', 'it''s, "ok"'); CREATE DOMAIN price AS numeric(10,3);
CREATE DOMAIN document AS jsonb; CREATE DOMAIN document_again AS document; CREATE DOMAIN bag AS int[];"""


@dataclass(frozen=True)
class Of:
    """Values of a type: picked by hand, and generated."""

    type: str
    picked: tuple[str, ...] = ()
    generated: SearchStrategy[str] | None = None


def _ints(bits: int) -> SearchStrategy[str]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1).map(str)


def _bits(least: int, most: int) -> SearchStrategy[str]:
    return st.text("01", min_size=least, max_size=most)


LONG = "9" * 1200 + "." + "123456789" * 130
JSONS = texts.JSONS.filter(lambda text: "\\u0000" not in text)
OF = [
    Of("smallint", ("-32768", "0", "32767"), _ints(16)),
    Of("bigint", ("-9223372036854775808", "9223372036854775807"), _ints(64)),
    Of("oid", ("0", "4294967295")),
    Of("real", ("NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e+38"), texts.SINGLES),
    Of("float8", ("NaN", "Infinity", "-Infinity", "1e-320", "1.7976931348623157e308"), texts.FLOATS),
    Of("boolean", ("true", "false")),
    Of("bit(1)", ("0", "1")),
    Of("bit(13)", ("0000000000000", "1010101010101"), _bits(13, 13)),
    Of("varbit(20)", ("", "1", "1011001", "0000000010000000"), _bits(0, 20)),
    Of("bit(3)[]", ("{101,NULL}",)),
    Of("money", ("0", "-92233720368547758.08", "92233720368547758.07", "-0.01", "1234.50"), texts.MONEY),
    Of("numeric", ("0", "-0.000", "1e131071", "1e-16383", LONG, "-" + LONG, "12345678901234567890123456789", "1234"),
       texts.number()),
    Of("numeric", ("NaN", "Infinity", "-Infinity")),
    Of("numeric(38,10)", ("0", "-1", "9999999999999999999999999999.9999999999"), texts.fixed(38, 10)),
    Of("numeric(10,2)", ("12.34", "1234.00", "-0.01"), texts.fixed(10, 2)),
    Of("numeric(3,-2)", ("12300", "-99900", "0")),
    Of("numeric(2,4)", ("0.0012", "-0.0099", "0")),
    Of("numeric(1000,3)", ("9" * 997 + ".999", "-0.001"), texts.fixed(1000, 3)),
    Of("price", ("0.001", "-9999999.999"), texts.fixed(10, 3)),
    Of("text", ("", " ", "NULL", "123", "true", "\\N", '{"a":1}', "é🐘\u202e"), texts.TEXTS),
    Of("varchar(10)", ("", "NULL", "12e3")),
    Of("uuid", ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",), texts.UUIDS),
    Of("json", ('{"a": 1, "a": 1e400}', '"x"', " [ ] ", "null", "123", "12345678901234567.89"), JSONS),
    Of("jsonb", ('{"b": 1, "a": [1.10]}', "null", '"123"', "123", "true", "12345678901234567890.12"), JSONS),
    Of("document_again", ('{"a": 1}', '"123"', "123", "null")),
    Of("mood", ("sad", 'it\'s, "ok"')),
    Of("bytea", ("", "\\x00ff5c27", "\\xdeadbeef", "\\x31323334"), texts.BYTES),
    Of("date", ("0001-03-15 BC",)),
    Of("date", ("4713-01-01 BC", "0044-03-15 BC", "0001-01-01", "5874897-12-31", "infinity", "-infinity"), texts.DATES),
    Of("time", ("00:00:00", "23:59:59.999999", "00:00:00.1"), texts.TIMES),
    Of("time", ("24:00:00",)),
    Of("time(3)", ("24:00:00", "12:34:56.789"), texts.TIMES),
    Of("timetz", ("12:00:00.5+05:45", "23:00:00-02", "00:00:00+00"), texts.TIMETZ),
    Of("timestamp", ("4713-01-01 00:00:00 BC", "0001-12-31 23:59:59.999999 BC", "1969-12-31 23:59:59.9", "infinity"),
       texts.timestamps()),
    Of("timestamp(3)", ("0044-03-15 12:00:00.5 BC", "1969-12-31 23:59:59.999", "-infinity"), texts.timestamps(3)),
    Of("timestamp(0)", ("2020-02-29 13:14:15", "infinity"), texts.timestamps(0)),
    Of("timestamptz", ("0001-03-15 12:00:00+00 BC",)),
    Of("timestamptz", ("0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59+00", "10000-01-01 00:00:00+00", "infinity"),
       texts.zoned()),
    Of("timestamptz(3)", ("2020-02-29 13:14:15.1234+05:45", "-infinity"), texts.zoned(3)),
    Of("interval", ("0", "3 seconds", "-00:00:00.000001", "27 days"), None),
    Of("interval", ("1 mon", "1 year -2 mons +3 days -04:05:06.789", "34 years", "1000:00:00"), texts.INTERVALS),
    Of("inet", ("192.168.1.5/24", "::1")),
    Of("point", ("(0,0)", "(-1.5,1e300)", "(NaN,Infinity)"), texts.POINTS),
    Of("int4range", ("empty", "[1,10)")),
    Of("int[]", ("{}", "{1,NULL,-3}"), texts.arrays(_ints(32))),
    Of("bag", ("{1,NULL,2}",)),
    Of("int[][]", ("{{1,2},{3,NULL}}", "{}", "{1}")),
    Of("text[]", ('{NULL,"NULL","",null}', '{"a,b","{}","\\"","\\\\"}'), texts.arrays(texts.TEXTS)),
    Of("numeric(8,2)[]", ("{1.5,NULL,-0.01}",), texts.arrays(texts.fixed(8, 2))),
    Of("numeric[]", ("{1.50,NULL,1e40,12345678901234567890123456789}",), texts.arrays(texts.number())),
    Of("boolean[]", ("{t,f,NULL}",)),
    Of("float8[]", ("{NaN,-Infinity,1e-320,NULL}",), texts.arrays(texts.FLOATS)),
    Of("date[]", ('{"0044-03-15 BC",infinity,NULL,2020-02-29}',), texts.arrays(texts.DATES)),
    Of("timestamp[]", ('{"0044-03-15 12:00:00 BC",infinity,NULL}',), texts.arrays(texts.timestamps())),
    Of("timestamptz[]", ('{"2020-01-01 00:00:00+05:45",-infinity,"0044-03-15 12:00:00+00 BC"}',),
       texts.arrays(texts.zoned())),
    Of("uuid[]", ("{00000000-0000-0000-0000-000000000000,NULL}",)),
    Of("jsonb[]", ('{"{\\"a\\": 1}",NULL,"null","\\"123\\"","123"}',), texts.arrays(JSONS)),
    Of("bytea[]", ('{"\\\\x00ff","",NULL}',)),
    Of("interval[]", ('{"3 seconds",NULL}',)),
    Of("mood[]", ('{sad,"it\'s, \\"ok\\""}',)),
]  # fmt: skip
MODES: list[dict[str, Any]] = [
    {},
    {"decimal": "string", "time": "microseconds", "interval": "string", "binary": "base64"},
    {"decimal": "double", "time": "nanoseconds", "binary": "hex"},
    {"time": "isostring", "binary": "base64-url-safe"},
    {"time": "connect", "hstore": "map"},
    {"time": "adaptive_microseconds"},
]
FORMATS = ("avro", "json_schema", "json")
CONTRIB = [
    Of("hstore", ("", '"a"=>NULL, "b"=>"NULL", ""=>"\\"\\\\"'), texts.HSTORES),
    Of("citext", ("", "GrÜße")),
    Of("ltree", ("Top.Science",)),
]


def lossy(of: Of, values: ValuesConfig) -> str:
    """SQL over ``{v}``: what the capture's mode leaves of a value."""
    base = of.type.partition("(")[0].removesuffix("[]")
    if values.decimal == "double" and base in ("numeric", "price", "money"):
        return "{v}::text::numeric[]::float8[]" if of.type.endswith("[]") else "{v}::text::numeric::float8"
    if base == "money" and values.decimal == "double":
        return "{v}::numeric::float8"
    if values.time == "connect" and base in ("time", "timestamp"):
        if not of.type.endswith("[]"):
            return "date_trunc('milliseconds', {v})"
        return "ARRAY(SELECT date_trunc('milliseconds', x) FROM unnest({v}) WITH ORDINALITY AS u(x, n) ORDER BY n)"
    if values.time == "isostring" and base == "time":
        return "'2000-01-01'::timestamp::time + {v}::interval"  # 24:00:00 becomes 00:00:00
    return "{v} AT TIME ZONE 'UTC'" if base == "timetz" else "{v}"


@dataclass
class Column:
    """A column as both sides see it."""

    of: Of
    type: Any
    dimensions: int
    target: TargetColumn


class Server:
    def __init__(self, dsn: str, of: list[Of], extensions: tuple[str, ...] = ()) -> None:
        self.columnar: set[str] = set()
        """Types of which columns wrote a value."""
        self.connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True, options=PINNED)
        for extension in extensions:
            self.connection.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(extension)))
        self.connection.execute(TYPES)
        listed = ", ".join(f"c{number} {one.type}" for number, one in enumerate(of))
        self.connection.execute(f"CREATE TABLE t (id int PRIMARY KEY, {listed})".encode())
        target = read_table(self.connection, "t")
        assert target is not None
        facts = self.connection.execute(
            "SELECT atttypid, atttypmod, attndims FROM pg_attribute"
            " WHERE attrelid = 't'::regclass AND attnum > 1 ORDER BY attnum"
        ).fetchall()
        self.columns = []
        with Catalog(dsn) as catalog:
            for number, (one, (oid, typmod, dimensions)) in enumerate(zip(of, facts, strict=True)):
                kind = catalog.column_type(oid, typmod)
                self.columns.append(Column(one, kind, dimensions, target.columns[f"c{number}"]))

    def texts(self, column: Column, values: list[str]) -> list[str]:
        """What the type makes of the values, and how it prints them; those that it does not have are left out."""
        query = f"SELECT format('%%s', (%s)::{column.of.type})".encode()
        out = []
        for value in values:
            try:
                out += [row[0] for row in self.connection.execute(query, (value,))]
            except psycopg.DataError:
                continue
        return out

    def differing(self, column: Column, pairs: list[tuple[str, str]], told: str) -> list[tuple[str, str]]:
        kind = column.of.type
        come = "a::numeric::money" if column.target.base == "money" else f"a::{kind}"
        same = "({0})::text = ({1})::text OR ({0}) IS NOT DISTINCT FROM ({1})"
        if column.target.base in ("json", "point"):
            same = "({0})::text = ({1})::text"
        query = f"SELECT a, b FROM unnest(%s::text[], %s::text[]) AS u(a, b) WHERE NOT ({same})".format(
            told.format(v=come), told.format(v=f"b::{kind}")
        )
        try:
            return list(self.connection.execute(query.encode(), ([a for a, _ in pairs], [b for _, b in pairs])))
        except psycopg.Error:
            return [] if len(pairs) < 2 else [each for pair in pairs for each in self.differing(column, [pair], told)]


@pytest.fixture
def server(database: str) -> Iterator[Server]:
    server = Server(database, OF)
    yield server
    server.connection.close()


def record(column: Column, values: ValuesConfig, form: str, text: str, before: bool) -> tuple[bytes, str, Schema]:
    """A record of one value, in an envelope or flat. Raises Unrepresentable where the capture has no form for it."""
    codec = codec_for(column.type, values, CompatibilityConfig(), dimensions=column.dimensions)
    assert codec is not None
    row = Schema("struct", name="Value", fields=(("id", Schema("int32")), ("c", codec.schema.as_optional())))
    datum: Any = {"id": 1, "c": codec.value(text.encode())}
    schema = row
    if before:
        ends = (("before", row.as_optional()), ("after", row.as_optional()), ("op", Schema("string")))
        schema, datum = Schema("struct", name="Envelope", fields=ends), {"before": None, "after": datum, "op": "c"}
    if form == "avro":
        return b"\0\0\0\0\1" + writer(schema)(datum), avro_text(schema), schema
    payload = json_datum(schema, datum)
    told = {"schema": connect_json(schema), "payload": payload} if form == "json_schema" else payload
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode(), "", schema


class OneColumn:
    """A target of one column; it keeps the array."""

    def __init__(self, fields: tuple[FieldPath, ...], target: TargetColumn) -> None:
        self.key, self.take = fields[:1], ("id", "c")
        self._array = array_for(fields[1], target, PRESENCE)

    def load(self, rows: list[Any], removals: int, *, own_keys: bool) -> Any:
        return self._array([row[1] for row in rows])


class OneTarget:
    def __init__(self, target: TargetColumn) -> None:
        self._target = target
        self._made: OneColumn | None = None

    def target(self, topic: str, fields: tuple[FieldPath, ...]) -> OneColumn:
        self._made = self._made or OneColumn(fields, self._target)
        return self._made


def is_lost(column: Column, told: ValuesConfig | None, envelope: bool, options: ValuesConfig, form: str) -> bool:
    """What is meant by telling so: hours for months, and that a flat row of JSON is an application's."""
    if column.target.base == "interval" and told is not None and options.interval == "numeric":
        return True
    documents = column.target.base in ("json", "jsonb") or column.target.element in ("json", "jsonb")
    return documents and form == "json" and told is None and not envelope


def check(server: Server, column: Column, values: list[str], mode: dict[str, Any], form: str) -> int:
    """How many values were the same again; the others were refused."""
    options, pairs = ValuesConfig(**mode), []
    for text in server.texts(column, values):
        for told, envelope in itertools.product((None, options), (True, False)):
            if not is_lost(column, told, envelope, options, form):
                try:
                    data, schema, _ = record(column, options, form, text, envelope)
                except Unrepresentable:
                    continue
                decoder = Decoder(lambda number, schema=schema: schema, values=told)  # type: ignore[misc]
                event = decoder.event(Partition("t", 0), 0, 0, None, data)
                found = arrived(event, column)
                if found is not None:
                    pairs.append((found, text))
                if form == "avro" and told is None:
                    pairs += [(one, text) for one in columnar(server, decoder, column, data, found)]
    assert server.differing(column, pairs, lossy(column.of, options)) == []
    return len(pairs)


def arrived(event: Event, column: Column) -> str | None:
    if event.problem is not None:
        assert "field c" in event.problem, event.problem
        return None
    assert event.row is not None
    try:
        text = reading(event.forms).text(event.row["c"], column.target)
    except Unwritable as refused:
        _assert_named(refused)
        return None
    assert text is not None
    return text


def _assert_named(refused: Unwritable) -> None:
    assert str(refused).startswith("column c"), refused


def columnar(server: Server, decoder: Decoder, column: Column, data: bytes, plain: str | None) -> list[str]:
    """The value of a columnar array; none where there is no such path."""
    try:
        array, _ = ColumnarDecoder(decoder, OneTarget(column.target)).part("t", [None, None], [data, data])
    except NotColumnar:
        return []
    if column.target.category == "A":
        return []  # an array of arrays does not unnest into its elements
    kind = "numeric" if column.target.base == "money" else column.of.type
    try:
        (first,), (second,) = server.connection.execute(f"SELECT unnest(%s::{kind}[])::text".encode(), (array,))
    except psycopg.DataError:
        return []  # the batch goes event by event
    assert first == second
    assert plain is not None, "columns write what events refuse"
    server.columnar.add(column.of.type)
    return [first]


@pytest.mark.pg("newest")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(mode.values()) or "default")
def test_no_value_arrives_as_another_one(server: Server, mode: dict[str, Any], form: str) -> None:
    for column in server.columns:
        count = check(server, column, list(column.of.picked), mode, form)
        late = column.of.picked[0] in ("1 mon", "NaN") or column.target.base == "varbit"
        if form != "json" and mode.get("time") != "nanoseconds" and not late:
            assert count, f"nothing arrived of {column.of.type}"
    if form == "avro":
        assert {"bigint", "text", "jsonb", "date", "timestamp", "timestamptz", "inet", "mood"} <= server.columnar


@examples(4, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_generated_value_arrives_as_another_one(server: Server, data: st.DataObject) -> None:
    mode, form = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(FORMATS))
    for column in server.columns:
        if column.of.generated is not None:
            check(server, column, data.draw(st.lists(column.of.generated, max_size=4)), mode, form)


@pytest.mark.parametrize("form", FORMATS)
def test_no_value_of_an_extension_arrives_as_another_one(contrib_database: str, form: str) -> None:
    server = Server(contrib_database, CONTRIB, ("hstore", "citext", "ltree"))
    for mode in ({}, {"hstore": "map"}):
        for column in server.columns:
            assert check(server, column, list(column.of.picked), mode, form)
    server.connection.close()

"""Every type on real servers: what the snapshot and the stream write is the same, and is what the server says.

The role that captures has settings of its own for everything that the text of a value depends on (`ODD_SETTINGS`):
nothing here may depend on them.
"""

from __future__ import annotations

import io
import json
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import fastavro
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.snapshot.copy_reader import copy_rows
from pycdc.errors import ConversionError
from pycdc.model.change import Batch, Column, Op, Run, Table, Transaction
from pycdc.observability.progress import Progress
from pycdc.rows.codecs import codec_for
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.serializer import Serializer
from tests.generated_examples import examples
from tests.recording import Schemas, plain
from tests.rows.codecs import codec_texts as texts
from tests.services.postgres import PostgresServer, database_name

ODD_SETTINGS = {
    "datestyle": "German, DMY",
    "intervalstyle": "sql_standard",
    "timezone": "Asia/Kathmandu",
    "extra_float_digits": "-3",
    "bytea_output": "escape",
    "search_path": "odd, public",
    "quote_all_identifiers": "on",
    "statement_timeout": "7s",
    "default_transaction_isolation": "serializable",
    "xmloption": "document",
}
PINNED = "DateStyle=ISO IntervalStyle=postgres TimeZone=UTC extra_float_digits=3"


@dataclass(frozen=True)
class Of:
    """Values of one type: picked by hand, and generated. `exact` is SQL over ``{c}`` that yields the Connect value."""

    type: str
    picked: Sequence[str]
    generated: SearchStrategy[str] | None = None
    exact: str = ""


def _ints(bits: int) -> SearchStrategy[str]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1).map(str)


def _bits(least: int, most: int) -> SearchStrategy[str]:
    return st.text("01", min_size=least, max_size=most)


def _range(items: SearchStrategy[Any]) -> SearchStrategy[str]:
    # Sorted as values, so that the lower bound is one.
    pairs = st.tuples(items, items).map(sorted)
    return st.builds(
        lambda pair, left, right: f"{left}{pair[0]},{pair[1]}{right}",
        pairs,
        st.sampled_from("[("),
        st.sampled_from("])"),
    )


DAYS = st.dates()
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
MACS8 = st.binary(min_size=8, max_size=8).map(lambda raw: raw.hex(":"))
ADDRESSES = st.ip_addresses().map(str)
JSONB = texts.JSONS.filter(lambda text: "\\u0000" not in text)
SHORT_TEXTS = texts.TEXTS.filter(lambda text: len(text) <= 5)
DAYS_OF = "({c} - date '1970-01-01')"
MICROS_OF = "(extract(epoch FROM {c}) * 1000000)::int8"
LONG_NUMBER = "9" * 1200 + "." + "123456789" * 130

FAMILIES: dict[str, list[Of]] = {
    "numbers": [
        Of("smallint", ["-32768", "0", "32767"], _ints(16), "{c}"),
        Of("int", ["-2147483648", "-1", "8191", "8192", "2147483647"], _ints(32), "{c}"),
        Of("bigint", ["-9223372036854775808", "9223372036854775807"], _ints(64), "{c}"),
        Of("oid", ["0", "4294967295"], st.integers(0, 2**32 - 1).map(str), "{c}::int8"),
        Of("real", ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e+38", "0.1"], texts.SINGLES),
        Of("float8", ["NaN", "Infinity", "-Infinity", "-0", "1e-320", "1.7976931348623157e308"], texts.FLOATS),
        Of("boolean", ["true", "false"], st.sampled_from(["t", "f"]), "{c}"),
        Of("bit(1)", ["0", "1"], _bits(1, 1), "{c} = b'1'"),
        Of("bit(13)", ["0000000000000", "1010101010101"], _bits(13, 13)),
        Of("varbit(20)", ["", "1", "0000000010000000"], _bits(0, 20)),
        Of("bit varying", ["", "0" * 700 + "1"], _bits(0, 100)),
        Of("money", ["0", "-92233720368547758.08", "92233720368547758.07", "-0.01"], texts.MONEY),
    ],
    "decimals": [
        Of("numeric", ["0", "-0.000", "1e131071", "1e-16383", LONG_NUMBER, "-" + LONG_NUMBER], texts.number()),
        Of("numeric(38,10)", ["0", "-1", "9999999999999999999999999999.9999999999"], texts.fixed(38, 10)),
        Of("numeric(5,0)", ["-99999", "-128", "-129", "127", "128"], texts.fixed(5, 0)),
        Of("numeric(3,-2)", ["12300", "-99900", "0"]),
        Of("numeric(1000,3)", ["9" * 997 + ".999", "-0.001"], texts.fixed(1000, 3)),
    ],
    "texts": [
        Of("text", ["", " ", "NULL", "\\N", "\t\n\r\b\f\v\\", "é🐘\u202e", "x" * 20_000], texts.TEXTS, "{c}"),
        Of("varchar(10)", ["", "NULL", "🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘"], SHORT_TEXTS, "{c}"),
        Of("char(5)", ["", "a", "ab  ", "🐘"], SHORT_TEXTS),
        Of('"char"', ["a", " ", "", "\\377"]),
        Of("name", ["", "order", "N" * 63], SHORT_TEXTS),
        Of("uuid", ["00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], texts.UUIDS),
        Of(
            "json", ['{"a": 1, "a": 1e400}', '"\\u0000"', " [ ] ", "null", '"\\ud83d\\ude00"'], texts.JSONS, "{c}::text"
        ),
        Of("jsonb", ['{"b": 1, "a": [1.10]}', "null", '"\\t"'], JSONB, "{c}::text"),
        Of("mood", ["sad", 'it\'s, "ok"', "НЕТ"], st.sampled_from(["sad", 'it\'s, "ok"', "НЕТ"]), "{c}::text"),
        Of("bytea", ["", "\\x00ff5c27", "\\x" + "00" * 5000], texts.BYTES, "{c}"),
        Of("tsvector", ["'a':1A,2 'fat'", ""]),
        Of("tsquery", ["'a' & !'b' <-> 'c'"]),
    ],
    "times": [
        Of(
            "date",
            ["4713-01-01 BC", "0044-03-15 BC", "0001-12-31 BC", "0001-01-01", "5874897-12-31", "10000-01-01"],
            texts.DATES.filter(lambda text: "infinity" not in text),
            DAYS_OF,
        ),
        Of("date", ["infinity", "-infinity"], exact="CASE WHEN {c} > 'now' THEN 2147483647 ELSE -2147483648 END"),
        Of("time", ["00:00:00", "23:59:60", "24:00:00", "23:59:59.999999", "00:00:00.1"], texts.TIMES, MICROS_OF),
        Of("time(3)", ["24:00:00", "12:34:56.789"], texts.TIMES, "(extract(epoch FROM {c}) * 1000)::int"),
        Of("time(0)", ["23:59:59.5", "01:02:03"], texts.TIMES, "(extract(epoch FROM {c}) * 1000)::int"),
        Of("timetz", ["24:00:00+00", "00:00:00-15:59:59", "12:00:00.5+05:45", "24:00:00+14"], texts.TIMETZ),
        Of(
            "timestamp",
            [
                "4713-01-01 00:00:00 BC",
                "0001-12-31 23:59:59.999999 BC",
                "294246-12-31 00:00:00",
                "1969-12-31 23:59:59.9",
            ],
            texts.timestamps().filter(lambda text: "infinity" not in text),
            MICROS_OF,
        ),
        Of("timestamp", ["infinity", "-infinity"]),
        Of(
            "timestamp(3)",
            ["0044-03-15 12:00:00.5 BC", "294276-12-31 23:59:59.999", "1969-12-31 23:59:59.999"],
            texts.timestamps(3).filter(lambda text: "infinity" not in text),
            "(extract(epoch FROM {c}) * 1000)::int8",
        ),
        Of("timestamp(0)", ["2020-02-29 13:14:15.5", "infinity"], texts.timestamps(0)),
        Of("timestamptz", ["0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59+00", "infinity"], texts.zoned()),
        Of("timestamptz(3)", ["2020-02-29 13:14:15.1234+05:45", "-infinity"], texts.zoned(3)),
        Of("timestamptz(0)", ["2020-02-29 13:14:15+00", "9999-12-31 23:59:59+00"], texts.zoned(0)),
        Of(
            "interval",
            ["0", "-178000 years", "1 year -2 mons +3 days -04:05:06.789", "-00:00:00.000001", "34 years"],
            texts.INTERVALS,
            "((extract(year FROM {c}) * 12 + extract(month FROM {c})) * 2629800000000"
            " + extract(day FROM {c}) * 86400000000 + extract(hour FROM {c}) * 3600000000"
            " + extract(minute FROM {c}) * 60000000"
            " + extract(microseconds FROM {c}))::int8",
        ),
        Of("interval day to second", ["1 day 02:03:04"], texts.INTERVALS),
    ],
    "networks and shapes": [
        Of("inet", ["192.168.1.5/24", "::1", "fe80::1/64"], ADDRESSES),
        Of("cidr", ["10.0.0.0/8", "::/0"], ADDRESSES),
        Of("macaddr", ["08:00:2b:01:02:03"], MACS),
        Of("macaddr8", ["08:00:2b:01:02:03:04:05"], MACS8),
        Of("point", ["(0,0)", "(-1.5,1e300)", "(NaN,Infinity)"], texts.POINTS),
        Of("line", ["{1,2,3}"]),
        Of("lseg", ["[(0,0),(1,1)]"]),
        Of("box", ["(2,2),(0,0)"]),
        Of("path", ["((0,0),(1,1))", "[(0,0)]"]),
        Of("polygon", ["((0,0),(1,1),(1,0))"]),
        Of("circle", ["<(0,0),2.5>"]),
        Of("pg_lsn", ["16/B374D848"]),
        Of("xid8", ["123"]),
        Of("regclass", ["pg_catalog.pg_class", "odd.mood_table"]),
        Of("oidvector", ["1 2 3"]),
        Of("jsonpath", ["$.a[*] ? (@ > 1)"]),
    ],
    "ranges": [
        Of("int4range", ["empty", "[1,10)", "(,)", "[5,)"], _range(st.integers(-1000, 1000))),
        Of("int8range", ["empty", "[-9223372036854775808,9223372036854775807)"], _range(st.integers(-1000, 1000))),
        Of("numrange", ["[1.10,2.20]", "(,NaN)"], _range(st.decimals(-1000, 1000, places=3))),
        Of("tsrange", ["[2020-01-01,infinity)", "empty", '["0044-03-15 BC",2020-01-01]'], _range(DAYS)),
        Of("tstzrange", ["[2020-01-01 00:00:00+05:45,)", "empty"], _range(DAYS)),
        Of("daterange", ["[2020-01-01,2020-02-29]", "empty", "(,infinity)"], _range(DAYS)),
        Of("int4multirange", ["{}", "{[1,3),[5,8)}"]),
        Of("tstzmultirange", ["{[2020-01-01,2021-01-01)}"]),
        Of("spans", ["[1.5,2.5]", "empty"], _range(st.integers(-9, 9))),
    ],
    "arrays": [
        Of("int[]", ["{}", "{1,NULL,-3}", "[0:1]={7,8}", "[-5:-5]={1}"], texts.arrays(_ints(32))),
        Of("bigint[]", ["{}", "{9223372036854775807}"], texts.arrays(_ints(64))),
        Of(
            "text[]",
            ['{NULL,"NULL","",null,"nUll"}', '{"a,b","{}","\\"","\\\\"}', "{}", '{" ","\t"}', "[2:3]={x,y}"],
            texts.arrays(texts.TEXTS),
        ),
        Of("varchar(5)[]", ["{a,NULL}", "{}"], texts.arrays(SHORT_TEXTS)),
        Of("char(3)[]", ['{a,"b  ",NULL}']),
        Of("numeric(8,2)[]", ["{1.5,NULL,-0.01}"], texts.arrays(texts.fixed(8, 2))),
        Of("numeric[]", ["{1.50,NULL,1e40}"], texts.arrays(texts.number())),
        Of("boolean[]", ["{t,f,NULL}"], texts.arrays(st.sampled_from("tf"))),
        Of("real[]", ["{NaN,-Infinity,1e-45,NULL}"], texts.arrays(texts.SINGLES)),
        Of("float8[]", ["{NaN,-Infinity,1e-320,NULL}"], texts.arrays(texts.FLOATS)),
        Of("date[]", ['{"0044-03-15 BC",infinity,NULL,2020-02-29}'], texts.arrays(texts.DATES)),
        Of("timestamp[]", ['{"0044-03-15 12:00:00 BC",infinity,NULL}'], texts.arrays(texts.timestamps())),
        Of("timestamptz[]", ['{"2020-01-01 00:00:00+05:45",-infinity}'], texts.arrays(texts.zoned())),
        Of("time[]", ["{24:00:00,00:00:00.000001,NULL}"], texts.arrays(texts.TIMES)),
        Of("interval[]", ['{"1 mon -1 days",NULL}'], texts.arrays(texts.INTERVALS)),
        Of("uuid[]", ["{00000000-0000-0000-0000-000000000000,NULL}"], texts.arrays(texts.UUIDS)),
        Of("jsonb[]", ['{"{\\"a\\": 1}",NULL,"null"}'], texts.arrays(JSONB)),
        Of("bytea[]", ['{"\\\\x00ff","",NULL}']),
        Of("inet[]", ["{10.0.0.1/8,::1,NULL}"], texts.arrays(ADDRESSES)),
        Of("mood[]", ['{sad,"it\'s, \\"ok\\""}', "{}"]),
        Of("int4range[]", ['{"[1,3)",empty,NULL}']),
        Of("bit(3)[]", ["{101,NULL}"]),
        Of("money[]", ["{1.5,NULL}"]),
        Of("int[][]", ["{{1,2},{3,NULL}}", "{}", "{1}"]),
        Of("address[]", ['{"(Main,1)",NULL}']),
        Of("positive[]", ["{1,2,NULL}"]),
    ],
    "made by users": [
        Of("positive", ["1", "2147483647"], st.integers(1, 2**31 - 1).map(str), "{c}"),
        Of("price", ["0.001", "-9999999.999"], texts.fixed(10, 3)),
        Of("label", ["", "NULL", "ok"], SHORT_TEXTS, "{c}"),
        Of("label_of_label", ["x"], SHORT_TEXTS, "{c}"),
        Of("moods", ["sad"], exact="{c}::text"),
        Of("bag", ["{1,NULL,2}"], texts.arrays(_ints(32))),
        Of("address", ['("Main, \\"St\\"",1)', "(,)", '("",)'], exact="{c}::text"),
        Of("nested", ['("(a,1)","{1,2}")'], exact="{c}::text"),
        Of("address_of_domain", ["(Main,1)"]),
    ],
}
FAMILIES["seldom seen"] = [
    Of("int8multirange", ["{}", "{[1,3),[5,9223372036854775807)}"]),
    Of("nummultirange", ["{[1.10,2.20],(3,)}"]),
    Of("datemultirange", ["{[2020-01-01,2020-02-29],[2021-01-01,infinity)}"]),
    Of("tsmultirange", ['{["0044-03-15 BC",2020-01-01)}']),
    Of("xid", ["0", "4294967295"]),
    Of("cid", ["7"]),
    Of("int2vector", ["1 -2 3", ""]),
    Of("tid", ["(0,1)", "(4294967295,65535)"]),
    Of("pg_snapshot", ["10:20:10,14,15"]),
    Of("txid_snapshot", ["10:20:10,14,15"]),
    Of("aclitem", ["=r/postgres"]),
    Of("refcursor", ["my cursor", ""]),
    Of("regtype", ["integer", "odd.mood_table"]),
    Of("regproc", ["pg_catalog.now"]),
    Of("regprocedure", ["pg_catalog.abs(bigint)"]),
    Of("regoper", ["pg_catalog.||/"]),
    Of("regoperator", ["pg_catalog.+(integer,integer)"]),
    Of("regnamespace", ["odd"]),
    Of("regrole", ["postgres"]),
    Of("regconfig", ["english"]),
    Of("regdictionary", ["simple"]),
    Of("regcollation", ['pg_catalog."C"']),
]


def _array_of(column: Of) -> Of:
    """An array of all the values that were picked of a type, and NULL where Debezium's schema has room for it."""
    items = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in column.picked]
    return Of(
        f"{column.type}[]",
        [
            "{"
            + (";" if column.type == "box" else ",").join([*items, *([] if column.type == "tsvector" else ["NULL"])])
            + "}"
        ],
    )


_ARRAYS = {of.type for family in FAMILIES.values() for of in family if of.type.endswith("[]")}
FAMILIES["arrays of the rest"] = [
    _array_of(of)
    for name in ("numbers", "texts", "times", "networks and shapes", "ranges", "seldom seen")
    for of in FAMILIES[name]
    if "(" not in of.type and f"{of.type}[]" not in _ARRAYS
]
NOT_OF_USERS = {
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
}
"""Types whose values only the server makes."""
CONTRIB: list[Of] = [
    Of("xml", ["<a>é</a>", "<a/>text", ""]),
    Of("citext", ["", "GrÜße"], texts.TEXTS, "{c}::text"),
    Of("hstore", ["", '"a"=>NULL, "b"=>"NULL", ""=>"\\"\\\\"'], texts.HSTORES),
    Of("ltree", ["", "Top.Science"], exact="{c}::text"),
    Of("lquery", ["*.a*@.b"]),
    Of("isbn", ["0-393-04002-X"]),
    Of("ean13", ["978-0-393-04002-9"], exact="{c}::text"),
    Of("cube", ["(1, 2),(3, 4)"], exact="{c}::text"),
    Of("seg", ["1.5 .. 2.50"], exact="{c}::text"),
    Of("hstore[]", ['{"\\"a\\"=>\\"1\\"",NULL}']),
    Of("citext[]", ["{A,NULL}"]),
    Of("ltree[]", ["{Top.Science,a}"]),
    Of("xml[]", ['{"<a b=\\"1\\"/>",text,NULL}']),
]
SPARSE = """'{"dimensions": 5, "vector": [{"key": 1, "value": 1.0}, {"key": 3, "value": 2.0}]}'::jsonb"""
VECTORS: list[Of] = [
    Of("vector(3)", ["[1,2.5,-0]"]),
    Of("halfvec(2)", ["[1,65504]"]),
    Of("sparsevec(5)", ["{1:1,3:2}/5"], exact=SPARSE.replace("{", "{{").replace("}", "}}")),
    Of("vector", ["[1e-38]"]),
]

SHAPES: list[Of] = [
    Of("geometry", ["POINT(1 2)", "SRID=4326;POINT(-1e300 0.1)", "POINT EMPTY", "GEOMETRYCOLLECTION(POINT(0 0))"]),
    Of("geometry(PointZ,4326)", ["SRID=4326;POINT Z (1 2 3)"]),
    Of("geometry(MultiPolygon)", ["MULTIPOLYGON(((0 0,0 1,1 1,0 0)))"]),
    Of("geography", ["LINESTRING(0 0,90 45)"]),
]

USER_TYPES = """
CREATE SCHEMA odd;
CREATE TABLE odd.mood_table (a int);
CREATE TYPE mood AS ENUM ('sad', 'it''s, "ok"', 'НЕТ');
CREATE TYPE late AS ENUM ('early');
CREATE TYPE address AS (street text, number int);
CREATE TYPE nested AS (inner_one address, numbers int[]);
CREATE TYPE spans AS RANGE (subtype = float8);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN price AS numeric(10,3);
CREATE DOMAIN label AS varchar(20);
CREATE DOMAIN label_of_label AS label DEFAULT 'x';
CREATE DOMAIN moods AS mood;
CREATE DOMAIN bag AS int[];
CREATE DOMAIN address_of_domain AS address;
"""


@dataclass(frozen=True)
class Row:
    """One row as Avro: the schema's text and the bytes of the row alone."""

    schema: str
    data: bytes
    values: dict[str, Any]


def table_of(family: str) -> str:
    return "t_" + family.replace(" ", "_")


class Capture:
    """Tables in a database, a stream that is open all the time, and snapshots on demand, as a role of odd settings."""

    def __init__(self, dsn: str, families: dict[str, list[Of]], extensions: Sequence[str] = ()) -> None:
        self.dsn = dsn
        self.admin = psycopg.connect(dsn, autocommit=True, options=" ".join(f"-c {s}" for s in PINNED.split()))
        self._make_role()
        for extension in extensions:
            self.admin.execute(sql.SQL("CREATE EXTENSION {}").format(sql.Identifier(extension)))
        self.admin.execute(USER_TYPES)
        for family, columns in families.items():
            listed = ", ".join(f"c{number} {column.type}" for number, column in enumerate(columns))
            self.admin.execute(f"CREATE TABLE {table_of(family)} (id int PRIMARY KEY, {listed})".encode())
        self.schemas = Schemas()
        self._config = self.config("types", "never")
        self._serializer = self.serializer(self._config)
        self._catalog = Catalog(self.odd_dsn)
        self._progress = Progress()
        self._connector = PostgresConnector(self._config, self._progress)
        self._batches = self._connector.batches(None)
        self._await_stream()

    def _make_role(self) -> None:
        # Roles are the whole server's: one for each database, dropped with it.
        self.role = f"odd_{database_name(self.dsn)}"
        name = sql.Identifier(self.role)
        self.admin.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER REPLICATION").format(name))
        for setting, value in ODD_SETTINGS.items():
            command = sql.SQL("ALTER ROLE {} SET {} = {}")
            odd = sql.SQL(value) if setting == "search_path" else sql.Literal(value)
            self.admin.execute(command.format(name, sql.SQL(setting), odd))
        self.odd_dsn = make_conninfo(self.dsn, user=self.role)

    def config(self, name: str, snapshot: str, **sections: Any) -> CapturePipeline:
        source = {"dsn": self.odd_dsn, "slot": self.role, "snapshot": snapshot, **sections.pop("source", {})}
        return validate_capture({"name": name, "source": {"postgres": source}, "sink": {"console": {}}, **sections})

    def serializer(self, config: CapturePipeline) -> Serializer:
        return Serializer(config, "db", AvroFormat(self.schemas), lambda table, column: None)

    def close(self) -> None:
        self._batches.close()  # type: ignore[attr-defined]
        self._connector.close()
        self._catalog.close()
        self.admin.close()

    def insert(self, table: str, columns: Sequence[Of], rows: Sequence[Sequence[str | None]]) -> None:
        places = ", ".join(["%s", *(f"%s::{column.type}" for column in columns)])
        values = [[number, *row] for number, row in enumerate(rows)]
        with self.admin.transaction(), self.admin.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({places})".encode(), values)

    def streamed(self, count: int) -> list[Row]:
        """The next `count` rows of the stream, and all that their transaction has."""
        rows: list[Row] = []
        while len(rows) < count:
            rows += self.rows(self._next_batch(), self._serializer)
        assert len(rows) == count
        return rows

    def _next_batch(self) -> Batch:
        for batch in self._batches:
            if batch is not None and batch.position is not None:
                self._connector.acknowledge(self._connector.checkpoint(batch))
            if batch is not None and any(run.op is Op.CREATE for run in batch.runs):
                return batch
        raise AssertionError("the stream ended")

    def _await_stream(self) -> None:
        """Return when the slot is made and the stream is open."""
        while next(self._batches) is not None or self._progress.state != "streaming":
            pass

    def read(self, table: str) -> list[Row]:
        """The rows as a snapshot of now reads them."""
        ref = self._catalog.tables([table])[0]
        source = self._catalog.columns_for_copy(ref.oid, self._config.publication)
        assert source is not None
        described = RelationCache(self._catalog, lambda oid, schema, name: True, lambda table, kind: None).from_catalog(
            ref.oid, source.columns
        )
        lines = [line for chunk in copy_rows(self.odd_dsn, None, source) for line in chunk]
        run = Run(Op.READ, described, Transaction(None, 1, 0), 0, lines, "true")
        return self.rows(Batch([run]), self._serializer)

    def snapshot(self, table: str, **sections: Any) -> list[Row]:
        """The rows as a pipeline of its own delivers them, slot and exported snapshot and all."""
        apart = {"tables": [table], "slot": "snapshot_" + self.role, "publication": "snapshot"}
        config = self.config("types", "only", source=apart, **sections)
        connector, serializer = PostgresConnector(config), self.serializer(config)
        try:
            return [row for batch in connector.batches(None) if batch for row in self.rows(batch, serializer)]
        finally:
            connector.close()
            with self.admin.cursor() as cursor:
                cursor.execute("SELECT pg_drop_replication_slot(%s)", [config.slot])
                cursor.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(config.publication)))

    def rows(self, batch: Batch, serializer: Serializer) -> list[Row]:
        return [self._row(record["value"]) for _, records in serializer.serialize(batch) for record in records]

    def _row(self, record: bytes) -> Row:
        # Behind the wire prefix: null for `before`, then the second branch, then the row.
        assert record[5:7] == b"\x00\x02"
        envelope = json.loads(self.schemas.texts[int.from_bytes(record[1:5], "big")])
        before = next(field for field in envelope["fields"] if field["name"] == "before")
        schema = before["type"][1]
        stream = io.BytesIO(record[7:])
        values = fastavro.schemaless_reader(stream, parsed(json.dumps(schema)))
        return Row(json.dumps(schema), record[7 : 7 + stream.tell()], values)

    def said(self, table: str, columns: Sequence[Of]) -> list[list[tuple[str | None, Any]]]:
        """What the server prints for each value, and its exact value where there is an expression for it."""
        # format() calls the type's output function, which `::text` does not do for char(n) and boolean.
        parts = []
        for number, column in enumerate(columns):
            name = f"c{number}"
            exact = column.exact.format(c=name)
            parts += [f"CASE WHEN {name} IS DISTINCT FROM NULL THEN format('%s', {name}) END", exact or "NULL"]
        found = self.admin.execute(f"SELECT {', '.join(parts)} FROM {table} ORDER BY id".encode()).fetchall()
        return [list(zip(row[::2], row[1::2], strict=True)) for row in found]

    def described(self, table: str) -> Table:
        ref = self._catalog.tables([table])[0]
        names = list(self._catalog.table_metadata(ref.oid).columns)  # type: ignore[union-attr]
        found = RelationCache(self._catalog, lambda oid, schema, name: True, lambda table, kind: None).from_catalog(
            ref.oid, names
        )
        assert found is not None
        return found


_PARSED: dict[str, Any] = {}


def parsed(schema: str) -> Any:
    if schema not in _PARSED:
        _PARSED[schema] = fastavro.parse_schema(plain(json.loads(schema)))
    return _PARSED[schema]


def written(schema: str, values: dict[str, Any]) -> bytes:
    """The row as fastavro writes it."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, parsed(schema), values)
    return stream.getvalue()


def in_avro(value: Any) -> Any:
    """Connect's maps whose keys are no texts are arrays of entries in Avro."""
    if not isinstance(value, dict):
        return value
    if any(not isinstance(key, str) for key in value):
        return [{"key": key, "value": each} for key, each in value.items()]
    return {name: in_avro(each) for name, each in value.items()}


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return {name: (value, theirs[name]) for name, value in ours.items() if repr(value) != repr(theirs[name])}


def check(capture: Capture, family: str, columns: list[Of], rows: Sequence[Sequence[str | None]], read: Any) -> None:
    """Insert, capture by both ways, compare with each other and with what the server says, empty the table."""
    table = table_of(family)
    capture.insert(table, columns, rows)
    streamed, found = capture.streamed(len(rows)), read(table)
    said = capture.said(table, columns)
    capture.admin.execute(f"TRUNCATE {table}".encode())
    described = capture.described(table)
    assert len(found) == len(streamed)
    for number, (row, other, values) in enumerate(zip(streamed, found, said, strict=True)):
        assert row.schema == other.schema
        assert row.data == other.data, differing(row.values, other.values)
        expected: dict[str, Any] = {"id": number}
        for column, (text, _) in zip(described.columns[1:], values, strict=True):
            expected[column.name] = None if text is None else in_avro(value_of(capture, column, text))
        assert row.data == written(row.schema, expected), differing(row.values, expected)
        for column, of, (text, exact) in zip(described.columns[1:], columns, values, strict=True):
            if of.exact and text is not None:
                assert row.values[column.name] == exact, (of.type, text)


def value_of(capture: Capture, column: Column, text: str) -> Any:
    config = capture.config("x", "never")
    codec = codec_for(column.type, config.values, config.compatibility, dimensions=column.dimensions)
    assert codec is not None
    return codec.value(text.encode())


def picked(columns: Sequence[Of]) -> list[list[str | None]]:
    """Each value once, in as many rows as the longest list; before them a row of NULLs."""
    count = max(len(column.picked) for column in columns)
    rows: list[list[str | None]] = [
        [column.picked[number % len(column.picked)] for column in columns] for number in range(count)
    ]
    return [[None] * len(columns), *rows]


def generated(columns: Sequence[Of]) -> SearchStrategy[list[list[str | None]]]:
    each = [st.none() | column.generated if column.generated is not None else st.none() for column in columns]
    return st.lists(st.tuples(*each).map(list), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def capture(postgres: PostgresServer) -> Iterator[Capture]:
    with opened(postgres, {**FAMILIES, "refused": UNREPRESENTABLE, "late": [Of("late", [])]}) as capture:
        yield capture


@contextmanager
def opened(server: PostgresServer, families: dict[str, list[Of]], extensions: Sequence[str] = ()) -> Iterator[Capture]:
    dsn = server.create_database()
    try:
        with closing(Capture(dsn, families, extensions)) as capture:
            yield capture
    finally:
        server.drop_database(dsn)
        server.psql(f"DROP ROLE IF EXISTS odd_{database_name(dsn)}")


def test_the_role_that_captures_would_print_values_otherwise(capture: Capture) -> None:
    with psycopg.connect(capture.odd_dsn) as connection:
        row = connection.execute(
            "SELECT date '2020-02-29' || ' ' || interval '1 day 2 hours' || ' ' || '\\x00'::bytea::text"
        ).fetchone()
    assert row == ("29.02.2020 1 2:00:00 \\000",)


def test_every_type_that_the_server_has_and_its_array_is_among_these(capture: Capture) -> None:
    tested = {of.type.replace("[][]", "[]") for family in (*FAMILIES.values(), CONTRIB) for of in family}
    found = {
        oid for (oid,) in capture.admin.execute("SELECT to_regtype(t)::oid FROM unnest(%s::text[]) t", [sorted(tested)])
    }
    missing = capture.admin.execute(
        "SELECT format_type(t.oid, NULL) FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace "
        "AND t.typtype IN ('b', 'r', 'm') AND NOT t.typname = ANY (%(ours)s) AND NOT t.oid = ANY (%(found)s) "
        "AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid AND e.typtype IN ('c', 'p')) "
        "AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid AND e.typname = ANY (%(ours)s)) ORDER BY 1",
        {"ours": sorted(NOT_OF_USERS), "found": sorted(oid for oid in found if oid is not None)},
    ).fetchall()
    assert [name for (name,) in missing] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_picked_values_are_what_the_server_says_in_snapshot_and_stream(capture: Capture, family: str) -> None:
    columns = FAMILIES[family]
    check(capture, family, columns, picked(columns), capture.snapshot)


@pytest.mark.pg("newest")  # the versions differ by their types, which the picked values of all of them show
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_values_are_what_the_server_says_in_snapshot_and_stream(capture: Capture, family: str) -> None:
    columns = FAMILIES[family]

    @examples(5, suppress_health_check=list(HealthCheck), phases=set(Phase) - {Phase.explain})
    @given(generated(columns))
    def holds(rows: list[list[str | None]]) -> None:
        check(capture, family, columns, rows, capture.read)

    holds()


@pytest.fixture(scope="module")
def contrib(contrib_postgres: PostgresServer) -> Iterator[Capture]:
    with opened(contrib_postgres, {"contrib": CONTRIB}, ["citext", "hstore", "ltree", "isn", "cube", "seg"]) as capture:
        yield capture


def test_types_of_extensions_are_what_the_server_says_in_snapshot_and_stream(contrib: Capture) -> None:
    check(contrib, "contrib", CONTRIB, picked(CONTRIB), contrib.snapshot)


@pytest.mark.pg("vector")
def test_vectors_are_what_the_server_says_in_snapshot_and_stream(postgres: PostgresServer) -> None:
    with opened(postgres, {"vectors": VECTORS}, ["vector"]) as capture:
        check(capture, "vectors", VECTORS, picked(VECTORS), capture.snapshot)


@pytest.mark.pg("postgis")
def test_geometries_are_what_the_server_says_in_snapshot_and_stream(postgres: PostgresServer) -> None:
    with opened(postgres, {"shapes": SHAPES}, ["postgis"]) as capture:
        check(capture, "shapes", SHAPES, picked(SHAPES), capture.snapshot)
        capture.insert(table_of("shapes"), SHAPES, picked(SHAPES))
        streamed = capture.streamed(len(picked(SHAPES)))
        for number in range(len(SHAPES)):
            shapes = f"SELECT c{number}::geometry AS shape, id FROM {table_of('shapes')}"
            said = capture.admin.execute(
                f"SELECT ST_AsEWKB(shape), nullif(ST_SRID(shape), 0) FROM ({shapes}) s ORDER BY id".encode()
            )
            found = [row.values[f"c{number}"] or {} for row in streamed]
            assert [(shape.get("wkb"), shape.get("srid")) for shape in found] == said.fetchall()


UNREPRESENTABLE = [
    Of("numeric(5,2)", ["NaN"]),
    Of("numeric", ["NaN"]),
    Of("numeric", ["-Infinity"]),
    Of("numeric(8,2)[]", ["{1,NaN}"]),
    Of("timestamp", ["294276-12-31 23:59:59.999999"]),
    Of("interval", ["178000000 years"]),
    Of("int[]", ["{{1,2},{3,4}}"]),
    Of("mood[]", ["{sad,NULL}"]),
    Of("varbit(1)", [""]),
]
UNSAID = "a decimal holds neither NaN nor infinity"


@pytest.mark.parametrize("number", range(len(UNREPRESENTABLE)), ids=lambda number: UNREPRESENTABLE[number].type)
def test_a_value_that_the_schema_cannot_express_stops_both_ways_and_is_not_shown(capture: Capture, number: int) -> None:
    value = UNREPRESENTABLE[number].picked[0]
    row = [value if number == index else None for index in range(len(UNREPRESENTABLE))]
    capture.insert("t_refused", UNREPRESENTABLE, [row])
    try:
        ways: list[Callable[[], object]] = [lambda: capture.streamed(1), lambda: capture.read("t_refused")]
        for deliver in ways:
            with pytest.raises(ConversionError) as caught:
                deliver()
            assert f"column 'c{number}' of table public.t_refused" in caught.value.fact
            assert "compatibility.unrepresentable" in caught.value.hint
            shown = "".join(traceback.format_exception(caught.value))
            assert not value or value not in shown.replace(UNSAID, "")
    finally:
        capture.admin.execute("TRUNCATE t_refused")


def test_numbers_as_text_or_double_hold_what_a_decimal_cannot(capture: Capture) -> None:
    columns = UNREPRESENTABLE
    capture.insert("t_refused", columns, [["NaN", "Infinity", "-Infinity", *[None] * 6]])
    try:
        expected = {
            "string": ("NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY"),
            "double": (math.nan, math.inf, -math.inf),
        }
        for decimal, values in expected.items():
            (row,) = capture.snapshot("t_refused", values={"decimal": decimal})
            assert repr(tuple(row.values.values())[1:4]) == repr(values)
    finally:
        capture.admin.execute("TRUNCATE t_refused")
        with pytest.raises(ConversionError):
            capture.streamed(1)


def test_an_enum_value_that_is_added_while_streaming_is_delivered(capture: Capture) -> None:
    capture.insert("t_late", [Of("late", [])], [["early"]])
    assert capture.streamed(1)[0].values["c0"] == "early"
    capture.admin.execute("ALTER TYPE late ADD VALUE 'later' BEFORE 'early'")
    with capture.admin.transaction():
        capture.admin.execute("INSERT INTO t_late VALUES (7, 'later'), (8, 'early')")
    assert [row.values["c0"] for row in capture.streamed(2)] == ["later", "early"]
    capture.admin.execute("ALTER TABLE t_late ADD also int")
    capture.admin.execute("INSERT INTO t_late VALUES (9, 'later')")
    (row,) = capture.streamed(1)
    assert '"later,early"' in row.schema
    assert row.values == {"id": 9, "c0": "later", "also": None}


@pytest.fixture
def ascii_database(postgres: PostgresServer) -> Iterator[str]:
    """A database that takes any bytes for text, with rows in both ways of capturing that are not UTF-8."""
    name = f"ascii_{postgres.major}"
    postgres.psql(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    yield postgres.dsn(name)
    postgres.drop_database(name)


def bytes_of(number: int) -> bytes:
    texts = b"'caf\xe9', ARRAY['\xff', 'ok'], ('\xe9', 1)::pair"
    return b"INSERT INTO t VALUES (%d, %s)" % (number, texts)


def captured_bytes(dsn: str, way: str, encoding_errors: str) -> dict[str, Any]:
    """The row that is there, by the snapshot, or one that is inserted, by the stream."""
    values = {"encoding_errors": encoding_errors}
    source = {"dsn": dsn, "snapshot": "only" if way == "snapshot" else "never"}
    config = validate_capture(
        {"name": "raw", "source": {"postgres": source}, "sink": {"console": {}}, "values": values}
    )
    schemas, progress = Schemas(), Progress()
    connector = PostgresConnector(config, progress)
    serializer = Serializer(config, "db", AvroFormat(schemas), lambda table, column: None)
    inserted = way == "snapshot"
    try:
        for batch in connector.batches(None):
            if batch is not None and batch.runs:
                record = serializer.serialize(batch)[0][1][0]
                value: dict[str, Any] = schemas.decode(record["value"])[1]
                return {"avro": value["after"], "python": next(iter(batch)).after}
            if progress.state == "streaming" and not inserted:
                inserted = True
                with psycopg.connect(dsn, client_encoding="SQL_ASCII") as connection:
                    connection.execute(bytes_of(2))
    finally:
        connector.close()
    raise AssertionError("nothing came")


@pytest.mark.parametrize("way", ["snapshot", "stream"])
def test_text_that_is_not_utf8_is_replaced_or_stops_the_pipeline(ascii_database: str, way: str) -> None:
    with psycopg.connect(ascii_database, client_encoding="SQL_ASCII") as connection:
        connection.execute(b"CREATE TYPE pair AS (a text, b int)")
        connection.execute('CREATE TABLE t (id int PRIMARY KEY, "größe" text, a text[], p pair)'.encode())
        connection.execute(bytes_of(1))
    row = captured_bytes(ascii_database, way, "replace")
    mended = {"id": 1 if way == "snapshot" else 2, "a": ["\ufffd", "ok"], "p": "(\ufffd,1)"}
    assert row["avro"] == {**mended, "gr__e": "caf\ufffd"}
    assert row["python"] == {**mended, "größe": "caf\ufffd"}
    with psycopg.connect(ascii_database, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot('pycdc_raw')")
        connection.execute("DELETE FROM t WHERE id = 2")
    with pytest.raises(ConversionError, match="not UTF-8") as caught:
        captured_bytes(ascii_database, way, "stop")
    assert "values.encoding_errors" in caught.value.hint
    assert "0xe9" not in "".join(traceback.format_exception(caught.value))

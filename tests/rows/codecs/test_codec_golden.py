# ruff: noqa: E501 (Avro schemas stand as registries got them)
"""Each column's Avro schema and values, as Debezium 3.6.3 wrote them with Confluent's Avro converter.

Texts are what Postgres 15 sent, datums what a consumer read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from pycdc.config.values import DEBEZIUM_3_6, CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.avro import writer
from pycdc.rows.codecs import Codec, Unrepresentable, codec_for, default_datum, is_unknown
from pycdc.rows.schema import Schema, avro_schema

STREAM = ValuesConfig(unknown_types="debezium")


def pg(
    name: str,
    typmod: int = -1,
    *,
    kind: str = "b",
    element: PgType | None = None,
    labels: tuple[str, ...] = (),
    domain: bool = False,
) -> PgType:
    return PgType(0, name, typmod, kind, element, labels, domain)


@dataclass(frozen=True)
class Column:
    name: str
    type: PgType
    avro: str | None
    values: list[tuple[str, Any]] | tuple[()] = ()
    required: bool = False
    default: str | None = None
    dimensions: int = 0

    def codec(self, compat: CompatibilityConfig = DEBEZIUM_3_6, *, snapshot: bool = False) -> Codec | None:
        return codec_for(self.type, STREAM, compat, dimensions=self.dimensions, snapshot=snapshot)


COLUMNS = [
    Column(
        "t_num.id",
        pg("int4"),
        '{"name":"id","type":{"type":"int","connect.default":0},"default":0}',
        [("1", 1), ("2", 2), ("3", 3), ("4", 4)],
        required=True,
        default="nextval('t_num_id_seq'::regclass)",
    ),
    Column(
        "t_num.si",
        pg("int2"),
        '{"name":"si","type":["null",{"type":"int","connect.type":"int16"}],"default":null}',
        [("1", 1), ("-32768", -32768), ("32767", 32767)],
    ),
    Column(
        "t_num.i",
        pg("int4"),
        '{"name":"i","type":{"type":"int","connect.default":7},"default":7}',
        [("2", 2), ("-2147483648", -2147483648), ("2147483647", 2147483647), ("7", 7)],
        required=True,
        default="7",
    ),
    Column(
        "t_num.bi",
        pg("int8"),
        '{"name":"bi","type":["null","long"],"default":null}',
        [("3", 3), ("-9223372036854775808", -9223372036854775808), ("9223372036854775807", 9223372036854775807)],
    ),
    Column(
        "t_num.r",
        pg("float4"),
        '{"name":"r","type":["null","float"],"default":null}',
        [("1.5", 1.5), ("NaN", float("nan")), ("-Infinity", float("-inf"))],
    ),
    Column(
        "t_num.d",
        pg("float8"),
        '{"name":"d","type":["null","double"],"default":null}',
        [("2.25", 2.25), ("Infinity", float("inf")), ("-0", -0.0)],
    ),
    Column(
        "t_num.n",
        pg("numeric"),
        '{"name":"n","type":["null",{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],"connect.doc":"Variable scaled decimal","connect.version":1,"connect.name":"io.debezium.data.VariableScaleDecimal"}],"default":null}',
        [
            ("123.456789", {"scale": 6, "value": b"\x07[\xcd\x15"}),
            ("-0.00001", {"scale": 5, "value": b"\xff"}),
            (
                "10000000000000000000000000000000000000000",
                {"scale": 0, "value": b"\x1dc)\xf1\xc3\\\xa4\xbf\xab\xb9\xf5a\x00\x00\x00\x00\x00"},
            ),
        ],
    ),
    Column(
        "t_num.n52",
        pg("numeric", 327686),
        '{"name":"n52","type":["null",{"type":"bytes","scale":2,"precision":5,"connect.version":1,"connect.parameters":{"scale":"2","connect.decimal.precision":"5"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null}',
        [("123.45", b"09"), ("-999.99", b"\xfeya"), ("0.00", b"\x00")],
    ),
    Column(
        "t_num.n50",
        pg("numeric", 327684),
        '{"name":"n50","type":["null",{"type":"bytes","scale":0,"precision":5,"connect.version":1,"connect.parameters":{"scale":"0","connect.decimal.precision":"5"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null}',
        [("12345", b"09"), ("-99999", b"\xfeya")],
    ),
    Column(
        "t_num.n_neg",
        pg("numeric", 2490382),
        '{"name":"n_neg","type":["null",{"type":"bytes","scale":10,"precision":38,"connect.version":1,"connect.parameters":{"scale":"10","connect.decimal.precision":"38"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null}',
        [("-1234567890.0987654321", b"\xffT\xabVs#\x98\x8fO"), ("0.0000000000", b"\x00")],
    ),
    Column(
        "t_num.mny",
        pg("money"),
        '{"name":"mny","type":["null",{"type":"bytes","scale":2,"precision":64,"connect.version":1,"connect.parameters":{"scale":"2"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null}',
        [("$1,234.56", b"\x01\xe2@")],
    ),
    Column("t_num.b", pg("bool"), '{"name":"b","type":["null","boolean"],"default":null}', [("t", True), ("f", False)]),
    Column("t_num.bt", pg("bit", 1), '{"name":"bt","type":["null","boolean"],"default":null}', [("1", True)]),
    Column(
        "t_num.bt5",
        pg("bit", 5),
        '{"name":"bt5","type":["null",{"type":"bytes","connect.version":1,"connect.parameters":{"length":"5"},"connect.name":"io.debezium.data.Bits"}],"default":null}',
        [("10110", b"\x16")],
    ),
    Column(
        "t_num.vb",
        pg("varbit", 7),
        '{"name":"vb","type":["null",{"type":"bytes","connect.version":1,"connect.parameters":{"length":"7"},"connect.name":"io.debezium.data.Bits"}],"default":null}',
        [("1011001", b"Y")],
    ),
    Column("t_num.o", pg("oid"), '{"name":"o","type":["null","long"],"default":null}', [("4294967295", 4294967295)]),
    Column("t_num.pi", pg("int4", domain=True), '{"name":"pi","type":["null","int"],"default":null}', [("5", 5)]),
    Column(
        "t_num.ma",
        pg("numeric", 655367, domain=True),
        '{"name":"ma","type":["null",{"type":"bytes","scale":3,"precision":10,"connect.version":1,"connect.parameters":{"scale":"3","connect.decimal.precision":"10"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}],"default":null}',
        [("12.345", b"09")],
    ),
    Column("t_text.id", pg("int8"), '{"name":"id","type":"long"}', [("1", 1), ("2", 2), ("3", 3)], required=True),
    Column("t_text.c", pg("bpchar", 9), '{"name":"c","type":["null","string"],"default":null}', [("ab   ", "ab   ")]),
    Column(
        "t_text.vc",
        pg("varchar", 14),
        '{"name":"vc","type":["null","string"],"default":null}',
        [("hello", "hello"), ("", "")],
    ),
    Column(
        "t_text.t",
        pg("text"),
        '{"name":"t","type":{"type":"string","connect.default":"dflt"},"default":"dflt"}',
        [("text", "text"), ("dflt", "dflt"), ("ünïcödé 😀 'q'\" \\ tab\tnl\nx", "ünïcödé 😀 'q'\" \\ tab\tnl\nx")],
        required=True,
        default="'dflt'::text",
    ),
    Column("t_text.n", pg("name"), '{"name":"n","type":["null","string"],"default":null}', [("nm", None)]),
    Column("t_text.ci", pg("citext"), '{"name":"ci","type":["null","string"],"default":null}', [("CiTe", "CiTe")]),
    Column(
        "t_text.u",
        pg("uuid"),
        '{"name":"u","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Uuid"}],"default":null}',
        [("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301")],
    ),
    Column(
        "t_text.j",
        pg("json"),
        '{"name":"j","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}],"default":null}',
        [('{"a": 1}', '{"a": 1}')],
    ),
    Column(
        "t_text.jb",
        pg("jsonb"),
        '{"name":"jb","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}],"default":null}',
        [('{"b": [1, 2, {"c": null}]}', '{"b": [1, 2, {"c": null}]}')],
    ),
    Column(
        "t_text.x",
        pg("xml"),
        '{"name":"x","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Xml"}],"default":null}',
        [("<a>1</a>", "<a>1</a>")],
    ),
    Column(
        "t_text.m",
        pg("mood", kind="e", labels=("sad", "ok", "happy")),
        '{"name":"m","type":["null",{"type":"string","connect.version":1,"connect.parameters":{"allowed":"sad,ok,happy"},"connect.name":"io.debezium.data.Enum"}],"default":null}',
        [("happy", "happy")],
    ),
    Column(
        "t_text.lt",
        pg("ltree"),
        '{"name":"lt","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Ltree"}],"default":null}',
        [("Top.Sci", "Top.Sci")],
    ),
    Column(
        "t_text.h",
        pg("hstore"),
        '{"name":"h","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}],"default":null}',
        [('"a"=>"1", "b"=>NULL', '{"a":"1","b":null}')],
    ),
    Column(
        "t_text.by",
        pg("bytea"),
        '{"name":"by","type":["null","bytes"],"default":null}',
        [("\\x00ff10", b"\x00\xff\x10")],
    ),
    Column(
        "t_text.ts",
        pg("tsvector"),
        '{"name":"ts","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Tsvector"}],"default":null}',
        [("'cat' 'fat'", "'cat' 'fat'")],
    ),
    Column("t_text.tq", pg("tsquery"), None),
    Column(
        "t_time.id",
        pg("int4"),
        '{"name":"id","type":"int"}',
        [("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5", 5)],
        required=True,
    ),
    Column(
        "t_time.d",
        pg("date"),
        '{"name":"d","type":["null",{"type":"int","connect.version":1,"connect.name":"io.debezium.time.Date"}],"default":null}',
        [("2020-02-29", 18321), ("0001-01-01", -719162), ("infinity", -2147472692), ("-infinity", -2147472691)],
    ),
    Column(
        "t_time.t",
        pg("time"),
        '{"name":"t","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTime"}],"default":null}',
        [("13:14:15.123456", 47655123456), ("24:00:00", 86400000000)],
    ),
    Column(
        "t_time.t3",
        pg("time", 3),
        '{"name":"t3","type":["null",{"type":"int","connect.version":1,"connect.name":"io.debezium.time.Time"}],"default":null}',
        [("13:14:15.123", 47655123), ("00:00:00", 0)],
    ),
    Column(
        "t_time.tz",
        pg("timetz"),
        '{"name":"tz","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTime"}],"default":null}',
        [("13:14:15.123456+05:30", "07:44:15.123456Z"), ("00:00:00-12", "12:00:00Z")],
    ),
    Column(
        "t_time.ts",
        pg("timestamp"),
        '{"name":"ts","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}],"default":null}',
        [
            ("2020-02-29 13:14:15.123456", 1582982055123456),
            ("0044-03-15 00:00:00 BC", -63517824000000000),
            ("infinity", 9223372036825200000),
            ("-infinity", -9223372036832400000),
        ],
    ),
    Column(
        "t_time.ts0",
        pg("timestamp", 0),
        '{"name":"ts0","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.Timestamp"}],"default":null}',
        [("2020-02-29 13:14:15", 1582982055000), ("9999-12-31 23:59:59", 253402300799000)],
    ),
    Column(
        "t_time.ts3",
        pg("timestamp", 3),
        '{"name":"ts3","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.Timestamp"}],"default":null}',
        [("2020-02-29 13:14:15.123", 1582982055123), ("1969-12-31 23:59:59.999", -1)],
    ),
    Column(
        "t_time.ts6",
        pg("timestamp", 6),
        '{"name":"ts6","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}],"default":null}',
        [("2020-02-29 13:14:15.123456", 1582982055123456), ("1969-12-31 23:59:59.999999", -1)],
    ),
    Column(
        "t_time.tstz",
        pg("timestamptz"),
        '{"name":"tstz","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}],"default":null}',
        [
            ("2020-02-29 11:14:15.123456+00", "2020-02-29T11:14:15.123456Z"),
            ("1900-01-01 00:00:00+00", "1900-01-01T00:00:00.000000Z"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
        ],
    ),
    Column(
        "t_time.tstz3",
        pg("timestamptz", 3),
        '{"name":"tstz3","type":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}],"default":null}',
        [
            ("2020-02-29 11:14:15.123+00", "2020-02-29T11:14:15.123Z"),
            ("2038-01-19 03:14:08+00", "2038-01-19T03:14:08.000Z"),
        ],
    ),
    Column(
        "t_time.iv",
        pg("interval"),
        '{"name":"iv","type":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroDuration"}],"default":null}',
        [("1 year 2 mons 3 days 04:05:06.789", 37091106789000), ("-1 days -00:00:00.000001", -86400000001)],
    ),
    Column("t_net.id", pg("int4"), '{"name":"id","type":"int"}', [("1", 1), ("2", 2)], required=True),
    Column(
        "t_net.i",
        pg("inet"),
        '{"name":"i","type":["null","string"],"default":null}',
        [("192.168.1.5/24", "192.168.1.5/24")],
    ),
    Column(
        "t_net.c", pg("cidr"), '{"name":"c","type":["null","string"],"default":null}', [("10.0.0.0/8", "10.0.0.0/8")]
    ),
    Column(
        "t_net.m",
        pg("macaddr"),
        '{"name":"m","type":["null","string"],"default":null}',
        [("08:00:2b:01:02:03", "08:00:2b:01:02:03")],
    ),
    Column(
        "t_net.m8",
        pg("macaddr8"),
        '{"name":"m8","type":["null","string"],"default":null}',
        [("08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:05")],
    ),
    Column(
        "t_net.p",
        pg("point"),
        '{"name":"p","type":["null",{"type":"record","name":"Point","namespace":"io.debezium.data.geometry","fields":[{"name":"x","type":"double"},{"name":"y","type":"double"},{"name":"wkb","type":["null","bytes"],"default":null},{"name":"srid","type":["null","int"],"default":null}],"connect.doc":"Geometry (POINT)","connect.version":1,"connect.name":"io.debezium.data.geometry.Point"}],"default":null}',
        [
            (
                "(1.5,2.5)",
                {
                    "x": 1.5,
                    "y": 2.5,
                    "wkb": b"\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf8?\x00\x00\x00\x00\x00\x00\x04@",
                    "srid": None,
                },
            )
        ],
    ),
    Column(
        "t_net.i4r",
        pg("int4range", kind="r"),
        '{"name":"i4r","type":["null","string"],"default":null}',
        [("[1,10)", "[1,10)")],
    ),
    Column(
        "t_net.i8r",
        pg("int8range", kind="r"),
        '{"name":"i8r","type":["null","string"],"default":null}',
        [("[1,11)", "[1,11)")],
    ),
    Column(
        "t_net.nr",
        pg("numrange", kind="r"),
        '{"name":"nr","type":["null","string"],"default":null}',
        [("(1.5,2.5]", "(1.5,2.5]")],
    ),
    Column(
        "t_net.tsr",
        pg("tsrange", kind="r"),
        '{"name":"tsr","type":["null","string"],"default":null}',
        [('["2020-01-01 00:00:00","2020-02-01 00:00:00")', '["2020-01-01 00:00:00","2020-02-01 00:00:00")')],
    ),
    Column(
        "t_net.tstzr",
        pg("tstzrange", kind="r"),
        '{"name":"tstzr","type":["null","string"],"default":null}',
        [('["2020-01-01 00:00:00+00",)', '["2020-01-01 00:00:00+00",)')],
    ),
    Column(
        "t_net.dr",
        pg("daterange", kind="r"),
        '{"name":"dr","type":["null","string"],"default":null}',
        [("empty", "empty")],
    ),
    Column("t_net.bx", pg("box"), None),
    Column("t_net.ci", pg("circle"), None),
    Column("t_net.ln", pg("line"), None),
    Column("t_net.ls", pg("lseg"), None),
    Column("t_net.pth", pg("path"), None),
    Column("t_net.pg", pg("polygon"), None),
    Column("t_arr.id", pg("int4"), '{"name":"id","type":"int"}', [("1", 1), ("2", 2)], required=True),
    Column(
        "t_arr.ia",
        pg("_int4", element=pg("int4")),
        '{"name":"ia","type":["null",{"type":"array","items":["null","int"]}],"default":null}',
        [("{1,NULL,3}", [1, None, 3])],
    ),
    Column(
        "t_arr.ba",
        pg("_int8", element=pg("int8")),
        '{"name":"ba","type":["null",{"type":"array","items":["null","long"]}],"default":null}',
        [("{1,9223372036854775807}", [1, 9223372036854775807])],
    ),
    Column(
        "t_arr.ta",
        pg("_text", element=pg("text")),
        '{"name":"ta","type":["null",{"type":"array","items":["null","string"]}],"default":null}',
        [('{a,"b c",NULL,"q\\"x"}', ["a", "b c", None, 'q"x'])],
    ),
    Column(
        "t_arr.va",
        pg("_varchar", 9, element=pg("varchar")),
        '{"name":"va","type":["null",{"type":"array","items":["null","string"]}],"default":null}',
        [("{x,y}", ["x", "y"])],
    ),
    Column(
        "t_arr.na",
        pg("_numeric", 524294, element=pg("numeric")),
        '{"name":"na","type":["null",{"type":"array","items":["null",{"type":"bytes","scale":2,"precision":8,"connect.version":1,"connect.parameters":{"scale":"2","connect.decimal.precision":"8"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}]}],"default":null}',
        [("{1.50,-2.25}", [b"\x00\x96", b"\xff\x1f"])],
    ),
    Column(
        "t_arr.bo",
        pg("_bool", element=pg("bool")),
        '{"name":"bo","type":["null",{"type":"array","items":["null","boolean"]}],"default":null}',
        [("{t,f}", [True, False])],
    ),
    Column(
        "t_arr.da",
        pg("_date", element=pg("date")),
        '{"name":"da","type":["null",{"type":"array","items":["null",{"type":"int","connect.version":1,"connect.name":"io.debezium.time.Date"}]}],"default":null}',
        [("{2020-01-01}", [18262])],
    ),
    Column(
        "t_arr.tsa",
        pg("_timestamp", element=pg("timestamp")),
        '{"name":"tsa","type":["null",{"type":"array","items":["null",{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroTimestamp"}]}],"default":null}',
        [('{"2020-01-01 00:00:00"}', [1577836800000000])],
    ),
    Column(
        "t_arr.tza",
        pg("_timestamptz", element=pg("timestamptz")),
        '{"name":"tza","type":["null",{"type":"array","items":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}]}],"default":null}',
        [('{"2020-01-01 00:00:00+00"}', ["2020-01-01T00:00:00.000000Z"])],
    ),
    Column(
        "t_arr.ua",
        pg("_uuid", element=pg("uuid")),
        '{"name":"ua","type":["null",{"type":"array","items":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Uuid"}]}],"default":null}',
        [("{3f2504e0-4f89-11d3-9a0c-0305e82c3301}", ["3f2504e0-4f89-11d3-9a0c-0305e82c3301"])],
    ),
    Column(
        "t_arr.ja",
        pg("_jsonb", element=pg("jsonb")),
        '{"name":"ja","type":["null",{"type":"array","items":["null",{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}]}],"default":null}',
        [('{"{\\"a\\": 1}"}', ['{"a": 1}'])],
    ),
    Column(
        "t_arr.ma",
        pg("_mood", element=pg("mood", kind="e", labels=("sad", "ok", "happy"))),
        '{"name":"ma","type":["null",{"type":"array","items":{"type":"string","connect.version":1,"connect.parameters":{"allowed":"sad,ok,happy"},"connect.name":"io.debezium.data.Enum"}}],"default":null}',
        [("{sad,happy}", ["sad", "happy"])],
    ),
    Column(
        "t_arr.i2",
        pg("_int4", element=pg("int4")),
        '{"name":"i2","type":["null",{"type":"array","items":["null","int"]}],"default":null}',
        [("{{1,2},{3,4}}", [None, None])],
        dimensions=2,
    ),
    Column(
        "t_arr.ea",
        pg("_text", element=pg("text")),
        '{"name":"ea","type":{"type":"array","items":["null","string"]}}',
        [("{}", [])],
        required=True,
        default="'{}'::text[]",
    ),
]
columns = pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return bool(left == right) and repr(left) == repr(right)


@columns
def test_avro_schema_is_the_registered_text(column: Column) -> None:
    codec = column.codec()
    if column.avro is None:
        assert codec is None
        assert is_unknown(column.type, DEBEZIUM_3_6)
        return
    assert codec is not None
    field = codec.schema if column.required else codec.schema.as_optional()
    if column.default is not None:
        field = field.with_default(default_datum(column.default, column.type, codec))
    record = avro_schema(Schema("struct", name="r", fields=((column.name.split(".")[1], field),)))
    assert json.dumps(record["fields"][0], separators=(",", ":"), ensure_ascii=False) == column.avro


@columns
def test_datum_is_the_one_consumers_read(column: Column) -> None:
    codec = column.codec()
    for text, datum in column.values:
        assert codec is not None
        if codec.always_null:
            with pytest.raises(Unrepresentable):
                codec.value(text.encode())
        else:
            assert _equal(codec.value(text.encode()), datum), text
            assert codec.encode(text.encode()) == writer(codec.schema)(datum)


@columns
def test_snapshot_and_stream_write_the_same_bytes_when_honest(column: Column) -> None:
    stream, snapshot = column.codec(CompatibilityConfig()), column.codec(CompatibilityConfig(), snapshot=True)
    for text, _ in column.values:
        assert stream is not None
        assert snapshot is not None
        try:
            expected = stream.encode(text.encode())
        except Unrepresentable:
            with pytest.raises(Unrepresentable):
                snapshot.encode(text.encode())
        else:
            assert snapshot.encode(text.encode()) == expected


def test_debeziums_snapshot_differs_for_names_and_infinite_dates() -> None:
    date, name = (
        codec_for(pg("date"), STREAM, DEBEZIUM_3_6, snapshot=True),
        codec_for(pg("name"), STREAM, DEBEZIUM_3_6, snapshot=True),
    )
    assert date is not None
    assert name is not None
    assert [date.value(text) for text in (b"infinity", b"-infinity")] == [-622191234, -625821272]
    assert name.value(b"nm") == "nm"
    assert not name.always_null

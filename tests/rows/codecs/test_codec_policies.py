"""What the options of `values` and `compatibility` change."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pycdc.config.values import DEBEZIUM, DEBEZIUM_3_6, CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs import Codec, Unrepresentable, codec_for, is_unknown
from pycdc.rows.schema import avro_schema, connect_json, json_datum

GOLDEN = Path(__file__).parents[2] / "golden" / "3.7"
HONEST = CompatibilityConfig()
INTS = PgType(0, "_int4", element=PgType(0, "int4"))
MOOD = PgType(0, "mood", kind="e", labels=("sad", "ok"))


def array_of(name: str, **type_: Any) -> PgType:
    return PgType(0, "_" + name, element=PgType(0, name, **type_))


def codec(type_: PgType, compat: CompatibilityConfig = HONEST, dimensions: int = 0, **values: Any) -> Codec:
    made = codec_for(type_, ValuesConfig(**values), compat, dimensions=dimensions)
    assert made is not None
    return made


UNKNOWN = [
    PgType(0, "addr", kind="c"),
    PgType(0, "tsquery"),
    PgType(0, "pg_lsn"),
    PgType(0, "int4multirange", kind="m"),
    PgType(0, "floatrange", kind="r"),
    PgType(0, "int2vector", element=PgType(0, "int2")),
    PgType(0, "text", kind="c"),
    *(array_of(name) for name in ("money", "name", "interval", "varbit", "xml", "point")),
    array_of("bit", typmod=3),
    array_of("int4", domain=True),
]


@pytest.mark.parametrize("unknown", UNKNOWN, ids=lambda type_: type_.name)
def test_a_type_without_a_form_is_text_or_dropped(unknown: PgType) -> None:
    assert is_unknown(unknown)
    text = codec(unknown)
    assert text.schema.type == "string"
    assert text.schema.name is None
    assert text.is_text
    assert codec_for(unknown, ValuesConfig(unknown_types="drop"), HONEST) is None


@pytest.mark.parametrize(
    "known", [INTS, MOOD, array_of("mood", kind="e", labels=("sad",)), PgType(0, "int4", domain=True)]
)
def test_a_type_with_a_form_is_not_unknown(known: PgType) -> None:
    assert not is_unknown(known)


def test_an_array_of_bits_is_null_where_debezium_is_followed() -> None:
    followed = codec(array_of("bit", typmod=3), unknown_types="debezium")
    assert followed.always_null
    assert followed.schema.name == "io.debezium.data.Bits"


def test_a_name_is_text_unless_debezium_is_followed() -> None:
    name = PgType(0, "name")
    assert codec(name).value(b"nm") == "nm"
    followed = codec(name, DEBEZIUM)
    assert followed.always_null
    assert followed.zero == ""
    with pytest.raises(Unrepresentable):
        followed.encode(b"nm")


def test_infinite_dates_are_the_ends_of_an_int32_unless_debezium_is_followed() -> None:
    assert codec(PgType(0, "date")).value(b"infinity") == 2**31 - 1
    assert codec(PgType(0, "date")).value(b"-infinity") == -(2**31)
    assert codec(PgType(0, "date"), DEBEZIUM).value(b"infinity") == 2146033979
    assert codec(PgType(0, "date"), DEBEZIUM_3_6).value(b"infinity") == -2147472692


def test_a_column_of_several_dimensions_is_text_or_nulls() -> None:
    literal = b"{{1,2},{3,4}}"
    honest = codec(INTS, dimensions=2)
    assert honest.schema.type == "string"
    assert honest.value(literal) == literal.decode()
    followed = codec(INTS, DEBEZIUM, dimensions=2)
    assert followed.value(literal) == [None, None]


def test_several_dimensions_in_a_column_of_one_are_unrepresentable_or_nulls() -> None:
    with pytest.raises(Unrepresentable):
        codec(INTS, dimensions=1).value(b"{{1,2}}")
    assert codec(INTS, DEBEZIUM, dimensions=1).value(b"{{1,2}}") == [None]


def test_a_null_among_enums_is_unrepresentable() -> None:
    moods = array_of("mood", kind="e", labels=MOOD.labels)
    for function in (codec(moods).value, codec(moods).encode):
        with pytest.raises(Unrepresentable):
            function(b"{sad,NULL}")


@pytest.mark.parametrize("text", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_number_fits_strings_and_doubles_only(text: bytes) -> None:
    for typmod in (-1, (5 << 16 | 2) + 4):
        for function in (codec(PgType(0, "numeric", typmod)).value, codec(PgType(0, "numeric", typmod)).encode):
            with pytest.raises(Unrepresentable):
                function(text)
    number = PgType(0, "numeric")
    assert repr(codec(number, decimal="double").value(text)) == repr(float(text))
    assert codec(number, decimal="string").value(text) in ("NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY")


def test_a_numeric_of_all_131072_digits_is_written() -> None:
    digits = b"9" * 131_072 + b"." + b"1" * 16_383
    datum = codec(PgType(0, "numeric")).value(digits)
    assert datum["scale"] == 16_383
    unscaled = 9 * (10**131_072 - 1) // 9 * 10**16_383 + (10**16_383 - 1) // 9
    assert int.from_bytes(datum["value"], "big", signed=True) == unscaled


def test_text_that_is_not_utf8_stops_or_is_mended() -> None:
    raw = b"caf\xe9"
    with pytest.raises(ValueError, match="utf-8"):
        codec(PgType(0, "text")).value(raw)
    mended = codec(PgType(0, "text"), encoding_errors="replace")
    assert mended.value(raw) == "caf\ufffd"
    assert mended.encode(raw) == b"\x0ccaf\xef\xbf\xbd"
    assert not mended.is_text
    assert codec(array_of("text"), encoding_errors="replace").value(b"{" + raw + b"}") == ["caf\ufffd"]


@pytest.mark.parametrize(
    ("type_", "values", "placeholder"),
    [
        (PgType(0, "text"), {}, "gone"),
        (PgType(0, "jsonb"), {}, "gone"),
        (PgType(0, "bytea"), {}, b"gone"),
        (PgType(0, "bytea"), {"binary": "hex"}, "gone"),
        (PgType(0, "hstore"), {}, '{"gone":"gone"}'),
        (PgType(0, "hstore"), {"hstore": "map"}, {"gone": "gone"}),
        (PgType(0, "addr", kind="c"), {}, "gone"),
        (INTS, {}, list(b"gone")),
        (array_of("date"), {}, list(b"gone")),
        (array_of("text"), {}, ["gone"]),
        (array_of("bytea"), {}, [b"gone"]),
        (array_of("timestamp"), {}, None),
        (PgType(0, "numeric"), {}, None),
        (PgType(0, "int4"), {}, 0),
    ],
    ids=str,
)
def test_the_placeholder_for_a_toasted_value(type_: PgType, values: dict[str, Any], placeholder: Any) -> None:
    assert codec(type_, unavailable="gone", **values).unavailable == placeholder
    assert codec(type_, unavailable="hex:" + b"gone".hex(), **values).unavailable == placeholder


def test_a_placeholder_in_hexadecimal_notation_is_bytes_and_their_text() -> None:
    told: Any = {"unavailable": "hex:ff00"}
    assert codec(PgType(0, "bytea"), **told).unavailable == b"\xff\x00"
    assert codec(PgType(0, "text"), **told).unavailable == "\ufffd\0"
    assert codec(INTS, **told).unavailable == [-1, 0]
    with pytest.raises(ValidationError, match="two hexadecimal digits"):
        codec(PgType(0, "text"), unavailable="hex:f")


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"{}", []),
        (b'{a,NULL,"NULL","",null}', ["a", None, "NULL", "", "null"]),
        (b'{"a,b","{}","q\\"x","\\\\"}', ["a,b", "{}", 'q"x', "\\"]),
        (b"[0:1]={a,b}", ["a", "b"]),
        (b"[-1:0]={a,b c}", ["a", "b c"]),
        ('{"ü b",é}'.encode(), ["ü b", "é"]),
    ],
)
def test_an_array_literal_is_read(text: bytes, items: list[str | None]) -> None:
    assert codec(array_of("text")).value(text) == items


@pytest.mark.parametrize(
    "text", [b"", b"{", b"a", b"{a}}", b'{"a}', b'{"a"b}', b"{{a},b", b"{a,{b}", b'{"a",}', b"[1]={a}"]
)
def test_a_broken_array_literal_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match="array"):
        codec(array_of("text")).value(text)


def test_an_array_takes_its_modifier_for_its_elements() -> None:
    numbers = codec(PgType(0, "_numeric", (8 << 16 | 2) + 4, element=PgType(0, "numeric")))
    assert numbers.value(b"{1.50}") == [b"\x00\x96"]


@pytest.mark.parametrize(
    ("text", "srid"),
    [
        (b"0101000000000000000000F03F0000000000000040", None),
        (b"0101000020730C00001C7C613255DE6540787AA52C435C42C0", 3187),
        (b"0020000001000010E63FF00000000000004000000000000000", 4326),
    ],
)
def test_a_postgis_geometry_keeps_its_bytes_and_tells_its_srid(text: bytes, srid: int | None) -> None:
    for name in ("geometry", "geography"):
        shape = codec(PgType(0, name))
        assert shape.value(text) == {"wkb": bytes.fromhex(text.decode()), "srid": srid, "extensions": None}
        assert shape.schema.name == f"io.debezium.data.geometry.{name.title()}"


def test_a_postgis_geometry_has_the_schema_of_debeziums_line() -> None:
    of_lines = [codec(PgType(0, "geometry"), one).schema for one in (HONEST, DEBEZIUM, DEBEZIUM_3_6)]
    assert [(one.version, [name for name, _ in one.fields]) for one in of_lines] == [
        (2, ["wkb", "srid", "extensions"]),
        (2, ["wkb", "srid", "extensions"]),
        (1, ["wkb", "srid"]),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [("box", b"{(2,2),(1,1);NULL}"), ("line", b'{"{1,-1,0}",NULL}'), ("circle", b'{"<(1,2),3>",NULL}')],
)
def test_an_array_of_shapes_has_its_values_unless_debezium_is_followed(name: str, text: bytes) -> None:
    item = codec(PgType(0, name))
    only = text[1:].split(b";" if name == "box" else b",NULL", maxsplit=1)[0].strip(b'"')
    array = codec(array_of(name))
    assert array.value(text) == [item.value(only), None]
    assert array.parse(text) == [only.decode(), None]
    followed = codec(array_of(name), DEBEZIUM)
    assert followed.value(b"{}") == []
    with pytest.raises(Unrepresentable):
        followed.value(text)


@pytest.mark.parametrize("name", ["box", "lseg", "path", "polygon", "circle", "line"])
def test_shapes_are_types_without_a_form_where_debezium_3_6_is_followed(name: str) -> None:
    for type_ in (PgType(0, name), array_of(name)):
        assert is_unknown(type_, DEBEZIUM_3_6)
        assert codec(type_, DEBEZIUM_3_6).schema.type == "string"
        assert codec_for(type_, ValuesConfig(unknown_types="debezium"), DEBEZIUM_3_6) is None


@pytest.mark.parametrize(
    "text", [b"(1,2)", b"((1,2)", b"(1,2),(3,4),(5,6)", b"<(1,2)>", b"{1,2}", b"[(1,2),(3,4)", b"((a,b))", b"", b"()"]
)
@pytest.mark.parametrize("name", ["box", "lseg", "path", "polygon", "circle", "line"])
def test_no_text_is_taken_for_a_shape_that_it_is_not(name: str, text: bytes) -> None:
    with pytest.raises(ValueError, match="not "):
        codec(PgType(0, name)).value(text)


def test_the_end_of_the_day_stays_one() -> None:
    timetz = PgType(0, "timetz")
    assert [codec(timetz, one).value(b"24:00:00+00") for one in (HONEST, DEBEZIUM, DEBEZIUM_3_6)] == [
        "24:00:00Z",
        "24:00:00Z",
        "00:00:00Z",
    ]
    assert codec(timetz).value(b"22:00:00-02") == "00:00:00Z"
    time = PgType(0, "time")
    assert [codec(time, one, time="isostring").value(b"24:00:00") for one in (HONEST, DEBEZIUM, DEBEZIUM_3_6)] == [
        "24:00:00Z",
        "00:00:00Z",
        "00:00:00Z",
    ]


@pytest.mark.parametrize(
    ("digits", "text", "amount"),
    [
        (2, b"-$1,234.56", "-1234.56"),
        (0, b"$1,234.56", "123456"),
        (3, b"-$1,234.56", "-123.456"),
        (0, "￥123,456".encode(), "123456"),
        (0, b"($1.00)", "-100"),
        (3, "د.ب. 123.456".encode(), "123.456"),
        (2, "1.234,56 €".encode(), "1234.56"),
        (2, "-92.233.720.368.547.758,08 €".encode(), "-92233720368547758.08"),
    ],
)
def test_money_is_the_stored_integer_by_the_digits_of_the_server(digits: int, text: bytes, amount: str) -> None:
    pg = PgType(790, "money", digits)
    precise, string = codec(pg), codec(pg, decimal="string")
    assert dict(precise.schema.parameters)["scale"] == str(digits)
    assert Decimal(int.from_bytes(precise.value(text), "big", signed=True)).scaleb(-digits) == Decimal(amount)
    assert (string.value(text), precise.parse(text)) == (amount, Decimal(amount))
    wider = codec(pg, money_fraction_digits=4)
    assert Decimal(int.from_bytes(wider.value(text), "big", signed=True)).scaleb(-4) == Decimal(amount)


def test_money_with_fewer_digits_than_the_server_s_is_rounded_as_debezium_does_or_refused() -> None:
    pg = PgType(790, "money", 3)
    assert codec(pg, DEBEZIUM, money_fraction_digits=2).value(b"$0.15") == b"\x02"
    with pytest.raises(Unrepresentable):
        codec(pg, money_fraction_digits=2).value(b"$0.15")
    assert codec(pg, money_fraction_digits=2).value(b"$0.10") == b"\x01"


@pytest.mark.parametrize("mode", ["numeric", "string"])
@pytest.mark.parametrize("text", [b"infinity", b"-infinity"])
def test_an_interval_without_an_end_has_no_representation(mode: str, text: bytes) -> None:
    interval = codec(PgType(0, "interval"), interval=mode)
    assert interval.parse(text) == text.decode()
    with pytest.raises(Unrepresentable):
        interval.value(text)
    with pytest.raises(Unrepresentable):
        interval.encode(text)


def test_a_sparse_vector_is_debeziums_struct() -> None:
    sparse = codec(PgType(0, "sparsevec"), DEBEZIUM)
    assert sparse.value(b"{1:1.5,3:-2}/10") == {"dimensions": 10, "vector": {1: 1.5, 3: -2.0}}
    recorded = json.loads((GOLDEN / "vec.schemas.json").read_text())
    schemas = [json.loads(one) if isinstance(one, str) else one for one in recorded.values()]
    fields = {
        f"{schema['namespace']}.{field['name']}": field["type"]
        for schema in schemas
        if schema["name"] == "Envelope"
        for field in schema["fields"][0]["type"][1]["fields"]
    }
    assert avro_schema(sparse.schema.as_optional()) == fields["shop.public.v_vec.s"]
    for name in ("vector", "halfvec"):
        array = codec(array_of(name), DEBEZIUM)
        assert avro_schema(array.schema.as_optional()) == fields[f"shop.public.v_arr.{name[0]}a"]
        assert array.value(b'{"[1,2]","[3,4]"}') == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(Unrepresentable):
        sparse.value(b"{}/40000")


def test_a_sparse_vector_in_json_has_pairs() -> None:
    sparse = codec(PgType(0, "sparsevec"))
    assert json_datum(sparse.schema, sparse.value(b"{1:1.5}/2")) == {"dimensions": 2, "vector": [[1, 1.5]]}
    assert connect_json(sparse.schema)["fields"][1]["keys"] == {"type": "int16", "optional": False}

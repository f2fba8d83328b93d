"""What a default's SQL becomes in the schema. The recorded cases are in test_codec_recorded; these are the rest."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs import codec_for, default_datum
from pycdc.rows.schema import NO_DEFAULT

MOOD = PgType(0, "mood", kind="e", labels=("sad", "it's"))
N52 = PgType(0, "numeric", (5 << 16 | 2) + 4)


def _default(expression: str, type: str | PgType, **values: Any) -> Any:  # noqa: A002
    pg = PgType(0, type) if isinstance(type, str) else type
    codec = codec_for(pg, ValuesConfig(**values), CompatibilityConfig())
    assert codec is not None
    return default_datum(expression, pg, codec)


@pytest.mark.parametrize(
    ("expression", "type", "datum"),
    [
        ("7", "int4", 7),
        ("'-5'::integer", "int4", -5),
        ("(-1)", "int4", -1),
        ("'9223372036854775807'::bigint", "int8", 9223372036854775807),
        ("true", "bool", True),
        ("'dflt'::text", "text", "dflt"),
        ("'it''s'::text", "text", "it's"),
        ("'two\nlines'::character varying(20)", "varchar", "two\nlines"),
        ("'a::b'::character varying", "varchar", "a::b"),
        ("'ab'::bpchar", "bpchar", "ab"),
        ("1.50", N52, b"\x00\x96"),
        ("1", N52, b"\x64"),
        ("'-1.5'::numeric(5,2)", N52, b"\xff\x6a"),
        ("1e-7", "float8", NO_DEFAULT),
        ("'1e-07'::double precision", "float8", 1e-07),
        ("'2020-01-01'::date", "date", 18262),
        ("'2020-01-01 01:02:03'::timestamp without time zone", "timestamp", 1577840523000000),
        ("'2020-01-01 01:02:03'::timestamp(3) without time zone", PgType(0, "timestamp", 3), 1577840523000),
        ("'2020-01-01 01:02:03+02'::timestamp with time zone", "timestamptz", "2019-12-31T23:02:03.000000Z"),
        ("'3f2504e0-4f89-11d3-9a0c-0305e82c3301'::uuid", "uuid", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
        ("'{\"a\": 1}'::jsonb", "jsonb", '{"a": 1}'),
        ("'101'::\"bit\"", PgType(0, "bit", 3), b"\x05"),
        ("B'1'::\"bit\"", PgType(0, "bit", 1), True),
        ("'1 day'::interval", "interval", 86_400_000_000),
        ("'it''s'::mood", MOOD, "it's"),
        ("'it''s'::\"Odd\".\"Mo od\"", MOOD, "it's"),
    ],
)
def test_a_literal_becomes_its_datum(expression: str, type: str | PgType, datum: Any) -> None:  # noqa: A002
    assert _default(expression, type) == datum


@pytest.mark.parametrize(
    ("expression", "type", "datum"),
    [
        ("nextval('t_id_seq'::regclass)", "int8", 0),
        ("now()", "timestamp", 0),
        ("now()", "timestamptz", "1970-01-01T00:00:00.000000Z"),
        ("now()", PgType(0, "timestamptz", 0), "1970-01-01T00:00:00Z"),
        ("CURRENT_TIMESTAMP", "timestamptz", "1970-01-01T00:00:00.000000Z"),
        ("CURRENT_TIMESTAMP(3)", "timestamp", 0),
        ("CURRENT_DATE", "date", 0),
        ("(now() AT TIME ZONE 'utc'::text)", "timestamp", 0),
        ("timezone('utc'::text, now())", "timestamp", 0),
        ("gen_random_uuid()", "uuid", "00000000-0000-0000-0000-000000000000"),
        ("app.make_code()", "text", ""),
        ("jsonb_build_object('a', 1)", "jsonb", "{}"),
        ("random()", N52, b"\x00"),
        ("random_bit()", PgType(0, "bit", 1), False),
    ],
)
def test_a_function_becomes_a_stand_in(expression: str, type: str | PgType, datum: Any) -> None:  # noqa: A002
    assert _default(expression, type) == datum


@pytest.mark.parametrize(
    ("expression", "type"),
    [
        ("NULL::character varying", "varchar"),
        ("NULL", "int4"),
        ("CURRENT_USER", "text"),
        ("(1 + 2)", "int4"),
        ("(1)::smallint", "int2"),
        ("('a'::text || 'b'::text)", "text"),
        ("'infinity'::date", "date"),
        ("'NaN'::double precision", "float8"),
        ("'NaN'::numeric", N52),
        ("1.005", N52),
        ("1.5", "numeric"),
        ("3", PgType(0, "int4", domain=True)),
        ("'gone'::mood", MOOD),
        ("pick_mood()", MOOD),
        ("'{}'::text[]", PgType(0, "_text", element=PgType(0, "text"))),
        ("'x'::citext", "citext"),
        ("'\\x00'::bytea", "bytea"),
        ("''::hstore", "hstore"),
    ],
)
def test_anything_else_is_no_default(expression: str, type: str | PgType) -> None:  # noqa: A002
    assert _default(expression, type) is NO_DEFAULT


def test_a_default_follows_the_options() -> None:
    assert _default("1.5", N52, decimal="string") == "1.50"
    assert _default("1.5", "numeric", decimal="string") == "1.5"
    assert _default("1.5", N52, decimal="double") == 1.5
    assert _default("'2020-01-01'::date", "date", time="isostring") == "2020-01-01Z"
    assert _default("'1 day'::interval", "interval", interval="string") == "P0Y0M1DT0H0M0S"


LONG = PgType(0, "numeric", (38 << 16 | 10) + 4)


@pytest.mark.parametrize("policy", ["stored", "debezium", "plain"])
@pytest.mark.parametrize(
    ("literal", "unscaled"),
    [
        ("1234567890123456789.5", 12345678901234567895000000000),
        ("-9999999999999999999999999999.9999999999", -99999999999999999999999999999999999999),
        ("'0.0000000001'::numeric", 1),
    ],
)
def test_a_default_of_any_number_of_digits_is_in_the_schema(literal: str, unscaled: int, policy: Any) -> None:
    codec = codec_for(LONG, ValuesConfig(), CompatibilityConfig())
    assert codec is not None
    datum = default_datum(literal, LONG, codec, policy)
    assert int.from_bytes(datum, "big", signed=True) == unscaled


@pytest.mark.parametrize(
    ("expression", "pg", "stored", "debezium"),
    [
        ("'ab'::bpchar", PgType(0, "bpchar", 9), "ab   ", "ab"),
        ("1.005", N52, b"e", NO_DEFAULT),
        ("'-1.005'::numeric", N52, b"\x9b", NO_DEFAULT),
        ("'12:00:00.1235'::time", PgType(0, "time", 3), 43_200_124, 43_200_123),
        ("'12:00:00.9999'::time", PgType(0, "time", 3), NO_DEFAULT, 43_200_999),
        ("'2020-01-01 00:00:00.5'::timestamp", PgType(0, "timestamp", 3), 1_577_836_800_500, 1_577_836_800_500),
    ],
)
def test_a_default_is_as_the_server_stores_it_or_as_debezium_reads_it(
    expression: str,
    pg: PgType,
    stored: Any,
    debezium: Any,
) -> None:
    codec = codec_for(pg, ValuesConfig(), CompatibilityConfig())
    assert codec is not None
    assert default_datum(expression, pg, codec, "stored") == stored
    assert default_datum(expression, pg, codec, "debezium") == debezium


@pytest.mark.parametrize("expression", ["'{}'::jsonb", "'[1]'::jsonb", "' {\"a\": 1}'::jsonb"])
def test_defaults_that_look_like_json_can_be_left_out(expression: str) -> None:
    pg = PgType(0, "jsonb")
    codec = codec_for(pg, ValuesConfig(), CompatibilityConfig())
    assert codec is not None
    assert default_datum(expression, pg, codec, "stored") is not NO_DEFAULT
    assert default_datum(expression, pg, codec, "plain") is NO_DEFAULT
    assert default_datum("'7'::jsonb", pg, codec, "plain") == "7"
    assert default_datum("'7'::jsonb", pg, codec, "none") is NO_DEFAULT

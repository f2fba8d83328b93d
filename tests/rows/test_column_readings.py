"""What a value means is told by a schema, an option or the column; where nothing tells, it is refused by name."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest

from pycdc.config.values import ValuesConfig
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.model.event import Bits, Event, Forms, JsonText, Microseconds, Partition
from pycdc.rows.column_readings import reading
from pycdc.rows.target_column import TargetColumn
from pycdc.rows.text_values import Unwritable, text_of

NUMERIC_10_2 = (10 << 16 | 2) + 4
CATEGORIES = {"numeric": "N", "money": "N", "int4": "N", "float8": "N", "bool": "B", "bit": "V", "varbit": "V"}
TYPED = Forms(True)
APPLICATION = Forms(False)
CAPTURE = Forms(False, True)


def told(**options: Any) -> Forms:
    values = ValuesConfig(**options)
    return Forms(False, True, values.decimal, values.time, values.interval, values.binary)


def column(base: str, typmod: int = -1) -> TargetColumn:
    element = base.removesuffix("[]") if base.endswith("[]") else ""
    category = "A" if element else CATEGORIES.get(base, "S")
    return TargetColumn("c", ("pg_catalog", base), category, base, element, False, "", False, typmod=typmod)


def text(value: Any, base: str, forms: Forms | None, typmod: int = -1) -> str | None:
    return reading(forms).text(value, column(base, typmod))


@pytest.mark.parametrize(
    ("value", "base", "forms", "expected"),
    [
        # Documents and strings.
        ("123", "jsonb", APPLICATION, '"123"'),
        ("true", "json", APPLICATION, '"true"'),
        ("null", "jsonb", APPLICATION, '"null"'),
        ("{ no document", "jsonb", APPLICATION, '"{ no document"'),
        ('{"a":1}', "jsonb", CAPTURE, '{"a":1}'),
        ("123", "jsonb", CAPTURE, "123"),
        (JsonText("123"), "jsonb", TYPED, "123"),
        ("123", "jsonb", TYPED, '"123"'),
        (["a", 1], "jsonb", APPLICATION, '["a", 1]'),
        ('{"a":1}', "jsonb", None, '{"a":1}'),
        ([JsonText('{"a":"b"}')], "jsonb[]", TYPED, r'{"{\"a\":\"b\"}"}'),
        (["x"], "jsonb[]", APPLICATION, r'{"\"x\""}'),
        # Structures.
        ({"year": 0, "month": 2, "day": 3}, "date", APPLICATION, "0001-02-03 BC"),
        ({"specialValue": "POSITIVE_INFINITY", "precision": 6}, "timestamp", told(time="structured"), "infinity"),
        # Bytes.
        ("\\xdead", "bytea", APPLICATION, "\\xdead"),
        ("3q0=", "bytea", told(), "\\xdead"),
        ("3q0=", "bytea", told(binary="base64"), "\\xdead"),
        ("_-4=", "bytea", told(binary="base64-url-safe"), "\\xffee"),
        ("dead", "bytea", told(binary="hex"), "\\xdead"),
        ("dead", "bytea", Forms(True, True, binary="hex"), "\\xdead"),
        (b"\xde\xad", "bytea", TYPED, "\\xdead"),
        (["3q0=", None], "bytea[]", told(), r'{"\\xdead",NULL}'),
        # Numbers.
        ("12.50", "numeric", APPLICATION, "12.50"),
        ("-5", "numeric", CAPTURE, "-5"),
        ("1234", "numeric", told(decimal="string"), "1234"),
        ("BNI=", "numeric", told(), "12.34"),
        (["BNI=", None], "numeric[]", told(), '{"12.34",NULL}'),
        ({"scale": 3, "value": "AQ=="}, "numeric", CAPTURE, "0.001"),
        ("POSITIVE_INFINITY", "numeric", TYPED, "Infinity"),
        ("NAN", "numeric", TYPED, "NaN"),
        (["NEGATIVE_INFINITY"], "numeric[]", TYPED, '{"-Infinity"}'),
        (Decimal("12345678901234567890123456789.125"), "numeric", TYPED, "12345678901234567890123456789.125"),
        ("1234.50", "money", TYPED, "1234.50"),
        (Decimal("-0.5"), "money", CAPTURE, "-0.5"),
        # Bits.
        (True, "bit", TYPED, "1"),
        (False, "bit", CAPTURE, "0"),
        ([True, None], "bit[]", TYPED, '{"1",NULL}'),
        ("BQ==", "bit", CAPTURE, "00000101"),
        ("101", "bit", APPLICATION, "101"),
        (Bits("0101"), "bit", TYPED, "0101"),
        # Times.
        (19_000, "date", told(), "2022-01-08"),
        (2_147_483_647, "date", told(), "infinity"),
        (1_600_000_000_123_456, "timestamp", told(), "2020-09-13 12:26:40.123456"),
        (1_600_000_000_123, "timestamp", told(time="connect"), "2020-09-13 12:26:40.123000"),
        (1_600_000_000_123_456_000, "timestamp", told(time="nanoseconds"), "2020-09-13 12:26:40.123456"),
        (3_600_000_000, "time", told(), "01:00:00"),
        (3_600_000, "time", told(time="connect"), "01:00:00"),
        (3_000_000, "interval", told(), "3000000 microseconds"),
        (Microseconds("9 microseconds"), "interval", Forms(True, interval="numeric"), "9 microseconds"),
        ("P1Y2M3DT4H5M6S", "interval", CAPTURE, "P1Y2M3DT4H5M6S"),
        # hstore, vectors, points.
        ({"a": "1", "b": None, 'q"': "\\"}, "hstore", TYPED, r'"a"=>"1", "b"=>NULL, "q\""=>"\\"'),
        (JsonText('{"a":"1"}'), "hstore", TYPED, '"a"=>"1"'),
        ('{"a":null}', "hstore", CAPTURE, '"a"=>NULL'),
        ([1, 2.5, Decimal("0.25")], "vector", CAPTURE, "[1,2.5,0.25]"),
        ([1.0], "halfvec", TYPED, "[1.0]"),
        ({"x": 1.5, "y": -2, "wkb": None, "srid": None}, "point", CAPTURE, "(1.5,-2)"),
        ({"wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA", "srid": 4326}, "geometry", CAPTURE,
         "0101000020e6100000000000000000f03f0000000000000040"),
    ],
)  # fmt: skip
def test_a_value_means_what_its_schema_its_options_or_its_column_say(
    value: Any, base: str, forms: Forms | None, expected: str
) -> None:
    typmod = NUMERIC_10_2 if base.startswith("numeric") else -1
    assert text(value, base, forms, typmod) == expected


@pytest.mark.parametrize(
    ("value", "base", "forms"),
    [
        ("1234", "numeric", APPLICATION),
        ("BNI=", "numeric", CAPTURE),
        ("Infinity", "numeric", APPLICATION),
        (["1234"], "numeric[]", APPLICATION),
        ("1234", "money", CAPTURE),
        ("MDk=", "money", told()._replace(money_digits=None)),
        ("3q0=", "bytea", APPLICATION),
        ("3q0=", "bytea", CAPTURE),
        ("dead", "bytea", TYPED),
        ("3q2+7w==", "bytea", told(binary="base64-url-safe")),
        ("3q!2-7w==", "bytea", told(binary="base64-url-safe")),
        (["dead"], "bytea[]", TYPED),
        (19_000, "date", APPLICATION),
        (19_000, "date", TYPED),
        (1_700_000_000_000, "timestamp", CAPTURE),
        (1_700_000_000_000, "timestamptz", told()),
        (1_700_000_000_000, "timestamptz", TYPED),
        (3_600_000, "time", APPLICATION),
        (3_000_000, "interval", CAPTURE),
        (3_000_000, "interval", told(interval="string")),
        (3, "interval", TYPED),
        (Microseconds("2629800000000 microseconds"), "interval", TYPED),
        ("1011", "bit", APPLICATION),
        (Bits("00101"), "varbit", TYPED),
        ("BQ==", "varbit", CAPTURE),
        ('{"a":1}', "jsonb", APPLICATION),
        ("[1]", "json", APPLICATION),
        ("12,50 €", "money", APPLICATION),
        ("1.234,50", "money", None),
        ("2024-01-01 12:00 Europe/Berlin", "timestamp", TYPED),
        ("20240101T120000+0500", "timestamp", APPLICATION),
        ("Mon, 01 Jan 2024 12:00:00 +0200", "timestamp", TYPED),
        ("2024-1-1 9:05 PM -03", "timestamp", CAPTURE),
        ("Mon Jan 01 12:00:00 CET 2024", "timestamp", APPLICATION),
        ("2024-01-01 12:00 PST BC", "timestamp", APPLICATION),
        ("120000+02", "time", APPLICATION),
        ("[2024-01-01T12:00:00+02:00,)", "tsrange", APPLICATION),
        ('["2024-01-01 12:00 CET",)', "tsrange", TYPED),
        (['{["2024-01-01 12:00-05",)}'], "tsmultirange[]", APPLICATION),
        ("now", "timestamptz", APPLICATION),
        (" Today", "date", TYPED),
        ("tomorrow 12:00", "timestamp", CAPTURE),
        (["yesterday"], "timestamptz[]", APPLICATION),
        (200_000_000_000, "date", told()),
        (90_000_000_000, "time", told(time="microseconds")),
    ],
)
def test_what_can_be_read_in_more_than_one_way_is_refused_with_the_columns_name(
    value: Any, base: str, forms: Forms | None
) -> None:
    with pytest.raises(Unwritable, match=f"column c of type {base.replace('[]', '.*')}") as refused:
        text(value, base, forms)
    assert str(value) not in str(refused.value)


@pytest.mark.parametrize("mode", ["adaptive", "adaptive_microseconds"])
@pytest.mark.parametrize(
    ("typmod", "value"), [(3, 1_600_000_000_123), (6, 1_600_000_000_123_000), (-1, 1_600_000_000_123_000)]
)
def test_the_columns_precision_stands_for_the_sources(mode: str, typmod: int, value: int) -> None:
    assert text(value, "timestamp", told(time=mode), typmod) == "2020-09-13 12:26:40.123000"


@pytest.mark.parametrize(
    ("value", "base", "expected"),
    [
        ("2024-01-01T12:00+02:00", "timestamp", "2024-01-01 10:00:00"),
        ("2024-01-01T12:00:00.5Z", "timestamp", "2024-01-01 12:00:00.5"),
        ("2024-01-01 00:30:00.123456-0530", "timestamp", "2024-01-01 06:00:00.123456"),
        ("2024-01-01T12:00+02:00", "timestamptz", "2024-01-01T12:00+02:00"),
        ("12:00+02:00", "time", "10:00:00"),
        ("01:00+02:00", "time", "23:00:00"),
        ("24:00:00", "time", "24:00:00"),
        ("12:00+02:00", "timetz", "12:00+02:00"),
        ("2024-01-01T23:00-05:00", "date", "2024-01-02"),
        ("2024-01-01Z", "date", "2024-01-01"),
        ("-0043-03-15Z", "date", "0044-03-15 BC"),
        ("0000-01-01Z", "date", "0001-01-01 BC"),
        ("0000-03-15", "date", "0001-03-15 BC"),
        ("20240101T120000Z", "timestamp", "20240101T120000Z"),
        ("Mon Jan 1 12:00:00 2024", "timestamp", "Mon Jan 1 12:00:00 2024"),
        ("01-02-2024 12:00 PM", "timestamp", "01-02-2024 12:00 PM"),
        ('["2024-01-01 12:00:00","2024-02-01 00:00:00")', "tsrange", '["2024-01-01 12:00:00","2024-02-01 00:00:00")'),
        ("[2024-01-01,2024-02-01)", "daterange", "[2024-01-01,2024-02-01)"),
        ("empty", "tsrange", "empty"),
        ("+10000-01-01Z", "date", "10000-01-01"),
        ("-5877611-06-21Z", "date", "infinity"),
        ("-0043-03-15T12:00:00Z", "timestamptz", "0044-03-15 12:00:00+00 BC"),
        ("+12024-03-15T12:00:00.000001Z", "timestamptz", "12024-03-15 12:00:00.000001+00"),
        ("+10000-01-01T00:00:00Z", "timestamp", "10000-01-01 00:00:00"),
        ("infinity", "timestamp", "infinity"),
        ("-infinity", "timestamptz", "-infinity"),
        ("10:00:00Z", "timetz", "10:00:00Z"),
        ("0044-03-15 12:00:00 BC", "timestamp", "0044-03-15 12:00:00 BC"),
    ],
)
def test_a_time_says_what_it_says_in_a_column_without_a_zone_too(value: str, base: str, expected: str) -> None:
    assert text(value, base, TYPED) == text(value, base, None) == expected


def test_a_number_in_a_text_column_has_its_digits_and_no_exponent() -> None:
    for number, expected in (("1E-10", "0.0000000001"), ("1E+5", "100000"), ("1.50", "1.50"), ("1e3", "1000")):
        assert [text(Decimal(number), base, TYPED) for base in ("text", "varchar", "bpchar")] == [expected] * 3
    assert text([Decimal("1E-7")], "text[]", TYPED) == '{"0.0000001"}'


def test_words_for_the_present_are_for_who_writes_the_configuration() -> None:
    assert text("now", "timestamptz", None) == "now"


def event_of(data: bytes, **options: Any) -> Event:
    return Decoder(None, **options).event(Partition("t", 0), 0, 0, None, data)


def test_every_digit_of_a_document_survives() -> None:
    data = b'{"id":1,"doc":{"amount":12345678901234567.89,"big":123456789012345678901234567890,"e":1.50e3,"z":0.10}}'
    row = event_of(data).row
    assert row is not None
    assert text(row["doc"], "jsonb", APPLICATION) == (
        '{"amount": 12345678901234567.89, "big": 123456789012345678901234567890, "e": 1.50E+3, "z": 0.10}'
    )
    long = "9" * 9000
    row = event_of(b'{"doc":[%s, %s.5, -%s]}' % (*[long.encode()] * 3,)).row
    assert row is not None
    assert text(row["doc"], "jsonb", APPLICATION) == f"[{long}, {long}.5, -{long}]"


@pytest.mark.parametrize(
    "data",
    [
        b'{"v":1e1000000}', b'{"v":1e99999999}', b'{"v":{"n":-1e1000000}}', b'{"v":[[1e-99999999]]}',
        b'{"v":1e99999999999999999999}', b'{"v":%s}' % (b"9" * 200_000), b'{"v":%s1%s}' % (b"[" * 190, b"]" * 190),
        b'{"v":%s1%s}' % (b"[" * 980, b"]" * 980), b'{"v":%s}' % (b'{"a":' * 500_000), b'{"v":"\\ud83d"}',
        b'{"\\ud83d":1}', b'{"v":{"a":["\\udc00"]}}', b'{"v":"\xff"}', b"\xef\xbb\xbf{}", b'{"v":"\\u0000"}',
        b"[" * 200_000, b'{"v":NaN}', b'{"v":[Infinity]}', b"",
    ],
)  # fmt: skip
def test_no_record_takes_longer_than_it_deserves_or_fails_in_a_way_of_its_own(data: bytes) -> None:
    began = time.process_time()
    event = event_of(data)
    for base in ("jsonb", "numeric", "int4", "text", "numeric[]", "timestamp", "interval", "bytea"):
        for forms in (None, event.forms):
            try:
                text((event.row or {}).get("v"), base, forms)
            except Unwritable:
                continue
    assert time.process_time() - began < 2


def test_a_value_of_any_kind_is_a_text_or_unwritable() -> None:
    values = [object(), {1: 2}, {"a": object()}, float("nan"), b"\xff", {"wkb": "x"}, {"x": None}, [[1], 2], "a\0b"]
    for value in values:
        for base in (
            "jsonb",
            "hstore",
            "point",
            "geometry",
            "vector",
            "bit",
            "numeric",
            "text[]",
            "timestamp",
            "money",
        ):
            for forms in (None, TYPED, APPLICATION, CAPTURE, told()):
                try:
                    assert isinstance(text(value, base, forms), str)
                except Unwritable as refused:
                    assert str(refused).startswith("column c of type ")  # noqa: PT017


def test_an_integer_of_any_length_has_all_its_digits() -> None:
    assert text(10**5000, "numeric", TYPED) == str(Decimal(10**5000))


def test_nul_is_found_wherever_it_stands() -> None:
    for value, base in ((["a\0b"], "text[]"), ({"k": "\0"}, "hstore"), ("\0", "text")):
        with pytest.raises(Unwritable, match="no NUL"):
            text_of(value, column(base))


def test_the_same_document_is_read_with_and_without_spaces_and_by_a_schema_that_was_met() -> None:
    schema = {"type": "struct", "fields": [{"field": "d", "type": "int32", "name": "io.debezium.time.Date"}]}
    decoder = Decoder(None)
    for payload in ({"d": 1}, {"d": 2}, None, {"d": None}):
        compact = json.dumps({"schema": schema, "payload": payload}, separators=(",", ":"))
        for written in (compact, json.dumps({"payload": payload, "schema": schema}, indent=1)):
            event = decoder.event(Partition("t", 0), 0, 0, None, written.encode())
            days = None if payload is None else payload["d"]
            assert (event.problem, event.deleted) == (None, payload is None)
            assert event.row == (None if payload is None else {"d": days and f"1970-01-0{days + 1}"})
    bad = json.dumps({"schema": schema, "payload": {"d": "secret"}}, separators=(",", ":"))
    for written in (bad, bad[:-1], bad + "}"):
        problem = decoder.event(Partition("t", 0), 0, 0, None, written.encode()).problem
        assert problem is not None
        assert "secret" not in problem

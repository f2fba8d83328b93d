"""The Python value of each type; text where Python has none."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs import codec_for

INTS = PgType(0, "_int4", element=PgType(0, "int4"))


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        ("int4", "-5", -5),
        ("float8", "1e-320", 1e-320),
        ("bool", "t", True),
        ("numeric", "1200.00", Decimal("1200.00")),
        ("numeric", "NaN", "nan"),
        ("money", "-$1,234.56", Decimal("-1234.56")),
        ("money", "($1,234.56)", Decimal("-1234.56")),
        ("bit", "101", "101"),
        ("bytea", "\\x00ff", b"\x00\xff"),
        ("text", "ü", "ü"),
        ("jsonb", '{"a": [1, null]}', {"a": [1, None]}),
        ("jsonb", "[" * 100_000 + "]" * 100_000, "[" * 100_000 + "]" * 100_000),
        ("uuid", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", UUID("3f2504e0-4f89-11d3-9a0c-0305e82c3301")),
        ("hstore", '"a"=>"1", "b"=>NULL', {"a": "1", "b": None}),
        ("point", "(1.5,-2)", (1.5, -2.0)),
        ("inet", "192.168.1.5/24", "192.168.1.5/24"),
        ("int4range", "[1,10)", "[1,10)"),
        ("date", "2020-02-29", date(2020, 2, 29)),
        ("date", "0044-03-15 BC", "0044-03-15 BC"),
        ("date", "5874897-12-31", "5874897-12-31"),
        ("date", "infinity", "infinity"),
        ("time", "13:14:15.12", time(13, 14, 15, 120_000)),
        ("time", "24:00:00", "24:00:00"),
        ("timetz", "13:14:15+05:30", time(13, 14, 15, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
        ("timetz", "24:00:00+00", "24:00:00+00"),
        ("timestamp", "2020-02-29 13:14:15.123456", datetime(2020, 2, 29, 13, 14, 15, 123_456)),
        ("timestamp", "294276-12-31 23:59:59", "294276-12-31 23:59:59"),
        ("timestamptz", "2020-02-29 13:14:15+02", datetime(2020, 2, 29, 11, 14, 15, tzinfo=UTC)),
        ("timestamptz", "-infinity", "-infinity"),
        ("interval", "3 days -04:05:06.5", timedelta(days=3, hours=-4, minutes=-5, seconds=-6.5)),
        ("interval", "1 mon", "1 mon"),
        ("interval", "178956970 days", timedelta(days=178_956_970)),
        ("interval", "2147483647 days", "2147483647 days"),
        (INTS, "{{1,NULL},{3,4}}", [[1, None], [3, 4]]),
    ],
)
def test_python_value(type_: str | PgType, text: str, value: Any) -> None:
    pg = PgType(0, type_, 3 if type_ == "bit" else -1) if isinstance(type_, str) else type_
    codec = codec_for(pg, ValuesConfig(), CompatibilityConfig())
    assert codec is not None
    parsed = codec.parse(text.encode())
    if value == "nan":
        assert isinstance(parsed, Decimal)
        assert parsed.is_nan()
    else:
        assert parsed == value
        assert type(parsed) is type(value)


@pytest.mark.parametrize("mode", ["string", "double"])
def test_a_numeric_is_a_decimal_in_every_mode(mode: Any) -> None:
    codec = codec_for(PgType(0, "numeric"), ValuesConfig(decimal=mode), CompatibilityConfig())
    assert codec is not None
    assert codec.parse(b"1.10") == Decimal("1.10")

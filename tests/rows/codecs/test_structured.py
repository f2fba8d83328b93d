"""The mode structured: what its structures hold, and that Postgres reads them back as what they were."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from pycdc.config import validate_capture
from pycdc.config.values import DEBEZIUM, CompatibilityConfig, ValuesConfig
from pycdc.errors import ConfigError
from pycdc.model.change import PgType
from pycdc.model.event import Unwritable
from pycdc.rows.avro import writer
from pycdc.rows.codecs import Codec, Unrepresentable, codec_for
from pycdc.rows.connect_types import conversion
from pycdc.rows.schema import json_datum

HONEST = CompatibilityConfig()
END_OF_DAY = {"hour": 24, "minute": 0, "second": 0, "nanos": 0, "precision": 6}


def codec(name: str, typmod: int = -1, compat: CompatibilityConfig = HONEST) -> Codec:
    made = codec_for(PgType(0, name, typmod), ValuesConfig(time="structured"), compat)
    assert made is not None
    return made


def present(datum: Any) -> dict[str, Any]:
    return {name: value for name, value in datum.items() if value is not None}


def test_the_end_of_the_day_has_a_structure_unless_debezium_is_followed() -> None:
    assert codec("time").value(b"24:00:00") == END_OF_DAY
    with pytest.raises(Unrepresentable):
        codec("time", compat=DEBEZIUM).value(b"24:00:00")
    assert codec("timetz", compat=DEBEZIUM).value(b"24:00:00+00") == {**END_OF_DAY, "offsetSeconds": 0}


@pytest.mark.parametrize(
    ("name", "typmod", "text", "parts"),
    [
        ("date", -1, b"0044-03-15 BC", {"year": -43, "month": 3, "day": 15}),
        ("date", -1, b"-infinity", {"specialValue": "NEGATIVE_INFINITY"}),
        ("timestamp", 3, b"infinity", {"specialValue": "POSITIVE_INFINITY", "precision": 3}),
        (
            "timetz",
            -1,
            b"13:14:15.5-03:30:15",
            {"hour": 13, "minute": 14, "second": 15, "nanos": 500_000_000, "offsetSeconds": -12_615, "precision": 6},
        ),
        (
            "interval",
            0x7FFF_FFFF,
            b"-1 years +2 mons -00:00:01.5",
            {
                **dict.fromkeys(("days", "hours", "minutes"), 0),
                "years": -1,
                "months": 2,
                "seconds": -1,
                "nanos": -500_000_000,
                "precision": 0xFFFF,
            },
        ),
    ],
)
def test_parts_are_those_of_the_text(name: str, typmod: int, text: bytes, parts: dict[str, Any]) -> None:
    assert present(codec(name, typmod).value(text)) == parts


def test_an_interval_of_more_hours_than_an_integer_has_no_structure() -> None:
    assert codec("interval").value(b"2147483647:00:00")["hours"] == 0x7FFF_FFFF
    with pytest.raises(Unrepresentable):
        codec("interval").value(b"2147483648:00:00")


def test_debeziums_line_3_6_has_no_such_mode() -> None:
    source = {"postgres": {"dsn": "postgresql://x"}}
    document = {"name": "shop", "source": source, "sink": {"null": {}}, "values": {"time": "structured"}}
    assert validate_capture({**document, "compatibility": "debezium-3.7"}).values.time == "structured"
    with pytest.raises(ConfigError, match="structured"):
        validate_capture({**document, "compatibility": "debezium-3.6"})


TEXTS = {
    "date": ["2020-02-29", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31", "infinity", "-infinity"],
    "time": ["00:00:00", "13:14:15.123456", "24:00:00"],
    "timetz": ["13:14:15.5+05:30", "00:00:00-15:59", "24:00:00+00", "23:59:59.999999-00:00:01"],
    "timestamp": ["2020-02-29 13:14:15.123456", "0001-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "infinity"],
    "timestamptz": ["2020-02-29 13:14:15.5+00", "4713-01-01 00:00:00+00 BC", "-infinity"],
    "interval": [
        "1 year 2 mons 3 days 04:05:06.789",
        "-1 days -00:00:00.000001",
        "1 year -1 mons",
        "-178000000 years",
        "1 mon -1 days +00:00:00.1",
        "-05:30:00",
        "00:00:00",
    ],
}


@pytest.mark.pg("newest")
@pytest.mark.parametrize("kind", TEXTS)
def test_postgres_reads_back_what_was_there(database: str, kind: str) -> None:
    made = codec(kind)
    back = conversion(made.schema.name, {})
    assert back is not None
    with psycopg.connect(database, options="-c TimeZone=UTC -c IntervalStyle=postgres") as connection:
        for text in TEXTS[kind]:
            datum = made.value(text.encode())
            assert writer(made.schema)(datum) == made.encode(text.encode())
            query = f"SELECT %s::{kind}::text, %s::{kind}::text"
            row = connection.execute(query.encode(), (back(json_datum(made.schema, datum)), text)).fetchone()
            assert row is not None
            assert row[0] == row[1]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Date", {"year": 2020, "month": None, "day": 1}),
        ("Date", {"specialValue": "NAN"}),
        ("Timestamp", {"year": 2020, "month": 1, "day": 1}),
        ("ZonedTime", {**END_OF_DAY, "offsetSeconds": "x"}),
        ("Duration", {}),
    ],
)
def test_a_structure_that_lacks_parts_is_refused(name: str, parts: dict[str, Any]) -> None:
    convert = conversion(f"io.debezium.time.Structured{name}", {})
    assert convert is not None
    with pytest.raises(Unwritable):
        convert(parts)

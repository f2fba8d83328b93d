"""Python values of every type as Postgres' text again, and the values that a column refuses."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pycdc.config.values import CompatibilityConfig, ValuesConfig
from pycdc.model.change import Column, Op, PgType, Run, Table, Transaction
from pycdc.rows.codecs import Codec, Unrepresentable, codec_for
from pycdc.rows.literals import ColumnText, NotWritable
from pycdc.rows.rewriter import RowRewriter
from tests.connectors.postgres import frames
from tests.generated_examples import examples
from tests.rows.codecs.test_codec_generated import MOOD, every_type

HONEST, LENIENT = CompatibilityConfig(), CompatibilityConfig(unrepresentable="null")
CANARY = "canary-4711"


def codec_of(pg: PgType, values: ValuesConfig) -> Codec:
    codec = codec_for(pg, values, HONEST)
    assert codec is not None
    return codec


def encoded(codec: Codec, text: bytes) -> bytes | str:
    try:
        return codec.encode(text)
    except Unrepresentable as error:
        return str(error)


@every_type
@given(data=st.data())
@examples(15)
def test_what_a_row_shows_can_be_written_back(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, data: st.DataObject
) -> None:
    text = data.draw(strategy).encode()
    value = codec_of(pg, ValuesConfig(encoding_errors="replace")).parse(text)
    assume(value is not None)  # a JSON null
    assume(pg.name != "time" or pg.typmod != 3 or len(text) <= len("00:00:00.000"))
    written = ColumnText(Column("c", pg), values, LENIENT)(value)
    if pg.name == "jsonb":
        assert json.loads(written) == json.loads(text)
    elif values.interval == "string":
        # A timedelta does not remember whether it was a day or 24 hours.
        assert codec_of(pg, values).parse(written) == value
    else:
        codec = codec_of(pg, values)
        assert encoded(codec, written) == encoded(codec, text)


@every_type
@given(data=st.data())
@examples(8)
def test_a_row_of_which_nothing_was_replaced_is_the_frame_that_came(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, data: st.DataObject
) -> None:
    """Lists and dicts too, which may have been changed in place and are compared with what came."""
    rewriter = REWRITERS.setdefault(pg, _rewriter(pg))
    frame = frames.xlog(frames.insert(1, [data.draw(strategy).encode(), None]))
    [change] = Run(Op.CREATE, _table(pg), Transaction(7, 1000, 0), 0, [frame])
    images = rewriter.images(change)
    assert images[1] is not None
    assert rewriter.frame(change.op, frame, images, None, {**images[1].row}) == frame


REWRITERS: dict[PgType, RowRewriter] = {}


def _table(pg: PgType) -> Table:
    return Table(1, "public", "t", (Column("a", pg), Column("b", pg)))


def _rewriter(pg: PgType) -> RowRewriter:
    return RowRewriter(_table(pg), _table(pg), ValuesConfig(), HONEST)


def literal(pg: PgType | str, typmod: int = -1, **facts: Any) -> ColumnText:
    type_ = PgType(0, pg, typmod) if isinstance(pg, str) else pg
    return ColumnText(Column("c", type_, **facts), ValuesConfig(), HONEST)


def numeric(precision: int, scale: int) -> PgType:
    return PgType(0, "numeric", (precision << 16 | scale) + 4)


@pytest.mark.parametrize(
    ("pg", "value", "text"),
    [
        ("int4", -5, "-5"),
        ("bool", True, "t"),
        ("float8", 1, "1.0"),
        ("float8", float("-inf"), "-Infinity"),
        ("numeric", Decimal("1E+3"), "1000"),
        ("numeric", Decimal("NaN"), None),
        (numeric(8, 2), 7, "7.00"),
        (numeric(8, 2), Decimal("1.5"), "1.50"),
        (numeric(8, 2), Decimal("1.500"), "1.50"),
        ("text", "Grüße", "Grüße"),
        ("jsonb", {"a": [1, None, True]}, '{"a": [1, null, true]}'),
        ("uuid", UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        ("uuid", "{00000000-0000-0000-0000-000000000007}", "00000000-0000-0000-0000-000000000007"),
        ("bytea", b"\x00\xff", "\\x00ff"),
        ("date", date(987, 1, 2), "0987-01-02"),
        ("date", "infinity", "infinity"),
        ("time", time(1, 2, 3), "01:02:03"),
        ("timetz", time(1, 2, 3, 500, timezone(timedelta(hours=-5, minutes=-30))), "01:02:03.0005-05:30"),
        ("timestamp", datetime(2026, 1, 2, 3, 4, 5, 120_000), "2026-01-02 03:04:05.12"),
        ("timestamptz", datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2026-01-02 01:00:00+00"),
        ("interval", timedelta(days=-3, hours=4), "-3 days +04:00:00"),
        ("interval", timedelta(0), "00:00:00"),
        ("hstore", {"long": None, "b": 'x"y'}, '"long"=>NULL, "b"=>"x\\"y"'),
        ("point", (1, 2.5), "(1.0,2.5)"),
        (MOOD, "sad", "sad"),
        (PgType(0, "_int4", element=PgType(0, "int4")), [1, None], '{"1",NULL}'),
        (PgType(0, "addr", kind="c"), "(x,1)", "(x,1)"),
    ],
)
def test_a_value_becomes_the_text_that_postgres_would_write(pg: PgType | str, value: Any, text: str | None) -> None:
    if text is None:
        with pytest.raises(NotWritable, match="cannot express"):
            literal(pg)(value)
    else:
        assert literal(pg)(value) == text.encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678_500), b"2026-01-02 03:04:05.679"),
        (datetime(2026, 1, 2, 23, 59, 59, 999_900), b"2026-01-03 00:00:00"),
    ],
)
def test_digits_beyond_the_columns_precision_are_rounded(value: datetime, expected: bytes) -> None:
    assert literal("timestamp", 3)(value) == expected


@pytest.mark.parametrize(
    ("pg", "value"),
    [
        ("int2", 1 << 15),
        ("int4", True),
        ("int4", CANARY),
        ("int4", 1.0),
        ("bool", 1),
        ("float4", 1e300),
        ("float8", CANARY),
        ("numeric", 1.5),
        (numeric(4, 2), Decimal("1.234")),
        (numeric(4, 2), Decimal(100)),
        ("text", b"canary-4711"),
        ("text", "canary-4711\0"),
        ("text", "canary-4711\ud800"),
        ("jsonb", {CANARY: object()}),
        ("jsonb", float("nan")),
        ("uuid", CANARY),
        ("bytea", CANARY),
        ("date", datetime(2026, 1, 1)),
        ("date", CANARY),
        ("time", time(1, tzinfo=UTC)),
        ("timestamp", datetime(2026, 1, 1, tzinfo=UTC)),
        ("timestamptz", datetime(2026, 1, 1)),
        ("timestamptz", CANARY),
        ("timestamptz", datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
        ("interval", 5),
        ("interval", CANARY),
        ("hstore", {CANARY: 1}),
        ("point", (1,)),
        (MOOD, CANARY),
        (PgType(0, "_int4", element=PgType(0, "int4")), CANARY),
        (PgType(0, "_int4", element=PgType(0, "int4")), [[1], [2]]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_without_being_shown(pg: PgType | str, value: Any) -> None:
    with pytest.raises(NotWritable) as caught:
        literal(pg)(value)
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_value_without_a_form_passes_where_it_becomes_null() -> None:
    write = ColumnText(Column("c", numeric(8, 2)), ValuesConfig(), LENIENT)
    assert write(Decimal("NaN")) == b"NaN"


def test_an_array_of_declared_dimensions_is_text() -> None:
    pg = PgType(0, "_int4", element=PgType(0, "int4"))
    assert literal(pg, dimensions=2)("{{1},{2}}") == b"{{1},{2}}"

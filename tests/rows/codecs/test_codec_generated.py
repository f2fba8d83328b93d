"""Over generated texts: the three ways to write a value agree with each other and with fastavro."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from pycdc.config.values import DEBEZIUM, CompatibilityConfig, ValuesConfig
from pycdc.model.change import PgType
from pycdc.rows.codecs import Codec, Unrepresentable, codec_for
from pycdc.rows.schema import Schema, avro_schema
from tests.generated_examples import examples
from tests.rows.codecs import codec_texts as texts

HONEST = CompatibilityConfig()
MOOD = PgType(0, "mood", kind="e", labels=("sad", "ok", "happy"))
MOODS = st.sampled_from(MOOD.labels)


def _decimal(precision: int, scale: int) -> PgType:
    return PgType(0, "numeric", (precision << 16 | scale & 0x7FF) + 4)


def _array(element: PgType) -> PgType:
    return PgType(0, "_" + element.name, element=element)


def _case(named: str | PgType, strategy: SearchStrategy[str], typmod: int = -1, **values: Any) -> Any:
    pg = PgType(0, named, typmod) if isinstance(named, str) else named
    options = "-".join(map(str, values.values()))
    name = pg.name + (f"({pg.typmod})" if pg.typmod != -1 else "") + (f"-{options}" if options else "")
    return pytest.param(pg, strategy, ValuesConfig(**values), id=name)


CASES = [
    _case("int2", st.integers(-(2**15), 2**15 - 1).map(str)),
    _case("int4", st.integers(-(2**31), 2**31 - 1).map(str)),
    _case("int8", st.integers(-(2**63), 2**63 - 1).map(str)),
    _case("oid", st.integers(0, 2**32 - 1).map(str)),
    _case("bool", st.sampled_from("tf")),
    _case("float4", texts.SINGLES),
    _case("float8", texts.FLOATS),
    _case(_decimal(10, 2), texts.fixed(10, 2)),
    _case(_decimal(1000, 0), texts.fixed(1000, 0)),
    _case(_decimal(38, 10), texts.fixed(38, 10)),
    _case(_decimal(2, 5), texts.fixed(2, 5)),
    _case(_decimal(3, -2), st.integers(-999, 999).map(lambda n: str(n * 100))),
    _case("numeric", texts.number()),
    _case("numeric", texts.number(), decimal="string"),
    _case(_decimal(10, 2), texts.fixed(10, 2), decimal="double"),
    _case("money", texts.MONEY),
    _case("money", texts.MONEY, money_fraction_digits=4),
    _case("money", texts.MONEY, money_fraction_digits=0),
    _case("money", texts.MONEY, decimal="string"),
    _case("bit", st.sampled_from("01"), 1),
    _case("bit", st.text("01", min_size=9, max_size=9), 9),
    _case("varbit", st.text("01")),
    _case("bytea", texts.BYTES),
    _case("bytea", texts.BYTES, binary="base64"),
    _case("bytea", texts.BYTES, binary="hex"),
    _case("text", texts.TEXTS),
    _case("varchar", texts.TEXTS),
    _case("text", texts.TEXTS, encoding_errors="replace"),
    _case("jsonb", texts.JSONS),
    _case("uuid", texts.UUIDS),
    _case(MOOD, MOODS),
    _case("hstore", texts.HSTORES),
    _case("hstore", texts.HSTORES, hstore="map"),
    _case("point", texts.POINTS),
    _case("vector", st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1).map(str)),
    _case("halfvec", st.lists(st.floats(-65504, 65504, width=16), min_size=1).map(str)),
    _case("interval", texts.INTERVALS),
    _case("interval", texts.INTERVALS, interval="string"),
    _case("timetz", texts.TIMETZ),
    _case("tsquery", texts.TEXTS),
    *(_case("date", texts.DATES, time=mode) for mode in ("adaptive", "connect", "isostring")),
    *(
        _case("time", texts.TIMES, time=mode)
        for mode in ("adaptive", "connect", "microseconds", "nanoseconds", "isostring")
    ),
    _case("time", texts.TIMES, 3),
    *(_case("timestamp", texts.timestamps(3), 3, time=mode) for mode in ("adaptive", "microseconds")),
    *(
        _case("timestamp", texts.timestamps(), time=mode)
        for mode in ("adaptive", "connect", "nanoseconds", "isostring")
    ),
    *(_case("timestamptz", texts.zoned(precision), precision) for precision in range(7)),
    _case(_array(PgType(0, "int4")), texts.arrays(st.integers(-(2**31), 2**31 - 1).map(str))),
    _case(_array(PgType(0, "text")), texts.arrays(texts.TEXTS)),
    _case(_array(_decimal(8, 2)), texts.arrays(texts.fixed(8, 2))),
    _case(_array(PgType(0, "numeric")), texts.arrays(texts.number())),
    _case(_array(PgType(0, "timestamp")), texts.arrays(texts.timestamps())),
    _case(_array(PgType(0, "bytea")), texts.arrays(texts.BYTES)),
    _case(_array(PgType(0, "hstore")), texts.arrays(texts.HSTORES), hstore="map"),
    _case(_array(MOOD), texts.arrays(MOODS, nulls=False)),
]
every_type = pytest.mark.parametrize(("pg", "strategy", "values"), CASES)


def _fastavro(schema: Schema) -> Callable[[Any], bytes]:
    parsed = fastavro.parse_schema(_without_logical_types(avro_schema(schema)))

    def write(datum: Any) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, datum)
        return out.getvalue()

    return write


def _without_logical_types(avro: Any) -> Any:
    if isinstance(avro, dict):
        return {key: _without_logical_types(value) for key, value in avro.items() if key != "logicalType"}
    return [_without_logical_types(item) for item in avro] if isinstance(avro, list) else avro


def compiled(codec: Codec) -> Callable[[bytes], bytes]:
    """The inline expression as compiled encoders use it: a ValueError falls back to `encode`."""
    expression = eval(f"lambda v, n: {codec.inline}", dict(codec.names))

    def write(text: bytes) -> bytes:
        try:
            return bytes(expression(text, len(text)))
        except ValueError:
            return codec.encode(text)

    return write


def _codec(pg: PgType, values: ValuesConfig, compat: CompatibilityConfig = HONEST) -> Codec:
    codec = codec_for(pg, values, compat)
    assert codec is not None
    return codec


@every_type
@given(data=st.data())
@examples(20)
def test_encode_writes_what_fastavro_writes(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, data: st.DataObject
) -> None:
    codec = _codec(pg, values)
    text = data.draw(strategy).encode()
    try:
        datum = codec.value(text)
    except Unrepresentable:
        with pytest.raises(Unrepresentable):
            codec.encode(text)
    else:
        assert codec.encode(text) == _fastavro(codec.schema)(datum)


@pytest.mark.parametrize(
    ("pg", "strategy", "values"), [case for case in CASES if _codec(case.values[0], case.values[2]).inline]
)
@given(data=st.data())
@examples(30)
def test_the_inline_expression_writes_what_encode_writes(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, data: st.DataObject
) -> None:
    codec = _codec(pg, values)
    text = data.draw(strategy).encode()
    try:
        expected = codec.encode(text)
    except Unrepresentable:
        with pytest.raises(Unrepresentable):
            compiled(codec)(text)
    else:
        assert compiled(codec)(text) == expected


@every_type
@given(
    text=st.one_of(
        st.binary(max_size=40), st.text('0123456789-+:. ,{}[]()"\\=>NULinftyBCdaxe$', max_size=40).map(str.encode)
    )
)
@examples(20)
def test_malformed_text_raises_nothing_but_value_errors(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, text: bytes
) -> None:
    for compat in (HONEST, DEBEZIUM):
        codec = _codec(pg, values, compat)
        for function in (codec.value, codec.encode, codec.parse):
            try:
                function(text)
            except ValueError:
                continue


@every_type
@given(data=st.data())
@examples(10)
def test_every_legal_text_has_a_python_value(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, data: st.DataObject
) -> None:
    _codec(pg, values).parse(data.draw(strategy).encode())


@every_type
@given(data=st.data())
@examples(8)
def test_snapshot_and_stream_agree_when_honest(
    pg: PgType, strategy: SearchStrategy[str], values: ValuesConfig, data: st.DataObject
) -> None:
    stream, snapshot = codec_for(pg, values, HONEST), codec_for(pg, values, HONEST, snapshot=True)
    assert stream is not None
    assert snapshot is not None
    text = data.draw(strategy).encode()
    try:
        expected = stream.encode(text)
    except Unrepresentable:
        with pytest.raises(Unrepresentable):
            snapshot.encode(text)
    else:
        assert snapshot.encode(text) == expected


def test_a_name_means_one_object_in_all_inline_expressions() -> None:
    """Compiled functions of one table share one namespace."""
    known: dict[str, object] = {}
    for case in CASES:
        for compat, snapshot in ((HONEST, False), (DEBEZIUM, False), (DEBEZIUM, True)):
            codec = codec_for(case.values[0], case.values[2], compat, snapshot=snapshot)
            assert codec is not None
            for name, value in codec.names.items():
                assert known.setdefault(name, value) is value, name

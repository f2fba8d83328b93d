"""Compiled encoders against their plain twin and fastavro, over generated tables and rows; and what surprises them."""

from __future__ import annotations

import io
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from struct import pack
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import SecretStr

from pycdc.config import DEBEZIUM, Compatibility, HashRule, TableRule, Values
from pycdc.errors import ConversionError, ProtocolError, PycdcError
from pycdc.model import UNCHANGED, Column, PgType, Table
from pycdc.rows.compiler import SURPRISE
from pycdc.rows.encoder import Parts, RowEncoder, UnexpectedNull
from pycdc.rows.plan import Field, Plan, plan_table
from pycdc.rows.schema import Schema, avro_schema
from pycdc.rows.tuples import ROW, Text, merge_unchanged
from tests.connectors.postgres.frames import insert, tuple_data, xlog
from tests.recording import plain
from tests.rows.codecs import codec_texts as texts
from tests.rows.test_tuples import copy_text

HONEST = Compatibility()
LSN = 0x16_B374_D848
CANARY = "canary-4711"


def numeric(precision: int, scale: int) -> PgType:
    return PgType(0, "numeric", (precision << 16 | scale) + 4)


def array(element: PgType) -> PgType:
    return PgType(0, "_" + element.name, element=element)


MOOD = PgType(0, "mood", kind="e", labels=("sad", "ok"))
INT8_TEXTS = st.integers(-(2**63), 2**63 - 1).map(str)
TYPES: list[tuple[PgType, SearchStrategy[str], list[str]]] = [
    (PgType(0, "int2"), st.integers(-(2**15), 2**15 - 1).map(str), ["7"]),
    (PgType(0, "int4"), st.integers(-(2**31), 2**31 - 1).map(str), ["nextval('s'::regclass)", "'-5'::integer"]),
    (PgType(0, "int8"), INT8_TEXTS, ["'9223372036854775807'::bigint"]),
    (PgType(0, "bool"), st.sampled_from("tf"), ["true"]),
    (PgType(0, "float4"), texts.SINGLES, []),
    (PgType(0, "float8"), texts.FLOATS, ["'1.5'::double precision"]),
    (numeric(10, 2), texts.fixed(10, 2) | st.just("NaN"), ["1.50"]),
    (numeric(60, 0), texts.fixed(60, 0), []),
    (PgType(0, "numeric"), texts.number(), []),
    (PgType(0, "money"), texts.MONEY, []),
    (PgType(0, "text"), texts.TEXTS | st.text("x", min_size=60, max_size=300), ["'it''s'::text", "now()"]),
    (PgType(0, "varchar", 24), texts.TEXTS, ["''::character varying"]),
    (PgType(0, "jsonb"), texts.JSONS, ["'{}'::jsonb"]),
    (PgType(0, "uuid"), texts.UUIDS, ["gen_random_uuid()"]),
    (PgType(0, "bytea"), texts.BYTES, []),
    (PgType(0, "bit", 9), st.text("01", min_size=9, max_size=9), []),
    (MOOD, st.sampled_from(MOOD.labels), ["'ok'::mood"]),
    (PgType(0, "date"), texts.DATES, ["'2020-01-01'::date"]),
    (PgType(0, "time"), texts.TIMES, []),
    (PgType(0, "timestamp"), texts.timestamps(), ["CURRENT_TIMESTAMP"]),
    (PgType(0, "timestamptz"), texts.zoned(), ["now()"]),
    (PgType(0, "interval"), texts.INTERVALS, []),
    (PgType(0, "hstore"), texts.HSTORES, []),
    (PgType(0, "point"), texts.POINTS, []),
    (array(PgType(0, "int4")), texts.arrays(st.integers(-(2**31), 2**31 - 1).map(str)), []),
    (array(PgType(0, "text")), texts.arrays(texts.TEXTS), []),
    (PgType(0, "addr", kind="c"), texts.TEXTS, []),
    (PgType(0, "name"), st.text("abc"), []),
]
TEXT_TYPES = ("text", "varchar")


@dataclass
class Case:
    """An encoder with rows for it, and what it said of values that became NULL."""

    encoder: RowEncoder
    rows: list[list[Text]]
    nulls: Counter[str]

    @property
    def plan(self) -> Plan:
        return self.encoder.plan


@st.composite
def rules(draw: st.DrawFn, table: Table) -> TableRule:
    names = [column.name for column in table.columns]
    masked = [column.name for column in table.columns if column.type.name in TEXT_TYPES]
    some = st.lists(st.sampled_from(masked), unique=True) if masked else st.just([])
    hashed = HashRule(columns=draw(some), salt=SecretStr("salt"))
    return TableRule(
        exclude_columns=draw(st.lists(st.sampled_from(names), max_size=3)),
        mask=dict.fromkeys(draw(some), 5),
        hash=[hashed],
        truncate=dict.fromkeys(draw(some), 3),
    )


@st.composite
def cases(draw: st.DrawFn, compatibility: SearchStrategy[Compatibility], *, unsent: bool = True) -> Case:
    kinds = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=12))
    key = draw(st.lists(st.integers(0, len(kinds) - 1), max_size=3, unique=True))
    columns = tuple(
        Column(
            f"c{index}",
            pg,
            identity=index in key,
            nullable=index not in key and draw(st.booleans()),
            default=draw(st.none() | st.sampled_from(defaults)) if defaults else None,
        )
        for index, (pg, _, defaults) in enumerate(kinds)
    )
    table = Table(1, "public", "t", columns, tuple(f"c{index}" for index in key))
    plan = plan_table(table, [draw(rules(table))], Values(), draw(compatibility))
    nulls: Counter[str] = Counter()
    encoder = RowEncoder(plan, lambda table, column: nulls.update([f"{table} {column}"]))
    absent = st.sampled_from([None, UNCHANGED]) if unsent else st.none()
    cells = [
        strategy.map(str.encode) if index in key else strategy.map(str.encode) | absent
        for index, (_, strategy, _) in enumerate(kinds)
    ]
    return Case(encoder, draw(st.lists(st.tuples(*cells).map(list), min_size=1, max_size=4)), nulls)


def outcome(work: Callable[[], Any]) -> Any:
    """What `work` returns, or the error that it ends with."""
    try:
        return work()
    except (PycdcError, UnexpectedNull) as error:
        return type(error), str(error)


PARTS = Parts(b"HEAD", b"KEY", b"SOURCE", b'[null,"', b"MIDDLE", b"TAIL")


def framed(row: list[Text], lsn: int = LSN) -> bytes:
    return xlog(insert(1, row), start=lsn)


def collected(encode: Callable[..., None], frames: list[bytes], parts: Parts = PARTS) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    encode(frames, parts, out.append)
    return out


def twin_record(encoder: RowEncoder, row: list[Text], suffix: bytes) -> dict[str, Any]:
    encoder.require_values(row)
    key = b"KEY" + encoder.key(row) if encoder.keyed else None
    return {"key": key, "value": b"HEAD" + encoder.row(row) + suffix}


def struct(fields: tuple[Field, ...]) -> Schema:
    return Schema("struct", name="t.Value", fields=tuple((field.name, field.schema) for field in fields))


def fastavro_bytes(schema: Schema, datum: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(avro_schema(schema))), datum)
    return out.getvalue()


POLICIES = st.sampled_from([HONEST, DEBEZIUM, Compatibility(unrepresentable="null")])


@given(cases(POLICIES))
@settings(max_examples=120, deadline=None)
def test_compiled_inserts_equal_the_twin_and_fastavro(case: Case) -> None:
    encoder = case.encoder
    for row in case.rows:
        written = outcome(lambda row=row: collected(encoder.inserts, [framed(row)])[0])
        compiled_nulls = case.nulls.copy()
        case.nulls.clear()
        assert written == outcome(lambda row=row: twin_record(encoder, row, PARTS.suffix(LSN)))
        assert case.nulls == compiled_nulls
        if isinstance(written, dict):
            expected = fastavro_bytes(struct(case.plan.fields), encoder.datums(row))
            assert written["value"] == b"HEAD" + expected + PARTS.suffix(LSN)
            if encoder.keyed:
                assert written["key"] == b"KEY" + fastavro_bytes(struct(case.plan.key), encoder.key_datums(row))
        case.nulls.clear()


@given(cases(POLICIES))
@settings(max_examples=80, deadline=None)
def test_compiled_tuples_equal_the_twin_and_take_unsent_fields_from_the_old_row(case: Case) -> None:
    encoder = case.encoder
    old: tuple[bytes, ...] | None = None
    old_row: list[Text] | None = None
    for row in case.rows:
        data = b"before" + tuple_data(row)
        try:
            fields, key, end = encoder.tuple(data, 6, old)
        except SURPRISE:
            # Left to the twin; whether that takes the row is the test above.
            continue
        merged = merge_unchanged(row, old_row)
        assert (b"".join(fields), key, end) == (encoder.row(merged), encoder.key(merged), len(data))
        old, old_row = fields, merged


@given(cases(st.just(HONEST) | st.just(Compatibility(unrepresentable="null")), unsent=False))
@settings(max_examples=80, deadline=None)
def test_a_line_of_a_snapshot_gives_the_bytes_of_a_frame_of_the_stream(case: Case) -> None:
    encoder = case.encoder
    for row in case.rows:
        line = b"\t".join(copy_text(column) for column in row)  # type: ignore[arg-type]
        read = outcome(lambda line=line: collected(encoder.reads, [line])[0])
        assert read == outcome(lambda row=row: twin_record(encoder, row, b"TAIL"))
        assert encoder.line(line) == row
        if isinstance(read, dict):
            streamed = collected(encoder.inserts, [framed(row)])[0]
            assert streamed["key"] == read["key"]
            assert streamed["value"].removesuffix(PARTS.suffix(LSN)) == read["value"].removesuffix(b"TAIL")


def encoder_for(
    *columns: Column, key: tuple[str, ...] = (), rule: TableRule | None = None, **switches: Any
) -> RowEncoder:
    table = Table(1, "public", "orders", columns, key)
    plan = plan_table(table, [] if rule is None else [rule], Values(), Compatibility(**switches))
    return RowEncoder(plan, lambda table, column: None)


def column(name: str, type_name: str = "text", *, nullable: bool = True, identity: bool = False) -> Column:
    return Column(name, PgType(0, type_name), identity=identity, nullable=nullable)


ID = column("id", "int8", nullable=False, identity=True)


@cache
def orders() -> RowEncoder:
    price = Column("price", numeric(10, 2))
    return encoder_for(ID, column("note"), price, column("made", "timestamptz"), column("ok", "bool"), key=("id",))


ORDER: list[Text] = [b"7", b"a note", b"12.50", b"2026-01-01 00:00:00+00", b"t"]


def told(error: pytest.ExceptionInfo[PycdcError]) -> str:
    """Everything that a log would show of an error."""
    return "".join(traceback.format_exception(error.value)) + repr(error.value) + error.value.hint


@pytest.mark.parametrize("cut", range(len(framed(ORDER))))
def test_a_frame_cut_at_any_place_is_a_protocol_error(cut: int) -> None:
    with pytest.raises(ProtocolError) as error:
        collected(orders().inserts, [framed(ORDER)[:cut]])
    assert "public.orders" in str(error.value)


def test_a_frame_with_bytes_left_over_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match=r"public\.orders is malformed"):
        collected(orders().inserts, [framed(ORDER) + b"n"])


def head(count: int) -> bytes:
    return framed(ORDER)[:ROW] + pack(">H", count)


@pytest.mark.parametrize(
    "frame",
    [
        framed([*ORDER, CANARY.encode()]),
        framed([CANARY.encode()]),
        head(5) + b"b" + pack(">I", 11) + CANARY.encode(),
        head(5) + b"t" + pack(">I", 10_000) + CANARY.encode() * 9,
        head(5) + b"t" + pack(">I", 0xFFFFFFFF) + CANARY.encode() * 9,
        head(5) + b"t" + pack(">I", 3) + CANARY.encode() * 9,
        framed([b"7", CANARY.encode(), *ORDER[2:]]).replace(b"N", b"K", 1),
    ],
    ids=["column too many", "column too few", "tag", "length", "greatest length", "short length", "old tuple"],
)
def test_a_malformed_frame_names_the_table_and_shows_no_value(frame: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"public\.orders") as error:
        collected(orders().inserts, [frame])
    assert CANARY not in told(error)


@pytest.mark.parametrize("line", [CANARY.encode(), b"\t".join([CANARY.encode()] * 6), b""])
def test_a_line_with_another_number_of_columns_names_the_table_and_shows_no_value(line: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"public\.orders") as error:
        collected(orders().reads, [line])
    assert CANARY not in told(error)


@pytest.mark.parametrize(("place", "name"), [(0, "id"), (2, "price"), (3, "made")])
def test_a_text_that_is_none_of_its_type_s_names_table_and_column_and_shows_no_value(place: int, name: str) -> None:
    row = [*ORDER]
    row[place] = CANARY.encode()
    line = b"\t".join(copy_text(text) for text in row)  # type: ignore[arg-type]
    for work in (
        lambda: collected(orders().inserts, [framed(row)]),
        lambda: collected(orders().reads, [line]),
        lambda: orders().datums(row),
    ):
        with pytest.raises(ConversionError, match=rf"column '{name}' of table public\.orders") as error:
            work()
        assert CANARY not in told(error)
        assert error.value.hint


def test_nan_in_a_decimal_stops_with_a_way_out_or_becomes_null_and_is_counted() -> None:
    row: list[Text] = [b"7", None, b"NaN", None, None]
    with pytest.raises(ConversionError, match=r"column 'price' of table public\.orders") as error:
        collected(orders().inserts, [framed(row)])
    assert "NaN'" not in told(error)
    assert "compatibility.unrepresentable" in error.value.hint
    heard: list[tuple[str, str]] = []
    plan = plan_table(orders().plan.table, [], Values(), Compatibility(unrepresentable="null"))
    lenient = RowEncoder(plan, lambda table, column: heard.append((table, column)))
    [record] = collected(lenient.inserts, [framed(row)])
    assert record == twin_record(lenient, [b"7", None, None, None, None], PARTS.suffix(LSN))
    assert heard == [("public.orders", "price")]


def test_the_rows_around_a_surprise_keep_their_order() -> None:
    plan = plan_table(orders().plan.table, [], Values(), Compatibility(unrepresentable="null"))
    encoder = RowEncoder(plan, lambda table, column: None)
    rows: list[list[Text]] = [[b"%d" % n, None, b"NaN" if n == 2 else b"1.00", None, None] for n in range(5)]
    records = collected(encoder.inserts, [framed(row) for row in rows])
    assert records == [twin_record(encoder, row, PARTS.suffix(LSN)) for row in rows]


@pytest.mark.parametrize("size", [0, 63, 64, 8190, 8191, 8192, 8193, 3_000_000])
@pytest.mark.parametrize("nullable", [True, False])
def test_text_of_any_length_is_written(size: int, nullable: bool) -> None:
    encoder = encoder_for(column("big", nullable=nullable))
    row: list[Text] = [b"x" * size]
    expected = fastavro_bytes(struct(encoder.plan.fields), encoder.datums(row))
    assert collected(encoder.inserts, [framed(row)])[0]["value"] == b"HEAD" + expected + PARTS.suffix(LSN)
    assert collected(encoder.reads, [b"x" * size])[0]["value"] == b"HEAD" + expected + b"TAIL"


LSNS = st.one_of(st.integers(1, 2**14), st.integers(1, 2**63 - 1), st.sampled_from([8191, 8192, 10**9 - 1, 10**9]))


@given(st.lists(LSNS | LSNS.map(lambda lsn: lsn + 1), min_size=1, max_size=6))
def test_each_record_carries_its_own_lsn(lsns: list[int]) -> None:
    records = collected(orders().inserts, [framed(ORDER, lsn) for lsn in lsns])
    assert records == [twin_record(orders(), ORDER, PARTS.suffix(lsn)) for lsn in lsns]


@pytest.mark.parametrize("count", [1, 4, 5, 6, 1600])
def test_tables_of_any_width_are_encoded(count: int) -> None:
    columns = [column(f"c{n}", "int4" if n % 2 else "text") for n in range(count)]
    encoder = encoder_for(*columns, key=("c0",))
    row: list[Text] = [b"%d" % n if n % 3 else None for n in range(count)]
    row[0] = b"first"
    expected = twin_record(encoder, row, b"")
    [streamed] = collected(encoder.inserts, [framed(row)])
    assert streamed == {**expected, "value": expected["value"] + PARTS.suffix(LSN)}
    [read] = collected(encoder.reads, [b"\t".join(copy_text(text) for text in row)])  # type: ignore[arg-type]
    assert read == {**expected, "value": expected["value"] + b"TAIL"}
    fields, key, _ = encoder.tuple(tuple_data(row), 0, None)
    assert (b"".join(fields), key) == (encoder.row(row), encoder.key(row))


def test_a_table_without_columns_has_empty_records() -> None:
    encoder = encoder_for()
    assert collected(encoder.inserts, [framed([])])[0]["value"] == b"HEAD" + PARTS.suffix(LSN)
    assert collected(encoder.reads, [b""])[0]["value"] == b"HEADTAIL"
    assert encoder.tuple(tuple_data([]), 0, None) == ((), b"", 2)
    with pytest.raises(ProtocolError):
        collected(encoder.reads, [b"x"])


def test_a_table_whose_columns_are_all_left_out_has_empty_records() -> None:
    encoder = encoder_for(column("a"), column("b"), rule=TableRule(include_columns=[]))
    assert collected(encoder.inserts, [framed([b"1", None])])[0]["value"] == b"HEAD" + PARTS.suffix(LSN)
    assert collected(encoder.reads, [b"1\t\\N"])[0]["value"] == b"HEADTAIL"


def test_a_masked_column_of_the_key_stays_plain_in_the_key() -> None:
    name = column("name", nullable=False, identity=True)
    encoder = encoder_for(name, key=("name",), rule=TableRule(mask={"name": 3}))
    [record] = collected(encoder.inserts, [framed([b"Ada"])])
    assert record == {"key": b"KEY\x06Ada", "value": b"HEAD\x06***" + PARTS.suffix(LSN)}
    assert encoder.tuple(tuple_data([b"Ada"]), 0, None)[:2] == ((b"\x06***",), b"\x06Ada")


@pytest.mark.parametrize("rule", [None, TableRule(mask={"name": 3})])
def test_a_key_that_was_not_sent_is_refused_rather_than_made_up(rule: TableRule | None) -> None:
    encoder = encoder_for(column("name", nullable=False, identity=True), key=("name",), rule=rule)
    for work in (
        lambda: collected(encoder.inserts, [framed([UNCHANGED])]),
        lambda: encoder.key([UNCHANGED]),
        lambda: encoder.key_datums([UNCHANGED]),
    ):
        with pytest.raises(
            ConversionError, match=r"column 'name' of table public\.orders is part of the message key"
        ) as e:
            work()
        assert "REPLICA IDENTITY FULL" in e.value.hint
    with pytest.raises(SURPRISE):
        encoder.tuple(tuple_data([UNCHANGED]), 0, None)


def test_an_unsent_key_is_taken_from_the_full_old_row() -> None:
    encoder = encoder_for(column("name", nullable=False, identity=True), column("n"), key=("name",))
    old, old_key, _ = encoder.tuple(tuple_data([b"Ada", b"1"]), 0, None)
    new, new_key, _ = encoder.tuple(tuple_data([UNCHANGED, b"2"]), 0, old)
    assert new_key == old_key == encoder.key([b"Ada", b"1"])
    assert b"".join(new) == encoder.row([b"Ada", b"2"])


def test_an_old_row_must_hold_the_message_key() -> None:
    encoder = encoder_for(ID, column("note"), rule=TableRule(key=["note"]))
    encoder.require_key(partial=False)
    with pytest.raises(ConversionError, match="do not hold the message key") as error:
        encoder.require_key(partial=True)
    assert "REPLICA IDENTITY FULL" in error.value.hint
    orders().require_key(partial=True)

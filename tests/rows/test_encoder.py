"""Compiled encoders against their reference implementation and fastavro, over generated tables and rows."""

from __future__ import annotations

import io
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from struct import pack
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import SecretStr

from pycdc.config.values import DEBEZIUM, CompatibilityConfig, HashRule, TableRule, ValuesConfig
from pycdc.errors import ConversionError, ProtocolError, PycdcError
from pycdc.model.change import UNCHANGED, Column, Op, PgType, Run, Table, Transaction
from pycdc.rows.change_events import events
from pycdc.rows.encoder import Parts, RowEncoder, UnexpectedNull
from pycdc.rows.plan import PlannedField, TablePlan, plan_table
from pycdc.rows.schema import Schema, avro_schema
from pycdc.rows.tuples import ROW, ColumnBytes
from tests.connectors.postgres.frames import delete, insert, update, xlog
from tests.generated_examples import examples
from tests.recording import plain
from tests.rows.codecs import codec_texts as texts
from tests.rows.test_tuples import copy_text

HONEST = CompatibilityConfig()
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
    rows: list[list[ColumnBytes]]
    nulls: Counter[str]

    @property
    def plan(self) -> TablePlan:
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
def cases(
    draw: st.DrawFn, compatibility: SearchStrategy[CompatibilityConfig], *, unsent: bool = True, identity: str = "d"
) -> Case:
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
    table = Table(1, "public", "t", columns, tuple(f"c{index}" for index in key), identity)
    plan = plan_table(table, [draw(rules(table))], ValuesConfig(), draw(compatibility))
    nulls: Counter[str] = Counter()
    encoder = RowEncoder(plan, lambda table, column: nulls.update([f"{table} {column}"]))
    absent = st.sampled_from([None, UNCHANGED]) if unsent else st.none()
    cells = [
        strategy.map(str.encode) if index in key else strategy.map(str.encode) | absent
        for index, (_, strategy, _) in enumerate(kinds)
    ]
    return Case(encoder, draw(st.lists(st.tuples(*cells).map(list), min_size=1, max_size=4)), nulls)


def outcome(work: Callable[[], Any]) -> Any:
    """What `work` returns, or the error that it ends with. Of columns that cannot be written, any may be named."""
    try:
        return work()
    except UnexpectedNull as error:
        return type(error), error.columns
    except PycdcError as error:
        return type(error)


STAMP = (b"SOURCE", b'[null,"', b"TIMES", b"XID")
PARTS = Parts(b"HEAD", b"KEY", STAMP[0], STAMP[1], b"TIMES" + b"TABLE" + b"XID", b"TAIL")
BETWEEN = b"BETWEEN"
Records = list[dict[str, Any]]


def framed(row: list[ColumnBytes], lsn: int = LSN) -> bytes:
    return xlog(insert(1, row), start=lsn)


def run_of(op: Op, encoder: RowEncoder, frames: list[bytes]) -> Run:
    return Run(op, encoder.plan.table, Transaction(1, LSN, 0), 0, frames)


def plainly(encoder: RowEncoder, run: Run) -> Records:
    """What compiled loops make of a run, but for runs whose events are not of its operation."""
    out = []
    for event in events(run, encoder):
        rows = [encoder.row(row) for row in (event.before, event.after) if row is not None]
        if event.before is not None:
            rows.insert(1, BETWEEN)
        key = b"KEY" + encoder.key(event.key or []) if encoder.keyed else None
        out.append({"key": key, "value": b"HEAD" + b"".join(rows) + PARTS.suffix(event.lsn)})
        if event.op is Op.DELETE:
            out.append({"key": key, "value": None})
    return out


def looped(encoder: RowEncoder, loop: Callable[..., None], *runs: Run, more: tuple[Any, ...] = ()) -> Records:
    out: Records = []

    def slow(run: Run, frame: bytes) -> Callable[[dict[str, Any]], None]:
        out.extend(plainly(encoder, run_of(run.op, encoder, [frame])))
        return out.append

    def lacking(mask: int, record: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
        out.append(record)
        return out.append

    stamped = [(run, STAMP) for run in runs]
    more = (lacking,) if loop is encoder.inserts else more
    loop(stamped, b"HEAD", BETWEEN, b"KEY", b"TABLE", b"TAIL", out.append, slow, *more)
    return out


def streamed(encoder: RowEncoder, frames: list[bytes]) -> Records:
    return looped(encoder, encoder.inserts, run_of(Op.CREATE, encoder, frames))


def snapshot(encoder: RowEncoder, lines: list[bytes]) -> Records:
    out: Records = []
    encoder.reads(lines, PARTS, out.append)
    return out


def twin_record(encoder: RowEncoder, row: list[ColumnBytes], suffix: bytes) -> dict[str, Any]:
    encoder.require_values(row)
    key = b"KEY" + encoder.key(row) if encoder.keyed else None
    return {"key": key, "value": b"HEAD" + encoder.row(row) + suffix}


def struct(fields: tuple[PlannedField, ...]) -> Schema:
    return Schema("struct", name="t.Value", fields=tuple((field.name, field.schema) for field in fields))


def fastavro_bytes(schema: Schema, datum: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(avro_schema(schema))), datum)
    return out.getvalue()


POLICIES = st.sampled_from([HONEST, DEBEZIUM, CompatibilityConfig(unrepresentable="null")])


@given(cases(POLICIES))
@examples(40)
def test_compiled_inserts_equal_the_twin_and_fastavro(case: Case) -> None:
    encoder = case.encoder
    for row in case.rows:
        written = outcome(lambda row=row: streamed(encoder, [framed(row)])[0])  # type: ignore[misc]
        compiled_nulls = case.nulls.copy()
        case.nulls.clear()
        assert written == outcome(lambda row=row: twin_record(encoder, row, PARTS.suffix(LSN)))  # type: ignore[misc]
        assert case.nulls == compiled_nulls
        if isinstance(written, dict):
            expected = fastavro_bytes(struct(case.plan.fields), encoder.datums(row))
            assert written["value"] == b"HEAD" + expected + PARTS.suffix(LSN)
            if encoder.keyed:
                assert written["key"] == b"KEY" + fastavro_bytes(struct(case.plan.key), encoder.key_datums(row))
        case.nulls.clear()


@given(cases(POLICIES, identity="f"))
@examples(25)
def test_compiled_full_updates_equal_the_twin(case: Case) -> None:
    encoder = case.encoder
    pairs = [(old, keyed_alike(encoder, old, new)) for old, new in pairwise(case.rows)]
    runs = [run_of(Op.UPDATE, encoder, [xlog(update(1, new, old, b"O"), start=LSN)]) for old, new in pairs]
    written = outcome(lambda: looped(encoder, encoder.full_updates, *runs))
    heard = case.nulls.copy()
    case.nulls.clear()
    assert written == outcome(lambda: [record for run in runs for record in plainly(encoder, run)])
    assert case.nulls == heard


def keyed_alike(encoder: RowEncoder, old: list[ColumnBytes], new: list[ColumnBytes]) -> list[ColumnBytes]:
    new = list(new)
    for field in encoder.plan.key:
        new[field.index] = old[field.index]
    return new


@given(cases(POLICIES), st.booleans())
@examples(25)
def test_compiled_deletes_equal_the_twin(case: Case, full: bool) -> None:
    encoder = case.encoder
    if full:
        table = replace(encoder.plan.table, identity="f")
        encoder = RowEncoder(replace(encoder.plan, table=table), encoder._on_null)
    frames = [xlog(delete(1, row, b"O" if full else b"K"), start=LSN + n) for n, row in enumerate(case.rows)]
    run = run_of(Op.DELETE, encoder, frames)
    written = outcome(lambda: looped(encoder, encoder.deletes, run, more=(True,)))
    heard = case.nulls.copy()
    case.nulls.clear()
    assert written == outcome(lambda: plainly(encoder, run))
    assert case.nulls == heard


def test_a_loop_does_not_leave_to_the_twin_what_is_usual() -> None:
    def surprised(run: Run, frame: bytes) -> Callable[[Any], None]:
        raise AssertionError("a usual row went to the reference implementation")

    full = encoder_for(ID, column("note"), key=("id",), identity="f")
    unsent = encoder_for(ID, column("note"), key=("id",))
    row, absent = [b"7", b"a note"], [b"7", None]
    out: Records = []
    around = (b"HEAD", BETWEEN, b"KEY", b"TABLE", b"TAIL", out.append, surprised)
    for encoder, loop, frame, more in (
        (orders(), orders().inserts, insert(1, ORDER), (None,)),
        (orders(), orders().inserts, update(1, ORDER), (None,)),
        (unsent, unsent.inserts, update(1, [b"7", UNCHANGED]), (lambda mask, record: out.append(record),)),
        (orders(), orders().deletes, delete(1, [b"7", None, None, None, None]), (False,)),
        (full, full.full_updates, update(1, [b"7", UNCHANGED], row, b"O"), ()),
        (full, full.deletes, delete(1, absent, b"O"), (True,)),
    ):
        loop([(run_of(Op.UPDATE, encoder, [xlog(frame, start=LSN)]), STAMP)], *around, *more)
    assert len(out) == 7


def test_each_run_has_the_stamp_of_its_own_transaction() -> None:
    other = (b"OTHER", b'["77","', b"LATER", b"NEXT")
    out: Records = []
    runs = [(run_of(Op.CREATE, orders(), [framed(ORDER)]), stamp) for stamp in (STAMP, other, STAMP)]
    orders().inserts(runs, b"HEAD", b"", b"KEY", b"TABLE", b"TAIL", out.append, None, None)
    parts = Parts(b"HEAD", b"KEY", other[0], other[1], b"LATER" + b"TABLE" + b"NEXT", b"TAIL")
    suffixes = [PARTS.suffix(LSN), parts.suffix(LSN), PARTS.suffix(LSN)]
    assert out == [twin_record(orders(), ORDER, suffix) for suffix in suffixes]


@given(cases(st.just(HONEST) | st.just(CompatibilityConfig(unrepresentable="null")), unsent=False))
@examples(25)
def test_a_line_of_a_snapshot_gives_the_bytes_of_a_frame_of_the_stream(case: Case) -> None:
    encoder = case.encoder
    for row in case.rows:
        line = b"\t".join(copy_text(column) for column in row)  # type: ignore[arg-type]
        read = outcome(lambda line=line: snapshot(encoder, [line])[0])  # type: ignore[misc]
        assert read == outcome(lambda row=row: twin_record(encoder, row, b"TAIL"))  # type: ignore[misc]
        assert encoder.line(line) == row
        if isinstance(read, dict):
            inserted = streamed(encoder, [framed(row)])[0]
            assert inserted["key"] == read["key"]
            assert inserted["value"].removesuffix(PARTS.suffix(LSN)) == read["value"].removesuffix(b"TAIL")


def encoder_for(
    *columns: Column,
    key: tuple[str, ...] = (),
    rule: TableRule | None = None,
    identity: str = "d",
    **switches: Any,
) -> RowEncoder:
    table = Table(1, "public", "orders", columns, key, identity)
    plan = plan_table(table, [] if rule is None else [rule], ValuesConfig(), CompatibilityConfig(**switches))
    return RowEncoder(plan, lambda table, column: None)


def column(name: str, type_name: str = "text", *, nullable: bool = True, identity: bool = False) -> Column:
    return Column(name, PgType(0, type_name), identity=identity, nullable=nullable)


ID = column("id", "int8", nullable=False, identity=True)


@cache
def orders() -> RowEncoder:
    price = Column("price", numeric(10, 2))
    return encoder_for(ID, column("note"), price, column("made", "timestamptz"), column("ok", "bool"), key=("id",))


ORDER: list[ColumnBytes] = [b"7", b"a note", b"12.50", b"2026-01-01 00:00:00+00", b"t"]


def told(error: pytest.ExceptionInfo[PycdcError]) -> str:
    """Everything that a log would show of an error."""
    return "".join(traceback.format_exception(error.value)) + repr(error.value) + error.value.hint


@pytest.mark.parametrize("cut", range(len(framed(ORDER))))
def test_a_frame_cut_at_any_place_is_a_protocol_error(cut: int) -> None:
    with pytest.raises(ProtocolError) as error:
        streamed(orders(), [framed(ORDER)[:cut]])
    assert "public.orders" in str(error.value)


def test_a_frame_with_bytes_left_over_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match=r"public\.orders has 1 bytes too many"):
        streamed(orders(), [framed(ORDER) + b"n"])


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
        streamed(orders(), [frame])
    assert CANARY not in told(error)


@pytest.mark.parametrize("line", [CANARY.encode(), b"\t".join([CANARY.encode()] * 6), b""])
def test_a_line_with_another_number_of_columns_names_the_table_and_shows_no_value(line: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"public\.orders") as error:
        snapshot(orders(), [line])
    assert CANARY not in told(error)


@pytest.mark.parametrize(("place", "name"), [(0, "id"), (2, "price"), (3, "made")])
def test_a_text_that_is_none_of_its_type_s_names_table_and_column_and_shows_no_value(place: int, name: str) -> None:
    row = [*ORDER]
    row[place] = CANARY.encode()
    line = b"\t".join(copy_text(text) for text in row)  # type: ignore[arg-type]
    for work in (
        lambda: streamed(orders(), [framed(row)]),
        lambda: snapshot(orders(), [line]),
        lambda: orders().datums(row),
    ):
        with pytest.raises(ConversionError, match=rf"column '{name}' of table public\.orders") as error:
            work()
        assert CANARY not in told(error)
        assert error.value.hint


def test_nan_in_a_decimal_stops_with_a_way_out_or_becomes_null_and_is_counted() -> None:
    row: list[ColumnBytes] = [b"7", None, b"NaN", None, None]
    with pytest.raises(ConversionError, match=r"column 'price' of table public\.orders") as error:
        streamed(orders(), [framed(row)])
    assert "NaN'" not in told(error)
    assert "compatibility.unrepresentable" in error.value.hint
    heard: list[tuple[str, str]] = []
    plan = plan_table(orders().plan.table, [], ValuesConfig(), CompatibilityConfig(unrepresentable="null"))
    lenient = RowEncoder(plan, lambda table, column: heard.append((table, column)))
    [record] = streamed(lenient, [framed(row)])
    assert record == twin_record(lenient, [b"7", None, None, None, None], PARTS.suffix(LSN))
    assert heard == [("public.orders", "price")]


def test_the_rows_around_a_surprise_keep_their_order() -> None:
    plan = plan_table(orders().plan.table, [], ValuesConfig(), CompatibilityConfig(unrepresentable="null"))
    encoder = RowEncoder(plan, lambda table, column: None)
    rows: list[list[ColumnBytes]] = [[b"%d" % n, None, b"NaN" if n == 2 else b"1.00", None, None] for n in range(5)]
    records = streamed(encoder, [framed(row) for row in rows])
    assert records == [twin_record(encoder, row, PARTS.suffix(LSN)) for row in rows]


@pytest.mark.parametrize("size", [0, 63, 64, 8190, 8191, 8192, 8193, 3_000_000])
@pytest.mark.parametrize("nullable", [True, False])
def test_text_of_any_length_is_written(size: int, nullable: bool) -> None:
    encoder = encoder_for(column("big", nullable=nullable))
    row: list[ColumnBytes] = [b"x" * size]
    expected = fastavro_bytes(struct(encoder.plan.fields), encoder.datums(row))
    assert streamed(encoder, [framed(row)])[0]["value"] == b"HEAD" + expected + PARTS.suffix(LSN)
    assert snapshot(encoder, [b"x" * size])[0]["value"] == b"HEAD" + expected + b"TAIL"


LSNS = st.one_of(st.integers(1, 2**14), st.integers(1, 2**63 - 1), st.sampled_from([8191, 8192, 10**9 - 1, 10**9]))


@given(st.lists(LSNS | LSNS.map(lambda lsn: lsn + 1), min_size=1, max_size=6))
def test_each_record_carries_its_own_lsn(lsns: list[int]) -> None:
    records = streamed(orders(), [framed(ORDER, lsn) for lsn in lsns])
    assert records == [twin_record(orders(), ORDER, PARTS.suffix(lsn)) for lsn in lsns]


@pytest.mark.parametrize("count", [1, 4, 5, 6, 1600])
def test_tables_of_any_width_are_encoded(count: int) -> None:
    columns = [column(f"c{n}", "int4" if n % 2 else "text") for n in range(count)]
    encoder = encoder_for(*columns, key=("c0",))
    row: list[ColumnBytes] = [b"%d" % n if n % 3 else None for n in range(count)]
    row[0] = b"first"
    expected = twin_record(encoder, row, b"")
    [inserted] = streamed(encoder, [framed(row)])
    assert inserted == {**expected, "value": expected["value"] + PARTS.suffix(LSN)}
    [read] = snapshot(encoder, [b"\t".join(copy_text(text) for text in row)])  # type: ignore[arg-type]
    assert read == {**expected, "value": expected["value"] + b"TAIL"}


def test_a_table_without_columns_has_empty_records() -> None:
    encoder = encoder_for()
    assert streamed(encoder, [framed([])])[0]["value"] == b"HEAD" + PARTS.suffix(LSN)
    assert snapshot(encoder, [b""])[0]["value"] == b"HEADTAIL"
    with pytest.raises(ProtocolError):
        snapshot(encoder, [b"x"])


def test_a_table_whose_columns_are_all_left_out_has_empty_records() -> None:
    encoder = encoder_for(column("a"), column("b"), rule=TableRule(include_columns=[]))
    assert streamed(encoder, [framed([b"1", None])])[0]["value"] == b"HEAD" + PARTS.suffix(LSN)
    assert snapshot(encoder, [b"1\t\\N"])[0]["value"] == b"HEADTAIL"


def test_a_masked_column_of_the_key_is_masked_there_too() -> None:
    name = column("name", nullable=False, identity=True)
    encoder = encoder_for(name, key=("name",), rule=TableRule(mask={"name": 3}))
    [record] = streamed(encoder, [framed([b"Ada"])])
    assert record == {"key": b"KEY\x06***", "value": b"HEAD\x06***" + PARTS.suffix(LSN)}


@pytest.mark.parametrize("rule", [None, TableRule(mask={"name": 3})])
def test_a_key_that_was_not_sent_is_refused_rather_than_made_up(rule: TableRule | None) -> None:
    encoder = encoder_for(column("name", nullable=False, identity=True), key=("name",), rule=rule)
    for work in (
        lambda: streamed(encoder, [framed([UNCHANGED])]),
        lambda: encoder.key([UNCHANGED]),
        lambda: encoder.key_datums([UNCHANGED]),
    ):
        with pytest.raises(
            ConversionError, match=r"column 'name' of table public\.orders is part of the message key"
        ) as e:
            work()
        assert "REPLICA IDENTITY FULL" in e.value.hint


@pytest.mark.parametrize("rule", [None, TableRule(mask={"name": 3})])
def test_an_unsent_key_is_taken_from_the_full_old_row(rule: TableRule | None) -> None:
    name = column("name", nullable=False, identity=True)
    encoder = encoder_for(name, column("n"), key=("name",), rule=rule, identity="f")
    frame = xlog(update(1, [UNCHANGED, b"2"], [b"Ada", b"1"], b"O"), start=LSN)
    [record] = looped(encoder, encoder.full_updates, run_of(Op.UPDATE, encoder, [frame]))
    assert record["key"] == b"KEY" + encoder.key([b"Ada", b"2"])
    assert record["value"].removesuffix(PARTS.suffix(LSN)).endswith(BETWEEN + encoder.row([b"Ada", b"2"]))


def test_an_old_row_must_hold_the_message_key() -> None:
    encoder = encoder_for(ID, column("note"), rule=TableRule(key=["note"]))
    encoder.require_key(partial=False)
    with pytest.raises(ConversionError, match="do not hold the message key") as error:
        encoder.require_key(partial=True)
    assert "REPLICA IDENTITY FULL" in error.value.hint
    orders().require_key(partial=True)

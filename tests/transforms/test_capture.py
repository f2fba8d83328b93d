"""What transforms of a capture do to batches, and so to records, whatever their form."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.config.pipeline import CapturePipeline
from pycdc.errors import ConfigError, DeliveryError, TransformError
from pycdc.model.change import UNCHANGED, Change, Op, PgType, Run, Table
from pycdc.observability.progress import Progress
from pycdc.rows.images import Images
from pycdc.rows.rewriter import RowRewriter
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.json_format import JsonFormat
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.serializer import Serializer
from pycdc.serialization.source_info import ProcessingTime
from pycdc.transforms.capture import CaptureTransforms
from pycdc.transforms.change import DecodedChange
from tests.connectors.postgres import frames
from tests.generated_examples import examples
from tests.recording import Schemas
from tests.serialization.runs import Recorder, batch, column, configured, inserts, run
from tests.transforms import shop_functions

HERE = "tests.transforms.shop_functions"
CANARY = "canary-4711"
NULL_SINK: dict[str, Any] = {"null": {}}


def table(identity: str = "d", oid: int = 1) -> Table:
    """Columns of kinds that go through a function differently: kept, mutable, TOASTed, NOT NULL."""
    whole = identity == "f"
    columns = (
        column("id", "int4", identity=True, nullable=False),
        column("name", identity=whole),
        column("price", PgType(0, "numeric", (10 << 16 | 2) + 4), identity=whole),
        column("at", "timestamptz", identity=whole),
        column("doc", "jsonb", identity=whole),
        column("tags", PgType(0, "_text", element=PgType(0, "text")), identity=whole),
        column("big", "text", identity=whole),
        column("age", "int4", identity=whole, nullable=False),
    )
    return Table(oid, "public", "users", columns, ("id",), identity, Images(columns))


USERS, FULL = table(), table("f")
ROW: list[ColumnBytes] = [b"1", b"cup", b"4.50", b"2026-01-01 00:00:00+00", b'{"a": 1.50}', b"{a,NULL}", b"long", b"3"]
KEY: list[ColumnBytes] = [b"1", *[None] * 7]


def transforms(*entries: Any, progress: Progress | None = None, **options: Any) -> CaptureTransforms:
    return CaptureTransforms(config(*entries, **options), progress or Progress())


def config(*entries: Any, **options: Any) -> CapturePipeline:
    named = [{**e, "function": f"{HERE}:{e['function']}"} if isinstance(e, dict) else f"{HERE}:{e}" for e in entries]
    return configured(transforms=named, **options)


def made(*runs: Run, by: Any, **options: Any) -> list[Change]:
    """The changes that a sink gets."""
    entries = by if isinstance(by, list) else [by]
    return list(transforms(*entries, **options).batch(batch(*runs)))


def update(row: list[ColumnBytes], of: Table = USERS, old: list[ColumnBytes] | None = None, kind: bytes = b"K") -> Run:
    return run(Op.UPDATE, of, frames.update(of.oid, row, old, kind))


def delete(row: list[ColumnBytes], of: Table = USERS, kind: bytes = b"K") -> Run:
    return run(Op.DELETE, of, frames.delete(of.oid, row, kind))


def test_tables_that_no_transform_names_pass_as_they_are() -> None:
    given_batch = batch(inserts(USERS, ROW))
    assert transforms({"function": "upper", "tables": ["public.orders"]}).batch(given_batch) is given_batch


def test_values_are_replaced_and_the_others_keep_their_text() -> None:
    [change] = made(inserts(USERS, ROW), by="upper")
    assert change.after is not None
    assert change.after["name"] == "CUP"
    assert b'{"a": 1.50}' in change.frame


def test_a_change_is_dropped_by_none_and_counted_out() -> None:
    out = transforms("nothing").batch(batch(inserts(USERS, ROW, ROW)))
    assert (out.runs, out.size, out.position is not None) == ([], 0, True)


def test_functions_are_a_chain() -> None:
    [change] = made(inserts(USERS, ROW), by=["upper", "exclaim"])
    assert change.after is not None
    assert change.after["name"] == "CUP!"


def test_parts_of_a_change_are_in_order_and_have_positions_of_their_own() -> None:
    entry = {"function": "twice", "columns": {"line": "integer"}}
    changes = made(inserts(USERS, ROW, [b"2", *ROW[1:]]), by=entry)
    assert [(c.after["id"], c.after["line"]) for c in changes if c.after] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [(c.position.index, c.position.part) for c in changes] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert sorted(changes, key=lambda c: c.position) == changes


def test_parts_made_again_make_the_same_records() -> None:
    entry = {"function": f"{HERE}:twice", "columns": {"line": "integer"}}
    first, again = (
        [(r.topic, r.key, r.headers, r.value["after"]) for r in records(inserts(USERS, ROW), entry)] for _ in range(2)
    )
    assert first == again
    assert [headers for _, _, headers, _ in first] == [[("__pycdc.part", b"0")], [("__pycdc.part", b"1")]]


def records(*runs: Run | Any, **options: Any) -> list[Any]:
    """Records in Avro, decoded; entries of `transforms` behind the runs."""
    entries = [item for item in runs if not isinstance(item, Run)]
    recorder = Recorder(transforms=entries, **options)
    whole = CaptureTransforms(configured(transforms=entries, **options), Progress())
    out = whole.batch(batch(*[item for item in runs if isinstance(item, Run)]))
    return [recorder.decoded(topic, one) for topic, group in recorder.serializer.serialize(out) for one in group]


def test_keys_follow_the_changed_row() -> None:
    [record] = records(inserts(USERS, ROW), f"{HERE}:hides_id")
    assert (record.key, record.value["after"]["id"]) == ({"id": -1}, -1)


def test_topic_and_headers_are_the_functions() -> None:
    [record] = records(inserts(USERS, ROW), f"{HERE}:elsewhere")
    assert (record.topic, record.headers) == ("shop.elsewhere", [("region", b"eu")])


def test_a_delete_can_become_an_update() -> None:
    [record] = records(delete(ROW, FULL, b"O"), {"function": f"{HERE}:keeps_deleted"})
    assert (record.value["op"], record.value["after"]["name"]) == ("u", "gone")


def test_an_operation_may_be_a_plain_letter() -> None:
    [change] = made(delete(ROW, FULL, b"O"), by="plain_letter")
    assert change.op is Op.UPDATE


def test_columns_are_added_and_dropped_as_declared() -> None:
    entry = {"function": f"{HERE}:initial", "columns": {"initial": "varchar(1)"}, "drop": ["big"]}
    streamed, read = records(inserts(USERS, ROW), run(Op.READ, USERS, b"\t".join(ROW)), entry)  # type: ignore[arg-type]
    assert streamed.value["after"]["initial"] == read.value["after"]["initial"] == "c"
    assert "big" not in streamed.value["after"]


def test_a_column_gets_another_type() -> None:
    entry = {"function": f"{HERE}:price_as_text", "columns": {"price": "text"}}
    [record] = records(inserts(USERS, ROW), entry)
    assert record.value["after"]["price"] == "4.50"


def test_an_unsent_value_stays_unsent_behind_a_change() -> None:
    unsent: list[ColumnBytes] = [*ROW[:6], UNCHANGED, b"3"]
    [change] = made(update(unsent), by="upper")
    assert change.after is not None
    assert (change.after["name"], change.after["big"]) == ("CUP", UNCHANGED)


def test_a_value_changed_in_place_is_seen() -> None:
    [change] = made(inserts(USERS, ROW), by="appends_tag")
    assert change.after is not None
    assert (change.after["tags"], change.after["doc"]) == (["a", None, "new"], {"a": True})


def test_truncates_messages_and_marks_of_transactions_pass() -> None:
    runs = [
        run(Op.BEGIN, None),
        inserts(USERS, ROW),
        run(Op.TRUNCATE, USERS, frames.truncate(1)),
        run(Op.END, None),
    ]
    out = transforms("nothing").batch(batch(*runs))
    assert out.runs == [runs[0], runs[2], runs[3]]


def test_parts_count_as_events_of_their_transaction() -> None:
    entry = {"function": f"{HERE}:twice", "columns": {"line": "integer"}}
    runs = [run(Op.BEGIN, None), inserts(USERS, ROW), run(Op.END, None)]
    end = records(*runs, entry, envelope={"transaction_metadata": True})[-1]
    assert end.value["event_count"] == 2


# Identity


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).map(str.encode)
VALUES: list[st.SearchStrategy[Any]] = [
    st.integers(1, 9).map(lambda n: str(n).encode()),
    st.none() | TEXT,
    st.none() | st.integers(-(10**8), 10**8).map(lambda n: f"{Decimal(n).scaleb(-2):.2f}".encode()),
    st.none() | st.sampled_from([b"2026-01-01 00:00:00.5+00", b"infinity", b"12026-01-01 00:00:00+00"]),
    st.none() | st.sampled_from([b"null", b'{"a": 1.50}', b"[1, 1.0, true]", b'"x"']),
    st.none() | st.sampled_from([b"{}", b"{a,NULL}", b'{"b c","\\"d"}']),
    st.none() | TEXT,
    st.integers(-9, 9).map(lambda n: str(n).encode()),
]
ROWS = st.tuples(*VALUES).map(list)


@st.composite
def any_run(draw: st.DrawFn) -> Run:
    of = draw(st.sampled_from([USERS, FULL]))
    op = draw(st.sampled_from([Op.CREATE, Op.UPDATE, Op.DELETE, Op.READ, Op.TRUNCATE]))
    row, old = draw(ROWS), draw(ROWS)
    whole = of is FULL
    kept = old if whole else [old[0], *[None] * 7]
    if op is Op.CREATE:
        return inserts(of, row, draw(ROWS))
    if op is Op.READ:
        return run(op, of, b"\t".join(rb"\N" if text is None else escaped(text) for text in row))
    if op is Op.TRUNCATE:
        return run(op, of, frames.truncate(of.oid))
    if op is Op.DELETE:
        return delete(kept, of, b"O" if whole else b"K")
    told = whole or draw(st.booleans())
    unsent = draw(st.booleans())
    new: list[ColumnBytes] = [*row[:6], UNCHANGED if unsent else row[6], row[7]]
    return update(new, of, kept if told else None, b"O" if whole else b"K")


def escaped(text: bytes) -> bytes:
    """As COPY writes it."""
    text = text.replace(b"\\", b"\\\\")
    for code, letter in zip(b"\t\n\r\b\f\v", b"tnrbfv", strict=True):
        text = text.replace(bytes((code,)), bytes((0x5C, letter)))
    return text


FORMS: dict[str, Callable[[], RecordFormat]] = {
    "avro": lambda: AvroFormat(Schemas()),
    "json": lambda: JsonFormat(schemas=False),
    "schema": lambda: JsonFormat(schemas=True),
}


FLATTENED = {"deletes": "rewrite", "add_fields": ["op", "lsn"]}
SERIALIZERS = {
    (form, flat): Serializer(
        configured(envelope={"skip": []}, **({"flatten": FLATTENED} if flat else {})), "db", make(), lambda *where: None
    )
    for form, make in FORMS.items()
    for flat in (False, True)
}
SAME = transforms("same")


@pytest.mark.parametrize(("form", "flat"), SERIALIZERS)
@given(runs=st.lists(any_run(), max_size=4))
@examples(20)
def test_a_function_that_changes_nothing_changes_no_byte(form: str, flat: bool, runs: list[Run]) -> None:
    serializer = SERIALIZERS[form, flat]
    with mock.patch.object(ProcessingTime, "now", return_value=ProcessingTime(1)):
        assert serializer.serialize(SAME.batch(batch(*runs))) == serializer.serialize(batch(*runs))


REWRITERS = {of: RowRewriter(of, of, configured().values, configured().compatibility) for of in (USERS, FULL)}


@given(made_run=any_run().filter(lambda one: one.op is not Op.TRUNCATE))
@examples(50)
def test_a_row_written_anew_is_the_frame_that_came(made_run: Run) -> None:
    """All values, looked at as if each was changed in place."""
    of = made_run.table
    assert of is not None
    rewriter = REWRITERS[of]
    for change in made_run:
        images = rewriter.images(change)
        before, after = (None if image is None else copy.copy(image.row) for image in images)
        frame = rewriter.frame(change.op, change.frame, images, before, after)
        again = Change(made_run, frame, change.index)
        assert (again.before, again.after) == (change.before, change.after)
        if change.op is not Op.UPDATE or change.before is None:
            assert frame == change.frame


# Failures


def refused(entry: Any, *runs: Run, **options: Any) -> TransformError:
    with pytest.raises(TransformError) as caught:
        made(*(runs or (inserts(USERS, [b"1", CANARY.encode(), *ROW[2:]]),)), by=entry, **options)
    assert CANARY not in str(caught.value)
    assert not caught.value.retry
    return caught.value


def test_a_failure_names_function_place_table_and_position_but_no_value() -> None:
    error = refused("fails")
    assert "shop_functions:fails failed (KeyError in shop_functions.py, line" in error.fact
    assert "table public.users with op c at position 16/B374D848" in error.fact
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("returns_text", "returned str, where a DecodedChange"),
        ("strange_column", "returned column 'surprise', which is not declared"),
        ("forgets_column", "returned no column 'big', which is declared"),
        ("wrong_type", "after column 'price' takes Decimal or int, not str"),
        ("null_age", "after column 'age' is NOT NULL"),
        ("unsent_name", "after column 'name' cannot become UNCHANGED"),
        ("no_after", "after is None, and a change with op c needs it"),
        ("reads", "made op c into another"),
        ("row_of_pairs", "returned a row that is no dict"),
        ("strange_op", "returned an op that is not"),
        ("strange_topic", "returned a topic that is no str"),
        ("strange_headers", "returned headers that are not pairs"),
    ],
)
def test_what_cannot_be_used_is_refused(function: str, said: str) -> None:
    assert said in refused(function).fact


def test_an_old_row_that_is_known_must_be_returned_whole() -> None:
    entry = {"function": "initial_of_after", "columns": {"initial": "text"}, "drop": ["big"]}
    assert "before lacks column 'initial'" in refused(entry, update(ROW, FULL, ROW, b"O")).fact


def test_a_fault_that_may_pass_is_retried_by_the_pipeline() -> None:
    with pytest.raises(DeliveryError):
        made(inserts(USERS, ROW), by="later")


def test_a_column_to_drop_must_be_there() -> None:
    entry = {"function": "same", "tables": ["public.users"], "drop": ["gone"]}
    with pytest.raises(ConfigError, match="drops column 'gone'"):
        made(inserts(USERS, ROW), by=entry)


def test_a_dead_letter_is_the_record_as_it_was_with_what_happened() -> None:
    progress = Progress()
    entry = {"function": "fails", "on_error": "dead_letter", "columns": {"line": "integer"}}
    whole = transforms(entry, progress=progress, sink=NULL_SINK)
    out = whole.batch(batch(inserts(USERS, ROW), delete(KEY)))
    recorder = Recorder(flatten={})
    dead = [recorder.decoded(topic, r) for topic, group in recorder.serializer.serialize(out) for r in group]
    assert [(r.topic, r.key, r.value["op"]) for r in dead] == [
        ("shop.dead-letter", {"id": 1}, "c"),
        ("shop.dead-letter", {"id": 1}, "d"),
    ]
    headers = dict(dead[0].headers)
    assert headers["__pycdc.error"] == b"KeyError"
    assert headers["__pycdc.function"] == f"{HERE}:fails".encode()
    assert headers["__pycdc.table"] == b"public.users"
    assert headers["__pycdc.lsn"].startswith(b"16/B374D")
    assert "line" not in dead[0].value["after"]
    assert progress.dead_letters == {"public.users": 2}
    assert {topic for topic, _, _ in recorder.asked} == {"shop.dead-letter.public.users"}


def test_rows_beside_a_dead_letter_go_their_way() -> None:
    entry = {"function": "fails_at_two", "on_error": "dead_letter"}
    out = transforms(entry, sink=NULL_SINK).batch(batch(inserts(USERS, ROW, [b"2", *ROW[1:]], [b"3", *ROW[1:]])))
    recorder = Recorder()
    topics = [(topic, len(group)) for topic, group in recorder.serializer.serialize(out)]
    assert sorted(topics) == [("shop.dead-letter", 1), ("shop.public.users", 2)]


def test_a_new_version_of_a_table_is_understood_anew() -> None:
    whole = transforms("upper")
    wider = (*USERS.columns, column("more"))
    newer = replace(USERS, columns=wider, images=Images(wider))
    [first] = whole.batch(batch(inserts(USERS, ROW)))
    [second] = whole.batch(batch(inserts(newer, [*ROW, b"x"])))
    assert first.after is not None
    assert second.after is not None
    assert second.after == {**first.after, "more": "x"}


def test_a_transform_sees_the_facts_of_its_change() -> None:
    seen: list[DecodedChange] = []
    shop_functions.seen = seen
    made(update(ROW, USERS, KEY), by="looks")
    [change] = seen
    assert (change.op, change.table, change.topic, change.key) == (Op.UPDATE, "public.users", None, {"id": 1})
    assert change.before == {"id": 1}
    assert change.after is not None
    assert change.after["price"] == Decimal("4.50")
    assert str(change.position) == "16/B374D848"
    assert change.timestamp.tzinfo is not None
    assert CANARY not in repr(change.copy(after={"name": CANARY}))

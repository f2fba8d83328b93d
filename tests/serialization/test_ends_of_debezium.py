"""What ends Debezium's task, or is lost by it, is written here: see the recordings' notes on what they leave out."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.model.change import UNCHANGED, Op, PgType, Table
from tests.connectors.postgres import frames
from tests.serialization.runs import ID, Recorder, column, inserts, run

NANOS = Table(11, "public", "moments", (ID, column("at", "timestamp", nullable=False)), ("id",))
FILES = Table(12, "public", "files", (ID, column("content", "bytea", nullable=False), column("n", "int4")), ("id",))
SPARSE = Table(13, "public", "vectors", (ID, column("v", "sparsevec", nullable=False)), ("id",))
SHAPES = Table(
    14,
    "public",
    "shapes",
    (ID, column("a", "point"), column("c", "circle"), column("b", "point", nullable=False)),
    ("id",),
)
OUTBOX = Table(
    15,
    "public",
    "outbox",
    (
        column("id", "uuid", identity=True, nullable=False),
        column("aggregatetype"),
        column("aggregateid"),
        column("payload", PgType(0, "jsonb")),
    ),
    ("id",),
)


@pytest.mark.parametrize("compatibility", ["honest", "debezium-3.7", "debezium-3.6"])
def test_a_delete_has_a_zero_for_a_time_of_nanoseconds_and_a_sparse_vector(compatibility: str) -> None:
    recorder = Recorder(compatibility=compatibility, values={"time": "nanoseconds"})
    deleted = [
        recorder.records(run(Op.DELETE, table, frames.delete(table.oid, [b"1", None])))[0] for table in (NANOS, SPARSE)
    ]
    assert deleted[0].value["before"] == {"id": 1, "at": 0}
    assert deleted[1].value["before"] == {"id": 1, "v": {"dimensions": 0, "vector": []}}


@pytest.mark.parametrize("notation", ["base64", "base64-url-safe", "hex", "bytes"])
def test_bytes_that_were_not_sent_have_a_placeholder_in_every_notation(notation: str) -> None:
    changed = run(Op.UPDATE, FILES, frames.update(FILES.oid, [b"1", UNCHANGED, b"2"]))
    (record,) = Recorder(compatibility="debezium", values={"binary": notation}).records(changed)
    assert record.value["after"]["content"]
    assert record.headers == [("__pycdc.unavailable", b"content")]


def test_columns_of_one_record_type_tell_their_types_in_legal_avro() -> None:
    row = inserts(SHAPES, [b"1", b"(1,2)", b"<(3,4),5>", b"(6,7)"])
    (record,) = Recorder(compatibility="debezium", rules=[{"tell_types": ["*"]}]).records(row)
    after = record.value["after"]
    assert [(after[name]["x"], after[name]["y"]) for name in ("a", "b")] == [(1, 2), (6, 7)]
    assert (after["c"]["center"]["x"], after["c"]["radius"]) == (3, 5)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (b'{"n": 18446744073709551616}', '{"n": 18446744073709551616}'),
    ],
)
def test_a_payload_is_expanded_or_stays_text(payload: bytes, value: Any) -> None:
    recorder = Recorder(outbox={"expand_json_payload": True})
    (record,) = recorder.records(inserts(OUTBOX, [b"7", b"Order", b"o-1", payload]))
    assert record.value == value

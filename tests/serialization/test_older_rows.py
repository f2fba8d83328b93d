"""Rows from before a column was NOT NULL, met when the catalog is ahead of them: NULL stays NULL, whatever the form."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pycdc.model.change import Batch, Op, Run, Table
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.json_format import JsonFormat
from tests.connectors.postgres import frames
from tests.serialization.runs import ID, Recorder, batch, column, configured, run
from tests.serialization.streams import run_of, serializer

ITEMS = Table(1, "public", "items", (ID, column("n", "int4", nullable=False), column("m", nullable=False)), ("id",))
FULL = replace(ITEMS, identity="f")
ROWS: list[list[ColumnBytes]] = [[b"1", b"1", b"a"], [b"2", None, b"b"], [b"3", b"3", None], [b"4", b"4", b"d"]]
VALUES = [{"id": 1, "n": 1, "m": "a"}, {"id": 2, "n": None, "m": "b"}, {"id": 3, "n": 3, "m": None}]
VALUES.append({"id": 4, "n": 4, "m": "d"})


def rows(recorder: Recorder, *runs: Run) -> list[Any]:
    return [record.value["after"] for record in recorder.records(*runs)]


@pytest.mark.parametrize("op", [Op.CREATE, Op.READ])
@pytest.mark.parametrize("options", [{}, {"compatibility": "debezium"}, {"envelope": {"transaction_metadata": True}}])
def test_null_stays_null_among_rows_without(op: Op, options: dict[str, Any]) -> None:
    made = Recorder(**options).records(run_of(op, ITEMS, *ROWS))
    records = [record for record in made if record.topic == "shop.public.items"]
    assert [record.value["after"] for record in records] == VALUES
    assert [record.key["id"] for record in records] == [1, 2, 3, 4]
    if op is Op.CREATE and options.get("envelope"):
        assert [record.value["transaction"]["total_order"] for record in records] == [1, 2, 3, 4]


def test_null_stays_null_in_old_rows() -> None:
    updates = [frames.update(1, [b"1", b"0", b""], [b"1", None, None], b"O")]
    deletes = [frames.delete(1, [b"1", None, b"x"], b"O")]
    update, delete, _ = Recorder().records(run(Op.UPDATE, FULL, *updates), run(Op.DELETE, FULL, *deletes))
    assert update.value["before"] == {"id": 1, "n": None, "m": None}
    assert update.value["after"] == {"id": 1, "n": 0, "m": ""}
    assert delete.value["before"] == {"id": 1, "n": None, "m": "x"}


def test_old_rows_of_a_key_tell_nothing_and_mean_nothing() -> None:
    """What the replica identity does not cover is no NULL."""
    recorder = Recorder()
    [deleted, _] = recorder.records(run(Op.DELETE, ITEMS, frames.delete(1, [b"1", None, None])))
    assert deleted.value["before"] == {"id": 1, "n": 0, "m": ""}
    assert len(recorder.asked) == 2


def test_null_stays_null_in_json() -> None:
    made = serializer(configured(), JsonFormat(schemas=True)).serialize(Batch([run_of(Op.CREATE, ITEMS, *ROWS)]))
    records = [json.loads(record["value"]) for _, group in made for record in group]
    assert [record["payload"]["after"] for record in records] == VALUES
    fields = [next(one for one in record["schema"]["fields"] if one["field"] == "after") for record in records]
    optional = [{one["field"]: one["optional"] for one in field["fields"]} for field in fields]
    assert [one["n"] for one in optional] == [False, True, True, True]


def test_null_stays_null_without_an_envelope() -> None:
    made = Recorder(flatten={}).records(run_of(Op.CREATE, ITEMS, *ROWS))
    assert [record.value for record in made] == VALUES


def test_null_stays_null_in_an_outbox() -> None:
    columns = (column("id", "uuid", nullable=False), column("aggregateid", nullable=False))
    more = tuple(column(name, nullable=name == "payload") for name in ("aggregatetype", "type", "payload"))
    table = Table(1, "public", "outbox", (*columns, *more), ("id",))
    texts: list[list[ColumnBytes]] = [
        [b"8b2ed87c-0f0a-4f29-8b0e-0a0a0a0a0a0a", key, b"order", b"made", b"{}"] for key in (b"1", None, b"3")
    ]
    recorder = Recorder(outbox={"table": "public.outbox"}, envelope={"transaction_metadata": True})
    made = recorder.serializer.serialize(batch(run_of(Op.CREATE, table, *texts), run_of(Op.CREATE, ITEMS, ROWS[0])))
    records = [(topic, record) for topic, group in made for record in group]
    keys = [
        recorder.schemas.decode(one["key"])[1] if one["key"] else None for topic, one in records if "order" in topic
    ]
    assert keys == ["1", None, "3"]
    # Events of the transaction are counted as the source has them.
    [item] = [recorder.decoded(topic, record) for topic, record in records if topic == "shop.public.items"]
    assert item.value["transaction"]["total_order"] == 4


def test_later_rows_are_written_by_the_older_table_until_another_version_comes() -> None:
    """One schema for what cannot be told apart, not one for each row."""
    recorder = Recorder()
    for _ in range(3):
        assert rows(recorder, run_of(Op.CREATE, ITEMS, *ROWS)) == VALUES
    asked = [name for name, part, _ in recorder.asked if part == "value"]
    assert len(asked) == 3
    assert rows(recorder, run_of(Op.CREATE, replace(ITEMS), ROWS[0])) == VALUES[:1]
    assert len(recorder.asked) == 8

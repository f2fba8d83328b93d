"""Flattened records; tests/test_golden.py compares them with Debezium's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycdc.config import InvalidConfig, load_text
from pycdc.config.envelope import METADATA, FlattenConfig
from pycdc.config.pipeline import require_capture
from pycdc.errors import ConfigError
from pycdc.model.change import UNCHANGED, Batch, Op, Run, Table
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.avro_format import AvroFormat
from pycdc.serialization.envelope import SOURCE, TRANSACTION
from pycdc.serialization.record_format import RecordFormat
from pycdc.serialization.source_info import ProcessingTime
from tests.recording import Schemas
from tests.serialization.runs import COMMIT, TIME, column, configured
from tests.serialization.streams import FIRST_LSN, as_json, avro, run_of, serializer

ITEMS = Table(
    1,
    "public",
    "items",
    (
        column("id", "int4", identity=True, nullable=False),
        column("name", "text", nullable=False),
        column("qty", "int4"),
    ),
    key=("id",),
)
FULL = Table(2, "public", "full", ITEMS.columns, key=("id",), identity="f")
NEW: list[ColumnBytes] = [b"1", b"a", b"5"]
KEY: list[ColumnBytes] = [b"1", None, None]


def values(records: list[Any]) -> list[Any]:
    return [record["value"] for _, record in records]


class Slow:
    """A form that has no fast way."""

    def __init__(self, form: RecordFormat) -> None:
        self.prepare, self.source_block, self.event, self.datums = (
            form.prepare,
            form.source_block,
            form.event,
            form.datums,
        )

    def rows(self, *_: Any) -> bool:
        return False


@pytest.mark.parametrize(
    "run",
    [
        run_of(Op.CREATE, ITEMS, NEW, [b"2", b"b" * 300, None]),
        run_of(Op.READ, ITEMS, NEW, [b"2", b"b", None]),
        run_of(Op.UPDATE, ITEMS, NEW, [b"2", UNCHANGED, None]),
        run_of(Op.UPDATE, FULL, [b"1", UNCHANGED, b"6"], old=[NEW], kind=b"O"),
        run_of(Op.UPDATE, FULL, [b"2", b"b", b"6"], old=[NEW], kind=b"O"),
    ],
    ids=["insert", "read", "update", "full update", "full update of the key"],
)
@pytest.mark.parametrize("fields", [[], ["op", "table"], ["lsn"], list(METADATA)], ids=len)
@pytest.mark.parametrize("deletes", ["tombstone", "rewrite"])
def test_the_fast_way_writes_what_the_plain_one_writes(
    monkeypatch: pytest.MonkeyPatch, run: Run, fields: list[str], deletes: str
) -> None:
    monkeypatch.setattr(ProcessingTime, "now", classmethod(lambda cls: cls(1_700_000_001_000_000_000)))
    settings = configured(flatten={"add_fields": fields, "deletes": deletes})
    schemas = Schemas()
    fast = serializer(settings, AvroFormat(schemas)).serialize(Batch([run]))
    slow = serializer(settings, Slow(AvroFormat(schemas))).serialize(Batch([run]))
    assert [record for _, records in fast for record in records] == [
        record for _, records in slow for record in records
    ]
    assert sum(len(records) for _, records in fast) >= len(run.frames)


def test_metadata_is_what_the_envelope_has() -> None:
    expected = {f"source.{name}" for name, _ in SOURCE.fields} | {
        f"transaction.{name}" for name, _ in TRANSACTION.fields
    }
    assert set(METADATA) == expected | {"op", "ts_ms", "ts_us", "ts_ns"}


@pytest.mark.parametrize("read", [avro, as_json])
def test_metadata_follows_the_row_under_its_names(read: Any) -> None:
    names = ["op", "source.lsn", "sequence:place", "source.ts_ms", "transaction.id", "snapshot"]
    settings = configured(flatten={"add_fields": names, "fields_prefix": "m_"})
    (value,) = values(read(settings, run_of(Op.CREATE, ITEMS, NEW)))
    assert list(value.items()) == [
        ("id", 1),
        ("name", "a"),
        ("qty", 5),
        ("m_op", "c"),
        ("m_source_lsn", FIRST_LSN),
        ("m_place", f'[null,"{FIRST_LSN}"]'),
        ("m_source_ts_ms", TIME // 1000),
        ("m_transaction_id", None),
        ("m_snapshot", None),
    ]


def test_a_snapshot_is_told_where_it_is_asked_for() -> None:
    settings = configured(flatten={"add_fields": ["snapshot", "op"]})
    (value,) = values(avro(settings, run_of(Op.READ, ITEMS, NEW)))
    assert value == {"id": 1, "name": "a", "qty": 5, "__snapshot": "true", "__op": "r"}


def test_the_transaction_is_told_where_it_is_known() -> None:
    settings = configured(
        flatten={"add_fields": ["transaction.id", "total_order"]}, envelope={"transaction_metadata": True}
    )
    found = values(avro(settings, run_of(Op.CREATE, ITEMS, NEW, NEW)))
    assert [value["__total_order"] for value in found] == [1, 2]
    assert found[0]["__transaction_id"] == f"7:{COMMIT}"


@pytest.mark.parametrize(
    ("deletes", "expected"),
    [
        ("tombstone", [None]),
        ("delete_to_tombstone", [None]),
        ("drop", []),
        ("rewrite", [{"id": 1, "name": "a", "qty": 5, "__deleted": "true", "__op": "d"}]),
        ("rewrite_with_tombstone", [{"id": 1, "name": "a", "qty": 5, "__deleted": "true", "__op": "d"}, None]),
    ],
)
@pytest.mark.parametrize("read", [avro, as_json])
def test_a_delete_becomes_what_was_chosen(read: Any, deletes: str, expected: list[Any]) -> None:
    settings = configured(flatten={"deletes": deletes, "add_fields": ["op"]})
    records = read(settings, run_of(Op.DELETE, FULL, NEW, kind=b"O"))
    assert values(records) == expected
    assert all(topic == "shop.public.full" and record["key"] == {"id": 1} for topic, record in records)


def test_rows_that_live_say_so_where_deletes_are_rewritten() -> None:
    settings = configured(flatten={"deletes": "rewrite"})
    ((_, record),) = avro(settings, run_of(Op.CREATE, ITEMS, NEW))
    assert record["value"]["__deleted"] == "false"
    assert json.loads(record["value_schema"])["fields"][-1] == {
        "name": "__deleted",
        "type": ["null", "string"],
        "default": None,
    }


def test_a_rewritten_delete_says_which_columns_it_knows() -> None:
    settings = configured(flatten={"deletes": "rewrite"})
    ((_, record),) = avro(settings, run_of(Op.DELETE, ITEMS, KEY))
    assert record["value"] == {"id": 1, "name": "", "qty": None, "__deleted": "true"}
    assert record["headers"] == [("__pycdc.before", b"id")]


def test_null_values_need_no_header_about_what_is_known() -> None:
    ((_, record),) = avro(configured(flatten={}), run_of(Op.DELETE, ITEMS, KEY))
    assert "headers" not in record


def test_no_tombstones_means_none_behind_a_rewritten_delete() -> None:
    settings = configured(flatten={"deletes": "rewrite_with_tombstone"}, envelope={"tombstones": False})
    assert len(avro(settings, run_of(Op.DELETE, FULL, NEW, kind=b"O"))) == 1


def test_headers_stand_on_every_record_and_the_operation_on_the_tombstone_too() -> None:
    settings = configured(flatten={"deletes": "rewrite_with_tombstone", "add_headers": ["op", "lsn"]})
    created, deleted, tombstone = avro(settings, run_of(Op.CREATE, FULL, NEW), run_of(Op.DELETE, FULL, NEW, kind=b"O"))
    assert created[1]["headers"] == [("__op", b"c"), ("__lsn", b"%d" % FIRST_LSN)]
    assert deleted[1]["headers"] == [("__op", b"d"), ("__lsn", b"%d" % FIRST_LSN)]
    assert tombstone[1]["headers"] == [("__op", b"d")]


def test_either_all_records_of_a_group_have_headers_or_none() -> None:
    settings = configured(flatten={"deletes": "rewrite_with_tombstone", "add_headers": ["lsn"]})
    run = run_of(Op.DELETE, FULL, NEW, kind=b"O")
    ((_, records),) = serializer(settings, AvroFormat(Schemas())).serialize(Batch([run]))
    assert [record["headers"] for record in records] == [[("__lsn", b"%d" % FIRST_LSN)], []]


def test_a_changed_key_is_a_tombstone_and_a_new_row() -> None:
    old: list[ColumnBytes] = [b"1", None, None]
    gone, come = avro(configured(flatten={}), run_of(Op.UPDATE, ITEMS, [b"9", b"a", b"5"], old=[old]))
    assert (gone[1]["key"], gone[1]["value"], gone[1]["headers"]) == (
        {"id": 1},
        None,
        [("__debezium.newkey", b'{"id":9}')],
    )
    assert come[1]["value"] == {"id": 9, "name": "a", "qty": 5}


def test_truncates_are_left_out() -> None:
    assert avro(configured(flatten={}, envelope={"skip": []}), run_of(Op.TRUNCATE, ITEMS, [])) == []


def test_json_with_schemas_has_the_schema_of_the_flat_record() -> None:
    ((_, record),) = as_json(configured(flatten={"add_fields": ["op"]}), run_of(Op.CREATE, ITEMS, NEW), schemas=True)
    fields = [(field["field"], field["optional"]) for field in record["value"]["schema"]["fields"]]
    assert fields == [("id", False), ("name", False), ("qty", True), ("__op", True)]
    assert record["value"]["payload"] == {"id": 1, "name": "a", "qty": 5, "__op": "c"}


def test_a_field_with_the_name_of_a_columns_is_refused() -> None:
    settings = configured(flatten={"add_fields": ["name"], "fields_prefix": ""})
    with pytest.raises(ConfigError, match="two fields 'name'") as caught:
        avro(settings, run_of(Op.CREATE, ITEMS, NEW))
    assert "fields_prefix" in caught.value.hint


def test_the_section_alone_chooses_the_defaults() -> None:
    text = "name: shop\nsource: {postgres: {dsn: x}}\nsink: {console: }\n"
    assert require_capture(load_text(text)).flatten is None
    assert require_capture(load_text(text + "flatten:\n")).flatten == FlattenConfig()


@pytest.mark.parametrize("name", ["", "nothing", "source.", "op:", "op:a:b", "source.nothing", "before.id"])
def test_metadata_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfig, match=r"flatten\.add_fields"):
        configured(flatten={"add_fields": [name]})

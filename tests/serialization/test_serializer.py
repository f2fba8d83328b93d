"""Which records a batch becomes: topics, keys, headers, tombstones, transactions, schemas."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pycdc.errors import ConfigError, ConversionError
from pycdc.model.change import UNCHANGED, LogicalMessage, Lsn, Op, PgType, Run, Table
from pycdc.model.origin import ChangeOrigin
from pycdc.rows.schema import Schema
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.headers import key_text
from tests.connectors.postgres import frames
from tests.serialization.runs import (
    COMMIT,
    FULL,
    ID,
    LOG,
    TIME,
    USERS,
    Decoded,
    Recorder,
    batch,
    column,
    inserts,
    run,
    transaction,
)

OLD: list[ColumnBytes] = [b"1", None, None]
NEW: list[ColumnBytes] = [b"1", b"Ada", b"36"]
INSERT = inserts(USERS, NEW)
UPDATE = run(Op.UPDATE, USERS, frames.update(1, NEW))
MOVE = run(Op.UPDATE, USERS, frames.update(1, [b"2", b"Ada", b"36"], OLD))
DELETE = run(Op.DELETE, USERS, frames.delete(1, OLD))
TRUNCATE = run(Op.TRUNCATE, USERS, frames.truncate(1))
HONEST_BEFORE = ("__pycdc.before", b"id")
CONTEXT = [
    ("__debezium.context.connectorLogicalName", b"shop"),
    ("__debezium.context.taskId", b"0"),
    ("__debezium.context.connectorName", b"postgresql"),
]


def ops(records: list[Decoded]) -> list[str | None]:
    """Operations, None for tombstones."""
    return [None if record.value is None else record.value["op"] for record in records]


def test_rows_go_to_the_topic_of_their_table() -> None:
    odd = Table(9, "Odd Schema", "Ta-ble.1", (ID,), ("id",))
    records = Recorder().records(INSERT, inserts(odd, [b"1"]), inserts(LOG, [b"1", b"x"]))
    assert [record.topic for record in records] == ["shop.public.users", "shop.Odd_Schema.Ta-ble.1", "shop.public.log"]


def test_a_route_takes_the_place_of_the_topic_but_not_of_the_record_s_name() -> None:
    recorder = Recorder(rules=[{"tables": "public.*", "topic": "all-{table}"}])
    [record] = recorder.records(INSERT)
    assert record.topic == "all-users"
    assert recorder.asked[1] == ("all-users", "value", "shop.public.users.Envelope")
    assert list(recorder.serializer.topics()) == ["all-users"]


def test_a_route_with_an_unknown_placeholder_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"public\.users has a placeholder"):
        Recorder(rules=[{"topic": "{db}"}]).records(INSERT)


def test_a_delete_is_followed_by_a_tombstone_under_the_same_key() -> None:
    deleted, tombstone = Recorder().records(DELETE)
    assert (deleted.value["op"], deleted.value["after"], deleted.key) == ("d", None, {"id": 1})
    assert (tombstone.key, tombstone.value, tombstone.topic) == ({"id": 1}, None, deleted.topic)
    assert ops(Recorder(envelope={"tombstones": False}).records(DELETE)) == ["d"]


def test_a_change_of_the_key_is_delete_tombstone_and_create_that_name_each_other() -> None:
    records = Recorder(compatibility="debezium").records(MOVE)
    assert ops(records) == ["d", None, "c"]
    assert [record.key for record in records] == [{"id": 1}, {"id": 1}, {"id": 2}]
    new, old = ("__debezium.newkey", b'{"id":2}'), ("__debezium.oldkey", b'{"id":1}')
    assert [record.headers for record in records] == [[new], [new], [old]]
    assert ops(Recorder(envelope={"tombstones": False}).records(MOVE)) == ["d", "c"]


def test_headers_are_in_debezium_s_order() -> None:
    records = Recorder(compatibility="debezium", envelope={"context_headers": True}).records(MOVE, INSERT)
    new, old = ("__debezium.newkey", b'{"id":2}'), ("__debezium.oldkey", b'{"id":1}')
    assert [record.headers for record in records] == [[new, *CONTEXT], [new, *CONTEXT], [old, *CONTEXT], CONTEXT]


def test_changes_that_pycdc_wrote_say_who_carried_them_and_how_often_and_others_say_nothing() -> None:
    carried = transaction()
    carried.change_origin = ChangeOrigin("a-to-b", 2)
    insert, delete = frames.insert(1, [b"1", b"a", b"2"]), frames.delete(1, [b"1", None, None])
    runs = [run(Op.CREATE, USERS, insert, of=carried), run(Op.DELETE, USERS, delete, of=carried), INSERT]
    records = Recorder(compatibility="debezium").records(*runs)
    way = [("pycdc.origin", b"a-to-b"), ("pycdc.hops", b"2")]
    assert ops(records) == ["c", "d", None, "c"]
    assert [record.headers for record in records] == [way, way, way, []]


def test_values_that_an_old_row_does_not_tell_are_marked() -> None:
    for made in (DELETE, MOVE):
        deleted = Recorder().records(made)[0]
        assert deleted.value["before"] == {"id": 1, "name": None, "age": 0}
        assert HONEST_BEFORE in deleted.headers
    assert Recorder().records(INSERT, UPDATE)[1].headers == []
    zero = Recorder(compatibility={"unknown_before": "zero"}).records(DELETE)[0]
    assert zero.value["before"] == {"id": 1, "name": None, "age": 0}
    assert zero.headers == []


def test_nothing_is_marked_where_the_old_row_tells_all_that_must_be_told() -> None:
    full = Table(1, "public", "users", USERS.columns, ("id",), "f")
    assert Recorder().records(run(Op.DELETE, full, frames.delete(1, NEW, b"O")))[0].headers == []
    covered = Table(1, "public", "users", (ID, column("name")), ("id",))
    assert Recorder().records(run(Op.DELETE, covered, frames.delete(1, [b"1", None])))[0].headers == []


DEFERRABLE = replace(FULL, deferrable=True)
OLD_OF_DEFERRABLE = [b"1", b"Ada", b"big"]
CHANGES_OF_DEFERRABLE = (
    inserts(DEFERRABLE, OLD_OF_DEFERRABLE),
    run(Op.UPDATE, DEFERRABLE, frames.update(2, [b"1", b"Eve", b"big"], OLD_OF_DEFERRABLE, b"O")),
    run(Op.UPDATE, DEFERRABLE, frames.update(2, [b"2", b"Ada", b"big"], OLD_OF_DEFERRABLE, b"O")),
    run(Op.DELETE, DEFERRABLE, frames.delete(2, OLD_OF_DEFERRABLE, b"O")),
)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("options", [{}, {"flatten": {"deletes": "rewrite"}}, {"compatibility": "debezium"}])
def test_all_changes_of_a_table_with_a_deferrable_key_say_so(plain: bool, options: dict[str, Any]) -> None:
    """An insert may take a key that another row has, and an update may give it one: see the apply side."""
    records = Recorder(plain=plain, **options).records(*CHANGES_OF_DEFERRABLE)
    told = [dict(record.headers)["__pycdc.deferrable"] for record in records]
    tombstones = [] if "flatten" in options else [b"d"]
    assert told == [b"c", b"u", b"d", *tombstones, b"c", b"d", *tombstones]


def test_a_row_of_a_snapshot_and_rows_whose_old_ones_are_their_keys_are_not_marked() -> None:
    read = run(Op.READ, DEFERRABLE, b"1\tAda\tbig\n")
    only_key = run(Op.DELETE, replace(USERS, deferrable=True), frames.delete(1, OLD))
    for made in (read, only_key):
        for record in Recorder().records(made):
            assert "__pycdc.deferrable" not in dict(record.headers)


def test_the_mark_names_fields_as_the_record_does() -> None:
    name, rest = column("we ird", nullable=False, identity=True), column("age", "int4", nullable=False)
    table = Table(1, "public", "t", (name, rest), ("we ird",))
    deleted = run(Op.DELETE, table, frames.delete(1, [b"x", None]))
    assert Recorder().records(deleted)[0].headers == [("__pycdc.before", b"we_ird")]
    renamed = Recorder(rules=[{"rename": {"we ird": "k"}}]).records(deleted)[0]
    assert renamed.headers == [("__pycdc.before", b"k")]


def test_a_long_key_that_did_not_change_is_an_update() -> None:
    table = Table(4, "public", "t", (column("name", identity=True, nullable=False), column("big")), ("name",))
    [record] = Recorder().records(run(Op.UPDATE, table, frames.update(4, [UNCHANGED, b"x"], [b"long", None])))
    assert (record.value["op"], record.key, record.value["after"]) == (
        "u",
        {"name": "long"},
        {"name": "long", "big": "x"},
    )


def test_a_key_that_was_not_sent_is_refused_rather_than_replaced() -> None:
    with pytest.raises(ConversionError, match=r"column 'name' of table public\.users is part of the message key"):
        Recorder(rules=[{"key": ["name"]}]).records(run(Op.UPDATE, USERS, frames.update(1, [b"1", UNCHANGED, b"2"])))


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        ([], ["r", "c", "u", "d", None, "t"]),
        (["t"], ["r", "c", "u", "d", None]),
        (["c"], ["r", "u", "d", None, "t"]),
        (["u", "d", "t"], ["r", "c"]),
    ],
)
def test_skipped_operations_are_not_emitted(skip: list[str], left: list[str | None]) -> None:
    read = run(Op.READ, USERS, b"1\tAda\t36")
    recorder = Recorder(envelope={"skip": skip})
    assert ops(recorder.records(read, INSERT, UPDATE, DELETE, TRUNCATE)) == left


def test_a_truncate_has_neither_key_nor_rows_and_is_skipped_by_default() -> None:
    [record] = Recorder(envelope={"skip": []}).records(TRUNCATE)
    assert record.key is None
    assert (record.value["op"], record.value["before"], record.value["after"]) == ("t", None, None)
    assert Recorder().records(TRUNCATE) == []


@pytest.mark.parametrize("transactional", [True, False])
def test_a_logical_message_goes_to_a_topic_of_its_own(transactional: bool) -> None:
    message = LogicalMessage("audit", b"\x00hello", transactional, Lsn(900))
    of = transaction(7 if transactional else None, commit=COMMIT if transactional else 900)
    [record] = Recorder().records(Run(Op.MESSAGE, None, of, 0, [b""], message=message))
    assert (record.topic, record.key) == ("shop.message", {"prefix": "audit"})
    assert (record.value["op"], record.value["transaction"]) == ("m", None)
    assert record.value["message"] == {"prefix": "audit", "content": b"\x00hello"}
    source = record.value["source"]
    assert (source["txId"], source["lsn"]) == (7 if transactional else None, 900)
    assert (source["schema"], source["table"], source["sequence"]) == ("", "", '["500","900"]')


BLOCKS: dict[str, Any] = {"envelope": {"transaction_metadata": True, "skip": []}}
IDENTITY = f"7:{COMMIT}"


def within(*runs: Run) -> list[Run]:
    """One transaction around the runs."""
    return [run(Op.BEGIN, None), *runs, run(Op.END, None)]


def test_a_transaction_begins_and_ends_with_its_counts() -> None:
    begin, *events, end = Recorder(**BLOCKS).records(*within(INSERT, MOVE, inserts(LOG, [b"1", b"x"]), TRUNCATE))
    assert (begin.topic, begin.key) == ("shop.transaction", {"id": IDENTITY})
    assert begin.value == {
        "status": "BEGIN",
        "id": IDENTITY,
        "event_count": None,
        "data_collections": None,
        "ts_ms": TIME // 1000,
    }
    assert end.value == {
        "status": "END",
        "id": IDENTITY,
        "event_count": 5,
        "data_collections": [
            {"data_collection": "public.users", "event_count": 4},
            {"data_collection": "public.log", "event_count": 1},
        ],
        "ts_ms": TIME // 1000,
    }
    assert len(events) == 6


def test_each_event_says_its_place_in_the_transaction_and_in_its_table() -> None:
    recorder = Recorder(**BLOCKS)
    records = recorder.records(*within(INSERT, inserts(LOG, [b"1", b"x"]), MOVE))[1:-1]
    blocks = [record.value["transaction"] for record in records if record.value is not None]
    assert [block["id"] for block in blocks] == [IDENTITY] * 4
    assert [block["total_order"] for block in blocks] == [1, 2, 3, 4]
    assert [block["data_collection_order"] for block in blocks] == [1, 1, 2, 3]


def test_counting_goes_on_over_batches_and_begins_anew_with_the_next_transaction() -> None:
    recorder = Recorder(**BLOCKS)
    recorder.records(run(Op.BEGIN, None), INSERT)
    [record] = recorder.records(UPDATE)
    assert record.value["transaction"]["total_order"] == 2
    [end] = recorder.records(run(Op.END, None))
    assert end.value["event_count"] == 2
    assert recorder.records(*within(INSERT))[1].value["transaction"]["total_order"] == 1


def test_no_transaction_block_stands_in_rows_of_a_snapshot_and_by_default_in_none() -> None:
    assert Recorder(**BLOCKS).records(run(Op.READ, USERS, b"1\tAda\t36"))[0].value["transaction"] is None
    assert Recorder().records(INSERT)[0].value["transaction"] is None


def test_heartbeats_come_at_their_interval_and_only_with_a_position(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pycdc.serialization.serializer.time.monotonic", lambda: now[0])
    recorder = Recorder(envelope={"heartbeat_interval": 5})

    def beats(*, position: bool = True) -> list[Decoded]:
        groups = recorder.serializer.serialize(batch(position=position))
        return [recorder.decoded(topic, record) for topic, records in groups for record in records]

    assert beats(position=False) == []
    [beat] = beats()
    assert (beat.topic, beat.key) == ("__debezium-heartbeat.shop", {"serverName": "shop"})
    assert list(beat.value) == ["ts_ms"]
    now[0] += 4.9
    assert beats() == []
    now[0] += 0.1
    assert len(beats()) == 1
    assert Recorder().records() == []


def test_records_with_headers_stand_in_groups_of_their_own_and_the_order_stays() -> None:
    recorder = Recorder()
    log = inserts(LOG, [b"1", b"x"])
    groups = recorder.groups(INSERT, log, MOVE, UPDATE, DELETE, INSERT, log)
    for _, records in groups:
        assert records
        assert len({"headers" in record for record in records}) == 1
    of_users = [
        recorder.decoded(topic, r) for topic, records in groups for r in records if topic == "shop.public.users"
    ]
    assert ops(of_users) == ["c", "d", None, "c", "u", "d", None, "c"]
    assert [topic for topic, _ in groups].count("shop.public.log") == 1


def test_consecutive_records_of_a_topic_are_one_group() -> None:
    [(topic, records)] = Recorder().groups(INSERT, UPDATE, INSERT)
    assert (topic, len(records)) == ("shop.public.users", 3)


WIDER = Table(1, "public", "users", (*USERS.columns, column("mail")), ("id",))


def test_each_version_of_a_table_has_its_own_schema_within_one_batch() -> None:
    recorder = Recorder()
    records = recorder.records(INSERT, inserts(WIDER, [*NEW, b"a@b"]), inserts(WIDER, [*NEW, None]))
    assert [record.value["after"] for record in records] == [
        {"id": 1, "name": "Ada", "age": 36},
        {"id": 1, "name": "Ada", "age": 36, "mail": "a@b"},
        {"id": 1, "name": "Ada", "age": 36, "mail": None},
    ]


def test_schemas_are_asked_for_once_a_version_and_never_a_row() -> None:
    recorder = Recorder()
    for _ in range(3):
        recorder.groups(inserts(USERS, *[NEW] * 50), UPDATE, MOVE, DELETE)
    of_users = [("shop.public.users", "key", "shop.public.users.Key")]
    of_users += [("shop.public.users", "value", "shop.public.users.Envelope")]
    assert recorder.asked == of_users
    recorder.groups(inserts(WIDER, [*NEW, None]), inserts(WIDER, [*NEW, b"x"]))
    assert recorder.asked == of_users * 2
    recorder.groups(inserts(LOG, [b"1", b"x"]))
    assert recorder.asked[4:] == [("shop.public.log", "value", "shop.public.log.Envelope")]


def test_the_schemas_of_other_topics_are_asked_for_once() -> None:
    recorder = Recorder(**BLOCKS)
    for _ in range(3):
        recorder.groups(*within())
    assert [part for _, part, _ in recorder.asked] == ["key", "value"]


def test_snapshot_and_stream_share_the_schemas_in_honest_mode() -> None:
    recorder = Recorder()
    recorder.records(run(Op.READ, USERS, b"1\tAda\t36"), INSERT)
    assert len(recorder.schemas.texts) == 2


def test_a_table_without_a_key_has_null_keys_and_its_deletes_their_tombstones_as_debezium_writes_them() -> None:
    table = Table(3, "public", "log", LOG.columns, (), "f")
    deleted = run(Op.DELETE, table, frames.delete(3, [b"1", b"x"], b"O"))
    records = Recorder().records(inserts(table, [b"1", b"x"]), deleted)
    assert [record.key for record in records] == [None, None, None]
    assert ops(records) == ["c", "d", None]


def test_full_updates_have_both_sides_and_lend_what_was_not_sent() -> None:
    update = frames.update(2, [b"1", b"Eve", UNCHANGED], [b"1", b"Ada", b"big"], b"O")
    [record] = Recorder().records(run(Op.UPDATE, FULL, update))
    assert record.value["before"] == {"id": 1, "name": "Ada", "big": "big"}
    assert record.value["after"] == {"id": 1, "name": "Eve", "big": "big"}
    assert record.headers == []


def test_a_value_that_was_not_sent_and_is_nowhere_has_debezium_s_placeholder() -> None:
    made = run(Op.UPDATE, USERS, frames.update(1, [b"1", UNCHANGED, b"36"]))
    [record] = Recorder().records(made)
    assert record.value["after"]["name"] == "__debezium_unavailable_value"
    [record] = Recorder(values={"unavailable": "?"}).records(made)
    assert record.value["after"]["name"] == "?"


NOT_SENT = Table(5, "public", "doc", (ID, column("we ird"), column("vec", "vector"), column("n", "numeric")), ("id",))
LACKING = run(Op.UPDATE, NOT_SENT, frames.update(5, [b"1", b"x", UNCHANGED, UNCHANGED]))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("options", [{}, {"flatten": {}}, {"compatibility": "debezium"}])
def test_a_header_names_the_fields_whose_values_were_not_sent(plain: bool, options: dict[str, Any]) -> None:
    whole = run(Op.UPDATE, NOT_SENT, frames.update(5, [b"1", b"x", b"[1]", b"2"]))
    known = {**options, "values": {"unknown_types": "text"}}
    records = Recorder(plain=plain, **known).records(whole, LACKING, whole)
    assert [record.headers for record in records] == [[], [("__pycdc.unavailable", b"vec,n")], []]


def test_the_header_of_what_was_not_sent_names_fields_as_the_record_does() -> None:
    made = run(Op.UPDATE, NOT_SENT, frames.update(5, [b"1", UNCHANGED, b"[1]", UNCHANGED]))
    rule = {"rename": {"n": "amount"}, "mask": {"we ird": 3}}
    [record] = Recorder(rules=[rule], envelope={"context_headers": True}).records(made)
    assert record.headers == [("__pycdc.unavailable", b"we_ird,amount"), *CONTEXT]
    [record] = Recorder(rules=[{"exclude_columns": ["we ird", "n"]}]).records(made)
    assert record.headers == []


def test_a_change_of_the_key_tells_what_was_not_sent_on_the_create() -> None:
    moved = frames.update(5, [b"2", b"x", UNCHANGED, b"3"], [b"1", None, None, None])
    deleted, tombstone, created = Recorder(compatibility="debezium", values={"unknown_types": "text"}).records(
        run(Op.UPDATE, NOT_SENT, moved)
    )
    assert [name for name, _ in deleted.headers + tombstone.headers] == ["__debezium.newkey", "__debezium.newkey"]
    assert created.headers == [("__debezium.oldkey", b'{"id":1}'), ("__pycdc.unavailable", b"vec")]


def test_a_message_of_a_transaction_is_one_of_its_events() -> None:
    transacted = LogicalMessage("audit", b"hello", True, Lsn(900))
    alone = LogicalMessage("audit", b"hello", False, Lsn(901))
    of = INSERT.transaction
    records = Recorder(envelope={"transaction_metadata": True}).records(
        Run(Op.BEGIN, None, of, 0, []),
        Run(Op.MESSAGE, None, transaction(None, 901), 0, [b""], message=alone),
        Run(Op.MESSAGE, None, of, 0, [b""], message=transacted),
        INSERT,
        Run(Op.MESSAGE, None, of, 2, [b""], message=transacted),
        Run(Op.END, None, of, 3, []),
    )
    assert [record.topic for record in records] == [
        *("shop.transaction", "shop.message", "shop.message", "shop.public.users", "shop.message", "shop.transaction")
    ]
    identity = records[0].value["id"]
    assert [record.value["transaction"] for record in records[1:-1]] == [
        None,
        {"id": identity, "total_order": 1, "data_collection_order": 1},
        {"id": identity, "total_order": 2, "data_collection_order": 1},
        {"id": identity, "total_order": 3, "data_collection_order": 2},
    ]
    assert records[-1].value["event_count"] == 3
    assert records[-1].value["data_collections"] == [
        {"data_collection": "LOGICAL_DECODING_MESSAGE", "event_count": 2},
        {"data_collection": "public.users", "event_count": 1},
    ]


@pytest.mark.parametrize(("binary", "content"), [("base64", "AP/+"), ("base64-url-safe", "AP_-"), ("hex", "00fffe")])
def test_the_content_of_a_message_is_in_the_notation_of_bytes(binary: str, content: str) -> None:
    message = LogicalMessage("audit", b"\x00\xff\xfe", False, Lsn(900))
    recorder = Recorder(values={"binary": binary})
    [record] = recorder.records(Run(Op.MESSAGE, None, transaction(None, 900), 0, [b""], message=message))
    assert record.value["message"] == {"prefix": "audit", "content": content}


def test_a_delete_whose_old_row_lacks_the_message_key_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConversionError, match=r"public\.users do not hold the message key") as error:
        Recorder(rules=[{"key": ["name"]}]).records(DELETE)
    assert "ALTER TABLE public.users REPLICA IDENTITY FULL" in error.value.hint
    full = Table(1, "public", "users", USERS.columns, ("id",), "f")
    made = run(Op.DELETE, full, frames.delete(1, NEW, b"O"))
    assert Recorder(rules=[{"key": ["name"]}]).records(made)[0].key == {"name": "Ada"}


def test_columns_that_would_be_one_field_are_refused_before_anything_is_registered() -> None:
    table = Table(1, "public", "t", (ID, column("a b"), column("a-b")), ("id",))
    recorder = Recorder()
    with pytest.raises(ConfigError, match="would both be field 'a_b'"):
        recorder.records(inserts(table, [b"1", None, None]))
    assert recorder.asked == []


DECIMAL = Schema("bytes", name="org.apache.kafka.connect.data.Decimal", parameters=(("scale", "2"),))


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        (Schema("int32"), 9, "9"),
        (Schema("boolean"), True, "true"),
        (Schema("string"), 'a "b" \\ ü', '"a \\"b\\" \\\\ ü"'),
        (Schema("string"), "two\nlines", '"two\nlines"'),
        (Schema("string", optional=True), None, "null"),
        (Schema("bytes"), b"\x00\xff", '"AP8="'),
        (DECIMAL, b"\x04\xd2", "12.34"),
        (DECIMAL, b"\xff", "-0.01"),
        (Schema("array", items=Schema("string")), ["a", "b"], '["a","b"]'),
        (Schema("map", items=Schema("string")), {"a": "b"}, '{"a":"b"}'),
        (Schema("struct", fields=(("scale", Schema("int32")),)), {"scale": 1}, '{"scale":1}'),
    ],
)
def test_a_key_in_a_header_is_printed_as_connect_prints_structs(schema: Schema, value: Any, text: str) -> None:
    assert key_text(Schema("struct", fields=(("k", schema),)), {"column": value}).decode() == f'{{"k":{text}}}'


def test_a_key_in_a_header_has_the_names_of_the_record_s_key() -> None:
    name = column("we ird", PgType(0, "numeric", (10 << 16 | 2) + 4), nullable=False, identity=True)
    table = Table(1, "public", "t", (name,), ("we ird",))
    deleted = Recorder().records(run(Op.UPDATE, table, frames.update(1, [b"2.50"], [b"1.50"])))[0]
    assert dict(deleted.headers)["__debezium.newkey"] == b'{"we_ird":2.50}'
    assert json.loads(dict(deleted.headers)["__debezium.newkey"]) == {"we_ird": 2.5}

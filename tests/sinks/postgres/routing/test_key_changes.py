"""Rows whose keys change keep what was not sent, and leave nothing behind under the old key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from pycdc.connectors.kafka.key_change_headers import other_key
from pycdc.connectors.kafka.record_decoder import Decoder
from pycdc.errors import ApplyError
from pycdc.model.event import Partition
from tests.sinks.postgres.rig import Process, Rig

pytestmark = pytest.mark.pg("newest")
BIG = "x" * 9000
ORDERS = [order for order in permutations(range(3)) if order.index(0) < order.index(1)]
"""Records of one key keep their order, but those of several partitions come in any."""


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, n int, body text NOT NULL);"
        "CREATE TABLE notes (id int PRIMARY KEY, doc int REFERENCES docs ON UPDATE CASCADE)"
    )
    yield rig
    rig.close()


def process(rig: Rig, **options: Any) -> Process:
    route = options.pop("route", {})
    return rig.process({"topic": "docs", "table": "docs", **route}, {"topic": "notes", "table": "notes"}, **options)


def header(name: str, key: Any) -> tuple[str, bytes]:
    return f"__debezium.{name}key", json.dumps(key, separators=(",", ":")).encode()


def moved(old: int, new: int, n: int, body: str | None = None, **fields: Any) -> list[Any]:
    """A change of the key as Debezium tells it: without `body`, it was not sent."""
    sent = {"id": new, "n": n, "body": "__debezium_unavailable_value" if body is None else body, **fields}
    to, of = header("new", {"id": new}), header("old", {"id": old})
    before = {"id": old, "n": None, "body": ""}
    return [
        ("docs", {"id": old}, {"op": "d", "before": before, "after": None}, (to, ("__pycdc.before", b"id"))),
        ("docs", {"id": old}, None, (to,)),
        ("docs", {"id": new}, {"op": "c", "before": None, "after": sent}, (of,)),
    ]


def docs(rig: Rig) -> list[Any]:
    return rig.sql("SELECT id, n, left(body, 3) FROM docs ORDER BY id")


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("together", [True, False])
def test_a_row_keeps_what_was_not_sent_when_its_key_changes(rig: Rig, order: Any, together: bool) -> None:
    rig.sql(f"INSERT INTO docs VALUES (1, 1, '{BIG}'), (7, 7, 'other')")
    sink, records = process(rig), moved(1, 2, 5)
    for records_at_once in [[records[place] for place in order]] if together else [[records[place]] for place in order]:
        assert sink.feed(*records_at_once) is None
    assert docs(rig) == [(2, 5, "xxx"), (7, 7, "oth")]
    assert rig.sql("SELECT kind FROM pycdc.conflicts") == []
    sink.feed(*records)
    assert docs(rig) == [(2, 5, "xxx"), (7, 7, "oth")], "told twice"


def test_keys_change_several_times_in_a_batch(rig: Rig) -> None:
    rig.sql(f"INSERT INTO docs VALUES (1, 1, '{BIG}'), (2, 2, 'two')")
    process(rig).feed(*moved(1, 9, 10), *moved(2, 1, 20), *moved(9, 2, 11), *moved(2, 3, 12), *moved(1, 4, 21))
    assert docs(rig) == [(3, 12, "xxx"), (4, 21, "two")]


def test_a_key_that_was_given_up_may_be_given_to_a_new_row(rig: Rig) -> None:
    rig.sql(f"INSERT INTO docs VALUES (1, 1, '{BIG}')")
    made = ("docs", {"id": 1}, {"op": "c", "before": None, "after": {"id": 1, "n": 0, "body": "new"}})
    sink = process(rig)
    sink.feed(*moved(1, 2, 5), made)
    assert docs(rig) == [(1, 0, "new"), (2, 5, "xxx")]
    sink.feed(*moved(1, 2, 5), made)
    assert docs(rig) == [(1, 0, "new"), (2, 5, "xxx")], "told twice"


def test_a_row_is_moved_with_those_that_name_it(rig: Rig) -> None:
    rig.sql(f"INSERT INTO docs VALUES (1, 1, '{BIG}'); INSERT INTO notes VALUES (5, 1)")
    process(rig).feed(*moved(1, 2, 5), ("notes", {"id": 5}, {"op": "u", "before": None, "after": {"id": 5, "doc": 2}}))
    assert docs(rig) == [(2, 5, "xxx")]
    assert rig.sql("SELECT * FROM notes") == [(5, 2)]


def test_keys_in_partitions_without_an_order_leave_nothing_behind(rig: Rig) -> None:
    """The new key's partition is read first, to its end; then the old key's, from its first record."""
    sink = process(rig)
    sink.apply_offsets.claim([Partition("docs", 1)], lambda partition: 0)
    _, _, reached = moved(1, 2, 5, "whole")
    gone = ("docs", {"id": 2}, {"op": "d", "before": {"id": 2}, "after": None}, (("__pycdc.before", b"id"),))
    sink.feed(reached, gone)
    made = ("docs", {"id": 1}, {"op": "c", "before": None, "after": {"id": 1, "n": 0, "body": "first"}})
    left, tombstone, _ = moved(1, 2, 5)
    sink.feed(made, left, tombstone)
    assert docs(rig) == []


def test_a_row_keeps_no_value_that_its_old_key_had_before_another_partition_was_read(rig: Rig) -> None:
    rig.sql("INSERT INTO docs VALUES (1, 1, 'old')")
    sink = process(rig, on_error="park")
    sink.apply_offsets.claim([Partition("docs", 1)], lambda partition: 0)
    left, tombstone, reached = moved(1, 2, 5)
    sink.feed(reached)
    sink.feed(
        ("docs", {"id": 1}, {"op": "u", "before": None, "after": {"id": 1, "n": 2, "body": "new"}}), left, tombstone
    )
    assert docs(rig) == []
    assert sink.progress.parked == {"RowMissing": 1}


def test_a_row_that_is_not_there_to_be_moved_is_never_made_up(rig: Rig) -> None:
    sink = process(rig, on_error="park")
    sink.feed(*moved(1, 2, 5), *moved(3, 4, 5, "whole"))
    assert docs(rig) == [(4, 5, "who")]
    assert sink.progress.parked == {"RowMissing": 1}


@pytest.mark.parametrize(
    "conflict",
    [
        "apply_remote",
        "keep_local",
        {"default": "apply_remote", "detect": "old_values"},
        {"default": "version", "version": "n"},
    ],
    ids=str,
)
def test_rows_are_moved_under_any_rule(rig: Rig, conflict: Any) -> None:
    sink = process(rig, route={"conflict": conflict})
    sink.feed(("docs", {"id": 1}, {"op": "c", "before": None, "after": {"id": 1, "n": 1, "body": BIG}}))
    sink.feed(*moved(1, 2, 5))
    assert docs(rig) == [(2, 5, "xxx")]


def test_a_key_that_is_only_written_in_another_way_is_that_of_the_same_row(rig: Rig) -> None:
    rig.sql(
        f"ALTER TABLE notes DROP doc; ALTER TABLE docs ALTER id TYPE numeric; INSERT INTO docs VALUES (1, 1, '{BIG}')"
    )
    process(rig).feed(*moved(1, Decimal("1.0").__float__(), 5))  # type: ignore[arg-type]
    assert docs(rig) == [(Decimal(1), 5, "xxx")]


@pytest.mark.parametrize("deletion", ["soft_delete", "ignore"])
def test_deletes_that_are_none_leave_the_row(rig: Rig, deletion: str) -> None:
    rig.sql(f"ALTER TABLE docs ADD gone bool; INSERT INTO docs VALUES (1, 1, '{BIG}')")
    soft = {"soft_delete": {"gone": True}} if deletion == "soft_delete" else {}
    process(rig, route={"on_delete": deletion, **soft}).feed(*moved(1, 2, 5, "whole"))
    assert docs(rig) == ([(2, 5, "who")] if soft else [(1, 1, "xxx"), (2, 5, "who")])


def test_an_insert_takes_the_row_that_was_moved(rig: Rig) -> None:
    sink = process(rig, route={"operation": "insert"})
    sink.feed(("docs", {"id": 1}, {"op": "c", "before": None, "after": {"id": 1, "n": 1, "body": BIG}}))
    sink.feed(*moved(1, 2, 5))
    sink.feed(*moved(2, 3, 6, "whole"))
    assert docs(rig) == [(3, 6, "who")]


# Keys of routes that are not the message key.

BY_CODE = {"key": {"code": "code"}, "set": {"n": "n"}}


@pytest.fixture
def coded(rig: Rig) -> Rig:
    rig.sql(
        "DROP TABLE notes; DROP TABLE docs; CREATE TABLE docs (code text PRIMARY KEY, n int, kept text DEFAULT 'k')"
    )
    rig.sql("INSERT INTO docs VALUES ('a', 1, 'mine'), ('b', 2, 'mine')")
    return rig


def by_code(rig: Rig, **options: Any) -> Process:
    return rig.process({"topic": "docs", "table": "docs", **BY_CODE, **options.pop("route", {})}, **options)


def update(before: Any, code: str, n: int) -> Any:
    return "docs", {"id": 1}, {"op": "u", "before": before, "after": {"id": 1, "code": code, "n": n}}


def test_an_update_that_changes_the_route_s_key_moves_the_row(coded: Rig) -> None:
    sink = by_code(coded)
    sink.feed(update({"id": 1, "code": "a", "n": 1}, "z", 5))
    assert coded.sql("SELECT * FROM docs ORDER BY 1") == [("b", 2, "mine"), ("z", 5, "mine")]
    sink = by_code(coded, wait_for_parents=0)
    with pytest.raises(ApplyError, match="its row gets a key that another row of the table has"):
        sink.feed(update({"id": 1, "code": "z", "n": 5}, "b", 6))
    assert coded.sql("SELECT * FROM docs ORDER BY 1") == [("b", 2, "mine"), ("z", 5, "mine")]


def test_an_update_that_may_have_changed_the_route_s_key_needs_its_row(coded: Rig) -> None:
    sink = by_code(coded)
    sink.feed(update(None, "a", 5))
    assert coded.sql("SELECT * FROM docs ORDER BY 1") == [("a", 5, "mine"), ("b", 2, "mine")]
    with pytest.raises(ApplyError, match="the row to be changed is not there"):
        sink.feed(update(None, "z", 5))
    made = "docs", {"id": 3}, {"op": "c", "before": None, "after": {"id": 3, "code": "c", "n": 3}}
    by_code(coded, on_error="park").feed(made)
    assert coded.sql("SELECT code FROM docs ORDER BY 1") == [("a",), ("b",), ("c",)]


def test_a_delete_is_refused_where_its_old_row_does_not_tell_the_route_s_key(coded: Rig) -> None:
    coded.sql("INSERT INTO docs VALUES ('', 0)")
    gone = {"op": "d", "before": {"id": 1, "code": "", "n": 0}, "after": None}
    with pytest.raises(ApplyError, match=r"does not tell field code.*REPLICA IDENTITY FULL"):
        by_code(coded).feed(("docs", {"id": 1}, gone))
    full = {"op": "d", "before": {"id": 1, "code": "a", "n": 0}, "after": None}
    by_code(coded, route={"replica_identity": "full"}).feed(("docs", {"id": 1}, full))
    assert coded.sql("SELECT code FROM docs ORDER BY 1") == [("",), ("b",)]


# What the header tells.

DATE = {"type": "int", "connect.name": "io.debezium.time.Date"}
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("int", b'{"k":9}', 9),
        ("string", b'{"k":"a \\"quoted\\" \\\\ line\n"}', 'a "quoted" \\ line\n'),
        (["null", "string"], b'{"k":null}', None),
        (DATE, b'{"k":19000}', "2022-01-08"),
        (MONEY, b'{"k":2.50}', Decimal("2.50")),
        ("bytes", b'{"k":"AP8="}', b"\0\xff"),
        ("int", b'{"schema":{"type":"struct"},"payload":{"k":9}}', 9),
    ],
    ids=str,
)
def test_the_other_key_is_read_as_the_message_key_is(kind: Any, text: bytes, value: Any) -> None:
    schema = {"type": "record", "name": "Key", "fields": [{"name": "k", "type": kind}]}
    assert other_key((("x", b""), ("__debezium.newkey", text)), schema) == {"k": value}


@pytest.mark.parametrize("text", [b"Struct{k=9}", b"\0\xff", b"[1]", b'{"other":1}', b'{"k":"!"}'])
def test_a_header_that_cannot_be_read_tells_nothing(text: bytes) -> None:
    schema = {"type": "record", "name": "Key", "fields": [{"name": "k", "type": "bytes"}]}
    assert other_key((("__debezium.oldkey", text),), schema) is None


def test_a_type_that_the_schema_of_the_key_names_again_is_the_one_that_it_wrote_out() -> None:
    scaled = {
        "type": "record",
        "name": "VariableScaleDecimal",
        "namespace": "io.debezium.data",
        "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
        "connect.name": "io.debezium.data.VariableScaleDecimal",
    }
    fields = [{"name": "a", "type": scaled}, {"name": "b", "type": "io.debezium.data.VariableScaleDecimal"}]
    text = b'{"a":{"scale":1,"value":"Dw=="},"b":{"scale":0,"value":"Bw=="}}'
    told = other_key((("__debezium.newkey", text),), {"type": "record", "name": "Key", "fields": fields})
    assert told == {"a": Decimal("1.5"), "b": Decimal(7)}


def test_the_other_key_beside_a_schema_is_read_by_it() -> None:
    kind = {"type": "int32", "optional": False, "name": "io.debezium.time.Date", "field": "k"}
    schema = {"type": "struct", "fields": [kind], "optional": False, "name": "t.Key"}
    key = json.dumps({"schema": schema, "payload": {"k": 1}}).encode()
    for header in ({"k": 2}, {"schema": schema, "payload": {"k": 2}}):
        headers = (("__debezium.newkey", json.dumps(header).encode()),)
        event = Decoder(None).event(Partition("docs", 0), 0, 0, key, None, headers)
        assert event.key == {"k": "1970-01-02"}
        assert event.other_key == {"k": "1970-01-03"}


UNREADABLE = [b"Struct{id=2}", b"\xff\xfe", b"", None, b"[2]", b'{"id":', b"\0\0\0\0\x09\x04"]


@pytest.mark.parametrize("told", UNREADABLE)
@pytest.mark.parametrize("name", ["__debezium.newkey", "__debezium.oldkey"])
def test_another_key_that_cannot_be_read_is_refused_by_name_and_nothing_is_lost(
    rig: Rig, name: str, told: bytes | None
) -> None:
    sink = process(rig)
    sink.feed(("docs", {"id": 1}, {"id": 1, "n": 1, "body": BIG}))
    rig.sql("INSERT INTO notes VALUES (7, 1)")
    records = [
        (*record[:3], tuple((known, told if known == name else value) for known, value in record[3]))
        for record in moved(1, 2, 5)
    ]
    with pytest.raises(ApplyError, match=r"cannot be read from header __debezium\.newkey"):
        sink.feed(*records)
    assert [n for _, n, _ in docs(rig)] == [1]
    assert rig.sql("SELECT * FROM notes") in ([(7, 1)], [(7, 2)])


def test_where_nothing_is_moved_another_key_may_be_anything(rig: Rig) -> None:
    sink = process(rig, route={"on_delete": "ignore"})
    header_ = (("__debezium.newkey", b"Struct{id=2}"),)
    sink.feed(("docs", {"id": 1}, {"id": 1, "n": 1, "body": "a"}), ("docs", {"id": 1}, None, header_))
    assert docs(rig) == [(1, 1, "a")]


CODES = {"topic": "codes", "table": "codes", "key": {"code": "code"}, "set": {"n": "n"}}
WHOLE = (("__pycdc.before", b"id,code,n"),)


def removed(number: int, code: str) -> list[Any]:
    """A delete of a source with REPLICA IDENTITY FULL, and its tombstone."""
    before = {"id": number, "code": code, "n": 1}
    record = ("codes", {"id": number}, {"op": "d", "before": before, "after": None}, WHOLE)
    return [record, ("codes", {"id": number}, None)]


def test_a_tombstone_behind_its_delete_need_not_tell_the_routes_key(rig: Rig) -> None:
    rig.sql("CREATE TABLE codes (code text PRIMARY KEY, n int); INSERT INTO codes VALUES ('a', 1), ('b', 2), ('1', 3)")
    codes = rig.process(CODES)
    assert codes.feed(*removed(1, "a"), ("codes", {"id": 3}, {"id": 3, "code": "c", "n": 3})) is None
    assert rig.sql("SELECT code FROM codes ORDER BY 1") == [("1",), ("b",), ("c",)]
    assert codes.progress.skipped == {("codes", "tombstone"): 1}
    for number, key in enumerate(({"id": 2}, 2)):
        delete, tombstone = ((topic, key, *rest) for topic, _, *rest in removed(2, "bc"[number]))
        assert codes.feed(delete, tombstone) is None
    assert rig.sql("SELECT code FROM codes ORDER BY 1") == [("1",)]
    delete, tombstone = ((topic, 1, *rest) for topic, _, *rest in removed(1, "x"))
    assert codes.feed(delete, tombstone) is None
    assert rig.sql("SELECT code FROM codes") == [("1",)], "the plain key is another field's"


def test_a_tombstone_that_stands_alone_and_does_not_tell_the_routes_key_is_refused(rig: Rig) -> None:
    rig.sql("CREATE TABLE codes (code text PRIMARY KEY, n int)")
    codes = rig.process(CODES)
    delete, tombstone = removed(1, "a")
    with pytest.raises(ApplyError, match=r"offset 0 .*does not tell the key column code"):
        codes.feed(tombstone)
    codes = rig.process(CODES)
    with pytest.raises(ApplyError, match=r"offset 2 .*does not tell the key column code"):
        codes.feed(delete, ("codes", {"id": 1}, {"id": 1, "code": "b", "n": 1}), tombstone)
    assert rig.sql("SELECT code FROM codes") == [("b",)]

"""The outbox router; tests/test_golden.py compares it with Debezium's."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pycdc.config import InvalidConfig, load_text
from pycdc.config.pipeline import require_capture
from pycdc.errors import ConfigError, ConversionError
from pycdc.model.change import Op, PgType, Run, Table
from pycdc.rows.tuples import ColumnBytes
from tests.serialization.runs import column, configured
from tests.serialization.streams import as_json, avro, run_of
from tests.test_docs import blocks
from tests.test_golden import record_until

CANARY = "canary/4711"
OUTBOX = Table(
    1,
    "public",
    "outbox",
    (
        column("id", "uuid", identity=True, nullable=False),
        column("aggregatetype", "text", nullable=False),
        column("aggregateid", "text", nullable=False),
        column("type", "text", nullable=False),
        column("payload", "jsonb"),
        column("at", "timestamptz"),
        column("local", "timestamp"),
        column("version", "int4"),
        column("slot", "int2"),
        column("price", PgType(0, "numeric", (10 << 16 | 2) + 4)),
        column("data", "bytea"),
    ),
    key=("id",),
)
OTHER = Table(2, "public", "items", (column("id", "int4", identity=True, nullable=False),), key=("id",))
NAMES = [one.name for one in OUTBOX.columns]
EVENT = {
    "id": b"0b1c",
    "aggregatetype": b"Order",
    "aggregateid": b"o-1",
    "type": b"OrderPlaced",
    "payload": b'{"id": 1}',
}


def row(**texts: ColumnBytes) -> list[ColumnBytes]:
    return [{**EVENT, **texts}.get(name) for name in NAMES]


def inserted(**texts: ColumnBytes) -> Run:
    return run_of(Op.CREATE, OUTBOX, row(**texts))


def only(records: list[Any]) -> Any:
    (found,) = records
    return found


def test_an_inserted_row_is_an_event_of_its_topic() -> None:
    topic, record = only(avro(configured(outbox={}), inserted()))
    assert topic == "outbox.event.Order"
    assert record["key"] == "o-1"
    assert record["value"] == '{"id": 1}'
    assert record["headers"] == [("id", b"0b1c")]
    assert "timestamp" not in record


def test_rows_that_a_snapshot_reads_are_events_too() -> None:
    assert only(avro(configured(outbox={}), run_of(Op.READ, OUTBOX, row())))[1]["value"] == '{"id": 1}'


def test_deletes_and_truncates_are_left_out() -> None:
    settings = configured(outbox={}, envelope={"skip": []})
    gone: list[ColumnBytes] = [b"0b1c", *[None] * (len(NAMES) - 1)]
    assert avro(settings, run_of(Op.DELETE, OUTBOX, gone), run_of(Op.TRUNCATE, OUTBOX, [])) == []


def test_other_tables_are_as_without_an_outbox() -> None:
    settings = configured(outbox={"topic": "shop.public.items"})
    plain = run_of(Op.CREATE, OTHER, [b"1"])
    records = avro(settings, plain, inserted(), plain)
    assert {topic for topic, _ in records} == {"shop.public.items"}
    assert [record["key"] for _, record in records] == [{"id": 1}, "o-1", {"id": 1}]
    assert records[0][1]["value"]["after"] == {"id": 1}


def test_tables_are_chosen_by_pattern() -> None:
    assert only(avro(configured(outbox={"table": "public.out*"}), inserted()))[0] == "outbox.event.Order"
    assert only(avro(configured(outbox={"table": "sales.outbox"}), inserted()))[0] == "shop.public.outbox"


@pytest.mark.parametrize("texts", [{"id": b"9"}, {"type": b"x"}])
def test_an_update_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture, texts: dict[str, ColumnBytes]) -> None:
    old: list[ColumnBytes] = [b"0b1c", *[None] * (len(NAMES) - 1)]
    with caplog.at_level(logging.WARNING):
        assert avro(configured(outbox={}), run_of(Op.UPDATE, OUTBOX, row(**texts), old=[old])) == []
    assert "left out updates of outbox table public.outbox at position 16/B374D848: 1" in caplog.text


def test_an_update_stops_where_that_was_chosen() -> None:
    with pytest.raises(ConversionError, match="an update is no event") as caught:
        avro(configured(outbox={"updates": "stop"}), run_of(Op.UPDATE, OUTBOX, row(type=CANARY.encode())))
    assert "16/B374D848" in caught.value.fact
    assert CANARY not in str(caught.value)


# Topics


@pytest.mark.parametrize(
    ("options", "route", "topic"),
    [
        ({"topic": "events"}, b"Order", "events"),
        ({"topic": "{route}-events"}, b"Order", "Order-events"),
        ({"route": "type"}, b"Order", "outbox.event.OrderPlaced"),
        ({"route_pattern": r"(?P<team>\w+)/(?P<kind>\w+)", "topic": "{team}.{kind}"}, b"sales/Order", "sales.Order"),
        ({"route_pattern": r"(?P<team>\w+)/.*", "topic": "{team}"}, b"Order", "Order"),
        ({"route_pattern": r"(?P<team>\w+)(?:/(?P<kind>\w+))?", "topic": "{team}.{kind}x"}, b"sales", "sales.x"),
    ],
)
def test_the_topic_follows_from_the_route(options: dict[str, Any], route: bytes, topic: str) -> None:
    assert only(avro(configured(outbox=options), inserted(aggregatetype=route)))[0] == topic


@pytest.mark.parametrize("route", [CANARY.encode(), b"\xc3\xa4" + CANARY.encode(), b"", CANARY.encode() + b"x" * 300])
def test_a_route_that_makes_no_topic_is_an_error_that_finds_the_row_without_its_values(route: bytes) -> None:
    run = run_of(Op.CREATE, OUTBOX, row(), row(aggregatetype=route, id=CANARY.encode()))
    with pytest.raises(ConversionError) as caught:
        avro(configured(outbox={}), run)
    assert "column 'aggregatetype' of outbox table public.outbox" in caught.value.fact
    assert "position 16/B374D848+1 (key of the row: 'id'" in caught.value.fact
    assert "route_pattern" in caught.value.hint
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("topic", [".", ".."])
def test_dots_alone_are_no_topic(topic: str) -> None:
    with pytest.raises(ConversionError, match="no topic name"):
        avro(configured(outbox={"topic": "{route}"}), inserted(aggregatetype=topic.encode()))


# Keys, payloads, envelopes


def test_a_key_that_is_null_or_not_wanted_is_null() -> None:
    assert only(avro(configured(outbox={"key": None}), inserted()))[1]["key"] is None
    nullable = Table(3, "public", "outbox", (*OUTBOX.columns, column("k", "text")), key=("id",))
    run = run_of(Op.CREATE, nullable, [*row(), None], [*row(), b"k"])
    assert [record["key"] for _, record in avro(configured(outbox={"key": "k"}), run)] == [None, "k"]


@pytest.mark.parametrize("payload", [None, b"", b" \n"])
def test_an_empty_payload_is_a_null_value_where_that_was_chosen(payload: ColumnBytes) -> None:
    settings = configured(outbox={"tombstone_on_empty_payload": True})
    for read in (avro, as_json):
        assert only(read(settings, inserted(payload=payload)))[1]["value"] is None


def test_a_null_payload_in_json_is_the_text_null_unless_it_is_to_be_a_tombstone() -> None:
    assert only(as_json(configured(outbox={}), inserted(payload=None)))[1]["value"] == "null"


def test_a_payload_of_bytes_stays_bytes() -> None:
    record = only(avro(configured(outbox={"payload": "data"}), inserted(data=b"\\x00ff")))[1]
    assert record["value"] == {"bytes": "00ff"}


ENVELOPE = [{"column": "type", "to": "envelope", "name": "kind"}, {"column": "price", "to": "envelope"}]


def test_further_columns_make_the_value_a_record_named_by_route_and_version() -> None:
    settings = configured(outbox={"additional": ENVELOPE, "schema_version": "version"})
    run = run_of(Op.CREATE, OUTBOX, row(version=b"3", price=b"1.50"), row(version=b"4"), row(aggregatetype=b"Customer"))
    records = [record for _, record in avro(settings, run)]
    assert records[0]["value"] == {"payload": '{"id": 1}', "kind": "OrderPlaced", "price": {"bytes": "0096"}}
    schemas = [json.loads(record["value_schema"]) for record in records]
    assert [schema.get("connect.version") for schema in schemas] == [3, 4, None]
    assert [schema["connect.name"] for schema in schemas] == [
        "shop.public.outbox.Order.Value",
        "shop.public.outbox.Order.Value",
        "shop.public.outbox.Customer.Value",
    ]


def test_json_says_the_same() -> None:
    settings = configured(outbox={"additional": ENVELOPE})
    topic, record = only(as_json(settings, inserted()))
    assert (topic, record["key"]) == ("outbox.event.Order", "o-1")
    assert record["value"] == {"payload": '{"id": 1}', "kind": "OrderPlaced", "price": None}


@pytest.mark.parametrize("name", ["payload", "price"])
def test_two_fields_of_one_name_are_refused(name: str) -> None:
    settings = configured(outbox={"additional": [*ENVELOPE, {"column": "slot", "to": "envelope", "name": name}]})
    with pytest.raises(ConfigError, match=f"two fields '{name}'"):
        avro(settings, inserted())


# Headers, partition, timestamp


def test_headers_are_the_text_of_their_columns() -> None:
    names = ["type", "version", "price", "data", "at"]
    settings = configured(
        outbox={"additional": [{"column": name, "to": "header", "name": f"x-{name}"} for name in names]},
        envelope={"context_headers": True},
    )
    record = only(avro(settings, inserted(version=b"3", price=b"-12.50", data=b"\\x00ff")))[1]
    assert [name for name, _ in record["headers"][:3]] == [
        "__debezium.context.connectorLogicalName",
        "__debezium.context.taskId",
        "__debezium.context.connectorName",
    ]
    assert record["headers"][3:] == [
        ("id", b"0b1c"),
        ("x-type", b"OrderPlaced"),
        ("x-version", b"3"),
        ("x-price", b"-12.50"),
        ("x-data", b"AP8="),
        ("x-at", None),
    ]


def test_a_column_chooses_the_partition() -> None:
    settings = configured(outbox={"additional": [{"column": "slot", "to": "partition"}]})
    assert only(avro(settings, inserted(slot=b"2")))[1]["partition"] == 2
    assert "partition" not in only(avro(settings, inserted(slot=None)))[1]
    with pytest.raises(ConversionError, match=r"column 'slot' .* negative"):
        avro(settings, inserted(slot=b"-2"))


@pytest.mark.parametrize(
    ("name", "text", "millis"),
    [
        ("at", b"2026-11-21 10:00:00.123456+00", 1_795_255_200_123),
        ("local", b"2026-11-21 10:00:00.123456", 1_795_255_200_123),
        ("at", None, None),
    ],
)
def test_a_column_with_or_without_time_zone_is_the_records_timestamp(
    name: str, text: ColumnBytes, millis: int | None
) -> None:
    assert only(avro(configured(outbox={"timestamp": name}), inserted(**{name: text})))[1].get("timestamp") == millis


@pytest.mark.parametrize("text", [b"infinity", b"-infinity", b"1969-12-31 23:59:59+00", b"0044-03-15 00:00:00+00 BC"])
def test_a_time_that_no_record_can_have_is_an_error_that_finds_the_row(text: bytes) -> None:
    with pytest.raises(ConversionError, match=r"column 'at' .* position 16/B374D848 \(key of the row: 'id'"):
        avro(configured(outbox={"timestamp": "at"}), inserted(at=text))


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"payload": "body"}, "has no column 'body'"),
        ({"additional": [{"column": "nope", "to": "header"}]}, "has no column 'nope'"),
        ({"route": "version"}, "'version' .* is of type int4, not text"),
        ({"timestamp": "type"}, "'type' .* is of type text, not a timestamp"),
        ({"schema_version": "type"}, "'type' .* is of type text, not an integer"),
        ({"additional": [{"column": "type", "to": "partition"}]}, "'type' .* not an integer"),
    ],
)
def test_columns_that_cannot_have_their_role_are_refused(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(ConfigError, match=fact):
        avro(configured(outbox=options), inserted())


def test_a_table_that_changes_is_looked_at_again() -> None:
    """ALTER TABLE … RENAME brings a new version of the table, whose columns have other places."""
    turned = Table(1, "public", "outbox", tuple(reversed(OUTBOX.columns)), key=("id",))
    records = avro(configured(outbox={}), inserted(), run_of(Op.CREATE, turned, list(reversed(row()))))
    assert [record["value"] for _, record in records] == ['{"id": 1}'] * 2


def test_events_of_an_outbox_count_in_their_transaction() -> None:
    settings = configured(outbox={}, envelope={"transaction_metadata": True})
    records = avro(settings, run_of(Op.CREATE, OUTBOX, row(), row()), run_of(Op.CREATE, OTHER, [b"1"]))
    assert records[-1][1]["value"]["transaction"]["total_order"] == 3


# Expanded payloads


def test_an_expanded_payload_has_a_schema_of_its_own() -> None:
    settings = configured(outbox={"expand_json_payload": True})
    run = inserted(payload=b'{"id": 1, "total": 12.50, "lines": [{"sku": "a"}, {"sku": "b", "qty": 2}], "n": null}')
    record = only(avro(settings, run))[1]
    assert record["value"] == {"id": 1, "total": 12.5, "lines": [{"sku": "a", "qty": None}, {"sku": "b", "qty": 2}]}
    assert json.loads(record["value_schema"])[1]["connect.name"] == "payload"
    assert only(as_json(settings, run))[1]["value"]["total"] == 12.5


def test_an_expanded_payload_stands_in_an_envelope_too() -> None:
    settings = configured(outbox={"expand_json_payload": True, "additional": ENVELOPE[:1]})
    assert only(avro(settings, inserted()))[1]["value"] == {"payload": {"id": 1}, "kind": "OrderPlaced"}


@pytest.mark.parametrize("payload", [b'"text"', b"12", b'[1, "a"]', b'{"n": 99999999999999999999}', b"[]"])
def test_a_payload_without_a_schema_is_written_as_it_is(caplog: pytest.LogCaptureFixture, payload: bytes) -> None:
    settings = configured(outbox={"expand_json_payload": True})
    with caplog.at_level(logging.WARNING):
        records = avro(settings, inserted(payload=payload), inserted(payload=payload))
    assert [record["value"] for _, record in records] == [payload.decode()] * 2
    assert len(caplog.records) == 1
    assert "public.outbox" in caplog.text


# Documentation


@pytest.mark.pg("newest")
def test_the_example_of_the_documentation_gives_the_record_it_shows(database: str, tmp_path: Path) -> None:
    table, event = (block.text for block in blocks("sql", page="docs/outbox.md")[:2])
    expected = json.loads(blocks("json", page="docs/outbox.md")[0].text)
    options = yaml.safe_load(blocks("yaml", page="docs/outbox.md")[0].text)["outbox"]
    settings = configured(source={"postgres": {"dsn": database, "snapshot": "never"}}, outbox=options)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(table.encode())
    (tmp_path / "event.sql").write_text(event)
    record = only(record_until(settings, database, str(tmp_path / "event.sql"), bool))
    found = {"topic": record.topic, "key": record.key, "headers": dict(record.headers), "value": record.value}
    assert found == expected


# Configuration

HEAD = "name: shop\nsource: {postgres: {dsn: x}}\n"


def test_the_section_alone_chooses_the_defaults() -> None:
    loaded = require_capture(load_text(HEAD + "sink: {console: }\noutbox:\n"))
    assert loaded.outbox is not None
    assert loaded.outbox.table == "outbox"


@pytest.mark.parametrize(
    "options",
    [
        {"topic": "{other}"},
        {"topic": "{route.__class__}"},
        {"topic": "{}"},
        {"topic": "{route"},
        {"topic": "{route:{route}}"},
        {"topic": "{team}", "route_pattern": "(?P<kind>.*)"},
        {"route_pattern": "("},
        {"additional": [{"column": "a", "to": "nowhere"}]},
    ],
)
def test_mistakes_are_found_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="outbox"):
        configured(outbox=options)


def test_subjects_by_record_name_are_refused_because_keys_have_none() -> None:
    kafka = "sink: {kafka: {brokers: 'b:1', registry: {url: 'http://r', subjects: record}}}\n"
    with pytest.raises(InvalidConfig, match=r"sink\.kafka\.registry\.subjects: topic"):
        load_text(HEAD + kafka + "outbox:\n")

"""The schemas' text is Debezium's to the letter: a registry tells schemas apart by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pycdc.config.values import CompatibilityConfig, TableRule, ValuesConfig
from pycdc.errors import ConfigError
from pycdc.model.change import PgType, Table
from pycdc.rows.plan import plan_table
from pycdc.rows.schema import Schema, avro_text
from pycdc.serialization import envelope
from tests.serialization.runs import ID, LOG, column

GOLDEN = Path(__file__).parents[1] / "golden"
ORDERS = Table(
    1,
    "public",
    "orders",
    (
        column("id", "int4", nullable=False, identity=True, default="nextval('orders_id_seq'::regclass)"),
        column("name"),
        column("status", default="'new'::text"),
        column("qty", "int2"),
        column("amount", PgType(0, "numeric", (10 << 16 | 2) + 4)),
        column("rate", "numeric"),
        column("created_at", "timestamp", nullable=False, default="now()"),
        column("updated_at", "timestamptz"),
        column("doc", "jsonb"),
        column("tags", PgType(0, "_text", element=PgType(0, "text"))),
    ),
    ("id",),
)
KEY = """{"type":"record","name":"Key","namespace":"app.public.orders","fields":[{"name":"id","type":{"type":"int",\
"connect.default":0},"default":0}],"connect.name":"app.public.orders.Key"}"""
ROW = """{"type":"record","name":"Value","fields":[{"name":"id","type":{"type":"int","connect.default":0},"default":0},\
{"name":"name","type":["null","string"],"default":null},{"name":"status","type":[{"type":"string","connect.default":"new"},\
"null"],"default":"new"},{"name":"qty","type":["null",{"type":"int","connect.type":"int16"}],"default":null},\
{"name":"amount","type":["null",{"type":"bytes","scale":2,"precision":10,"connect.version":1,"connect.parameters":\
{"scale":"2","connect.decimal.precision":"10"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":\
"decimal"}],"default":null},{"name":"rate","type":["null",{"type":"record","name":"VariableScaleDecimal","namespace":\
"io.debezium.data","fields":[{"name":"scale","type":"int"},{"name":"value","type":"bytes"}],"connect.doc":\
"Variable scaled decimal","connect.version":1,"connect.name":"io.debezium.data.VariableScaleDecimal"}],"default":null},\
{"name":"created_at","type":{"type":"long","connect.version":1,"connect.default":0,"connect.name":\
"io.debezium.time.MicroTimestamp"},"default":0},{"name":"updated_at","type":["null",{"type":"string","connect.version":1,\
"connect.name":"io.debezium.time.ZonedTimestamp"}],"default":null},{"name":"doc","type":["null",{"type":"string",\
"connect.version":1,"connect.name":"io.debezium.data.Json"}],"default":null},{"name":"tags","type":["null",{"type":\
"array","items":["null","string"]}],"default":null}],"connect.name":"app.public.orders.Value"}"""
SPECIAL = [
    envelope.MESSAGE_KEY,
    envelope.MESSAGE_VALUE,
    envelope.TRANSACTION_KEY,
    envelope.TRANSACTION_VALUE,
    envelope.HEARTBEAT_KEY,
    envelope.HEARTBEAT_VALUE,
]


def schemas(table: Table, rule: TableRule | None = None, *, adjust: bool = True) -> tuple[Schema | None, Schema]:
    plan = plan_table(table, [] if rule is None else [rule], ValuesConfig(), CompatibilityConfig())
    return envelope.key_schema(plan, "app", adjust=adjust), envelope.envelope_schema(plan, "app", adjust=adjust)


def test_key_and_row_of_a_table_have_debezium_s_text() -> None:
    key, value = schemas(ORDERS)
    assert key is not None
    assert avro_text(key) == KEY
    head = (
        '{"type":"record","name":"Envelope","namespace":"app.public.orders","fields":[{"name":"before","type":["null",'
    )
    assert avro_text(value).startswith(head + ROW + '],"default":null},{"name":"after","type":["null","Value"]')


def test_the_fields_of_the_envelope_are_in_debezium_s_order() -> None:
    _, value = schemas(ORDERS)
    assert [name for name, _ in value.fields] == [
        *("before", "after", "source", "transaction", "op"),
        *("ts_ms", "ts_us", "ts_ns"),
    ]
    assert (value.name, value.version, value.optional) == ("app.public.orders.Envelope", 2, False)


def recorded_texts() -> set[str]:
    found = json.loads((GOLDEN / "3.6" / "stream.schemas.json").read_text()).values()
    loaded = [json.loads(schema) if isinstance(schema, str) else schema for schema in found]
    return {json.dumps(schema, separators=(",", ":"), ensure_ascii=False) for schema in loaded}


@pytest.mark.parametrize("schema", [envelope.MESSAGE_KEY, envelope.MESSAGE_VALUE])
def test_logical_messages_have_the_recorded_schemas(schema: Schema) -> None:
    assert avro_text(schema) in recorded_texts()


@pytest.mark.parametrize("schema", SPECIAL, ids=lambda schema: str(schema.name))
def test_every_named_schema_carries_its_name_and_version_one(schema: Schema) -> None:
    avro: dict[str, Any] = json.loads(avro_text(schema))
    assert avro["connect.version"] == 1
    assert avro["connect.name"] == schema.name == f"{avro['namespace']}.{avro['name']}"


def test_a_table_without_a_key_has_no_key_schema() -> None:
    assert schemas(LOG)[0] is None


def test_odd_names_are_adjusted_or_kept() -> None:
    table = Table(1, "Odd Schema", "Ta-ble", (column("we ird", identity=True, nullable=False),), ("we ird",))
    key, value = schemas(table)
    assert key is not None
    assert (key.name, key.fields[0][0]) == ("app.Odd_Schema.Ta_ble.Key", "we_ird")
    assert value.name == "app.Odd_Schema.Ta_ble.Envelope"
    key, value = schemas(table, adjust=False)
    assert key is not None
    assert (key.name, key.fields[0][0]) == ("app.Odd_Schema.Ta-ble.Key", "we ird")


COLLIDING = Table(1, "public", "t", (ID, column("a b"), column("a-b")), ("id",))


@pytest.mark.parametrize(
    ("table", "rule", "adjust"),
    [
        (COLLIDING, TableRule(), True),
        (COLLIDING, TableRule(rename={"a b": "x", "a-b": "x"}), False),
        (COLLIDING, TableRule(rename={"a b": "id"}), False),
        (Table(1, "public", "t", (column("a b"), column("a-b")), ("a b", "a-b")), TableRule(), True),
    ],
)
def test_two_columns_that_would_be_one_field_are_refused(table: Table, rule: TableRule, adjust: bool) -> None:
    with pytest.raises(ConfigError, match=r"columns .*'a b'.* of table public\.t would both be field") as error:
        schemas(table, rule, adjust=adjust)
    assert "rules[].rename" in error.value.hint


def test_a_new_name_or_leaving_one_out_settles_a_collision() -> None:
    schemas(COLLIDING, TableRule(rename={"a-b": "c"}))
    schemas(COLLIDING, TableRule(exclude_columns=["a-b"]))
    schemas(COLLIDING, adjust=False)

"""From a real Postgres to a real Kafka with a real registry, read as a consumer reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from confluent_kafka.schema_registry import SchemaRegistryClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pycdc import EnvironmentNotReady, SchemaIncompatible
from pycdc.cli import main as pycdc_command
from tests.running import Record, Running, TopicReader, rows

ORDERS = """
CREATE TABLE orders (id int PRIMARY KEY, note text, big text);
ALTER TABLE orders ALTER big SET STORAGE EXTERNAL;
"""
LONG = "x" * 9000

newest = pytest.mark.pg("newest")
"""For what no version of Postgres does differently."""


class Shop:
    """A database, a broker, a registry and a prefix of their own."""

    def __init__(self, dsn: str, brokers: str, registry: str, name: str) -> None:
        self.dsn, self.brokers, self.name = dsn, brokers, name
        self.registry = SchemaRegistryClient({"url": registry})
        self._url = registry
        self.reader = TopicReader(brokers, registry)

    def execute(self, statement: str, *, dsn: str | None = None) -> list[Any]:
        with psycopg.connect(dsn or self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def document(self, **sections: Any) -> dict[str, Any]:
        source = {"dsn": self.dsn, **sections.pop("source", {})}
        registry = {"url": self._url, **sections.pop("registry", {})}
        kafka = {"brokers": self.brokers, "registry": registry, **sections.pop("kafka", {})}
        return {
            "name": self.name,
            "source": {"postgres": source},
            "sink": {"kafka": kafka},
            "checkpoint": {"interval": 0.05},
            "http": {"enabled": False},
            **sections,
        }

    def run(self, **sections: Any) -> Running:
        return Running(self.document(**sections))

    def topic(self, table: str) -> str:
        return f"{self.name}.{table}"

    def read(self, table: str = "public.orders") -> list[Record]:
        return self.reader.read(self.topic(table))

    def await_rows(self, pipeline: Running, count: int, table: str = "public.orders") -> list[Record]:
        """Records of the table's topic, once there are as many."""
        pipeline.until(lambda: sum(1 for _ in self.reader.messages(self.topic(table))) >= count)
        return self.read(table)

    def versions(self, subject: str) -> list[int]:
        return list(self.registry.get_versions(subject))

    def close(self) -> None:
        self.reader.close()
        self.registry.close()


@pytest.fixture
def shop(database: str, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Shop]:
    with closing(Shop(database, kafka.bootstrap, registry.url, topic_prefix)) as shop:
        yield shop


@pytest.fixture
def orders(shop: Shop) -> Shop:
    """The shop with the table of orders, which has one row."""
    shop.execute(ORDERS)
    shop.execute(f"INSERT INTO orders VALUES (1, 'first', '{LONG}')")
    return shop


# -- events


def test_each_kind_of_change_arrives_as_debezium_writes_it(orders: Shop) -> None:
    with orders.run(envelope={"skip": []}) as pipeline:
        pipeline.until_streaming()
        orders.execute("INSERT INTO orders VALUES (2, 'second', NULL)")
        orders.execute("UPDATE orders SET note = 'changed' WHERE id = 1")
        orders.execute("UPDATE orders SET id = 3 WHERE id = 2")
        orders.execute("DELETE FROM orders WHERE id = 3")
        orders.execute("TRUNCATE orders")
        orders.execute("SELECT pg_logical_emit_message(true, 'audit', 'hello')")
        records = orders.await_rows(pipeline, 9)
        (message,) = orders.await_rows(pipeline, 1, "message")
    told = [(record.key and record.key["id"], record.value and record.value["op"]) for record in records]
    assert told == [(1, "r"), (2, "c"), (1, "u"), (2, "d"), (2, None), (3, "c"), (3, "d"), (3, None), (None, "t")]
    assert records[0].value["after"] == {"id": 1, "note": "first", "big": LONG}
    assert records[2].value["after"] == {"id": 1, "note": "changed", "big": "__debezium_unavailable_value"}
    assert records[3].headers["__debezium.newkey"] == b'{"id":3}'
    assert records[5].headers["__debezium.oldkey"] == b'{"id":2}'
    assert records[0].value["source"]["snapshot"] == "last"
    assert records[1].value["source"]["schema"] == "public"
    assert message.key == {"prefix": "audit"}
    assert message.value["message"] == {"prefix": "audit", "content": b"hello"}


@newest
def test_an_outbox_of_logical_messages_tells_what_was_committed(orders: Shop) -> None:
    event = {"aggregatetype": "Order", "aggregateid": "o-1", "type": "OrderPlaced", "payload": {"total": 12}}
    emit = "SELECT pg_logical_emit_message(true, 'outbox', '{}')"
    topic = f"{orders.name}.Order"
    with orders.run(outbox={"messages": "outbox", "topic": f"{orders.name}.{{route}}"}) as pipeline:
        pipeline.until_streaming()
        orders.execute("BEGIN; " + emit.format(json.dumps({**event, "id": "never"})) + "; ROLLBACK")
        orders.execute(emit.format("no event"))
        orders.execute(
            emit.format(json.dumps({**event, "id": "e-1", "correlation_id": "saga-1", "causation_id": "e-0"}))
        )
        pipeline.until(lambda: orders.reader.messages(topic))
    (record,) = orders.reader.read(topic)
    assert (record.key, json.loads(record.value)) == ("o-1", {"total": 12})
    ids = {"id": b"e-1", "correlation_id": b"saga-1", "causation_id": b"e-0"}
    assert record.headers == {**ids, "type": b"OrderPlaced"}
    (dead,) = orders.reader.messages(f"{orders.name}.dead-letter")
    assert dead.value() == b"no event"


@newest
def test_a_table_without_a_key_has_null_keys_and_one_with_a_composite_key_keeps_its_order(shop: Shop) -> None:
    shop.execute("CREATE TABLE log (a int, b text)")
    shop.execute("CREATE TABLE lines (a int, b text, c int, PRIMARY KEY (c, a))")
    shop.execute("INSERT INTO log VALUES (1, 'x')")
    shop.execute("INSERT INTO lines VALUES (1, 'x', 3)")
    with shop.run() as pipeline:
        (log,) = shop.await_rows(pipeline, 1, "public.log")
        (line,) = shop.await_rows(pipeline, 1, "public.lines")
    assert (log.key, log.value["after"]) == (None, {"a": 1, "b": "x"})
    assert list(line.key.items()) == [("c", 3), ("a", 1)]


@newest
def test_transaction_metadata_counts_and_orders_the_events(orders: Shop) -> None:
    orders.execute("CREATE TABLE other (id int PRIMARY KEY)")
    with orders.run(envelope={"transaction_metadata": True}) as pipeline:
        pipeline.until_streaming()
        orders.execute("BEGIN; INSERT INTO orders VALUES (2), (3); INSERT INTO other VALUES (1); COMMIT")
        begin, end = orders.await_rows(pipeline, 2, "transaction")
        events = orders.await_rows(pipeline, 3)[1:]
        (other,) = orders.await_rows(pipeline, 1, "public.other")
    assert (begin.value["status"], begin.value["event_count"]) == ("BEGIN", None)
    assert (end.value["status"], end.value["event_count"]) == ("END", 3)
    assert end.value["data_collections"] == [
        {"data_collection": "public.orders", "event_count": 2},
        {"data_collection": "public.other", "event_count": 1},
    ]
    blocks = [record.value["transaction"] for record in (*events, other)]
    assert {block["id"] for block in blocks} == {begin.value["id"]} == {end.key["id"]}
    assert [(block["total_order"], block["data_collection_order"]) for block in blocks] == [(1, 1), (2, 2), (3, 1)]


@newest
def test_heartbeats_come_while_nothing_happens(orders: Shop) -> None:
    with orders.run(envelope={"heartbeat_interval": 0.1}) as pipeline:
        topic = f"__debezium-heartbeat.{orders.name}"
        pipeline.until(lambda: len(orders.reader.messages(topic)) >= 3)
        beats = orders.reader.read(topic)
    assert {beat.key["serverName"] for beat in beats} == {orders.name}
    times = [beat.value["ts_ms"] for beat in beats]
    assert times == sorted(set(times))


@newest
@pytest.mark.parametrize("form", ["json", "json_schema"])
def test_json_is_debeziums_with_and_without_its_schema(orders: Shop, form: str) -> None:
    with orders.run(kafka={"format": form, "registry": None}) as pipeline:
        pipeline.until_streaming()
        orders.execute("UPDATE orders SET note = 'ü' WHERE id = 1")
        pipeline.until(lambda: len(orders.reader.messages(orders.topic("public.orders"))) == 2)
    messages = orders.reader.messages(orders.topic("public.orders"))
    read, updated = [[json.loads(message.key()), json.loads(message.value())] for message in messages]
    if form == "json_schema":
        key_schema, value_schema = read[0]["schema"], updated[1]["schema"]
        assert key_schema["fields"] == [{"type": "int32", "optional": False, "field": "id"}]
        assert value_schema["name"] == f"{orders.name}.public.orders.Envelope"
        read, updated = [[part["payload"] for part in pair] for pair in (read, updated)]
    assert read[0] == {"id": 1}
    assert (read[1]["op"], read[1]["after"]) == ("r", {"id": 1, "note": "first", "big": LONG})
    assert (updated[1]["op"], updated[1]["after"]["note"]) == ("u", "ü")


# -- schemas


@newest
def test_schema_ids_stay_over_restarts(orders: Shop) -> None:
    for number in (2, 3):
        with orders.run() as pipeline:
            pipeline.until_streaming()
            orders.execute(f"INSERT INTO orders VALUES ({number})")
            orders.await_rows(pipeline, number)
    records = orders.read()
    assert [record.key["id"] for record in records] == [1, 2, 3]
    assert len({record.schema_id for record in records}) == 1
    for part in ("key", "value"):
        assert orders.versions(f"{orders.topic('public.orders')}-{part}") == [1]


@newest
def test_a_column_added_while_streaming_makes_a_version_and_rows_carry_their_own(orders: Shop) -> None:
    with orders.run() as pipeline:
        pipeline.until_streaming()
        orders.execute("INSERT INTO orders VALUES (2)")
        orders.execute("ALTER TABLE orders ADD price numeric(8,2) DEFAULT 1.50")
        orders.execute("INSERT INTO orders (id) VALUES (3)")
        orders.execute("UPDATE orders SET note = 'x' WHERE id = 2")
        orders.execute("ALTER TABLE orders DROP price")
        orders.execute("INSERT INTO orders VALUES (4)")
        records = orders.await_rows(pipeline, 5)
    ids = [record.schema_id for record in records]
    assert ids[0] == ids[1] == ids[4] != ids[2] == ids[3]
    assert [sorted(record.value["after"]) for record in records] == [
        ["big", "id", "note"],
        ["big", "id", "note"],
        ["big", "id", "note", "price"],
        ["big", "id", "note", "price"],
        ["big", "id", "note"],
    ]
    assert str(records[2].value["after"]["price"]) == "1.50"
    assert orders.versions(f"{orders.topic('public.orders')}-value") == [1, 2]


@newest
def test_an_incompatible_schema_stops_with_the_difference_and_nothing_is_lost(orders: Shop, tmp_path: Path) -> None:
    subject = f"{orders.topic('public.orders')}-value"
    with orders.run() as pipeline:
        pipeline.until_streaming()
        orders.execute("ALTER TABLE orders ADD quantity int")
        orders.execute("INSERT INTO orders VALUES (2, NULL, NULL, 20)")
        orders.await_rows(pipeline, 2)
    orders.registry.set_compatibility(subject, "BACKWARD")
    orders.execute("INSERT INTO orders VALUES (3, NULL, NULL, 30)")
    orders.execute("ALTER TABLE orders ALTER quantity TYPE text")
    orders.execute("INSERT INTO orders VALUES (4, NULL, NULL, 'forty')")
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(orders.document()))
    result = CliRunner().invoke(pycdc_command, ["run", "--no-live", str(path)])
    assert result.exit_code == 5
    assert f"refuses the new schema of {subject}" in result.output
    assert "before.quantity: optional int became optional string" in result.output
    assert f"/config/{subject}" in result.output
    with pytest.raises(SchemaIncompatible), orders.run() as pipeline:
        raise pipeline.failure()
    orders.registry.set_compatibility(subject, "NONE")
    with orders.run() as pipeline:
        pipeline.until(lambda: any(r.key["id"] == 4 for r in orders.read()))
    quantities = {record.key["id"]: record.value["after"].get("quantity") for record in orders.read()}
    assert quantities == {1: None, 2: 20, 3: 30, 4: "forty"}


@newest
def test_schemas_that_may_not_be_registered_must_be_there(orders: Shop) -> None:
    with orders.run(registry={"register_schemas": False}) as pipeline:
        error = pipeline.failure()
    assert isinstance(error, EnvironmentNotReady)
    assert f"{orders.topic('public.orders')}-" in error.fact
    with orders.run() as pipeline:
        orders.await_rows(pipeline, 1)
    orders.execute("INSERT INTO orders VALUES (2)")
    with orders.run(registry={"register_schemas": False}) as pipeline:
        assert len(orders.await_rows(pipeline, 2)) == 2


# -- topics


def murmur2(data: bytes) -> int:
    """Austin Appleby's MurmurHash2 with the seed of Kafka's Java client, as an unsigned 32-bit integer."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@newest
def test_keys_choose_partitions_as_javas_clients_do(orders: Shop) -> None:
    orders.execute("INSERT INTO orders SELECT i FROM generate_series(2, 200) AS i")
    topics = {"partitions": 3, "settings": {"cleanup.policy": "compact", "max.message.bytes": "2000000"}}
    with orders.run(kafka={"topics": topics}) as pipeline:
        pipeline.until_streaming()
        orders.execute("UPDATE orders SET note = 'x' WHERE id <= 20")
        orders.execute("DELETE FROM orders WHERE id > 190")
        records = orders.await_rows(pipeline, 200 + 20 + 20)
    for record in records:
        assert record.raw_key is not None
        assert record.partition == (murmur2(record.raw_key) & 0x7FFFFFFF) % 3
    assert {record.partition for record in records} == {0, 1, 2}
    resource = ConfigResource(ResourceType.TOPIC, orders.topic("public.orders"))
    admin = AdminClient({"bootstrap.servers": orders.brokers})
    settings = admin.describe_configs([resource])[resource].result()
    assert settings["cleanup.policy"].value == "compact"
    assert settings["max.message.bytes"].value == "2000000"


@newest
def test_a_topic_that_may_not_be_created_is_named_with_its_command(orders: Shop) -> None:
    with orders.run(kafka={"topics": {"create": False, "partitions": 3}}) as pipeline:
        error = pipeline.failure()
    assert isinstance(error, EnvironmentNotReady)
    assert "does not exist" in error.fact
    assert "kafka-topics" in error.hint


ODD_TABLES = r'''
CREATE SCHEMA "Odd Schema";
CREATE TABLE "Odd Schema"."Ta-ble.1" ("Id" int PRIMARY KEY, "we ird" text, "select" int, "ünï" text, "1st" int);
CREATE TABLE "it's ""quoted""" ("k'e""y" text PRIMARY KEY, "va;lue" text, "%s" int, "{}" int, "new
line" int);
CREATE TABLE "🐘" ("🔑" int PRIMARY KEY, "🐘🐘" text);
CREATE TABLE "select" ("from" int PRIMARY KEY, "where" int DEFAULT 7);
'''


@newest
def test_names_that_need_care_arrive_under_legal_ones(shop: Shop) -> None:
    shop.execute(ODD_TABLES)
    inserts = [
        """INSERT INTO "Odd Schema"."Ta-ble.1" VALUES ({n}, 'a', 2, 'b', 3)""",
        '''INSERT INTO "it's ""quoted""" VALUES ('k{n}', 'a', 1, 2, 3)''',
        """INSERT INTO "🐘" VALUES ({n}, 'a')""",
        """INSERT INTO "select" VALUES ({n})""",
    ]
    expected: dict[str, dict[str, Any]] = {
        "Odd_Schema.Ta-ble.1": {"Id": "{n}", "we_ird": "a", "select": 2, "_n_": "b", "_1st": 3},
        "public.it_s__quoted_": {"k_e_y": "k{n}", "va_lue": "a", "_s": 1, "__": 2, "new_line": 3},
        "public.__": {"__": "{n}", "____": "a"},
        "public.select": {"from": "{n}", "where": 7},
    }
    for insert in inserts:
        shop.execute(insert.format(n=1))
    with shop.run() as pipeline:
        refused = pipeline.failure()
    assert "adjust_names: strict" in refused.hint, "a table called 1, to Avro, which this registry does not take"
    with shop.run(envelope={"adjust_names": "strict"}) as pipeline:
        pipeline.until_streaming()
        pipeline.until(lambda: all(table.finished for table in pipeline.pipeline.progress.snapshot))
        for insert in inserts:
            shop.execute(insert.format(n=2))
        for topic, row in expected.items():
            records = shop.await_rows(pipeline, 2, topic)
            for number, record in enumerate(records, 1):
                found = {key: str(value) for key, value in record.value["after"].items()}
                assert found == {key: str(value).format(n=number) for key, value in row.items()}
    assert [record.value["source"]["table"] for record in shop.read("public.__")] == ["🐘", "🐘"]


# -- rules


@newest
def test_rules_hold_in_snapshot_and_stream_and_hidden_values_leave_nowhere(shop: Shop) -> None:
    shop.execute(
        "CREATE TABLE people (id int PRIMARY KEY, ssn text, mail text, phone varchar(8), bio text, secret text, "
        "age int); "
        "ALTER TABLE people REPLICA IDENTITY FULL; "
        "INSERT INTO people VALUES (1, 'hide-ssn', 'hide-mail', 'hide-tel', 'longhide-bio', 'hide-secret', 30)"
    )
    rule = {
        "tables": "people",
        "exclude_columns": ["secret"],
        "mask": {"ssn": 4},
        "hash": [{"columns": ["mail", "phone"], "salt": "pepper"}],
        "truncate": {"bio": 4},
        "rename": {"age": "years"},
        "key": ["age", "id"],
        "topic": "{name}.persons",
    }
    with shop.run(rules=[rule]) as pipeline:
        pipeline.until_streaming()
        shop.execute("INSERT INTO people SELECT 2, ssn, mail, phone, bio, secret, age FROM people")
        shop.execute("UPDATE people SET ssn = 'hide-new', age = 31 WHERE id = 1")
        shop.execute("UPDATE people SET mail = 'hide-other' WHERE id = 2")
        shop.execute("DELETE FROM people WHERE id = 2")
        records = shop.await_rows(pipeline, 8, "persons")
    hashed = hashlib.sha256(b"pepper" + b"hide-mail").hexdigest()
    phone = hashlib.sha256(b"pepper" + b"hide-tel").hexdigest()[:8]
    masked = {"id": 1, "ssn": "****", "mail": hashed, "phone": phone, "bio": "long", "years": 30}
    assert rows(records, "r") == [masked]
    assert rows(records, "c")[0] == {**masked, "id": 2}
    assert list(records[0].key.items()) == [("years", 30), ("id", 1)]
    changed = next(record.value for record in records if record.value is not None and record.value["op"] == "u")
    assert changed["before"] == {**masked, "id": 2}
    assert changed["after"]["mail"] == hashlib.sha256(b"pepper" + b"hide-other").hexdigest()
    for topic in shop.reader.topics(shop.name):
        for message in shop.reader.messages(topic):
            assert b"hide" not in (message.key() or b"") + (message.value() or b"") + repr(message.headers()).encode()


@newest
def test_a_hidden_column_that_gets_another_name_stops_the_pipeline(orders: Shop) -> None:
    with orders.run(rules=[{"tables": "orders", "mask": {"note": 3}}]) as pipeline:
        pipeline.until_streaming()
        orders.execute("ALTER TABLE orders RENAME note TO remark")
        orders.execute("INSERT INTO orders VALUES (2, 'hidden')")
        error = pipeline.failure()
    assert "'note'" in error.fact
    assert rows(orders.read(), "r") == [{"id": 1, "note": "***", "big": LONG}]
    assert all(b"hidden" not in message.value() for message in orders.reader.messages(orders.topic("public.orders")))


# -- publications, partitions, roles

PARTS = """
CREATE TABLE parts (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
INSERT INTO parts VALUES (1, 'eu'), (2, 'us');
"""


@newest
@pytest.mark.parametrize(
    ("tables", "via_root"),
    [
        (["parts", "parts_*"], True),
        (["parts"], True),
        (["parts", "parts_*"], False),
        (["parts_*"], False),
        (["parts"], False),
    ],
    ids=["all by root", "root by root", "all by leaf", "leaves by leaf", "root by leaf"],
)
def test_rows_of_partitions_come_once_by_root_or_by_leaf(shop: Shop, tables: list[str], via_root: bool) -> None:
    shop.execute(PARTS)
    with shop.run(source={"tables": tables, "via_partition_root": via_root}) as pipeline:
        pipeline.until_streaming()
        shop.execute("INSERT INTO parts VALUES (3, 'eu'), (4, 'us')")
        shop.execute("UPDATE parts SET region = 'us' WHERE id = 3")
        if via_root:
            records = shop.await_rows(pipeline, 7, "public.parts")
        else:
            records = shop.await_rows(pipeline, 4, "public.parts_eu")
            records += shop.await_rows(pipeline, 3, "public.parts_rest")
    read = sorted(row["id"] for row in rows(records, "r"))
    created = sorted(row["id"] for row in rows(records, "c"))
    assert (read, created) == ([1, 2], [3, 3, 4])
    topics = shop.reader.topics(f"{shop.name}.")
    by_root, by_leaf = [shop.topic("public.parts")], [shop.topic("public.parts_eu"), shop.topic("public.parts_rest")]
    assert topics == (by_root if via_root else by_leaf)


def test_a_publication_of_somebody_else_is_used_as_it_is(orders: Shop) -> None:
    orders.execute("CREATE TABLE other (id int PRIMARY KEY)")
    source = {"manage_publication": False, "publication": "by_hand"}
    with orders.run(source=source) as pipeline:
        error = pipeline.failure()
    assert isinstance(error, EnvironmentNotReady)
    assert "CREATE PUBLICATION" in error.hint
    orders.execute("CREATE PUBLICATION by_hand FOR TABLE orders (id, note) WHERE (id < 10)")
    with orders.run(source=source) as pipeline:
        assert "public.other" in pipeline.failure().fact
    orders.execute("INSERT INTO orders VALUES (11, 'filtered')")
    with orders.run(source={**source, "tables": ["orders"]}) as pipeline:
        pipeline.until_streaming()
        orders.execute("INSERT INTO orders VALUES (2, 'b'), (12, 'filtered')")
        records = orders.await_rows(pipeline, 2)
    assert [record.value["after"] for record in records] == [{"id": 1, "note": "first"}, {"id": 2, "note": "b"}]


def test_a_role_that_may_only_replicate_and_read_is_enough(orders: Shop) -> None:
    role = f"reader_{orders.name}"
    name = sql.Identifier(role)
    with psycopg.connect(orders.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN REPLICATION").format(name))
        try:
            connection.execute(sql.SQL("GRANT SELECT ON orders TO {}").format(name))
            connection.execute("CREATE PUBLICATION of_the_owner FOR TABLE orders")
            source = {"dsn": make_conninfo(orders.dsn, user=role), "tables": ["orders"]}
            with orders.run(source={**source, "publication": "of_the_owner", "manage_publication": False}) as pipeline:
                pipeline.until_streaming()
                orders.execute("INSERT INTO orders VALUES (2)")
                assert [record.key["id"] for record in orders.await_rows(pipeline, 2)] == [1, 2]
            with orders.run(source={**source, "publication": "another"}, name=f"{orders.name}_2") as pipeline:
                refused = pipeline.failure()
            assert isinstance(refused, EnvironmentNotReady)
            assert 'CREATE PUBLICATION "another"' in refused.hint
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))


# -- snapshots


@newest
def test_without_a_snapshot_only_changes_come(orders: Shop) -> None:
    with orders.run(source={"snapshot": "never"}) as pipeline:
        pipeline.until_streaming()
        orders.execute("INSERT INTO orders VALUES (2)")
        assert [record.key["id"] for record in orders.await_rows(pipeline, 1)] == [2]


@newest
def test_only_a_snapshot_ends_by_itself(orders: Shop) -> None:
    orders.execute("CREATE TABLE empty (id int PRIMARY KEY)")
    with orders.run(source={"snapshot": "only"}) as pipeline:
        pipeline.end()
    assert [record.value["source"]["snapshot"] for record in orders.read()] == ["last"]
    assert pipeline.pipeline.progress.state == "stopped"


@newest
def test_a_snapshot_is_taken_once_and_again_where_it_is_needed(orders: Shop) -> None:
    for number in (2, 3):
        with orders.run(source={"snapshot": "when_needed"}) as pipeline:
            pipeline.until_streaming()
            orders.execute(f"INSERT INTO orders VALUES ({number})")
            orders.await_rows(pipeline, number)
    orders.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
    )
    orders.execute("INSERT INTO orders VALUES (4)")
    with orders.run() as pipeline:
        assert "is gone" in pipeline.failure().fact
    with orders.run(source={"snapshot": "when_needed"}) as pipeline:
        records = orders.await_rows(pipeline, 7)
    told = [(record.value["op"], record.key["id"]) for record in records]
    assert told == [("r", 1), ("c", 2), ("c", 3), ("r", 1), ("r", 2), ("r", 3), ("r", 4)]

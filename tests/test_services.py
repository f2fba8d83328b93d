"""The servers that other tests rely on do what those tests take for granted."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from tests.proxy import Proxy
from tests.services.kafka import KafkaAddress
from tests.services.kafka_mock import MockKafka
from tests.services.postgres import PostgresServer, database_name
from tests.services.registry import CONFLUENT_API, RegistryAddress


def produce(bootstrap: str, topic: str, values: list[str], **options: str | int) -> None:
    settings = {name.replace("_", "."): value for name, value in options.items()}
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", **settings})
    for value in values:
        producer.produce(topic, value.encode(), key=value.encode())
    assert producer.flush(30) == 0


def texts(messages: list[Message]) -> list[str]:
    return sorted(message.value().decode() for message in messages)


class TestPostgres:
    def test_a_logical_slot_can_be_created_and_read(self, postgres: PostgresServer, database: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
            slot = f"slot_{uuid.uuid4().hex[:8]}"
            connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
            connection.execute("CREATE PUBLICATION shop FOR TABLE orders")
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
            connection.execute("INSERT INTO orders VALUES (1)")
            changes = connection.execute(
                "SELECT get_byte(data, 0) FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, "
                "'proto_version', '1', 'publication_names', 'shop')",
                [slot],
            )
            assert "".join(chr(letter) for (letter,) in changes) == "BRIC"

    def test_commits_carry_their_time(self, database: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            assert connection.execute("SHOW track_commit_timestamp").fetchone() == ("on",)

    def test_each_database_is_new_and_leaves_nothing(self, postgres: PostgresServer) -> None:
        slots_before = postgres.psql("SELECT count(*) FROM pg_replication_slots")
        first, second = postgres.create_database(), postgres.create_database()
        assert first != second
        name = database_name(first)
        reader = psycopg.connect(first, autocommit=True, replication="database")
        reader.execute("CREATE_REPLICATION_SLOT held LOGICAL pgoutput")
        reader.execute("START_REPLICATION SLOT held LOGICAL 0/0 (proto_version '1', publication_names 'none')")
        with psycopg.connect(first) as prepared:
            prepared.execute("CREATE TABLE t ()")
            prepared.execute(f"PREPARE TRANSACTION '{uuid.uuid4()}'")
        postgres.psql("SELECT pg_replication_origin_create(%s)", [f"from_{name}"], dbname=name)
        for dsn in (first, second):
            postgres.drop_database(dsn)
        reader.close()
        assert postgres.psql("SELECT 1 FROM pg_database WHERE datname = %s", [name]) == []
        assert postgres.psql("SELECT count(*) FROM pg_replication_slots") == slots_before
        assert postgres.psql("SELECT 1 FROM pg_replication_origin WHERE roname = %s", [f"from_{name}"]) == []

    @pytest.mark.parametrize("restart", ["fast", "immediate", "kill"])
    def test_a_restart_keeps_rows_and_slots(self, postgres: PostgresServer, database: str, restart: str) -> None:
        name = database_name(database)
        postgres.psql("CREATE TABLE t AS SELECT 1 AS id", dbname=name)
        postgres.psql(f"SELECT pg_create_logical_replication_slot('kept_{name}', 'pgoutput')", dbname=name)
        if restart == "kill":
            postgres.kill()
        else:
            postgres.stop(restart)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(database, connect_timeout=2)
        postgres.start()
        assert postgres.psql("SELECT id FROM t", dbname=name) == [(1,)]
        assert postgres.psql("SELECT slot_name FROM pg_replication_slots WHERE database = %s", [name]) == [
            (f"kept_{name}",)
        ]

    def test_settings_take_hold_and_are_undone(self, postgres: PostgresServer) -> None:
        query = "SELECT current_setting('max_connections'), current_setting('wal_sender_timeout')"
        before = postgres.psql(query)
        postgres.configure(max_connections=150, wal_sender_timeout="5s")
        assert postgres.psql(query) == [("150", "5s")]
        postgres.heal()
        assert postgres.psql(query) == before

    def test_the_log_can_be_read(self, postgres: PostgresServer, database: str) -> None:
        with pytest.raises(psycopg.errors.UndefinedTable):
            postgres.psql("SELECT * FROM nowhere_to_be_found")
        assert "nowhere_to_be_found" in postgres.log_text()

    def test_a_server_left_down_is_up_for_the_next_test(self, postgres: PostgresServer) -> None:
        postgres.stop("immediate")
        postgres.heal()
        assert postgres.psql("SELECT 1") == [(1,)]

    @pytest.mark.pg(">=16")
    def test_versions_are_selected_by_mark(self, postgres: PostgresServer) -> None:
        assert postgres.major >= 16

    def test_contrib_types_are_there(self, contrib_database: str) -> None:
        with psycopg.connect(contrib_database, autocommit=True) as connection:
            for extension in ("hstore", "citext", "ltree"):
                connection.execute(f"CREATE EXTENSION {extension}")

    @pytest.mark.pg("newest")
    def test_a_proxy_stands_between_client_and_server(
        self, postgres: PostgresServer, database: str, postgres_proxy: Proxy
    ) -> None:
        with psycopg.connect(database, autocommit=True, port=postgres_proxy.port) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
            postgres_proxy.reset_connections()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")


class TestKafka:
    @pytest.mark.kafka_mock_ok
    def test_what_is_produced_is_consumed(self, kafka: KafkaAddress, topic_prefix: str) -> None:
        topic = kafka.create_topic(f"{topic_prefix}.orders")
        values = [str(number) for number in range(500)]
        produce(kafka.bootstrap, topic, values)
        assert texts(kafka.consume_all(topic)) == sorted(values)

    def test_a_topic_that_is_not_there_holds_nothing(self, kafka: KafkaAddress, topic_prefix: str) -> None:
        assert kafka.consume_all(f"{topic_prefix}.none") == []
        assert f"{topic_prefix}.none" not in kafka.topics()

    def test_a_topic_has_the_partitions_and_settings_that_were_asked_for(
        self, kafka: KafkaAddress, topic_prefix: str
    ) -> None:
        topic = kafka.create_topic(f"{topic_prefix}.wide", partitions=3, config={"cleanup.policy": "compact"})
        assert len(kafka.admin().list_topics(topic, timeout=60).topics[topic].partitions) == 3

    def test_an_aborted_transaction_is_seen_by_uncommitted_readers_only(
        self, kafka: KafkaAddress, topic_prefix: str
    ) -> None:
        topic = kafka.create_topic(f"{topic_prefix}.tx")
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic_prefix})
        producer.init_transactions(30)
        for value, end in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
            producer.begin_transaction()
            producer.produce(topic, value)
            producer.flush(30)
            end(30)
        assert texts(kafka.consume_all(topic)) == ["kept"]
        assert texts(kafka.consume_all(topic, isolation="read_uncommitted")) == ["dropped", "kept"]

    @pytest.mark.exclusive
    @pytest.mark.parametrize("way", ["stop", "kill"])
    def test_a_restart_keeps_the_address_and_the_data(self, kafka: KafkaAddress, topic_prefix: str, way: str) -> None:
        topic = kafka.create_topic(f"{topic_prefix}.kept")
        produce(kafka.bootstrap, topic, ["before"])
        kafka.stop() if way == "stop" else kafka.kill()
        kafka.start()
        produce(kafka.bootstrap, topic, ["after"])
        assert texts(kafka.consume_all(topic)) == ["after", "before"]

    @pytest.mark.exclusive
    def test_a_paused_broker_answers_nobody_until_it_is_resumed(self, kafka: KafkaAddress, topic_prefix: str) -> None:
        topic = kafka.create_topic(f"{topic_prefix}.paused")
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})
        kafka.pause()
        producer.produce(topic, b"late")
        assert producer.flush(1) == 1
        kafka.resume()
        assert producer.flush(30) == 0
        assert texts(kafka.consume_all(topic)) == ["late"]

    def test_a_client_behind_the_proxy_stays_behind_it(
        self, kafka: KafkaAddress, kafka_proxy: Proxy, topic_prefix: str
    ) -> None:
        topic = kafka.create_topic(f"{topic_prefix}.proxied")
        producer = Producer({"bootstrap.servers": kafka_proxy.address, "linger.ms": 0})
        producer.produce(topic, b"first")
        assert producer.flush(30) == 0
        kafka_proxy.blackhole()
        producer.produce(topic, b"second")
        assert producer.flush(1) == 1
        assert texts(kafka.consume_all(topic)) == ["first"]
        kafka_proxy.heal()
        assert producer.flush(30) == 0
        assert texts(kafka.consume_all(topic)) == ["first", "second"]

    @pytest.mark.exclusive
    def test_the_log_can_be_read(self, kafka: KafkaAddress) -> None:
        assert "Kafka Server started" in kafka.log_text()

    def test_the_mock_cluster_stands_in_for_light_tests(self, topic_prefix: str) -> None:
        mock = MockKafka()
        topic = mock.create_topic(f"{topic_prefix}.light")
        produce(mock.bootstrap, topic, ["a", "b"])
        assert texts(mock.consume_all(topic)) == ["a", "b"]


class TestRegistry:
    ORDER = json.dumps({"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]})
    STRICTER = json.dumps(
        {
            "type": "record",
            "name": "Order",
            "fields": [{"name": "id", "type": "long"}, {"name": "total", "type": "int"}],
        }
    )

    def test_a_schema_is_found_by_its_id_and_by_itself(self, registry: RegistryAddress, topic_prefix: str) -> None:
        subject = f"{topic_prefix}-value"
        with SchemaRegistryClient({"url": registry.url}) as client:
            number = client.register_schema(subject, Schema(self.ORDER, "AVRO"))
            assert json.loads(client.get_schema(number).schema_str) == json.loads(self.ORDER)
            assert client.lookup_schema(subject, Schema(self.ORDER, "AVRO")).schema_id == number
            assert subject in client.get_subjects()

    def test_an_incompatible_schema_is_refused(self, registry: RegistryAddress, topic_prefix: str) -> None:
        subject = f"{topic_prefix}-value"
        with SchemaRegistryClient({"url": registry.url}) as client:
            client.register_schema(subject, Schema(self.ORDER, "AVRO"))
            client.set_compatibility(subject_name=subject, level="BACKWARD")
            with pytest.raises(SchemaRegistryError) as refused:
                client.register_schema(subject, Schema(self.STRICTER, "AVRO"))
            assert refused.value.http_status_code == 409

    @pytest.mark.exclusive
    @pytest.mark.parametrize("way", ["stop", "kill"])
    def test_a_restart_keeps_the_address_and_the_ids(
        self, registry: RegistryAddress, topic_prefix: str, way: str
    ) -> None:
        subject = f"{topic_prefix}-value"
        with SchemaRegistryClient({"url": registry.url}) as client:
            number = client.register_schema(subject, Schema(self.ORDER, "AVRO"))
            registry.stop() if way == "stop" else registry.kill()
            registry.start()
            assert client.get_latest_version(subject).schema_id == number

    def test_a_proxy_can_stand_before_it(
        self, registry: RegistryAddress, registry_proxy: Proxy, topic_prefix: str
    ) -> None:
        with SchemaRegistryClient({"url": f"http://{registry_proxy.address}{CONFLUENT_API}"}) as client:
            assert client.register_schema(f"{topic_prefix}-value", Schema(self.ORDER, "AVRO")) > 0
        assert registry_proxy.bytes_to_client > 0

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer

from pycdc.demo.broker import EmbeddedBroker
from pycdc.demo.consumer import EventConsumer, SchemaCache
from pycdc.demo.event_stats import EventStats
from pycdc.demo.registry import EmbeddedRegistry
from pycdc.errors import ConnectionLost, ProtocolError
from tests.demo.test_postgres import wait_for

KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "int"}]}
ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
    ],
}
SOURCE = {
    "type": "record",
    "name": "Source",
    "fields": [
        {"name": "table", "type": "string"},
        {"name": "txId", "type": ["null", "long"]},
        {"name": "ts_us", "type": ["null", "long"]},
    ],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", ROW]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": SOURCE},
        {"name": "op", "type": "string"},
    ],
}
TOPICS = ("shop.public.orders", "shop.public.products")


class Publisher:
    """Writes records in Confluent's wire format, as any Debezium would."""

    def __init__(self, brokers: str, registry: str) -> None:
        self._producer = Producer({"bootstrap.servers": brokers})
        self._key = self._register(registry, "k", KEY)
        self._value = self._register(registry, "v", ENVELOPE)

    def _register(self, registry: str, subject: str, schema: dict[str, Any]) -> Callable[[Any], bytes]:
        request = urllib.request.Request(
            f"{registry}/subjects/{subject}/versions",
            json.dumps({"schema": json.dumps(schema)}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            number: int = json.load(answer)["id"]
        parsed = fastavro.parse_schema(schema)

        def encode(datum: Any) -> bytes:
            out = io.BytesIO()
            fastavro.schemaless_writer(out, parsed, datum)
            return b"\0" + number.to_bytes(4, "big") + out.getvalue()

        return encode

    def change(self, op: str, number: int, before: Any, after: Any, *, age: float = 0.0) -> None:
        micros = int((time.time() - age) * 1e6)
        source = {"table": "orders", "txId": 5, "ts_us": micros}
        value = {"before": before, "after": after, "source": source, "op": op}
        self._producer.produce(TOPICS[0], self._value(value), self._key({"id": number}))

    def tombstone(self, number: int) -> None:
        self._producer.produce(TOPICS[0], None, self._key({"id": number}))

    def raw(self, value: bytes) -> None:
        self._producer.produce(TOPICS[0], value)

    def flush(self) -> None:
        assert self._producer.flush(10) == 0

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        yield registry


@pytest.fixture
def publisher(broker: EmbeddedBroker, registry: EmbeddedRegistry) -> Iterator[Publisher]:
    publisher = Publisher(broker.bootstrap, registry.url)
    yield publisher
    publisher.close()


@pytest.fixture
def tally() -> EventStats:
    return EventStats({5})


@pytest.fixture
def reader(broker: EmbeddedBroker, registry: EmbeddedRegistry, tally: EventStats) -> Iterator[EventConsumer]:
    reader = EventConsumer(broker.bootstrap, registry.url, TOPICS, tally)
    reader.start()
    yield reader
    reader.stop()


def test_events_come_back_decoded_with_their_lag(
    reader: EventConsumer, publisher: Publisher, tally: EventStats
) -> None:
    publisher.change("c", 1, None, {"id": 1, "price": Decimal("12.30")}, age=2.0)
    publisher.flush()
    assert wait_for(lambda: tally.first_at is not None)
    (event,) = tally.newest()
    assert (event.op, event.table, event.key) == ("c", "orders", {"id": 1})
    assert event.before is None
    assert str(event.after) == "{'id': 1, 'price': Decimal('12.30')}"
    assert event.lag is not None
    assert 2.0 <= event.lag < 7.0


def test_tombstones_are_counted_and_are_no_events(
    reader: EventConsumer, publisher: Publisher, tally: EventStats
) -> None:
    publisher.change("d", 1, {"id": 1, "price": Decimal("1.00")}, None)
    publisher.tombstone(1)
    publisher.flush()
    assert wait_for(lambda: tally.tombstones == 1)
    assert dict(tally.counts()) == {("orders", "d"): 1}


def test_a_schema_is_asked_for_once(
    reader: EventConsumer, publisher: Publisher, tally: EventStats, registry: EmbeddedRegistry
) -> None:
    for number in range(20):
        publisher.change("c", number, None, {"id": number, "price": Decimal("1.00")})
    publisher.flush()
    assert wait_for(lambda: tally.counts().total() == 20)
    asked = [request for request in registry.requests if request.startswith("GET /schemas/ids/")]
    assert sorted(asked) == ["GET /schemas/ids/1", "GET /schemas/ids/2"]


def test_a_proxy_of_the_environment_is_not_asked(
    publisher: Publisher, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert SchemaCache(registry.url).by_id(1)["type"] == "record"


def test_a_registry_that_fails_ends_the_reader_with_the_reason(
    reader: EventConsumer, publisher: Publisher, registry: EmbeddedRegistry
) -> None:
    registry.fail_next(500)
    publisher.change("c", 1, None, {"id": 1, "price": Decimal("1.00")})
    publisher.flush()
    assert wait_for(lambda: reader.error is not None)
    assert isinstance(reader.error, ConnectionLost)
    assert "500" in reader.error.fact


def test_a_record_without_schema_id_ends_the_reader(reader: EventConsumer, publisher: Publisher) -> None:
    publisher.raw(b"{}")
    publisher.flush()
    assert wait_for(lambda: reader.error is not None)
    assert isinstance(reader.error, ProtocolError)

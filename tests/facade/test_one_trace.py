"""One trace from the request to the row in the other database: Envoy, a service, capture, Kafka, apply, in Zipkin."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psycopg
import pytest
from opentelemetry.trace import SpanKind

from pycdc.config.runtime import TracingConfig
from pycdc.observability.spans import Tracer, traceparent
from tests.facade.conftest import Running as Facade
from tests.facade.conftest import stop
from tests.facade.upstreams import Upstream
from tests.reading import wait_for
from tests.running import Running
from tests.services.kafka import KafkaAddress
from tests.services.zipkin import Collector, Zipkin

pytestmark = [pytest.mark.pg("newest"), pytest.mark.slow]

TABLES = "CREATE TABLE stock (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int); CREATE SCHEMA other"


class Shop(Upstream):
    """A service that tells its database which trace a transaction is of."""

    def __init__(self, dsn: str, tracer: Tracer) -> None:
        self._dsn, self._tracer = dsn, tracer
        super().__init__("old")

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        came = request.headers["traceparent"].encode()
        span = self._tracer.begin("adjust", SpanKind.SERVER, came, {})
        with psycopg.connect(self._dsn) as connection:
            connection.execute("SELECT pg_logical_emit_message(true, 'pycdc.trace', %s)", (traceparent(span).decode(),))
            connection.execute("INSERT INTO stock (n) VALUES (1)")
        span.end()
        super().answer(request)


@pytest.fixture
def zipkin() -> Iterator[Zipkin]:
    with closing(Zipkin()) as zipkin:
        yield zipkin


@pytest.fixture
def collector(zipkin: Zipkin) -> Iterator[Collector]:
    with closing(Collector(zipkin.url)) as collector:
        yield collector


def pipelines(dsn: str, brokers: str, name: str, tracing: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """From `public.stock` to `other.stock`."""
    own = {"checkpoint": {"interval": 0.1}, "http": {"enabled": False}, "tracing": tracing}
    out = {
        "name": name,
        "source": {"postgres": {"dsn": dsn, "tables": ["public.stock"]}},
        "sink": {"kafka": {"brokers": brokers, "format": "json"}},
        **own,
    }
    routes = [{"topic": f"{name}.public.stock", "table": "other.stock"}]
    back = {
        "name": f"{name}-back",
        "source": {"kafka": {"brokers": brokers, "topics": [f"{name}.public.stock"]}},
        "sink": {"postgres": {"dsn": dsn, "routes": routes}},
        **own,
    }
    return out, back


def test_a_request_is_one_trace_from_envoy_to_the_row_in_the_other_database(
    database: str, kafka: KafkaAddress, topic_prefix: str, tmp_path: Path, zipkin: Zipkin, collector: Collector
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"{TABLES}; CREATE TABLE other.stock (id int PRIMARY KEY, n int)")
    kafka.create_topic(f"{topic_prefix}.public.stock")
    tracing = {"endpoint": collector.url}
    out, back = pipelines(database, kafka.bootstrap, topic_prefix, tracing)
    with (
        closing(Tracer(TracingConfig(endpoint=collector.url), "shop")) as tracer,
        Running(out) as capture,
        Running(back) as apply,
    ):
        capture.until_streaming()
        shop = Shop(database, tracer)
        facade = Facade(tmp_path, shop, shop, {"tracing": {**tracing, "sample": 1.0}})
        try:
            client = http.client.HTTPConnection("127.0.0.1", facade.port, timeout=60)
            client.request("POST", "/api/stock", b"")
            assert client.getresponse().read() == b"old 1"
            client.close()
            apply.until(lambda: len({span["id"] for span in collector.spans}) >= 6)
        finally:
            stop(facade)
            shop.stop()
    (number,) = {span["traceId"] for span in collector.spans if span["name"] == "adjust"}
    wait_for(lambda: len(zipkin.trace(number)) >= 4)
    spans = {span["localEndpoint"]["serviceName"]: span for span in zipkin.trace(number)}
    chain = [spans[name] for name in ("facade", "shop", topic_prefix, f"{topic_prefix}-back")]
    assert len(zipkin.trace(number)) == 4
    assert [one.get("parentId") for one in chain] == [None, *(one["id"] for one in chain[:-1])]
    assert "2" not in {one["tags"]["status"] for one in chain}, "an error"
    begun, ended = [one["timestamp"] for one in chain], [one["timestamp"] + one["duration"] for one in chain]
    assert begun == sorted(begun)
    assert begun[2] <= begun[3] + 1 <= ended[3] + 1, "a record is applied once it was captured"
    assert begun[0] <= begun[1] <= ended[1] <= ended[0], "the service answers while Envoy waits"
    assert begun[1] <= begun[2] <= ended[1], "the commit lies within the service's span"
    batches = {span["localEndpoint"]["serviceName"]: span for span in collector.spans if "batch" in span["name"]}
    for one in chain[2:]:
        assert one["id"] in batches[one["localEndpoint"]["serviceName"]]["tags"]["links"].split()

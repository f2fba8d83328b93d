"""A table that joins a running pipeline, as a consumer of its topic sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from pycdc.build.offsets import stored_source
from pycdc.config.pipeline import require_capture
from pycdc.connectors.postgres.signals.messages import Signal, send
from pycdc.connectors.postgres.signals.signing import key_of
from tests.reading import Read, Reader
from tests.test_end_to_end import ORDERS, Shop


@pytest.fixture
def shop(database: str, kafka: Any, registry: Any, topic_prefix: str) -> Iterator[Shop]:
    with closing(Shop(database, kafka.bootstrap, registry.url, topic_prefix)) as shop:
        shop.execute(ORDERS)
        yield shop


@pytest.fixture
def topics(kafka: Any, registry: Any) -> Iterator[Reader]:
    """One that bears with topics that are just being made."""
    with closing(Reader(kafka.bootstrap, registry.url)) as reader:
        yield reader


def last_states(records: list[Read]) -> dict[int, Any]:
    """What a compacted topic keeps."""
    state: dict[int, Any] = {}
    for record in records:
        if record.value is None or record.value["after"] is None:
            state.pop(record.key["id"], None)
        else:
            state[record.key["id"]] = record.value["after"]["v"]
    return state


def table_now(shop: Shop) -> dict[int, Any]:
    return dict(shop.execute("SELECT id, v FROM refunds"))


def test_a_topic_holds_a_table_that_was_made_and_written_to_before_anybody_captured_it(
    shop: Shop, topics: Reader
) -> None:
    with shop.run(source={"tables_added": "ignore", "snapshot_chunk": 40}) as pipeline:
        pipeline.until_streaming()
        shop.execute("CREATE TABLE refunds (id int PRIMARY KEY, v int)")
        old = psycopg.connect(shop.dsn)
        old.execute("INSERT INTO refunds SELECT i, 0 FROM generate_series(1, 100) i")
        config = require_capture(pipeline.pipeline.config)
        send(shop.dsn, config.slot, key_of(config, stored_source(config)), [Signal("apply")])
        pipeline.until(lambda: shop.execute("SELECT 1 FROM pg_publication_tables WHERE tablename = 'refunds'"))
        old.execute("UPDATE refunds SET v = 1 WHERE id % 3 = 0; DELETE FROM refunds WHERE id % 10 = 0")
        old.commit()
        old.close()
        shop.execute("INSERT INTO refunds SELECT i, 0 FROM generate_series(101, 200) i")
        shop.execute("UPDATE refunds SET v = v + 1 WHERE id % 7 = 0")
        pipeline.until(lambda: last_states(topics.read(shop.topic("public.refunds"))) == table_now(shop))
    read = [
        record for record in topics.read(shop.topic("public.refunds")) if record.value and record.value["op"] == "r"
    ]
    assert {record.value["source"]["snapshot"] for record in read} == {"incremental"}
    assert len({record.key["id"] for record in read}) == len(read)


@pytest.mark.pg("newest")
def test_a_pipeline_started_with_another_configuration_takes_in_one_table_and_leaves_another(
    shop: Shop, topics: Reader
) -> None:
    shop.execute("CREATE TABLE refunds (id int PRIMARY KEY, v int); INSERT INTO refunds VALUES (1, 0)")
    with shop.run(source={"tables": ["orders"]}) as pipeline:
        pipeline.until_streaming()
        shop.execute("INSERT INTO orders VALUES (1)")
        pipeline.until(lambda: topics.read(shop.topic("public.orders")))
    shop.execute("INSERT INTO orders VALUES (2); UPDATE refunds SET v = 1")
    with shop.run(source={"tables": ["refunds"]}) as pipeline:
        pipeline.until(lambda: last_states(topics.read(shop.topic("public.refunds"))) == {1: 1})
    assert len(topics.read(shop.topic("public.orders"))) == 1
    assert shop.execute("SELECT tablename FROM pg_publication_tables") == [("refunds",)]

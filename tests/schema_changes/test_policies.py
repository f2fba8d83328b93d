"""What becomes of rows whose schema the registry refuses: on a real Postgres, Kafka and registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pycdc import SchemaIncompatible
from pycdc.cli import main
from pycdc.observability.report import report
from pycdc.serialization import schema_dead_letters as parking
from tests.running import Record
from tests.test_end_to_end import Shop

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def shop(
    database: str, kafka: Any, registry: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """Two tables whose schemas the registry knows, and takes only compatible ones for from now on."""
    monkeypatch.setattr(parking, "ASK_AGAIN", 0.2)
    with closing(Shop(database, kafka.bootstrap, registry.url, topic_prefix)) as shop:
        shop.execute("CREATE TABLE orders (id int PRIMARY KEY, n int); CREATE TABLE other (id int PRIMARY KEY)")
        with shop.run() as pipeline:
            pipeline.until_streaming()
            shop.execute("INSERT INTO orders VALUES (1, 1); INSERT INTO other VALUES (1)")
            shop.await_rows(pipeline, 1)
            shop.await_rows(pipeline, 1, "public.other")
        shop.registry.set_compatibility(subject(shop), "BACKWARD")
        yield shop


def subject(shop: Shop) -> str:
    return f"{shop.topic('public.orders')}-value"


def letters(shop: Shop) -> list[Record]:
    return shop.reader.read(f"{shop.name}.dead-letter")


def after(records: list[Record]) -> list[Any]:
    return [record.value and record.value["after"] and tuple(record.value["after"].values()) for record in records]


RETYPE = "ALTER TABLE orders ALTER n TYPE text"


def test_parked_rows_are_durable_replayable_and_hold_nobody_up(shop: Shop, tmp_path: Path) -> None:
    policy = {"on_incompatible": "park"}
    with shop.run(registry=policy) as pipeline:
        pipeline.until_streaming()
        shop.execute(f"INSERT INTO orders VALUES (2, 2); {RETYPE}; INSERT INTO orders VALUES (3, 'three')")
        shop.execute("DELETE FROM orders WHERE id = 1; INSERT INTO other VALUES (2)")
        shop.await_rows(pipeline, 2, "public.other")
        pipeline.until(lambda: len(letters(shop)) == 3)
        told = report(pipeline.pipeline.progress)
    assert told["parked_rows"] == {"public.orders": 2}
    assert "optional int became optional string" in told["refused_schemas"]["public.orders"]
    assert after(shop.read()) == [(1, 1), (2, 2)]
    assert after(letters(shop)) == [(3, "three"), None, None]
    assert {record.headers["__pycdc.topic"] for record in letters(shop)} == {shop.topic("public.orders").encode()}
    # A restart sends none of them again: the position moved past them once the broker had them.
    with shop.run(registry=policy) as pipeline:
        pipeline.until_streaming()
        shop.execute("INSERT INTO orders VALUES (4, 'four')")
        pipeline.until(lambda: len(letters(shop)) == 4)
    shop.registry.set_compatibility(subject(shop), "NONE")
    retry(shop, tmp_path / "pipeline.json", policy)
    with shop.run(registry=policy) as pipeline:
        pipeline.until_streaming()
        shop.execute("INSERT INTO orders VALUES (5, 'five')")
        records = shop.await_rows(pipeline, 7)
    assert after(records) == [(1, 1), (2, 2), (3, "three"), None, None, (4, "four"), (5, "five")]
    assert len(letters(shop)) == 4
    assert len({record.schema_id for record in records[2:] if record.raw}) == 1


def retry(shop: Shop, config: Path, policy: dict[str, str]) -> None:
    """As docs/schema-changes.md says, of a pipeline that is stopped."""
    config.write_text(json.dumps(shop.document(registry=policy)), encoding="utf-8")
    done = CliRunner().invoke(main, ["parked", "retry", str(config), "--table", "public.orders"])
    assert done.exit_code == 0, done.output


def test_rows_go_to_their_topic_again_while_the_pipeline_runs(shop: Shop) -> None:
    with shop.run(registry={"on_incompatible": "park"}) as pipeline:
        pipeline.until_streaming()
        shop.execute(f"{RETYPE}; INSERT INTO orders VALUES (2, 'two')")
        pipeline.until(lambda: len(letters(shop)) == 1)
        shop.registry.set_compatibility(subject(shop), "NONE")

        def taken_again() -> bool:
            shop.execute("UPDATE orders SET n = 'two' WHERE id = 2")
            return len(shop.read()) > 1

        pipeline.until(taken_again)
        assert "refused_schemas" not in report(pipeline.pipeline.progress)


def test_a_column_that_is_restored_ends_the_parking(shop: Shop) -> None:
    with shop.run(registry={"on_incompatible": "park"}) as pipeline:
        pipeline.until_streaming()
        shop.execute(f"{RETYPE}; INSERT INTO orders VALUES (2, 'two')")
        pipeline.until(lambda: len(letters(shop)) == 1)
        shop.execute("ALTER TABLE orders ALTER n TYPE int USING length(n); INSERT INTO orders VALUES (3, 3)")
        records = shop.await_rows(pipeline, 2)
    assert after(records) == [(1, 1), (3, 3)]
    assert records[0].schema_id == records[1].schema_id
    assert shop.versions(subject(shop)) == [1]


def test_a_snapshot_of_a_table_whose_schema_is_refused_is_parked(shop: Shop) -> None:
    with shop.run(registry={"on_incompatible": "park"}) as pipeline:
        pipeline.until_streaming()
        shop.execute(f"{RETYPE}; INSERT INTO orders VALUES (2, 'two')")
        pipeline.pipeline.snapshot("public.orders")
        pipeline.until(lambda: len(letters(shop)) == 3)
    told = [(record.value["op"], record.value["after"]["id"]) for record in letters(shop)]
    assert sorted(told) == [("c", 2), ("r", 1), ("r", 2)]


def test_a_version_that_is_forced_leaves_the_level_as_it_was(shop: Shop) -> None:
    with shop.run(registry={"on_incompatible": "new_subject_version_none"}) as pipeline:
        pipeline.until_streaming()
        shop.execute(f"{RETYPE}; INSERT INTO orders VALUES (2, 'two')")
        records = shop.await_rows(pipeline, 2)
        shop.execute("ALTER TABLE orders ALTER n TYPE int USING length(n); INSERT INTO orders VALUES (3, 3)")
        records = shop.await_rows(pipeline, 3)
    assert after(records) == [(1, 1), (2, "two"), (3, 3)]
    assert records[0].schema_id == records[2].schema_id != records[1].schema_id
    assert shop.versions(subject(shop)) == [1, 2]
    assert shop.registry.get_compatibility(subject(shop)) == "BACKWARD"
    assert letters(shop) == []


def test_stop_names_the_ways_out(shop: Shop) -> None:
    shop.execute(f"{RETYPE}; INSERT INTO orders VALUES (2, 'two')")
    with shop.run() as pipeline:
        error = pipeline.failure()
    assert isinstance(error, SchemaIncompatible)
    for way in ("nullable", "curl", "new_subject_version_none", "park"):
        assert way in error.hint
    assert json.dumps({"compatibility": "NONE"}) in error.hint


def test_a_schema_is_registered_only_where_it_changed(shop: Shop) -> None:
    """Comments, indexes and constraints, a column that goes and comes back, restarts, rows read again."""
    shop.registry.set_compatibility(subject(shop), "NONE")
    for number, ddl in enumerate(
        [
            "COMMENT ON TABLE orders IS 'x'",
            "ALTER TABLE orders ADD CHECK (n > 0); CREATE INDEX ON orders (n)",
            "ALTER TABLE orders ADD m int",
            "ALTER TABLE orders DROP m",
            "ALTER TABLE orders ADD m int",
        ],
        2,
    ):
        with shop.run() as pipeline:
            pipeline.until_streaming()
            shop.execute(f"{ddl}; INSERT INTO orders VALUES ({number}, {number})")
            records = shop.await_rows(pipeline, number)
    ids = [record.schema_id for record in records]
    assert ids[0] == ids[1] == ids[2] == ids[4] != ids[3] == ids[5]
    assert shop.versions(subject(shop)) == [1, 2]

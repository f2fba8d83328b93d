"""A signal table: inserts ask for snapshots as Debezium's do, in their place in the stream; wrong ones stop nothing."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import psycopg
import pytest

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.signals.debezium import Unusable
from pycdc.connectors.postgres.signals.signal_table import create_table_sql
from pycdc.connectors.postgres.signals.table_regex import matching
from pycdc.errors import EnvironmentNotReady
from pycdc.model.change import Op
from tests.connectors.postgres.reading import Pipeline, execute, write_last

TABLES = f"""
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, v int NOT NULL);
CREATE TABLE bare (id int);
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO orders SELECT i, 0 FROM generate_series(1, 200) i;
INSERT INTO bare SELECT generate_series(1, 50);
INSERT INTO parts SELECT generate_series(1, 40);
CREATE SCHEMA ops;
{create_table_sql("ops", "signals")};
"""
pytestmark = pytest.mark.pg("newest")

CAPTURED = ["finish", "orders", "bare", "parts"]


def config_for(dsn: str, **source: Any) -> CapturePipeline:
    options = {"dsn": dsn, "tables": CAPTURED, "snapshot": "never", "snapshot_chunk": 37, **source}
    return validate_capture(
        {
            "name": "signalled",
            "source": {"postgres": options},
            "sink": {"null": {}},
            "signals": {"table": "ops.signals"},
            "envelope": {"transaction_metadata": True},
        }
    )


@pytest.fixture
def pipeline(database: str) -> Pipeline:
    """One that streams, without having read a row; stopped."""
    execute(database, TABLES)
    return streaming(Pipeline(config_for(database)), database)


def streaming(pipeline: Pipeline, dsn: str) -> Pipeline:
    assert pipeline.run(lambda p: p.nothing_left)
    assert pipeline.run(write_last(dsn))
    pipeline.changes.clear()
    pipeline.durable = 0
    return pipeline


def signal(dsn: str, kind: str, data: object = None, name: str = "") -> None:
    text = data if data is None or isinstance(data, str) else json.dumps(data)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO ops.signals SELECT coalesce(nullif(%s, ''), gen_random_uuid()::text), %s, %s",
            (name, kind, text),
        )


def snapshot_of(*patterns: str, **more: object) -> dict[str, object]:
    return {"type": "incremental", "data-collections": list(patterns), **more}


def catch_up(pipeline: Pipeline, dsn: str) -> None:
    assert pipeline.run(write_last(dsn))
    assert pipeline.run(lambda p: p.nothing_left)


def read(pipeline: Pipeline) -> list[tuple[str, int]]:
    return [
        (change.table.name, change.after["id"])
        for change in pipeline.changes
        if change.op is Op.READ and change.table is not None and change.after is not None
    ]


ORDERS = [("orders", i) for i in range(1, 201)]


def test_an_insert_asks_for_a_snapshot_and_is_no_event(database: str, pipeline: Pipeline) -> None:
    signal(database, "execute-snapshot", snapshot_of("public.orders"))
    catch_up(pipeline, database)
    assert read(pipeline) == ORDERS
    assert {change.run.marker for change in pipeline.changes if change.op is Op.READ} == {"incremental"}
    assert {change.table.name for change in pipeline.changes if change.table is not None} == {"orders", "finish"}


def test_updates_and_deletes_of_signals_mean_nothing(database: str, pipeline: Pipeline) -> None:
    signal(database, "pause-snapshot", name="mine")
    execute(
        database,
        "UPDATE ops.signals SET type = 'execute-snapshot', data = '{\"data-collections\": [\"public.orders\"]}'",
    )
    execute(database, "DELETE FROM ops.signals")
    catch_up(pipeline, database)
    assert read(pipeline) == []


def test_rows_that_are_in_the_table_are_no_signals_when_they_are_read(database: str) -> None:
    execute(database, TABLES)
    signal(database, "execute-snapshot", snapshot_of("public.orders"))
    pipeline = Pipeline(config_for(database, snapshot="initial", snapshot_method="chunks", tables=[*CAPTURED, "ops.*"]))
    assert pipeline.run(lambda p: p.nothing_left and p.durable > 0)
    catch_up(pipeline, database)
    assert len(read(pipeline)) == 200 + 50 + 40 + 1


def test_a_signal_table_that_is_captured_is_delivered_and_obeyed(database: str) -> None:
    execute(database, TABLES)
    pipeline = streaming(Pipeline(config_for(database, tables=[*CAPTURED, "ops.signals"])), database)
    signal(database, "execute-snapshot", snapshot_of("public.bare"), name="mine")
    catch_up(pipeline, database)
    assert len(read(pipeline)) == 50
    inserts = [change for change in pipeline.changes if change.op is Op.CREATE and change.table is not None]
    created = [change.after for change in inserts if change.table is not None and change.table.name == "signals"]
    assert [row["id"] for row in created if row is not None] == ["mine"]


def test_a_signal_acts_in_its_place_in_the_stream(database: str, pipeline: Pipeline) -> None:
    """The rows that are asked for come behind the change that was made before, in the same transaction."""
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE orders SET v = 1 WHERE id = 7")
        connection.execute(
            "INSERT INTO ops.signals VALUES ('a', 'execute-snapshot', %s)",
            (
                json.dumps(
                    snapshot_of("public.orders", **{"additional-conditions": [filtered("public.orders", "id = 7")]})
                ),
            ),
        )
    catch_up(pipeline, database)
    ops = [change.op for change in pipeline.changes if change.table is not None and change.table.name == "orders"]
    assert ops == [Op.UPDATE, Op.READ]
    assert [change.after for change in pipeline.changes if change.op is Op.READ] == [{"id": 7, "v": 1}]


def filtered(pattern: str, condition: str) -> dict[str, str]:
    return {"data-collection": pattern, "filter": condition}


def test_tables_are_regular_expressions_that_match_as_a_whole_and_each_has_its_first_filter(
    database: str, pipeline: Pipeline
) -> None:
    conditions = [filtered("PUBLIC.(orders|nothing)", "id <= 3"), filtered(".*", "id = 4")]
    signal(database, "execute-snapshot", snapshot_of(r"public\.(order.|bar)", **{"additional-conditions": conditions}))
    signal(
        database, "execute-snapshot", snapshot_of("(?i)public.(ORDERS|bare)", **{"additional-conditions": conditions})
    )
    catch_up(pipeline, database)
    assert sorted(read(pipeline)) == [("bare", 4), *sorted([*ORDERS[:3], *ORDERS[:3]])]


def test_a_partitioned_table_is_meant_by_its_name_and_keeps_its_filter(database: str, pipeline: Pipeline) -> None:
    condition = {"additional-conditions": [filtered("public.parts", "id % 2 = 0")]}
    signal(database, "execute-snapshot", snapshot_of("public.parts.*", **condition))
    catch_up(pipeline, database)
    assert sorted(number for _, number in read(pipeline)) == list(range(2, 41, 2))
    assert {table for table, _ in read(pipeline)} == {"parts_0", "parts_1"}


def test_blocking_reads_the_same_rows(database: str, pipeline: Pipeline) -> None:
    signal(database, "execute-snapshot", {**snapshot_of("public.orders"), "type": "BLOCKING", "surrogate-key": "v"})
    catch_up(pipeline, database)
    assert read(pipeline) == ORDERS


def test_a_snapshot_rests_goes_on_and_is_stopped_over_restarts(database: str, pipeline: Pipeline) -> None:
    signal(database, "pause-snapshot")
    signal(database, "execute-snapshot", snapshot_of("public.orders", "public.bare", "public.parts"))
    assert pipeline.run(write_last(database))
    assert read(pipeline) == []
    assert pipeline.stored is not None
    assert pipeline.stored.snapshot["paused"] is True
    assert len(pipeline.stored.snapshot["tables"]) == 4
    signal(database, "stop-snapshot", {"type": "incremental", "data-collections": ["public.(orders|parts)"]})
    signal(database, "resume-snapshot")
    catch_up(pipeline, database)
    assert {table for table, _ in read(pipeline)} == {"bare"}
    signal(database, "pause-snapshot")
    signal(database, "execute-snapshot", snapshot_of("public.orders"))
    signal(database, "stop-snapshot", {})
    catch_up(pipeline, database)
    assert {table for table, _ in read(pipeline)} == {"bare"}


@pytest.mark.parametrize("crash_after", range(1, 8))
def test_a_signal_that_comes_again_after_a_crash_is_obeyed_once(
    database: str, pipeline: Pipeline, crash_after: int
) -> None:
    """Also where a stored position lies before the signal, and what is to be read lies behind it."""
    execute(database, "INSERT INTO finish DEFAULT VALUES")
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO ops.signals VALUES ('a', 'execute-snapshot', %s)", (json.dumps(snapshot_of("public.orders")),)
        )
        connection.execute("INSERT INTO finish SELECT FROM generate_series(1, 30)")
    pipeline.config = config_for(database, max_batch_changes=5)
    pipeline.run(lambda p: False, crash_after=crash_after, store_every=1)
    catch_up(pipeline, database)
    assert read(pipeline) == ORDERS


WRONG = {
    "no JSON": ("execute-snapshot", "{"),
    "deep": ("execute-snapshot", "[" * 2000),
    "no table": ("execute-snapshot", {"type": "incremental"}),
    "unknown table": ("execute-snapshot", snapshot_of("public.nowhere")),
    "part of a name": ("execute-snapshot", snapshot_of("order")),
    "no expression": ("execute-snapshot", snapshot_of("public.(orders")),
    "borrowed parentheses": ("execute-snapshot", snapshot_of("public.orders)|(x")),
    "unknown type": ("teleport", {}),
    "no type": (None, None),
    "bad filter": (
        "execute-snapshot",
        snapshot_of("public.orders", **{"additional-conditions": [filtered(".*", "SELECT * FROM orders")]}),
    ),
    "filter that writes": (
        "execute-snapshot",
        snapshot_of(
            "public.orders", **{"additional-conditions": [filtered(".*", "id IN (DELETE FROM orders RETURNING id)")]}
        ),
    ),
    "bad expression to stop": ("stop-snapshot", {"data-collections": ["["]}),
}


def test_wrong_signals_are_refused_with_a_remedy_and_stop_nothing(
    database: str, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    for name, (kind, data) in WRONG.items():
        signal(database, kind, data, name)  # type: ignore[arg-type]
    signal(database, "execute-snapshot", snapshot_of("public.bare"))
    catch_up(pipeline, database)
    assert {table for table, _ in read(pipeline)} == {"bare"}
    said = [record.__dict__ for record in caplog.records if record.levelno == logging.WARNING]
    refused = [words for words in said if words.get("channel") == "table"]
    assert sorted(words["id"].partition(" at ")[0] for words in refused) == sorted(WRONG)
    assert all(words["hint"] for words in refused)


def test_a_filter_that_fails_gives_up_that_table_only(database: str, pipeline: Pipeline) -> None:
    conditions = [filtered("public.orders", "no_such_column = 1"), filtered("public.bare", "id < 3")]
    signal(database, "execute-snapshot", snapshot_of("public.*", **{"additional-conditions": conditions}))
    catch_up(pipeline, database)
    tables = {table for table, _ in read(pipeline)}
    assert "orders" not in tables
    assert {"bare", "parts_0", "parts_1"} <= tables
    assert sum(table == "bare" for table, _ in read(pipeline)) == 2


def test_a_line_for_the_log_has_the_position(
    database: str, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    signal(database, "log", {"message": "we are at {}"})
    catch_up(pipeline, database)
    (said,) = [record.__dict__["said"] for record in caplog.records if "a signal says" in record.getMessage()]
    assert said.startswith("we are at ")
    assert "/" in said


def test_a_table_with_other_columns_is_no_reason_to_stop(database: str, pipeline: Pipeline) -> None:
    execute(database, "ALTER TABLE ops.signals DROP COLUMN data")
    execute(database, "INSERT INTO ops.signals VALUES ('a', 'log')")
    execute(database, "ALTER TABLE ops.signals ADD COLUMN data text, ADD COLUMN more int")
    signal_row = json.dumps(snapshot_of("public.bare"))
    execute(database, f"INSERT INTO ops.signals VALUES ('b', 'execute-snapshot', '{signal_row}', 7)")
    catch_up(pipeline, database)
    assert {table for table, _ in read(pipeline)} == {"bare"}


def test_without_the_table_the_start_says_how_to_make_it(database: str) -> None:
    execute(database, TABLES)
    execute(database, "DROP TABLE ops.signals")
    with pytest.raises(EnvironmentNotReady, match=r"signal table ops.signals does not exist") as refused:
        Pipeline(config_for(database)).run(lambda p: True)
    execute(database, refused.value.hint.removeprefix("let its owner run: ").partition(";")[0])
    assert Pipeline(config_for(database)).run(lambda p: p.nothing_left)


def test_an_owner_is_told_to_publish_the_table(database: str) -> None:
    execute(database, TABLES)
    execute(database, "CREATE PUBLICATION mine FOR TABLE finish, orders, bare, parts")
    config = config_for(database, publication="mine", manage_publication=False)
    with pytest.raises(EnvironmentNotReady, match=r"does not publish ops\.signals") as refused:
        Pipeline(config).run(lambda p: True)
    assert 'ALTER PUBLICATION "mine" ADD TABLE ONLY "ops"."signals"' in refused.value.hint


def test_an_expression_that_takes_too_long_is_cancelled(database: str) -> None:
    began = time.monotonic()
    with pytest.raises(Unusable, match="take too long"):
        matching(database, ["public." + "a" * 63], [r"public\.(a*)(a*)(a*)(a*)(a*)(a*)(a*)\1\2\3\4\5\6\7"])
    assert time.monotonic() - began < 10


def test_names_are_matched_as_a_whole_and_as_they_are(database: str) -> None:
    names = ["public.a", "public.ab", "public.A", "public.a+b"]
    assert matching(database, names, ["public.a", "public.a|x", "public.a+b", "(?i)public.a"]) == [
        ["public.a"],
        ["public.a"],
        ["public.ab", "public.a+b"],
        ["public.a", "public.A"],
    ]
    assert matching(database, names, ["PUBLIC.A"], ignoring_case=True) == [["public.a", "public.A"]]

"""Wire compatibility: the records that Debezium 3.6.3 emitted, record by record and schema by schema."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pycdc.config import Config, TableRule
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.workers import Workers
from pycdc.encoding import Planner, read
from pycdc.loading import validate
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from pycdc.processes import Processes
from tests.recording import Recorded, RecordingSink

GOLDEN = Path(__file__).parent / "golden"
NOT_REPRODUCIBLE = {"ts_ms", "ts_us", "ts_ns", "lsn", "sequence", "txId", "xmin", "db", "version"}
NOT_REPRODUCIBLE |= {"__lsn", "__source_ts_ms"}


def statements(script: str) -> list[str]:
    """The statements of a script, split at semicolons outside of quotes."""
    out, start, quoted = [], 0, ""
    for index, char in enumerate(script):
        if quoted:
            quoted = "" if char == quoted else quoted
        elif char in "'\"":
            quoted = char
        elif char == ";":
            out.append(script[start:index])
            start = index + 1
    return [statement for statement in [*out, script[start:]] if statement.strip()]


def execute(dsn: str, script: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements((GOLDEN / script).read_text()):
            connection.execute(statement.encode())


def config_for(dsn: str, name: str, snapshot: str, *, workers: int = 1, **options: Any) -> Config:
    return validate(
        {
            "name": name,
            "source": {"postgres": {"dsn": dsn, "snapshot": snapshot, "workers": workers}},
            "sink": {"null": {}},
            "compatibility": "debezium",
            **options,
        }
    )


def record_until(config: Config, dsn: str, script: str | None, end: Any) -> list[Recorded]:
    """Run the engine, then the script, until `end` holds of the records."""
    offsets = MemoryOffsetStore()
    sink = RecordingSink(config, offsets)
    workers = None
    if config.capture.workers > 1:
        count = config.capture.workers
        workers = Workers(count, lambda: Processes(count), Planner(config, sink.schemas, keeps=True), read)
    loop = Loop(
        lambda: PostgresConnector(config, None, workers), lambda: sink, offsets, config.checkpoint, config.retries
    )
    failures: list[BaseException] = []

    def run() -> None:
        try:
            loop.run()
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if script is not None:
            wait_for(lambda: (offsets.load() is not None and offsets.load().snapshot_done) or bool(failures))
            execute(dsn, script)
        wait_for(lambda: end(sink.records) or bool(failures))
    finally:
        loop.stop()
        thread.join(30)
    if failures:
        raise failures[0]
    return sink.records


def wait_for(condition: Any, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in NOT_REPRODUCIBLE}
    return value


def golden(name: str) -> list[Recorded]:
    """The recording, with schemas as the text that a registry saw."""
    schemas = json.loads((GOLDEN / f"{name}.schemas.json").read_text())

    def text(number: int | None) -> str | None:
        if number is None:
            return None
        schema = schemas[str(number)]
        loaded = json.loads(schema) if isinstance(schema, str) and schema.startswith(("{", "[")) else schema
        return json.dumps(loaded, separators=(",", ":"), ensure_ascii=False)

    lines = (GOLDEN / f"{name}.jsonl").read_text().splitlines()
    return [
        Recorded(
            record["topic"],
            text(record["key_schema"]),
            record["key"],
            text(record["value_schema"]),
            record["value"],
            [header for header in record.get("headers", []) if not header[0].startswith("__debezium.context.")],
        )
        for record in map(json.loads, lines)
    ]


def assert_equal(ours: list[Recorded], theirs: list[Recorded], *, headers: bool = False) -> None:
    # Order is a matter of each topic: Kafka knows none between topics.
    ours, theirs = (sorted(records, key=lambda record: record.topic) for records in (ours, theirs))
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        where = f"record {index} of {other.topic}"
        assert mine.topic == other.topic, where
        assert mine.key_schema == other.key_schema, where
        assert mine.key == other.key, where
        assert mine.value_schema == other.value_schema, where
        assert comparable(mine.value) == comparable(other.value), where
        if headers:
            # The one addition: Debezium does not say which values are not there.
            added = [header for header in mine.headers if header[0] == "__pycdc.unavailable"]
            assert [header for header in mine.headers if header not in added] == other.headers, where
            assert bool(added) == ("__debezium_unavailable_value" in json.dumps(other.value)), where
    assert len(ours) == len(theirs)


def has_end(records: list[Recorded]) -> bool:
    return any(
        record.topic.endswith("t_nopk") and record.value["after"] == {"a": 99999, "b": "END"} for record in records
    )


def test_streamed_changes_equal_the_recording(contrib_database: str) -> None:
    execute(contrib_database, "types.sql")
    ours = record_until(config_for(contrib_database, "shop", "never"), contrib_database, "ops.sql", has_end)
    assert_equal(ours, golden("stream"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_snapshot_equals_the_recording(contrib_database: str, workers: int) -> None:
    execute(contrib_database, "types.sql")
    execute(contrib_database, "snap.sql")
    theirs = golden("snapshot")
    ours = record_until(
        config_for(contrib_database, "shop", "only", workers=workers),
        contrib_database,
        None,
        lambda records: len(records) >= len(theirs),
    )
    assert_equal(ours, theirs)


def test_headers_of_a_changed_key_equal_the_recording(contrib_database: str) -> None:
    execute(contrib_database, "smt_tables.sql")
    theirs = golden("headers")
    ours = record_until(
        config_for(contrib_database, "r_plain", "never"),
        contrib_database,
        "unwrap.sql",
        lambda records: len(records) >= len(theirs),
    )
    assert_equal(ours, theirs, headers=True)


def test_flattened_records_equal_the_recording(contrib_database: str) -> None:
    execute(contrib_database, "smt_tables.sql")
    theirs = golden("unwrap")
    ours = record_until(
        config_for(
            contrib_database, "r_unwrap1", "never", flatten={"add_fields": ["op", "table", "lsn", "source.ts_ms"]}
        ),
        contrib_database,
        "unwrap.sql",
        lambda records: len(records) >= len(theirs),
    )
    assert_equal(ours, theirs, headers=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("outbox", {"topic": "outbox1.{route}"}),
        (
            "outbox_fields",
            {
                "topic": "outbox4.{route}",
                "additional": [
                    {"column": "type", "to": "header", "name": "eventType"},
                    {"column": "tenant", "to": "envelope"},
                    {"column": "region", "to": "envelope", "name": "area"},
                ],
                "schema_version": "version",
                "tombstone_on_empty_payload": True,
            },
        ),
    ],
)
def test_events_of_an_outbox_equal_the_recording(contrib_database: str, name: str, options: Any) -> None:
    execute(contrib_database, "smt_tables.sql")
    theirs = golden(name)
    prefix = {"outbox": "r_outbox1", "outbox_fields": "r_outbox4"}[name]
    ours = record_until(
        config_for(contrib_database, prefix, "never", outbox=options),
        contrib_database,
        "outbox.sql",
        lambda records: len(records) >= len(theirs),
    )
    assert_equal(ours, theirs, headers=True)


@pytest.mark.parametrize("snapshot", ["never", "initial"])
def test_the_honest_default_has_the_same_schemas_but_for_the_columns_debezium_drops(
    contrib_database: str, snapshot: str
) -> None:
    execute(contrib_database, "types.sql")
    config = config_for(
        contrib_database, "shop", snapshot, compatibility="honest", values={"unknown_types": "debezium"}
    )
    exclude = TableRule(tables="public.t_arr", exclude_columns=["i2"])
    config = config.model_copy(update={"rules": [exclude]})
    ours = record_until(config, contrib_database, "ops.sql", has_end)
    expected = {record.value_schema for record in golden("stream") if record.topic != "shop.public.t_arr"}
    assert {record.value_schema for record in ours if record.topic != "shop.public.t_arr"} == expected

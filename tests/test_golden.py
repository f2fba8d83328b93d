"""Wire compatibility: what Debezium 3.6.3 and 3.7.0 emitted, record by record and schema by schema."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.config.values import TableRule
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.snapshot.parallel import Workers
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from pycdc.process_pool import ProcessPool
from pycdc.snapshot_worker import TablePlanner, read
from tests.reading import wait_for
from tests.recording import Recorded, RecordingSink

GOLDEN = Path(__file__).parent / "golden"
NOT_REPRODUCIBLE = {"ts_ms", "ts_us", "ts_ns", "lsn", "sequence", "txId", "xmin", "db", "version"}
NOTHING: Mapping[str, str] = {}
NOT_REPRODUCIBLE |= {"__lsn", "__source_ts_ms", "timestamp"}
ENTRY = {"key", "value"}
"""Of a map whose keys are no strings: its order there is that of a hash table."""


def statements(script: str) -> list[str]:
    """The statements of a script, split at semicolons outside of quotes; comments, and psql's commands, have lines of
    their own."""
    script = "\n".join(line for line in script.splitlines() if not line.startswith(("--", "\\")))
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


def _snapshot_done(offsets: MemoryOffsetStore) -> bool:
    stored = offsets.load()
    return stored is not None and stored.snapshot_done


def inserted(records: list[Recorded], statement: str) -> bool:
    """Whether the row that the statement inserts was delivered."""
    if not statement.lstrip().startswith("insert"):
        return True
    known = int(statement.split("values (")[1].split(",")[0])
    return any(record.key == {"id": known} for record in records)


def signalled(records: list[Recorded], statement: str) -> bool:
    """Whether all rows were read that a signal asks for."""
    reads = [record for record in records if record.value is not None and record.value.get("op") == "r"]
    return "execute-snapshot" not in statement or len(reads) == 7


def execute(dsn: str, script: str, after: Callable[[str], None] | None = None) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements((GOLDEN / script).read_text()):
            connection.execute(statement.encode())
            if after is not None:
                after(statement)


def config_for(
    dsn: str,
    name: str,
    snapshot: str,
    *,
    workers: int = 1,
    chunk: int = 20_000,
    exclude_tables: Sequence[str] = (),
    **options: Any,
) -> CapturePipeline:
    source = {"dsn": dsn, "snapshot": snapshot, "workers": workers, "snapshot_chunk": chunk}
    source["exclude_tables"] = [*exclude_tables]
    return validate_capture(
        {
            "name": name,
            "source": {"postgres": source},
            "sink": {"null": {}},
            **options,
        }
    )


def record_until(
    config: CapturePipeline,
    dsn: str,
    script: str | None,
    end: Any,
    *,
    delivered: Callable[[list[Recorded], str], bool] | None = None,
) -> list[Recorded]:
    """Run the engine, then the script, until `end` holds of the records. `delivered`: what has to hold of them behind a
    statement before the next one runs."""
    offsets = MemoryOffsetStore()
    sink = RecordingSink(config, offsets)
    workers = None
    if config.source.postgres.workers > 1:
        count = config.source.postgres.workers
        workers = Workers(count, lambda: ProcessPool(count), TablePlanner(config, sink.schemas, keeps=True), read)
    loop = Loop(
        lambda: PostgresConnector(config, None, workers), lambda: sink, offsets, config.checkpoint, config.retries
    )
    failures: list[BaseException] = []

    def run() -> None:
        try:
            loop.run()
        except BaseException as exc:
            failures.append(exc)

    def after(statement: str) -> None:
        wait_for(lambda: delivered is None or delivered(sink.records, statement) or bool(failures))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if script is not None:
            wait_for(lambda: _snapshot_done(offsets) or bool(failures))
            execute(dsn, script, after)
        wait_for(lambda: end(sink.records) or bool(failures))
    finally:
        loop.stop()
        thread.join(120)
    if failures:
        raise failures[0]
    return sink.records


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if key not in NOT_REPRODUCIBLE}
    if isinstance(value, list) and value and all(isinstance(item, dict) and item.keys() == ENTRY for item in value):
        return sorted(value, key=lambda entry: entry["key"])
    return value


def golden(line: str, name: str) -> list[Recorded]:
    """The recording, with schemas as the text that a registry saw."""
    schemas = json.loads((GOLDEN / line / f"{name}.schemas.json").read_text())

    def text(number: int | None) -> str | None:
        if number is None:
            return None
        schema = schemas[str(number)]
        loaded = json.loads(schema) if isinstance(schema, str) and schema.startswith(("{", "[")) else schema
        return json.dumps(loaded, separators=(",", ":"), ensure_ascii=False)

    lines = (GOLDEN / line / f"{name}.jsonl").read_text().splitlines()
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


def differences(ours: Any, theirs: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ, by dotted names of fields, and what stands there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in [*ours, *(name for name in theirs if name not in ours)]:
            yield from differences(ours.get(name, "absent"), theirs.get(name, "absent"), f"{place}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, two) in enumerate(zip(ours, theirs, strict=True)):
            called = one.get("name", index) if isinstance(one, dict) else index
            yield from differences(one, two, f"{place}.{called}")
    elif ours != theirs:
        yield place, ours, theirs


def compared(ours: list[Recorded], theirs: list[Recorded]) -> Iterator[tuple[str, Any, Any]]:
    """Where the records differ. Order is a matter of each topic: Kafka knows none between topics."""
    ours, theirs = (sorted(records, key=lambda record: record.topic) for records in (ours, theirs))
    assert [record.topic for record in ours] == [record.topic for record in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        key = json.dumps(other.key, ensure_ascii=False)
        place = f"{other.topic.rpartition('.')[2]} {key}"
        # The one addition: Debezium does not say which values are not there.
        mine = replace(mine, headers=[header for header in mine.headers if header[0] != "__pycdc.unavailable"])
        for part in ("key_schema", "key", "value_schema", "value", "headers"):
            one, two = getattr(mine, part), getattr(other, part)
            if part.endswith("schema"):
                if one == two:
                    continue
                one, two = json.loads(one or "null"), json.loads(two or "null")
                if one == two:
                    yield f"{place} {part} order", getattr(mine, part), getattr(other, part)
            yield from differences(comparable(one), comparable(two), f"{place} {part}")


def assert_equal(ours: list[Recorded], theirs: list[Recorded], *, but: Mapping[str, str] = NOTHING) -> None:
    """They are equal but for the fields whose places match a pattern of `but`, which says why."""
    found = list(compared(ours, theirs))
    unexplained = [one for one in found if not any(fnmatchcase(one[0], pattern) for pattern in but)]
    assert not unexplained, "\n".join(f"{place}: {one!r} is {two!r} there" for place, one, two in unexplained[:200])


def has_end(records: list[Recorded]) -> bool:
    return any(
        record.topic.endswith("t_nopk") and record.value["after"] == {"a": 99999, "b": "END"} for record in records
    )


OVERFLOWS = "beyond 64 bits: an overflow there, no value here"
WRONG_THERE = {
    "g_def *.fields.r.*": "a default of NaN, which JSON has not",
    "g_def *.before.r": "a default of NaN, which JSON has not",
    "g_def *.fields.ad.*": "the keyword CURRENT_USER as text",
    "g_def * value.*.ad": "the keyword CURRENT_USER as text",
    "g_inf_def *.fields.*": "infinite defaults: numbers of an overflow that no row has",
    "g_inf_def * value.*": "infinite defaults: numbers of an overflow that no row has",
    "g_inf * value.after.*a.*": "arrays go through JDBC, which loses the era and makes -infinity a date",
    "g_inf * value.after.ts": OVERFLOWS,
    "g_inf * value.after.ts6": OVERFLOWS,
    "m_arr * value.after.ta.*": "arrays of time lose microseconds",
    "m_arr * value.after.tstza.1*": "-infinity in an array becomes a date",
    "m_tim * value.after.ts*": OVERFLOWS,
    "m_tim * value.after.iv*": OVERFLOWS,
}
WRONG_IN_SNAPSHOTS = {
    **WRONG_THERE,
    "g_inf * value.after.d": "JDBC loses the era",
    "m_tim * value.after.d*": "JDBC loses the era",
}


LINES = pytest.mark.parametrize("line", ["3.6", "3.7"])


def streamed(
    dsn: str,
    line: str,
    tables: str,
    script: str,
    name: str,
    prefix: str = "shop",
    *,
    but: Mapping[str, str] = NOTHING,
    **options: Any,
) -> None:
    """What the engine makes of the script while it streams equals the recording."""
    execute(dsn, tables)
    theirs = golden(line, name)
    config = config_for(dsn, prefix, "never", compatibility=f"debezium-{line}", **options)
    ours = record_until(config, dsn, script, lambda records: len(records) >= len(theirs))
    if not any(record.headers for record in theirs):
        ours = [replace(record, headers=[]) for record in ours]
    assert_equal(ours, theirs, but=but)


def snapshot_of(
    dsn: str,
    line: str,
    tables: str,
    script: str,
    name: str,
    *,
    workers: int = 1,
    but: Mapping[str, str] = NOTHING,
    **options: Any,
) -> None:
    """What the engine reads of these rows equals the recording."""
    execute(dsn, tables)
    execute(dsn, script)
    theirs = golden(line, name)
    config = config_for(dsn, "shop", "only", workers=workers, compatibility=f"debezium-{line}", **options)
    ours = record_until(config, dsn, None, lambda records: len(records) >= len(theirs))
    ours = [replace(record, headers=[]) for record in ours]
    assert_equal(ours, theirs, but=but)


@LINES
def test_streamed_changes_equal_the_recording(contrib_database: str, line: str) -> None:
    streamed(contrib_database, line, "types.sql", "ops.sql", "stream")


@LINES
@pytest.mark.parametrize("workers", [1, 2])
def test_a_snapshot_equals_the_recording(contrib_database: str, workers: int, line: str) -> None:
    snapshot_of(contrib_database, line, "types.sql", "snap.sql", "snapshot", workers=workers)


@LINES
def test_geometric_and_infinite_values_and_odd_types_equal_the_recording(contrib_database: str, line: str) -> None:
    streamed(contrib_database, line, "geo_tables.sql", "geo.sql", "geo", but=WRONG_THERE)


@LINES
def test_a_snapshot_of_them_equals_the_recording(contrib_database: str, line: str) -> None:
    snapshot_of(contrib_database, line, "geo_tables.sql", "geo_snap.sql", "geo_snapshot", but=WRONG_IN_SNAPSHOTS)


TOLD = {"tell_types": ["*"]}
NOT_YET = {"t_comp * value_schema.*.newcol.type.0.connect.parameters.*": "the type that the column has by now"}
NAMES = [("names", "geo", "public.g_geo*"), ("names_types", "types", "public.t_net")]


@LINES
@pytest.mark.parametrize(("name", "tables", "without"), NAMES)
def test_types_that_schemas_tell_equal_the_recording(
    contrib_database: str, name: str, tables: str, without: str, line: str
) -> None:
    created, script = ("geo_tables.sql", "geo.sql") if tables == "geo" else ("types.sql", "ops.sql")
    options: dict[str, Any] = {"rules": [TOLD], "exclude_tables": [without]}
    streamed(contrib_database, line, created, script, name, but=WRONG_THERE | NOT_YET, **options)


@LINES
@pytest.mark.parametrize(("name", "tables", "without"), NAMES)
def test_types_that_schemas_of_a_snapshot_tell_equal_the_recording(
    contrib_database: str, name: str, tables: str, without: str, line: str
) -> None:
    created, script = ("geo_tables.sql", "geo_snap.sql") if tables == "geo" else ("types.sql", "snap.sql")
    options: dict[str, Any] = {"rules": [TOLD], "exclude_tables": [without]}
    snapshot_of(contrib_database, line, created, script, f"{name}_snapshot", but=WRONG_IN_SNAPSHOTS, **options)


def _no_watermark(record: Recorded) -> bool:
    return not str(record.key["id"]).endswith(("-open", "-close"))


def _without_chance(record: Recorded) -> Recorded:
    """A notification without ids that nobody gave; tables are named in no order."""
    if record.topic != "notif":
        return record
    data = dict(record.value["additional_data"])
    if "data_collections" in data:
        data["data_collections"] = sorted(data["data_collections"].split(","))
    known = record.key["id"] if record.key["id"] == "ad-hoc-1" else "random"
    return replace(record, key={"id": known}, value={**record.value, "id": known, "additional_data": data})


def _said(record: Recorded) -> list[Any]:
    """What a notification is about; of other records nothing, so that they stay in their order."""
    value = record.value if record.topic == "notif" else {}
    return [value.get("type"), sorted(value.get("additional_data", {}).items(), key=str)]


NOTIFIED = {"notification_topic": "notif"}


@pytest.mark.pg("newest")
@LINES
def test_an_incremental_snapshot_and_its_notifications_equal_the_recording(database: str, line: str) -> None:
    """But for the watermarks in the signal table, which pycdc writes into the WAL."""
    execute(database, "inc_tables.sql")
    theirs = [_without_chance(record) for record in golden(line, "incremental") if _no_watermark(record)]
    options: dict[str, Any] = {"rules": [TOLD], "signals": {"table": "public.debezium_signal"}, "envelope": NOTIFIED}
    config = config_for(database, "shop", "never", chunk=2, compatibility=f"debezium-{line}", **options)
    ours = record_until(
        config, database, "inc_live.sql", lambda records: len(records) >= len(theirs), delivered=signalled
    )
    # The recording ends before the last insert.
    assert_equal([_without_chance(record) for record in ours if record.key != {"id": 8}], theirs)


@pytest.mark.pg("newest")
@LINES
@pytest.mark.parametrize("workers", [1, 2])
def test_notifications_of_a_snapshot_equal_the_recording(database: str, workers: int, line: str) -> None:
    execute(database, "inc_tables.sql")
    execute(database, "inc_live.sql")
    theirs = [_without_chance(one) for one in golden(line, "notifications") if "heartbeat" not in one.topic]
    config = config_for(database, "shop", "only", workers=workers, compatibility=f"debezium-{line}", envelope=NOTIFIED)
    ours = record_until(config, database, None, lambda records: len(records) >= len(theirs))
    ours = [_without_chance(record) for record in ours]
    if workers > 1:
        # Tables are read at the same time.
        ours, theirs = (sorted(records, key=lambda record: str(_said(record))) for records in (ours, theirs))
    assert_equal(ours, theirs)


MODES = ["adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds"]
VALUES = {mode: {"time": mode.replace("_time_", "_")} for mode in MODES}
LINES_AND_MODES = pytest.mark.parametrize(
    ("line", "mode"), [*((line, mode) for line in ("3.6", "3.7") for mode in MODES), ("3.7", "structured")]
)
VALUES["structured"] = {"time": "structured"}


@pytest.mark.pg("newest")
@LINES_AND_MODES
def test_every_mode_of_times_equals_the_recording(database: str, mode: str, line: str) -> None:
    script = "temporal_nano.sql" if mode == "nanoseconds" else "temporal.sql"
    streamed(database, line, "temporal_tables.sql", script, f"temporal_{mode}", but=WRONG_THERE, values=VALUES[mode])


@pytest.mark.pg("newest")
@LINES_AND_MODES
def test_a_snapshot_in_every_mode_of_times_equals_the_recording(database: str, mode: str, line: str) -> None:
    name = f"temporal_{mode}_snapshot"
    snapshot_of(
        database, line, "temporal_tables.sql", "temporal_snap.sql", name, but=WRONG_IN_SNAPSHOTS, values=VALUES[mode]
    )


@pytest.mark.pg("newest")
@LINES
def test_an_enum_altered_while_streaming_equals_the_recording(database: str, line: str) -> None:
    execute(database, "enum_tables.sql")
    theirs = golden(line, "enum_live")
    config = config_for(database, "shop", "never", compatibility=f"debezium-{line}")
    ours = record_until(
        config, database, "enum_live.sql", lambda records: len(records) >= len(theirs), delivered=inserted
    )
    assert_equal([replace(record, headers=[]) for record in ours], theirs)


@pytest.mark.pg("newest")
def test_enums_in_domains_and_without_labels_equal_the_recording(database: str) -> None:
    streamed(database, "3.7", "enumdom_tables.sql", "enumdom.sql", "enumdom")


@pytest.mark.pg("newest")
def test_enums_in_domains_and_without_labels_do_not_end_what_follows_debezium_3_6(database: str) -> None:
    """Its task ends at the start, so that there is no recording: the values are those of 3.7."""
    execute(database, "enumdom_tables.sql")
    theirs = golden("3.7", "enumdom")
    config = config_for(database, "shop", "never", compatibility="debezium-3.6")
    ours = record_until(config, database, "enumdom.sql", lambda records: len(records) >= len(theirs))
    rows = [[record.value and record.value["after"] for record in records] for records in (ours, theirs)]
    assert rows[0] == rows[1]


@LINES
def test_headers_of_a_changed_key_equal_the_recording(contrib_database: str, line: str) -> None:
    streamed(contrib_database, line, "smt_tables.sql", "unwrap.sql", "headers", "r_plain")


@LINES
def test_flattened_records_equal_the_recording(contrib_database: str, line: str) -> None:
    flatten = {"add_fields": ["op", "table", "lsn", "source.ts_ms"]}
    streamed(contrib_database, line, "smt_tables.sql", "unwrap.sql", "unwrap", "r_unwrap1", flatten=flatten)


OUTBOXES = {
    "outbox": {"topic": "outbox1.{route}"},
    "outbox_fields": {
        "topic": "outbox4.{route}",
        "additional": [
            {"column": "type", "to": "header", "name": "eventType"},
            {"column": "tenant", "to": "envelope"},
            {"column": "region", "to": "envelope", "name": "area"},
        ],
        "schema_version": "version",
        "tombstone_on_empty_payload": True,
    },
}
PREFIXES = {"outbox": "r_outbox1", "outbox_fields": "r_outbox4"}


@LINES
@pytest.mark.parametrize("name", OUTBOXES)
def test_events_of_an_outbox_equal_the_recording(contrib_database: str, name: str, line: str) -> None:
    options = OUTBOXES[name]
    streamed(contrib_database, line, "smt_tables.sql", "outbox.sql", name, PREFIXES[name], outbox=options)


EXPANDED = {
    "outbox_expand": {"topic": "outboxe.{route}", "expand_json_payload": True},
    "outbox_expand_optional": {
        "topic": "outboxo.{route}",
        "expand_json_payload": True,
        "empty_arrays": "optional_string",
    },
}
BY_HASH = {
    '* "o-[28]" value_schema.*fields.objs.type.1.items.fields.[ab].*': "fields of objects that differ, in the order of "
    "a hash table",
    '* "o-[28]" value_schema order': "the same",
}


@pytest.mark.parametrize(
    ("line", "name"), [("3.6", "outbox_expand"), ("3.7", "outbox_expand"), ("3.7", "outbox_expand_optional")]
)
def test_payloads_that_are_expanded_equal_the_recording(contrib_database: str, line: str, name: str) -> None:
    outbox = EXPANDED[name]
    streamed(contrib_database, line, "smt_tables.sql", "outbox_empty.sql", name, outbox=outbox, but=BY_HASH)


@pytest.mark.pg("newest")
@LINES
def test_vectors_equal_the_recording(database: str, line: str) -> None:
    streamed(database, line, "vec_tables.sql", "vec.sql", "vec")


@pytest.mark.pg("newest")
@LINES
def test_types_of_vectors_that_schemas_tell_equal_the_recording(database: str, line: str) -> None:
    streamed(database, line, "vec_tables.sql", "vec.sql", "vec_names", rules=[TOLD])


@pytest.mark.pg("newest")
@LINES
def test_a_snapshot_of_vectors_equals_the_recording(database: str, line: str) -> None:
    snapshot_of(database, line, "vec_tables.sql", "vec_snap.sql", "vec_snapshot")


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
    expected = {record.value_schema for record in golden("3.7", "stream") if record.topic != "shop.public.t_arr"}
    assert {record.value_schema for record in ours if record.topic != "shop.public.t_arr"} == expected

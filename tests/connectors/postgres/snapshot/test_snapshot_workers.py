"""A snapshot read by workers is the one that a single reader makes, whoever the workers are and whoever dies."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import pytest

from pycdc.build.capture import build_workers
from pycdc.config import validate_capture
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.connector import PostgresConnector
from pycdc.connectors.postgres.snapshot import initial as pinned
from pycdc.connectors.postgres.snapshot.block_ranges import TableBlocks, heap_of
from pycdc.connectors.postgres.snapshot.parallel import Task, Workers
from pycdc.errors import ConversionError, EnvironmentNotReady, PycdcError, SchemaIncompatible
from pycdc.model.change import Batch, Table
from pycdc.observability.progress import Progress
from pycdc.offsets.memory import MemoryOffsetStore
from pycdc.pipeline import Loop
from pycdc.process_pool import ProcessPool
from pycdc.snapshot_worker import TablePlanner, read
from pycdc.transforms.capture import CaptureTransforms, TransformingSink
from tests.connectors.postgres.reading import execute
from tests.recording import Recorded, RecordingSink

TABLES = """
CREATE TABLE empty (id int PRIMARY KEY, v text);
CREATE TABLE one (id int PRIMARY KEY, v text);
INSERT INTO one VALUES (1, 'only');
CREATE TABLE two (id int PRIMARY KEY, v text);
INSERT INTO two VALUES (1, 'a'), (2, 'b');
CREATE TABLE many (id int PRIMARY KEY, v text, n numeric(8,2));
INSERT INTO many SELECT (i * 48271) % 65537, repeat('x', i % 300), i / 7.0 FROM generate_series(1, 5000) i;
DELETE FROM many WHERE id % 5 = 0;
CREATE TABLE keyless (v text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
INSERT INTO keyless SELECT repeat('y', 100) || i FROM generate_series(1, 1000) i;
CREATE TABLE large (id int PRIMARY KEY, v text);
INSERT INTO large SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 50) i;
CREATE TABLE parts (id int, v text, PRIMARY KEY (id, v)) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parts SELECT i, repeat('z', 200) FROM generate_series(1, 1000) i;
"""
TIMES = {"ts_ms", "ts_us", "ts_ns", "lsn", "sequence"}


def config_for(dsn: str, name: str, **sections: Any) -> CapturePipeline:
    source = {"dsn": dsn, "snapshot": "only", "max_batch_bytes": 16384, "workers": 2, **sections.pop("source", {})}
    return validate_capture({"name": name, "source": {"postgres": source}, "sink": {"null": {}}, **sections})


class Sink(RecordingSink):
    """Counts what came encoded; `hook` sees each batch."""

    encoded = 0
    hook: Callable[[Batch], None] | None = None

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.encoded += sum(rows.rows for rows in batch.encoded)
        if self.hook is not None:
            self.hook(batch)


def snapshot(
    config: CapturePipeline,
    executor: Callable[[], Executor] | None,
    hook: Callable[[Batch], None] | None = None,
    *,
    keeps: bool = False,
) -> Sink:
    """Read by the workers of an executor, or by the pipeline itself."""
    offsets = MemoryOffsetStore()
    sink = Sink(config, offsets)
    sink.hook = hook
    workers = None
    if executor is not None:
        workers = Workers(
            config.source.postgres.workers, executor, TablePlanner(config, sink.schemas, keeps=keeps), read
        )
    transforms = CaptureTransforms(config, Progress())
    loop_over(config, workers, TransformingSink(sink, transforms), offsets).run()
    execute(config.source.postgres.dsn.get_secret_value(), f"SELECT pg_drop_replication_slot('{config.slot}')")
    return sink


def loop_over(
    config: CapturePipeline, workers: Workers | None, sink: Any, offsets: MemoryOffsetStore
) -> Loop[Any, Any]:
    progress = Progress()
    source = partial(PostgresConnector, config, progress, workers)
    return Loop(source, lambda: sink, offsets, config.checkpoint, config.retries, progress)


def told(records: list[Recorded]) -> dict[str, list[Any]]:
    """What records say, by topic and in order, without the name of the pipeline and the time."""
    found: dict[str, list[Any]] = {}
    for record in records:
        value = {name: what for name, what in record.value.items() if name not in TIMES}
        value["source"] = {name: what for name, what in value["source"].items() if name not in {*TIMES, "name", "db"}}
        topic = record.topic.partition(".")[2]
        found.setdefault(topic, []).append((record.key, value, record.headers))
    return found


def markers(records: list[Any]) -> list[str]:
    return [value["source"]["snapshot"] for _, value, _ in records]


def values(records: list[Recorded], table: str) -> list[Any]:
    return sorted(str(record.value["after"]) for record in records if record.topic.endswith(table))


def threads() -> Executor:
    return ThreadPoolExecutor(2)


def processes() -> Executor:
    return ProcessPool(2)


def standard_processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


def local_cluster() -> Executor:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")  # type: ignore[no-untyped-call]
    executor: Executor = Client(cluster).get_executor()  # type: ignore[no-untyped-call]
    return executor


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    "executor",
    [
        threads,
        processes,
        standard_processes,
        pytest.param(
            local_cluster,
            marks=[
                pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="Dask needed"),
                pytest.mark.filterwarnings("default"),
            ],
        ),
    ],
)
@pytest.mark.parametrize("via_root", [False, True])
def test_workers_deliver_the_records_of_a_single_reader(
    database: str, executor: Callable[[], Executor], via_root: bool
) -> None:
    execute(database, TABLES)
    source = {"via_partition_root": via_root}
    alone = snapshot(config_for(database, "alone", source=source), None)
    helped = snapshot(config_for(database, "helped", source=source), executor, keeps=executor is processes)
    assert alone.encoded == 0
    assert helped.encoded > 5000, "most rows were encoded by the workers"
    theirs, ours = told(alone.records), told(helped.records)
    if via_root:
        # Ranges run through all partitions side by side: the order is not the same, as it is not in the table.
        assert markers(ours.pop("public.parts")) == markers(theirs["public.parts"])
        assert values(helped.records, "parts") == values(alone.records, "parts")
        del theirs["public.parts"]
    assert ours == theirs
    rows = execute(database, "SELECT count(*) FROM many")[0][0]
    assert Counter(record.topic.rpartition(".")[2] for record in helped.records)["many"] == rows


@pytest.mark.pg("newest")
def test_every_form_of_records_is_made_by_workers(database: str) -> None:
    execute(database, TABLES)
    sections: list[dict[str, Any]] = [
        {"flatten": {"add_fields": ["op", "table"]}},
        {
            "transforms": [
                {"tables": ["*.many"], "function": "tests.connectors.postgres.snapshot.test_snapshot_workers:double"}
            ]
        },
        {"rules": [{"tables": "*.many", "exclude_columns": ["n"], "hash": [{"columns": ["v"], "salt": "s"}]}]},
    ]
    for number, section in enumerate(sections):
        source = {"tables": ["public.many"]}
        alone = snapshot(config_for(database, f"alone{number}", source=source, **section), None)
        helped = snapshot(config_for(database, f"helped{number}", source=source, **section), processes, keeps=True)
        bare = [
            [(r.key, {**r.value, "ts_ms": 0, "ts_us": 0, "ts_ns": 0, "source": None}, r.headers) for r in made.records]
            for made in (alone, helped)
        ]
        assert bare[0] == bare[1]
        assert helped.encoded > 3000


def double(change: Any) -> Any:
    if change.after["id"] % 2:
        return [change, replace(change, after={**change.after, "v": "again"})]
    return change


@pytest.mark.pg("newest")
def test_a_worker_that_is_killed_is_replaced_and_no_row_comes_twice_or_never(database: str) -> None:
    execute(database, TABLES)
    made: list[ProcessPool] = []
    killed: set[int] = set()

    def executor() -> Executor:
        made.append(ProcessPool(2))
        return made[-1]

    def kill(batch: Batch) -> None:
        if len(killed) < 6:
            pids = made[0].pids if made else []
            killed.update(pids)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    alone = snapshot(config_for(database, "alone"), None)
    helped = snapshot(config_for(database, "helped"), executor, kill, keeps=True)
    assert len(killed) >= 6
    assert told(helped.records) == told(alone.records)
    assert made[0].pids == [], "none is left behind"


@pytest.mark.pg("newest")
@pytest.mark.parametrize("executor", [None, threads])
def test_a_table_without_blocks_of_rows_is_read_by_its_key(
    database: str, executor: Callable[[], Executor] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, TABLES)
    many = execute(database, "SELECT 'many'::regclass::oid::int8")[0][0]
    known = heap_of

    def strange(connection: Any, oid: int, *, parted: bool) -> TableBlocks:
        return replace(known(connection, oid, parted=parted), ordinary=oid != many)

    monkeypatch.setattr("pycdc.connectors.postgres.snapshot.copy_reader.heap_of", strange)
    monkeypatch.setattr(pinned, "_PING", 0.0)
    made = snapshot(config_for(database, "strange"), executor)
    keys = [record.key["id"] for record in made.records if record.topic.endswith("many")]
    assert keys == [row[0] for row in execute(database, "SELECT id FROM many ORDER BY id")]
    assert values(made.records, "keyless") == sorted(
        str({"v": row[0]}) for row in execute(database, "SELECT v FROM keyless")
    )


@pytest.mark.pg("newest")
def test_a_table_whose_schema_is_refused_is_left_to_the_pipeline_and_its_sink(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, TABLES)
    plan = TablePlanner.__call__

    def refusing(self: TablePlanner, table: Table, *args: Any) -> bytes:
        if table.name == "many":
            raise SchemaIncompatible("refused")
        return plan(self, table, *args)

    monkeypatch.setattr(TablePlanner, "__call__", refusing)
    monkeypatch.setattr(pinned, "_PING", 0.0)
    rows: Counter[str] = Counter()

    def count(batch: Batch) -> None:
        rows.update({str(encoded.table): encoded.rows for encoded in batch.encoded})

    made = snapshot(config_for(database, "refused"), threads, count)
    assert rows["public.large"] > 0
    assert "public.many" not in rows
    assert values(made.records, "many") == values(snapshot(config_for(database, "alone"), None).records, "many")


@pytest.mark.pg("newest")
def test_a_value_that_cannot_be_written_ends_the_pipeline_and_its_workers(database: str) -> None:
    execute(database, TABLES)
    execute(database, "UPDATE many SET n = 'NaN' WHERE id = (SELECT max(id) FROM many)")
    made: list[ProcessPool] = []

    def executor() -> Executor:
        made.append(ProcessPool(2))
        return made[-1]

    config = config_for(database, "stopped", source={"tables": ["public.many"]})
    with pytest.raises(PycdcError) as caught:
        snapshot(config, executor, keeps=True)
    assert isinstance(caught.value, ConversionError)
    assert "'n'" in caught.value.fact
    assert made[0].pids == []
    execute(database, f"SELECT pg_drop_replication_slot('{config.slot}')")


@pytest.mark.pg("newest")
def test_values_that_became_null_in_workers_are_counted(database: str) -> None:
    execute(database, TABLES)
    execute(database, "UPDATE many SET n = 'NaN' WHERE id % 10 = 1")
    (expected,) = execute(database, "SELECT count(*) FROM many WHERE n = 'NaN'")[0]
    config = config_for(
        database, "nulls", source={"tables": ["public.many"]}, compatibility={"unrepresentable": "null"}
    )
    offsets = MemoryOffsetStore()
    sink = Sink(config, offsets)
    workers = Workers(2, processes, TablePlanner(config, sink.schemas, keeps=True), read)
    loop = loop_over(config, workers, sink, offsets)
    loop.run()
    execute(database, f"SELECT pg_drop_replication_slot('{config.slot}')")
    assert sink.encoded > 3000
    in_workers = loop.progress.nulled["public.many", "n"]
    heads_and_tails = sum(r.value["after"]["n"] is None for r in sink.records) - in_workers
    assert in_workers > expected / 2
    assert in_workers + heads_and_tails == expected
    assert [(table.done, table.finished) for table in loop.progress.snapshot] == [(len(sink.records), True)]


@pytest.mark.pg("newest")
def test_a_stop_does_not_wait_for_workers_that_hang(database: str) -> None:
    execute(database, TABLES)
    begun, free = threading.Event(), threading.Event()

    def hang(task: Task) -> Any:
        begun.set()
        free.wait(60)
        raise EnvironmentNotReady("nobody waits for this")

    config = config_for(database, "hanging")
    offsets = MemoryOffsetStore()
    sink = Sink(config, offsets)
    executor = ThreadPoolExecutor(2)
    workers = Workers(2, lambda: executor, TablePlanner(config, sink.schemas, keeps=False), hang)
    loop = loop_over(config, workers, sink, offsets)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        assert begun.wait(120)
        loop.stop()
        thread.join(120)
        assert not thread.is_alive()
    finally:
        free.set()
        executor.shutdown()
        thread.join()
    execute(database, f"SELECT pg_drop_replication_slot('{config.slot}')")


def test_workers_are_what_the_configuration_says() -> None:
    one, several, named = (
        build_workers(config_for("host=nowhere", "shop", source=source))
        for source in ({"workers": 1}, {"workers": 3}, {"workers": 5, "executor": f"{__name__}:threads"})
    )
    assert one is None
    assert several is not None
    assert named is not None
    assert (several.count, named.count) == (3, 5)
    with several.executor() as ours, named.executor() as theirs:
        assert isinstance(ours, ProcessPool)
        assert isinstance(theirs, ThreadPoolExecutor)


def test_workers_need_a_sink_that_takes_records() -> None:
    with pytest.raises(PycdcError, match="has workers"):
        validate_capture(
            {
                "name": "shop",
                "source": {"postgres": {"dsn": "host=nowhere", "workers": 2}},
                "sink": {"console": {}},
            }
        )

"""The slot is acquired first; what decides about the start is read after that."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import Any

import pytest

from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.connectors.postgres.replication.stream import ReplicationStream
from pycdc.connectors.postgres.signals.messages import Signal, ask
from pycdc.errors import PositionGap, SlotActive
from pycdc.interfaces import Checkpoint
from pycdc.model.change import Batch, Lsn, Op
from pycdc.offsets.memory import MemoryOffsetStore
from tests.connectors.postgres.looping import Looping, config_for
from tests.connectors.postgres.reading import execute
from tests.services.postgres import PostgresServer

pytestmark = [pytest.mark.server, pytest.mark.pg("newest")]
SLOT = "pycdc_loop"
END_READER = f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"


def reader(dsn: str) -> ReplicationStream:
    """Another session that reads the pipeline's slot."""
    options = config_for(dsn).source.postgres
    return ReplicationStream(dsn, slot=SLOT, publications=["pycdc_loop"], options=options)


def stored(offsets: MemoryOffsetStore) -> Checkpoint:
    checkpoint = offsets.load()
    assert checkpoint is not None
    return checkpoint


def ids(running: Looping) -> list[int]:
    return [record.key["id"] for record in running.records]


def waits_for_the_slot(running: Looping, caplog: pytest.LogCaptureFixture) -> None:
    running.until(lambda: any("slot is in use" in record.getMessage() for record in caplog.records))


def test_what_another_reader_confirmed_while_the_pipeline_waited_is_a_gap(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    offsets, config = MemoryOffsetStore(), config_for(database, snapshot="never")
    with Looping(config, offsets) as first:
        first.until_streaming()
        execute(database, "INSERT INTO a VALUES (1)")
        first.until(lambda: ids(first) == [1] and offsets.load().position.lsn > 0)  # type: ignore[union-attr]
    with reader(database) as other:
        other.open(Lsn(0))
        with Looping(config, offsets) as second:
            waits_for_the_slot(second, caplog)
            execute(database, "INSERT INTO a SELECT generate_series(2, 11)")
            end = execute(database, "SELECT pg_current_wal_lsn()::text")[0][0]
            while other.received < Lsn.parse(end):
                other.read(100, 1 << 20, 0.1)
            other.confirm(other.received)
            other.close()
            assert isinstance(second.failure(), PositionGap)


def test_a_second_instance_goes_on_where_the_first_one_stopped(database: str, caplog: pytest.LogCaptureFixture) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    offsets, config = MemoryOffsetStore(), config_for(database, snapshot="never")
    with Looping(config, offsets) as first:
        first.until_streaming()
        with Looping(config, offsets) as second:
            waits_for_the_slot(second, caplog)
            execute(database, "INSERT INTO a SELECT generate_series(1, 500)")
            first.until(lambda: len(ids(first)) == 500)
            first.stop()
            second.until_streaming()
            execute(database, "INSERT INTO a VALUES (501)")
            second.until(lambda: 501 in ids(second))
            assert second.error is None
            assert ids(first) + ids(second) == list(range(1, 502))


def test_a_snapshot_that_was_asked_for_meanwhile_is_the_second_instances_too(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 40)")
    offsets, config = MemoryOffsetStore(), config_for(database, snapshot="never", snapshot_chunk=5)
    with Looping(config, offsets) as first:
        first.until_streaming()
        with Looping(config, offsets) as second:
            waits_for_the_slot(second, caplog)
            held, go = threading.Event(), threading.Event()

            def hold(batch: Batch) -> None:
                if any(run.op is Op.READ for run in batch.runs) and len(first.records) >= 10:
                    held.set()
                    go.wait(30)

            first.sink.pause = hold
            ask(config, Signal("snapshot", ("public.a",)), stored(offsets).source)
            first.until(held.is_set)
            first.loop.stop()
            go.set()
            first.stop()
            second.until(lambda: set(ids(first) + ids(second)) == set(range(1, 41)))


def test_the_slot_is_the_pipelines_while_the_snapshot_is_read(database: str) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
    held, go = threading.Event(), threading.Event()

    def hold(batch: Batch) -> None:
        if batch.runs:
            held.set()
            go.wait(30)

    with Looping(config_for(database)) as running:
        running.sink.pause = hold
        running.until(held.is_set)
        with reader(database) as other, pytest.raises(SlotActive):
            other.open(Lsn(0), 0)
        go.set()
        running.until_streaming()


@pytest.mark.parametrize("method", ["pinned", "chunks"])
def test_a_snapshot_whose_slot_was_taken_over_delivers_no_more_old_rows(database: str, method: str) -> None:
    execute(
        database,
        "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT i, 0 FROM generate_series(1, 9000) i",
    )
    offsets = MemoryOffsetStore()
    config = config_for(database, snapshot_method=method, snapshot_chunk=300)
    held, go = threading.Event(), threading.Event()
    late: list[Batch] = []

    def hold(batch: Batch) -> None:
        if held.is_set():
            late.append(batch)
        elif batch.runs:
            held.set()
            go.wait(60)

    with Looping(config, offsets) as first, ExitStack() as opened:
        opened.callback(go.set)
        first.sink.pause = hold
        first.until(held.is_set)
        second = opened.enter_context(Looping(config, offsets))
        execute(database, END_READER)
        second.until_streaming()
        execute(database, "UPDATE a SET v = 1 WHERE id > 8900; DELETE FROM a WHERE id <= 10")
        second.until(lambda: second.state("a", "v").get(9000) == 1 and len(second.state("a", "v")) == 8990)
        go.set()
        first.until(lambda: first.progress.reconnects > 0)
        assert not any(run.op is Op.READ for batch in late for run in batch.runs)
        assert second.error is None


def test_a_slot_that_was_made_anew_is_not_taken_for_the_one_before(database: str) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    offsets, config = MemoryOffsetStore(), config_for(database, snapshot="never")
    with Looping(config, offsets) as first:
        first.until_streaming()
        execute(database, "INSERT INTO a VALUES (1)")
        first.until(lambda: ids(first) == [1])
    execute(database, f"SELECT pg_drop_replication_slot('{SLOT}'); INSERT INTO a VALUES (2)")
    execute(database, f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')")
    with Looping(config, offsets) as second:
        assert isinstance(second.failure(), PositionGap)


def test_a_pipeline_that_waits_for_the_slot_stops_when_it_is_told_to(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    config = config_for(database, snapshot="never")
    with Looping(config) as first:
        first.until_streaming()
        with Looping(config) as second:
            waits_for_the_slot(second, caplog)
            second.stop()
            assert second.error is None


@pytest.mark.parametrize("how", ["restart", "terminate"])
def test_rows_that_a_chunk_read_before_a_commit_became_visible_never_follow_it(
    postgres: PostgresServer, database: str, how: str
) -> None:
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (2, 'old')")
    offsets, config = MemoryOffsetStore(), config_for(database, snapshot="never")
    with Looping(config, offsets) as first:
        running = first.until_streaming()
        postgres.configure(synchronous_standby_names="nobody")
        writer = threading.Thread(target=execute, args=(database, "UPDATE t SET v = 'new' WHERE id = 1"))
        writer.start()
        before = offsets.load()
        first.until(lambda: len(first.records) == 1 and offsets.load() != before)
        if how == "restart":
            first.stop()
            running = Looping(config, offsets).__enter__()
            running.sink.records += first.records
        else:
            execute(
                database,
                f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{SLOT}'",
            )
            first.until(lambda: first.progress.reconnects == 1)
        running.until_streaming()
        ask(config, Signal("snapshot", ("public.t",)), stored(offsets).source)
        running.until(lambda: running.progress.signals)
        postgres.configure(synchronous_standby_names="")
        writer.join()
        running.until(lambda: running.state("t", "v") == {1: "new", 2: "old"})
        running.stop()
        assert [r.value["after"]["v"] for r in running.records if r.key["id"] == 1][-1] == "new"


def test_a_table_that_is_renamed_while_it_is_published_is_looked_for_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "CREATE TABLE stays (id int PRIMARY KEY); CREATE TABLE old (id int PRIMARY KEY)")
    ensure, renamed = Admin.ensure_publication, list[str]()

    def ensure_late(*args: Any, **options: Any) -> None:
        if not renamed:
            execute(database, "ALTER TABLE old RENAME TO young")
            renamed.append("young")
        ensure(*args, **options)

    monkeypatch.setattr(Admin, "ensure_publication", ensure_late)
    with Looping(config_for(database, tables=["public.*"])) as running:
        running.until_streaming()
        execute(database, "INSERT INTO young VALUES (1)")
        running.until(lambda: running.state("young", "id") == {1: 1})

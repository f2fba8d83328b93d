"""Snapshots where the server is against them: WAL that may not be kept, a slot half made, a disk that is full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.signals import messages as signals
from pycdc.errors import ConnectionLost, PositionGap
from pycdc.model.change import Lsn, Op
from pycdc.offsets.file import FileOffsetStore
from tests.connectors.postgres.reading import Pipeline, config_for, execute, write_last
from tests.reading import wait_for
from tests.services.postgres import PostgresServer

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.pg("newest")

ROWS = 2000
TABLES = f"""
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL);
INSERT INTO items SELECT i, 0 FROM generate_series(1, {ROWS}) i;
"""
WALSENDERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()"
LIMIT = 32
"""Megabytes of WAL that slots may hold."""


def read(pipeline: Pipeline) -> list[int]:
    return [
        change.after["id"]
        for change in pipeline.changes
        if change.op is Op.READ
        and change.after is not None
        and change.table is not None
        and change.table.name == "items"
    ]


class Flood:
    """Writes WAL once a pipeline has read rows; holds when nothing is left to read.

    All of it at once, or if `patient` some more each time that the pipeline has stored a position behind it.
    """

    def __init__(self, dsn: str, megabytes: int) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._left = megabytes
        self._written = Lsn(0)
        self.patient = False

    def __call__(self, pipeline: Pipeline) -> bool:
        while read(pipeline) and self._left > 0 and not (self.patient and self._ahead_of(pipeline)):
            self._write()
        return pipeline.nothing_left and self._left <= 0

    def _write(self) -> None:
        row = self._connection.execute(
            "SELECT pg_logical_emit_message(false, 'flood', repeat('x', 4000000))::text"
        ).fetchone()
        assert row is not None
        self._written = Lsn.parse(row[0])
        self._connection.execute("CHECKPOINT")
        self._left -= 4

    def _ahead_of(self, pipeline: Pipeline) -> bool:
        return pipeline.stored is None or pipeline.stored.position.lsn < self._written

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def flood(database: str) -> Iterator[Flood]:
    execute(database, TABLES)
    flood = Flood(database, 4 * LIMIT)
    yield flood
    flood.close()


def test_reading_in_chunks_outlives_a_limit_on_the_slots_wal(
    database: str, postgres: PostgresServer, flood: Flood
) -> None:
    """C55: the slot moves on while the tables are read."""
    postgres.configure(max_slot_wal_keep_size=f"{LIMIT}MB")
    flood.patient = True
    pipeline = Pipeline(config_for(database, status_interval=0.02, messages=False))
    assert pipeline.run(flood, store_every=1)
    assert pipeline.run(write_last(database))
    assert sorted(read(pipeline)) == list(range(1, ROWS + 1))


@pytest.mark.parametrize("snapshot", ["initial", "when_needed"])
def test_a_slot_that_is_lost_while_rows_are_read_as_of_one_moment_is_a_gap(
    database: str, postgres: PostgresServer, flood: Flood, snapshot: str
) -> None:
    """C55: with `initial` an error that says what to do, with `when_needed` another beginning."""
    postgres.configure(max_slot_wal_keep_size=f"{LIMIT}MB")
    pipeline = Pipeline(config_for(database, snapshot_method="pinned", snapshot=snapshot, messages=False))
    # The server ends whoever has the slot; the next attempt finds out why.
    with pytest.raises((ConnectionLost, PositionGap)):
        pipeline.run(lambda p: flood(p) and False, store_every=1)
    if snapshot == "initial":
        with pytest.raises(PositionGap, match=r"lost|invalidated|wal_removed") as refused:
            pipeline.run(lambda p: p.nothing_left)
        assert "pg_drop_replication_slot" in refused.value.hint
        return
    pipeline.changes.clear()
    pipeline.durable = 0
    assert pipeline.run(lambda p: p.nothing_left)
    assert sorted(read(pipeline)) == list(range(1, ROWS + 1))


def test_a_process_killed_while_its_slot_is_made_leaves_nothing_that_holds_up_the_next(
    database: str, tmp_path: Path
) -> None:
    """C51, C52: making it waits for a transaction; the server may finish the slot for a client that is dead."""
    execute(database, TABLES)
    config = config_for(database, snapshot_method="pinned")
    store = tmp_path / "position"
    document = {
        "name": "shop",
        "source": {"postgres": {"dsn": database}},
        "sink": {"null": {}},
        "offsets": {"file": {"path": str(store)}},
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    with psycopg.connect(database) as writer:
        writer.execute("INSERT INTO items VALUES (5000, 1)")
        victim = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.process", str(tmp_path / "config.json")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            stderr=subprocess.DEVNULL,
        )
        blocked = f"{WALSENDERS} AND {writer.info.backend_pid} = ANY (pg_blocking_pids(pid))"
        try:
            wait_for(lambda: execute(database, blocked)[0][0] == 1)
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        writer.commit()
    wait_for(lambda: execute(database, WALSENDERS)[0][0] == 0)
    pipeline = Pipeline(config, stored=FileOffsetStore(store).load())
    assert pipeline.run(lambda p: p.nothing_left)
    assert pipeline.run(write_last(database))
    delivered = [
        c.after["id"]
        for c in pipeline.changes
        if c.after is not None and c.table is not None and c.table.name == "items"
    ]
    assert sorted(set(delivered)) == [*range(1, ROWS + 1), 5000]
    assert execute(database, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")[0][0] == 1


def test_a_mark_that_finds_no_room_on_the_disk_is_written_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C57: the server's disk is full; what was read so far is kept, and the pipeline tries again."""
    execute(database, TABLES)
    pipeline = Pipeline(config_for(database))
    emit, calls = signals.emit, 0

    def full(connection: psycopg.Connection[object], text: str) -> object:
        nonlocal calls
        calls += 1
        if calls % 20 == 0:
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")
        return emit(connection, text)

    monkeypatch.setattr(signals, "emit", full)
    faults = 0
    while not pipeline.nothing_left:
        try:
            pipeline.run(lambda p: p.nothing_left)
        except ConnectionLost:
            faults += 1
    assert faults > 1
    assert pipeline.run(write_last(database))
    assert sorted(set(read(pipeline))) == list(range(1, ROWS + 1))
    assert len(read(pipeline)) < 1.5 * ROWS


@pytest.mark.parametrize("method", ["pinned", "chunks"])
def test_only_a_snapshot_ends_once_all_is_read_also_over_crashes(database: str, method: str) -> None:
    execute(database, TABLES)
    pipeline = Pipeline(config_for(database, snapshot="only", snapshot_method=method))
    crashes = 0
    while not pipeline.nothing_left:
        pipeline.run(lambda p: p.nothing_left, crash_after=25 if crashes else 3)
        crashes += 1
    assert crashes > 1
    assert pipeline.run(lambda p: False), "it ends by itself"
    assert sorted(set(read(pipeline))) == list(range(1, ROWS + 1))
    assert len(read(pipeline)) < 1.5 * ROWS


def test_a_slot_that_is_lost_within_a_snapshot_begins_all_of_it_again_when_needed(database: str) -> None:
    """Rows that were deleted since would stay for ever in the topics: nothing tells of them any more."""
    execute(database, TABLES)
    config = config_for(database, snapshot="when_needed")
    pipeline = Pipeline(config)
    pipeline.run(lambda p: len(read(p)) > ROWS / 2, store_every=1)
    execute(database, f"SELECT pg_drop_replication_slot('{config.slot}')")
    with Catalog(database) as catalog:
        assert catalog.slot(config.slot) is None
    pipeline.changes.clear()
    pipeline.durable = 0
    assert pipeline.run(lambda p: p.nothing_left)
    assert pipeline.run(write_last(database))
    assert sorted(read(pipeline)) == list(range(1, ROWS + 1))

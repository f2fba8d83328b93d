"""A pinned snapshot that is interrupted goes on without what was delivered, whatever happened to the table since."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.connectors.postgres.snapshot.backlog import Backlog, TableTask
from pycdc.connectors.postgres.snapshot.block_ranges import BlockRange, Delivered
from pycdc.connectors.postgres.snapshot.copy_reader import CopiedPart, SnapshotReader, copy_rows
from pycdc.model.change import UNCHANGED, Op
from tests.connectors.postgres.reading import Pipeline, config_for, execute, write_last

ROWS = 3000
TABLES = """
CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL, note text);
ALTER TABLE items ALTER note SET STORAGE EXTERNAL;
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
"""
FILL = f"""
INSERT INTO items SELECT (i * 48271) % 65537, 0, CASE WHEN i % 10 = 0 THEN repeat('x', 3000) ELSE 'short' END
  FROM generate_series(1, {ROWS}) i;
"""
"""Random keys, and values out of line that an update leaves out."""
SOURCE = {"snapshot_method": "pinned", "tables": ["public.items", "public.finish"], "max_batch_bytes": 4096}
BLOCK = 200
"""More rows than a block holds; a range is one."""
WRITES = """
UPDATE items SET v = v + 1 WHERE id % 7 = 0;
DELETE FROM items WHERE id % 11 = 0;
VACUUM items;
INSERT INTO items SELECT 70000 + i, 5, repeat('n', 3000) FROM generate_series(1, 40) i;
UPDATE items SET v = v + 1 WHERE id % 13 = 0;
UPDATE items SET id = id + 100000 WHERE id % 101 = 0;
"""
"""Versions move to other blocks, places of deleted ones are used again, keys change, out-of-line values do not."""


def replayed(pipeline: Pipeline) -> dict[int, tuple[Any, Any]]:
    """The table as a consumer has it, which keeps a value that an update leaves out."""
    state: dict[int, tuple[Any, Any]] = {}
    for change in pipeline.changes:
        if change.table is None or change.table.name != "items":
            continue
        before, after = change.images()
        old = None if before is None else state.pop(before["id"], None)
        if after is None:
            continue
        old = state.get(after["id"], old)
        note = after["note"]
        if note is UNCHANGED:
            note = UNCHANGED if old is None else old[1]
        state[after["id"]] = (after["v"], note)
    return state


def rows_of(dsn: str) -> dict[int, tuple[int, str]]:
    return {row[0]: (row[1], row[2]) for row in execute(dsn, "SELECT id, v, note FROM items")}


def wanted(dsn: str) -> dict[int, tuple[int, str]]:
    # An update that moves a key and leaves a value out is the documented exception.
    return {key: row for key, row in rows_of(dsn).items() if key < 100000 or len(row[1]) < 1000}


def reads(pipeline: Pipeline) -> Counter[int]:
    return Counter(
        change.after["id"]
        for change in pipeline.changes
        if change.op is Op.READ and change.after is not None and change.table is not None
        if change.table.name == "items"
    )


def interrupted(dsn: str, after: int) -> Pipeline:
    pipeline = Pipeline(config_for(dsn, **SOURCE))
    assert not pipeline.run(lambda _: False, crash_after=after, store_every=1)
    return pipeline


def finished(pipeline: Pipeline, dsn: str) -> None:
    assert pipeline.run(lambda one: one.nothing_left)
    assert pipeline.run(write_last(dsn))


@pytest.mark.pg("newest")
@pytest.mark.parametrize("after", [20, 60, 120])
def test_what_was_delivered_is_not_read_again_and_what_changed_is(database: str, after: int) -> None:
    execute(database, TABLES)
    execute(database, FILL)
    pipeline = interrupted(database, after)
    before = reads(pipeline)
    for statement in WRITES.strip().split(";\n"):
        execute(database, statement)
    finished(pipeline, database)
    delivered, expected = replayed(pipeline), wanted(database)
    assert {key: delivered.get(key) for key in expected} == expected
    assert delivered.keys() == rows_of(database).keys()
    again = {key for key, count in (reads(pipeline) - before).items() if key in before}
    untouched = {key for key in again if key % 7 and key % 11 and key % 13 and key % 101}
    assert not untouched, "a position is only where the backlog says just what is still to come"
    assert len(before) > after


@pytest.mark.pg("newest")
def test_a_row_that_moved_into_blocks_that_were_read_comes_with_its_large_value(database: str) -> None:
    execute(database, TABLES)
    execute(database, FILL)
    pipeline = interrupted(database, 60)
    assert pipeline.stored is not None
    block = pipeline.stored.snapshot["tables"][0]["delivered"]["block"]
    assert block > 3
    place = "(ctid::text::point)[0]::int"
    large = {row[0] for row in execute(database, f"SELECT id FROM items WHERE {place} > {block} AND length(note) > 9")}
    execute(database, f"DELETE FROM items WHERE {place} < {block}")
    execute(database, "VACUUM items")
    execute(database, "UPDATE items SET v = v + 1 WHERE length(note) > 9")
    moved = {row[0] for row in execute(database, f"SELECT id FROM items WHERE {place} < {block}")}
    assert len(moved & large) > 20
    finished(pipeline, database)
    assert replayed(pipeline) == rows_of(database)


@pytest.mark.pg("newest")
@pytest.mark.parametrize("rewrite", ["VACUUM FULL items", "CLUSTER items USING items_pkey", "TRUNCATE items"])
def test_a_table_that_was_rewritten_since_is_read_again(database: str, rewrite: str) -> None:
    execute(database, TABLES)
    execute(database, FILL)
    pipeline = interrupted(database, 60)
    assert pipeline.stored is not None
    assert "delivered" in pipeline.stored.snapshot["tables"][0]
    execute(database, "DELETE FROM items WHERE id % 3 = 0")
    execute(database, rewrite)
    finished(pipeline, database)
    delivered = replayed(pipeline)
    assert {key: delivered[key] for key in wanted(database)} == wanted(database)
    assert len(reads(pipeline)) >= len(rows_of(database))


@pytest.mark.pg("newest")
def test_a_partitioned_table_goes_on_too_and_one_with_another_partition_begins_again(database: str) -> None:
    for statement in (
        "CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL, note text) PARTITION BY RANGE (id)",
        "CREATE TABLE items_0 PARTITION OF items FOR VALUES FROM (0) TO (30000)",
        "CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (30000) TO (1000000)",
        "CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
        FILL,
    ):
        execute(database, statement)
    pipeline = Pipeline(config_for(database, **SOURCE, via_partition_root=True))
    assert not pipeline.run(lambda _: False, crash_after=60, store_every=1)
    before = reads(pipeline)
    execute(database, "UPDATE items SET v = 1, id = id + 30000 WHERE id < 300")
    assert not pipeline.run(lambda _: False, crash_after=20, store_every=1)
    again = {key for key, count in (reads(pipeline) - before).items() if key in before}
    assert len(again) < 2 * BLOCK, "of each partition's"
    execute(database, "CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (1000000) TO (2000000)")
    finished(pipeline, database)
    delivered = replayed(pipeline)
    assert {key: row[0] for key, row in delivered.items()} == {key: row[0] for key, row in rows_of(database).items()}


@pytest.mark.pg("newest")
def test_ranges_of_blocks_hold_every_row_once_and_are_read_by_scans_of_them(database: str) -> None:
    execute(database, TABLES)
    execute(database, FILL)
    execute(database, "ANALYZE items")
    with Catalog(database) as catalog:
        (ref,) = catalog.tables(["public.items"])
        source = catalog.columns_for_copy(ref.oid)
    assert source is not None
    with Admin(database).create_slot_with_snapshot("ranges") as snapshot:
        reader = SnapshotReader(database, snapshot.name)
        heap = reader.hold(source).heap
        assert heap.ordinary
        assert heap.blocks > 10
        parts = [BlockRange(first, first + 7) for first in range(0, heap.blocks, 7)]
        apart = [line for part in parts for lines in reader.lines(source, part) for line in lines]
        assert apart == [line for lines in reader.lines(source) for line in lines]
        assert len(apart) == ROWS

        def pieces(part: BlockRange) -> list[BlockRange]:
            halves = part.cut()
            return [part] if halves is None else [piece for half in halves for piece in pieces(half)]

        (whole,) = list(reader.lines(source, BlockRange(7, 9)))
        places = pieces(BlockRange(7, 9))
        assert [line for place in places for lines in reader.lines(source, place) for line in lines] == whole
        reader.close()
    condition = parts[1].conditions(source)[0].as_string(None)
    plan = "\n".join(row[0] for row in execute(database, f"EXPLAIN SELECT * FROM items WHERE {condition}"))
    assert "Tid Range Scan" in plan
    execute(database, "SELECT pg_drop_replication_slot('ranges')")


@pytest.mark.pg("newest")
def test_a_row_is_left_out_only_where_its_place_was_read_and_it_is_as_old(database: str) -> None:
    execute(database, TABLES)
    execute(database, FILL)
    oldest = execute(database, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8")[0][0]
    execute(database, "UPDATE items SET v = 1 WHERE id % 50 = 0")
    with Catalog(database) as catalog:
        (ref,) = catalog.tables(["public.items"])
        source = catalog.columns_for_copy(ref.oid)
    assert source is not None
    part = CopiedPart(delivered=Delivered(40, oldest % 2**32, "whatever"))
    delivered = {int(line.split(b"\t")[0]) for lines in copy_rows(database, None, source, part) for line in lines}
    place = execute(database, "SELECT id, (ctid::text::point)[0]::int, v FROM items")
    assert delivered == {key for key, block, changed in place if block >= 40 or changed}
    assert 0 < len(delivered) < ROWS


def test_what_was_delivered_is_part_of_the_state() -> None:
    task = TableTask("public", "items")
    backlog = Backlog([task])
    backlog.delivered(task, Delivered(7, 4294967290, "abc"), 100)
    (again,) = Backlog.of_state(backlog.state)
    assert (again.delivered, again.rows, again.after) == (Delivered(7, 4294967290, "abc"), 100, None)
    backlog.advance(task, (b"5",), 3)
    (again,) = Backlog.of_state(backlog.state)
    assert (again.delivered, again.rows, again.after) == (Delivered(7, 4294967290, "abc"), 103, (b"5",))
    backlog.delivered(task, None, 0)
    (again,) = Backlog.of_state(backlog.state)
    assert (again.delivered, again.after) == (None, (b"5",))

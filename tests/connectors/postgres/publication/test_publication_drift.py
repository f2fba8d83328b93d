"""Captured tables that somebody takes out of the publication, and partitions that change their place."""

from __future__ import annotations

import pytest

from pycdc.errors import PositionGap
from pycdc.model.change import Op
from tests.connectors.postgres.publication.test_reconciler import (
    Story,
    end,
    forget,
    has_joined,
    ids,
    of,
    published,
    reconfigured,
    streaming,
    tell,
    until,
)
from tests.connectors.postgres.reading import Pipeline, execute, write_last
from tests.connectors.postgres.snapshot.test_incremental import replayed, table_now

ITEMS = "CREATE TABLE items (id int PRIMARY KEY, v int, w int); INSERT INTO items VALUES (1, 0, 0), (2, 0, 0);"
DROP = "ALTER PUBLICATION pycdc_shop DROP TABLE items"
ADD = "ALTER PUBLICATION pycdc_shop ADD TABLE items"
DRIFTS = {
    "taken out": (DROP, "no longer publishes public.items"),
    "taken out and put back": (f"{DROP}; {ADD}", "somebody took out of publication pycdc_shop and put back"),
    "filtered": (f"{DROP}; {ADD} WHERE (id > 1)", "somebody took out"),
    "its filter changed": (
        "ALTER PUBLICATION pycdc_shop SET TABLE finish, items (id, v)",
        "somebody took out of publication pycdc_shop and put back public.items",
    ),
    "publish changed": (
        "ALTER PUBLICATION pycdc_shop SET (publish = 'insert')",
        "no longer publishes update and delete and truncate",
    ),
    "partitions renamed": (
        "ALTER PUBLICATION pycdc_shop SET (publish_via_partition_root = true)",
        "publishes partitions under other names",
    ),
    "dropped": ("DROP PUBLICATION pycdc_shop", "publication pycdc_shop was dropped"),
    "made anew": (
        "DROP PUBLICATION pycdc_shop; CREATE PUBLICATION pycdc_shop FOR TABLE finish, items",
        "was dropped and made anew",
    ),
}


@pytest.mark.parametrize("kind", DRIFTS)
def test_a_publication_that_leaves_something_out_stops_the_pipeline(database: str, kind: str) -> None:
    """While it runs, and when it is started again: the record of how tables were published goes with the position."""
    statement, fact = DRIFTS[kind]
    pipeline = streaming(database, ITEMS)

    def story() -> Story:
        execute(database, statement)
        yield from until(lambda: False)

    for attempt in ("while it runs", "at the start"):
        with pytest.raises(PositionGap) as caught:
            tell(pipeline, story() if attempt == "while it runs" else until(lambda: False))
        assert fact in caught.value.fact, attempt
        assert caught.value.hint
    assert not of(pipeline, "items", Op.READ)


@pytest.mark.pg("newest")
@pytest.mark.parametrize("kind", ["taken out", "taken out and put back", "filtered"])
@pytest.mark.parametrize("running", [True, False])
def test_with_resync_a_table_that_was_out_is_read_as_a_whole(database: str, kind: str, running: bool) -> None:
    pipeline = streaming(database, ITEMS, publication_drift="resync")

    def drift() -> Story:
        execute(database, DRIFTS[kind][0])
        execute(database, "UPDATE items SET v = 1; INSERT INTO items VALUES (3, 0, 0)")
        yield from until(lambda: len(ids(pipeline, "items", Op.READ)) >= 2)
        yield from until(lambda: pipeline.nothing_left)
        execute(database, "UPDATE items SET v = 2 WHERE id = 2")
        yield from end(pipeline, database)

    if not running:
        execute(database, DRIFTS[kind][0])
        execute(database, "UPDATE items SET v = 1")
        execute(database, "INSERT INTO finish DEFAULT VALUES")
        assert pipeline.run(write_last(database))
        assert has_joined(pipeline, database, "items")
        return
    tell(pipeline, drift())
    expected = table_now(database, "items")
    if kind == "filtered":
        del expected[1]
    assert replayed(pipeline.changes, "items") == expected


@pytest.mark.pg("newest")
def test_a_table_that_drifts_while_it_is_read_begins_anew(database: str) -> None:
    pipeline = streaming(database, publication_drift="resync", snapshot_chunk=2)
    execute(
        database,
        "CREATE TABLE items (id int PRIMARY KEY, v int); INSERT INTO items SELECT i, 0 FROM generate_series(1, 400) i",
    )

    def story() -> Story:
        yield from until(lambda: len(of(pipeline, "items", Op.READ)) > 20)
        execute(database, f"{DROP}; UPDATE items SET v = 1 WHERE id = 1; {ADD}")
        yield from until(lambda: has_joined(pipeline, database, "items") and 1 in ids(pipeline, "items", Op.READ)[1:])
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert replayed(pipeline.changes, "items") == table_now(database, "items")


@pytest.mark.pg("newest")
def test_what_was_written_before_a_table_was_taken_out_comes_all_the_same(database: str) -> None:
    """Postgres decides by the publication as it was when the change was written."""
    pipeline = streaming(database, ITEMS)
    execute(database, f"INSERT INTO items VALUES (3, 0, 0); {DROP}; INSERT INTO items VALUES (4, 0, 0)")
    reconfigured(pipeline, database, exclude_tables=["x"], publication_drift="resync")
    assert pipeline.run(write_last(database))
    tell(pipeline, until(lambda: has_joined(pipeline, database, "items")))
    assert ids(pipeline, "items", Op.CREATE) == [3]
    assert sorted(ids(pipeline, "items", Op.READ)) == [1, 2, 3, 4]


# -- partitions

PARTITIONED = """
CREATE TABLE logs (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE logs_0 PARTITION OF logs FOR VALUES FROM (0) TO (10);
INSERT INTO logs VALUES (1, 0);
"""
ALONE = "CREATE TABLE logs_1 (id int PRIMARY KEY, v int)"
FILLED = "INSERT INTO logs_1 VALUES (10, 0), (11, 0)"
ATTACHED = "ALTER TABLE logs ATTACH PARTITION logs_1 FOR VALUES FROM (10) TO (20)"
MADE = {
    "made as a partition": ["CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (10) TO (20)"],
    "attached": [ALONE, FILLED, ATTACHED],
    "attached in one transaction": [f"BEGIN; {ALONE}; {FILLED}; {ATTACHED}; COMMIT"],
}


def _streaming(database: str, via_root: bool) -> Pipeline:
    return streaming(database, PARTITIONED, tables=["finish", "logs"], via_partition_root=via_root)


@pytest.mark.parametrize("via_root", [True, False])
@pytest.mark.parametrize("made", MADE)
def test_a_partition_that_comes_brings_its_rows_along(database: str, via_root: bool, made: str) -> None:
    pipeline = _streaming(database, via_root)

    def story() -> Story:
        for statement in MADE[made]:
            execute(database, statement)
        execute(database, "INSERT INTO logs VALUES (12, 0)")
        yield from until(lambda: pipeline.stored is not None and len(pipeline.stored.membership["tables"]) == 4)
        yield from until(lambda: pipeline.nothing_left)
        execute(database, "UPDATE logs SET v = v + 1")
        yield from end(pipeline, database)

    tell(pipeline, story())
    name = "logs" if via_root else "logs_1"
    reads = sorted(ids(pipeline, name, Op.READ))
    assert reads == ([] if made == "made as a partition" else [10, 11, 12])
    assert {c.after["id"] for c in of(pipeline, name)} - {1} == (
        {12} if made == "made as a partition" else {10, 11, 12}
    )
    assert not of(pipeline, "logs_0", Op.READ)


@pytest.mark.pg("newest")
@pytest.mark.parametrize("via_root", [True, False])
@pytest.mark.parametrize("tables", [["finish", "logs"], ["*"]])
def test_a_detached_partition_goes_on_where_its_own_name_is_captured(
    database: str, via_root: bool, tables: list[str]
) -> None:
    pipeline = streaming(database, PARTITIONED, tables=tables, via_partition_root=via_root)

    def story() -> Story:
        execute(database, "ALTER TABLE logs DETACH PARTITION logs_0; INSERT INTO logs_0 VALUES (2, 0)")
        if tables == ["*"]:
            yield from until(lambda: has_joined(pipeline, database, "logs_0"))
        else:
            yield from until(lambda: pipeline.stored is not None and len(pipeline.stored.membership["tables"]) == 2)
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert ids(pipeline, "logs_0", Op.READ) == ([1, 2] if tables == ["*"] else [])
    assert ("logs_0" in published(database)) == (tables == ["*"])


@pytest.mark.pg("newest")
@pytest.mark.parametrize("via_root", [True, False])
def test_a_captured_table_that_becomes_a_partition_comes_under_the_name_it_has_then(
    database: str, via_root: bool
) -> None:
    alone = "CREATE TABLE logs_1 (id int PRIMARY KEY, v int); INSERT INTO logs_1 VALUES (10, 0);"
    pipeline = streaming(database, PARTITIONED + alone, via_partition_root=via_root)
    forget(pipeline)

    def story() -> Story:
        execute(database, "ALTER TABLE logs ATTACH PARTITION logs_1 FOR VALUES FROM (10) TO (20)")
        execute(database, "INSERT INTO logs VALUES (11, 0)")
        if via_root:
            yield from until(lambda: 10 in ids(pipeline, "logs", Op.READ))
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert sorted(ids(pipeline, "logs", Op.READ)) == ([10, 11] if via_root else [])
    assert ids(pipeline, "logs" if via_root else "logs_1", Op.CREATE) == [11]

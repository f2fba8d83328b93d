"""Tables that are changed while they are read in chunks: no row is lost, and the stream goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import psycopg
import pytest

from pycdc.model.change import Op
from tests.connectors.postgres.reading import Pipeline, config_for, execute, write_last

pytestmark = pytest.mark.pg("newest")

ROWS = 300
TABLES = f"""
CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE TABLE busy (id int PRIMARY KEY, other int NOT NULL UNIQUE, v int NOT NULL DEFAULT 0);
INSERT INTO busy SELECT i, 2000 - i FROM generate_series(800, 799 + {ROWS}) i;
CREATE TABLE calm (id int PRIMARY KEY);
INSERT INTO calm SELECT generate_series(1, {ROWS});
"""


def rows(pipeline: Pipeline, *tables: str) -> dict[str, int]:
    """`v` of each row by id, as a consumer of the topics has it who forgets what a truncate took away."""
    state: dict[str, int] = {}
    for change in pipeline.changes:
        if change.table is None or change.table.name not in tables:
            continue
        if change.op is Op.TRUNCATE:
            state.clear()
        elif change.op is Op.DELETE:
            assert change.before is not None
            state.pop(str(change.before["id"]), None)
        else:
            assert change.after is not None
            state[str(change.after["id"])] = change.after.get("v", 0)
    return state


def in_the_middle(dsn: str, statement: str) -> Callable[[Pipeline], bool]:
    """Run `statement` once a third of the busy table was read; hold when nothing is left."""
    ran = False

    def done(pipeline: Pipeline) -> bool:
        nonlocal ran
        if not ran and len(rows(pipeline, "busy")) > ROWS / 3:
            execute(dsn, statement)
            ran = True
        return ran and pipeline.nothing_left

    return done


def now(dsn: str, table: str = "busy") -> dict[str, int]:
    return {str(number): v for number, v in execute(dsn, f"SELECT id, v FROM {table}")}


@pytest.fixture
def pipeline(database: str) -> Pipeline:
    execute(database, TABLES)
    return Pipeline(config_for(database))


def changed(pipeline: Pipeline, dsn: str, statement: str) -> None:
    assert pipeline.run(in_the_middle(dsn, statement))
    assert pipeline.run(write_last(dsn))
    assert len(rows(pipeline, "calm")) == ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE busy ALTER id TYPE text",
        "ALTER TABLE busy DROP CONSTRAINT busy_pkey, ADD PRIMARY KEY (other)",
        "ALTER TABLE busy DROP CONSTRAINT busy_pkey, ADD PRIMARY KEY (other, id)",
        "ALTER TABLE busy DROP CONSTRAINT busy_pkey, ADD PRIMARY KEY (id, other)",
        "ALTER TABLE busy DROP CONSTRAINT busy_pkey; ALTER TABLE busy REPLICA IDENTITY FULL",
        "ALTER TABLE busy RENAME id TO key; ALTER TABLE busy RENAME key TO id",
        "ALTER TABLE busy ADD more int NOT NULL DEFAULT 7",
        "ALTER TABLE busy DROP other",
        "CLUSTER busy USING busy_other_key",
        "VACUUM FULL busy",
    ],
)
def test_a_table_that_is_altered_while_it_is_read_is_read_to_its_last_row(
    database: str, pipeline: Pipeline, statement: str
) -> None:
    changed(pipeline, database, statement)
    execute(database, "UPDATE busy SET v = 1 WHERE id::text LIKE '%7'")
    assert pipeline.run(write_last(database))
    assert rows(pipeline, "busy") == now(database)


def test_a_table_that_is_truncated_and_filled_again_has_its_new_rows(database: str, pipeline: Pipeline) -> None:
    changed(pipeline, database, f"TRUNCATE busy; INSERT INTO busy SELECT i, i, 2 FROM generate_series(1, {ROWS}, 3) i")
    assert rows(pipeline, "busy") == now(database)
    assert set(now(database).values()) == {2}


def test_a_table_that_is_dropped_is_given_up_and_the_others_are_read(
    database: str, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    changed(pipeline, database, "DROP TABLE busy")
    assert [r.__dict__["table"] for r in caplog.records if "is gone before its snapshot" in r.getMessage()] == [
        "public.busy"
    ]


def test_a_table_that_is_made_anew_under_its_name_is_read(database: str, pipeline: Pipeline) -> None:
    """It is not mistaken for the one whose rows were read so far."""
    changed(
        pipeline,
        database,
        "ALTER TABLE busy RENAME TO former; ALTER TABLE former RENAME CONSTRAINT busy_pkey TO former_pkey; "
        "CREATE TABLE busy (id int PRIMARY KEY, v int); "
        f"INSERT INTO busy SELECT i, 5 FROM generate_series(800, 799 + {ROWS}) i; "
        "ALTER PUBLICATION pycdc_shop ADD TABLE ONLY busy",
    )
    assert rows(pipeline, "busy") == now(database)


def test_a_table_that_gets_another_name_is_read_to_its_end_under_it_and_the_log_says_so(
    database: str, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    changed(pipeline, database, "ALTER TABLE busy RENAME TO moved")
    assert rows(pipeline, "busy", "moved") == now(database, "moved")
    execute(database, "UPDATE moved SET v = 1")
    assert pipeline.run(write_last(database))
    assert rows(pipeline, "moved") == now(database, "moved")
    renamed = [r for r in caplog.records if r.levelno == logging.WARNING and "has another name" in r.getMessage()]
    assert [(r.__dict__["before"], r.__dict__["now"]) for r in renamed] == [("public.busy", "public.moved")]


def test_a_table_without_a_key_cannot_be_altered_while_it_is_read(database: str) -> None:
    execute(database, TABLES)
    execute(
        database,
        "ALTER TABLE busy DROP CONSTRAINT busy_pkey, DROP CONSTRAINT busy_other_key; "
        "ALTER TABLE busy REPLICA IDENTITY FULL",
    )
    execute(database, "INSERT INTO busy SELECT i, i FROM generate_series(2001, 30000) i")
    pipeline = Pipeline(config_for(database))
    tried: list[int] = []

    def alter(pipeline: Pipeline) -> bool:
        if not tried and 0 < len(rows(pipeline, "busy")) < 20_000:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                execute(database, "SET lock_timeout = 1; ALTER TABLE busy ALTER id TYPE text")
            tried.append(1)
        return bool(tried) and pipeline.nothing_left

    assert pipeline.run(alter)
    assert rows(pipeline, "busy") == now(database)

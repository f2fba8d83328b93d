"""Tables that come and go while a pipeline runs, or while it does not: nothing is missed, nothing comes twice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pycdc.errors import EnvironmentNotReady, PositionGap
from pycdc.model.change import Op
from tests.connectors.postgres.reading import Pipeline, config_for, execute, write_last
from tests.connectors.postgres.snapshot.test_incremental import replayed, table_now

Story = Iterator[bool]
FINISH = "CREATE TABLE finish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);"


def tell(pipeline: Pipeline, story: Story) -> None:
    """Run the pipeline; each time that it gets something or nothing, the story goes on to where it yields."""
    assert pipeline.run(lambda _: next(story, True) is True)


def streaming(dsn: str, statements: str = "", **source: Any) -> Pipeline:
    """A pipeline that has begun to stream, stopped. It looks at the tables ten times a second."""
    execute(dsn, FINISH + statements)
    pipeline = Pipeline(config_for(dsn, **{"tables": ["*"], "publication_check": 0.1, **source}))
    assert pipeline.run(lambda p: p.nothing_left)
    assert pipeline.run(write_last(dsn))
    forget(pipeline)
    return pipeline


def forget(pipeline: Pipeline) -> None:
    pipeline.changes.clear()
    pipeline.durable = 0


def reconfigured(pipeline: Pipeline, dsn: str, **source: Any) -> None:
    pipeline.config = config_for(dsn, **{"tables": ["*"], "publication_check": 0.1, **source})


def published(dsn: str) -> set[str]:
    rows = execute(dsn, "SELECT tablename FROM pg_publication_tables WHERE pubname = 'pycdc_shop'")
    return {name for (name,) in rows} - {"finish"}


def has_joined(pipeline: Pipeline, dsn: str, table: str) -> bool:
    """The table is published, and nothing is to be read of it."""
    return table.rpartition(".")[2] in published(dsn) and pipeline.nothing_left and knows(pipeline, dsn, table)


def knows(pipeline: Pipeline, dsn: str, table: str) -> bool:
    found = execute(dsn, f"SELECT to_regclass('{table}')::oid::text")[0][0]
    return pipeline.stored is not None and found in pipeline.stored.membership.get("tables", {})


def of(pipeline: Pipeline, table: str, op: Op | None = None) -> list[Any]:
    return [
        change
        for change in pipeline.changes
        if change.table is not None and change.table.name == table and (op is None or change.op is op)
    ]


def ids(pipeline: Pipeline, table: str, op: Op) -> list[int]:
    return [change.after["id"] for change in of(pipeline, table, op)]


def until(condition: Callable[[], Any], seconds: float = 180) -> Story:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        yield False


def end(pipeline: Pipeline, dsn: str) -> Story:
    done = write_last(dsn)
    yield from until(lambda: done(pipeline))
    yield True


# -- tables that come


def test_a_table_made_while_the_stream_goes_on_joins_with_all_its_rows(database: str) -> None:
    pipeline = streaming(database)

    def story() -> Story:
        execute(database, "CREATE TABLE fresh (id int PRIMARY KEY, v int)")
        for number in range(200):
            execute(database, f"INSERT INTO fresh VALUES ({number}, 0)")
            yield False
        yield from until(lambda: has_joined(pipeline, database, "fresh"))
        execute(database, "INSERT INTO fresh VALUES (1000, 0); UPDATE fresh SET v = 1 WHERE id = 7")
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert replayed(pipeline.changes, "fresh") == table_now(database, "fresh")
    reads = ids(pipeline, "fresh", Op.READ)
    assert reads
    assert len(set(reads)) == len(reads)
    assert {change.run.marker for change in of(pipeline, "fresh", Op.READ)} == {"incremental"}


@pytest.mark.parametrize("others", [False, True], ids=["alone", "with others"])
def test_a_transaction_from_before_the_table_was_published_is_read_to_its_end(database: str, others: bool) -> None:
    """It writes before the table is published, which the stream leaves out unless another transaction made the server
    look at the publication first, and after, which comes at its commit."""
    pipeline = streaming(database)
    execute(database, "CREATE TABLE fresh (id int PRIMARY KEY, v int)")
    old = psycopg.connect(database)
    old.execute("INSERT INTO fresh SELECT i, 0 FROM generate_series(1, 100) i")

    def story() -> Story:
        yield from until(lambda: "fresh" in published(database))
        old.execute("UPDATE fresh SET v = 1 WHERE id <= 10; DELETE FROM fresh WHERE id = 11")
        if others:
            execute(database, "INSERT INTO fresh VALUES (500, 0)")
        done = write_last(database)
        yield from until(lambda: done(pipeline))
        for _ in range(15):
            yield False
        assert not of(pipeline, "fresh", Op.READ), "a chunk was read although the transaction goes on"
        old.commit()
        old.close()
        execute(database, "UPDATE fresh SET v = 2 WHERE id = 1")
        yield from until(lambda: has_joined(pipeline, database, "fresh"))
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert replayed(pipeline.changes, "fresh") == table_now(database, "fresh")


@pytest.mark.pg("newest")
def test_an_old_transaction_that_did_not_touch_the_table_does_not_hold_it_up(database: str) -> None:
    pipeline = streaming(database, "CREATE TABLE other (id int PRIMARY KEY);")
    execute(database, "CREATE TABLE fresh (id int PRIMARY KEY, v int); INSERT INTO fresh VALUES (1, 0)")
    old = psycopg.connect(database)
    old.execute("INSERT INTO other VALUES (1)")

    def story() -> Story:
        yield from until(lambda: has_joined(pipeline, database, "fresh"))
        old.execute("INSERT INTO fresh VALUES (2, 0)")
        old.commit()
        yield from end(pipeline, database)

    tell(pipeline, story())
    old.close()
    assert replayed(pipeline.changes, "fresh") == table_now(database, "fresh")


@pytest.mark.pg("newest")
def test_one_table_that_has_to_wait_lets_others_pass(database: str) -> None:
    pipeline = streaming(database)
    execute(database, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    execute(database, "INSERT INTO b VALUES (1)")

    old = psycopg.connect(database)
    old.execute("INSERT INTO a VALUES (1)")

    def story() -> Story:
        yield from until(lambda: of(pipeline, "b", Op.READ))
        assert not of(pipeline, "a")
        old.commit()
        yield from until(lambda: has_joined(pipeline, database, "a"))
        yield from end(pipeline, database)

    tell(pipeline, story())
    old.close()
    assert ids(pipeline, "a", Op.READ) == [1]


def test_a_prepared_transaction_from_before_counts_too(database: str) -> None:
    pipeline = streaming(database)
    execute(database, "CREATE TABLE fresh (id int PRIMARY KEY, v int)")
    if execute(database, "SHOW max_prepared_transactions")[0][0] == "0":
        pytest.skip("the server has no prepared transactions")
    execute(database, "BEGIN; INSERT INTO fresh VALUES (1, 0); PREPARE TRANSACTION 'before'")

    def story() -> Story:
        yield from until(lambda: "fresh" in published(database))
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert not of(pipeline, "fresh")
    assert pipeline.stored is not None
    assert pipeline.stored.snapshot["tables"][0]["since"] > 0
    execute(database, "COMMIT PREPARED 'before'")
    assert pipeline.run(lambda p: p.nothing_left)
    assert ids(pipeline, "fresh", Op.READ) == [1]


@pytest.mark.pg("newest")
@pytest.mark.parametrize("tables", [["*"], ["finish", "late"]])
def test_a_table_that_came_while_the_pipeline_was_stopped_is_read_when_it_starts(
    database: str, tables: list[str]
) -> None:
    """Made meanwhile, or added to the configuration; from the stored position on."""
    pipeline = streaming(database, tables=["finish"] if len(tables) > 1 else ["*"])
    execute(database, "CREATE TABLE late (id int PRIMARY KEY, v int); INSERT INTO late VALUES (1, 0), (2, 0)")
    reconfigured(pipeline, database, tables=tables)
    execute(database, "INSERT INTO finish DEFAULT VALUES")
    tell(pipeline, until(lambda: has_joined(pipeline, database, "late")))
    execute(database, "UPDATE late SET v = 1 WHERE id = 1")
    assert pipeline.run(write_last(database))
    assert ids(pipeline, "late", Op.READ) == [1, 2]
    assert len(of(pipeline, "late", Op.UPDATE)) == 1
    assert len(of(pipeline, "finish", Op.CREATE)) == 2, "the stream went on where it was"


@pytest.mark.pg("newest")
def test_a_checkpoint_from_before_there_was_a_record_takes_what_is_published_for_captured(database: str) -> None:
    pipeline = streaming(database, "CREATE TABLE known (id int PRIMARY KEY); INSERT INTO known VALUES (1);")
    assert pipeline.stored is not None
    pipeline.stored = replace(pipeline.stored, membership={})
    execute(database, "CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)")
    tell(pipeline, until(lambda: has_joined(pipeline, database, "late")))
    assert ids(pipeline, "late", Op.READ) == [1]
    assert not of(pipeline, "known")


@pytest.mark.pg("newest")
def test_without_a_record_a_publication_that_is_gone_is_a_gap_too(database: str) -> None:
    pipeline = streaming(database)
    assert pipeline.stored is not None
    pipeline.stored = replace(pipeline.stored, membership={})
    execute(database, "DROP PUBLICATION pycdc_shop")
    with pytest.raises(PositionGap, match="does not exist any more"):
        tell(pipeline, until(lambda: False))


@pytest.mark.pg("newest")
def test_without_snapshots_a_table_that_joins_is_only_published(database: str) -> None:
    pipeline = streaming(database, snapshot="never")
    execute(database, "CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1)")

    def story() -> Story:
        yield from until(lambda: has_joined(pipeline, database, "fresh"))
        execute(database, "INSERT INTO fresh VALUES (2)")
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert [change.op for change in of(pipeline, "fresh")] == [Op.CREATE]


@pytest.mark.pg("newest")
def test_ignored_tables_wait(database: str, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = streaming(database, tables_added="ignore")
    execute(database, "CREATE TABLE fresh (id int PRIMARY KEY)")
    tell(pipeline, until(lambda: "a table that matches is not captured" in caplog.text))
    assert pipeline.run(write_last(database))
    assert published(database) == set()


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    ("statement", "reason", "remedy"),
    [
        ("CREATE TABLE t (id int)", "has no replica identity", "ALTER TABLE t REPLICA IDENTITY FULL"),
        ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", "is unlogged", "ALTER TABLE t SET LOGGED"),
    ],
)
def test_a_table_that_cannot_be_captured_is_told_and_joins_once_it_can(
    database: str, caplog: pytest.LogCaptureFixture, statement: str, reason: str, remedy: str
) -> None:
    """Publishing one without a replica identity would make the application's UPDATE fail."""
    pipeline = streaming(database)
    execute(database, statement)

    def story() -> Story:
        yield from until(lambda: reason in " ".join(str(record.__dict__.get("reason")) for record in caplog.records))
        assert published(database) == set()
        execute(database, remedy + "; INSERT INTO t VALUES (1)")
        yield from until(lambda: has_joined(pipeline, database, "t"))
        yield True

    tell(pipeline, story())
    assert ids(pipeline, "t", Op.READ) == [1]


@pytest.mark.pg("newest")
def test_a_table_without_replica_identity_is_published_where_it_is_named_in_full(database: str) -> None:
    pipeline = streaming(database)
    execute(database, "CREATE TABLE bare (id int); INSERT INTO bare VALUES (1)")
    reconfigured(pipeline, database, tables=["*", "bare"])
    tell(pipeline, until(lambda: has_joined(pipeline, database, "bare")))
    assert ids(pipeline, "bare", Op.READ) == [1]


WRITES = """
DO $$ BEGIN
  INSERT INTO {0} VALUES ({1}, 0) ON CONFLICT (id) DO UPDATE SET v = {0}.v + 1;
END $$
"""


def test_tables_that_come_under_writers_and_crashes_miss_nothing(database: str) -> None:
    pipeline = streaming(database)
    choose = random.Random(3)
    crashes = 0
    for number in range(3):
        table = f"grown_{number}"
        execute(database, f"CREATE TABLE {table} (id int PRIMARY KEY, v int)")
        written = iter(range(120))

        def write(p: Pipeline, table: str = table, written: Iterator[int] = written) -> bool:
            if next(written, None) is None:
                return has_joined(p, database, table)
            execute(database, WRITES.format(table, choose.randrange(60)))
            return False

        while not pipeline.run(write, crash_after=choose.randint(5, 60)):
            crashes += 1
    assert crashes
    assert pipeline.run(write_last(database))
    for number in range(3):
        assert replayed(pipeline.changes, f"grown_{number}") == table_now(database, f"grown_{number}")


# -- tables that go


@pytest.mark.pg("newest")
def test_a_table_taken_out_of_the_configuration_leaves_the_publication(database: str) -> None:
    pipeline = streaming(database, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);")
    execute(database, "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
    reconfigured(pipeline, database, exclude_tables=["b"])
    assert pipeline.run(write_last(database))
    assert published(database) == {"a"}
    assert ids(pipeline, "a", Op.CREATE) == [1], "what was written before comes"
    assert not of(pipeline, "b")
    reconfigured(pipeline, database)
    tell(pipeline, until(lambda: has_joined(pipeline, database, "b")))
    assert ids(pipeline, "b", Op.READ) == [1]


@pytest.mark.pg("newest")
def test_a_table_that_others_published_is_left_in_the_publication(database: str) -> None:
    pipeline = streaming(database, "CREATE TABLE theirs (id int PRIMARY KEY);", tables=["finish"])
    execute(database, "ALTER PUBLICATION pycdc_shop ADD TABLE theirs")
    assert pipeline.run(write_last(database))
    assert published(database) == {"theirs"}


@pytest.mark.pg("newest")
def test_a_dropped_table_just_ends_and_one_of_its_name_begins_anew(database: str) -> None:
    pipeline = streaming(database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0);")

    def story() -> Story:
        execute(database, "INSERT INTO t VALUES (2, 0)")
        execute(database, "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (3, 0)")
        yield from until(lambda: has_joined(pipeline, database, "t"))
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert [(change.op, change.after["id"]) for change in of(pipeline, "t")] == [(Op.CREATE, 2), (Op.READ, 3)]


@pytest.mark.pg("newest")
def test_a_renamed_table_goes_on_under_its_new_name_or_ends_where_that_is_not_captured(database: str) -> None:
    tables = ["finish", "live_*", "moved.live_*"]
    create = "CREATE TABLE live_a (id int PRIMARY KEY); CREATE SCHEMA moved; INSERT INTO live_a VALUES (0);"
    pipeline = streaming(database, create, tables=tables)

    def story() -> Story:
        execute(database, "ALTER TABLE live_a RENAME TO live_b; INSERT INTO live_b VALUES (1)")
        yield from end(pipeline, database)

    tell(pipeline, story())
    assert ids(pipeline, "live_b", Op.CREATE) == [1]
    execute(database, "ALTER TABLE live_b SET SCHEMA moved; INSERT INTO moved.live_b VALUES (2)")
    assert pipeline.run(write_last(database))
    (change,) = of(pipeline, "live_b", Op.CREATE)[1:]
    assert (change.table.schema, change.after["id"]) == ("moved", 2)
    assert not of(pipeline, "live_b", Op.READ)

    def away_and_back() -> Story:
        execute(database, "ALTER TABLE moved.live_b RENAME TO done; INSERT INTO moved.done VALUES (3)")
        yield from until(lambda: "done" not in published(database))
        execute(database, "ALTER TABLE moved.done RENAME TO live_c")
        yield from until(lambda: of(pipeline, "live_c", Op.READ))
        yield from end(pipeline, database)

    tell(pipeline, away_and_back())
    assert not of(pipeline, "done")
    assert sorted(ids(pipeline, "live_c", Op.READ)) == [0, 1, 2, 3]


@pytest.mark.pg("newest")
def test_a_publication_of_somebody_else_is_never_changed(database: str, caplog: pytest.LogCaptureFixture) -> None:
    execute(database, "CREATE TABLE theirs (id int PRIMARY KEY); CREATE PUBLICATION pycdc_shop FOR TABLE theirs")
    with pytest.raises(EnvironmentNotReady, match=r"does not publish public\.finish") as caught:
        streaming(database, manage_publication=False)
    assert "ALTER PUBLICATION" in caught.value.hint
    execute(database, "ALTER PUBLICATION pycdc_shop ADD TABLE finish")
    execute(database, "DROP TABLE finish; CREATE TABLE keep (id int PRIMARY KEY)")
    execute(database, "ALTER PUBLICATION pycdc_shop ADD TABLE keep")
    pipeline = streaming(database, tables=["keep", "finish", "theirs", "x*"], manage_publication=True)
    reconfigured(pipeline, database, tables=["keep", "finish", "x*"], manage_publication=False)
    execute(database, "CREATE TABLE xfresh (id int PRIMARY KEY)")
    tell(
        pipeline, until(lambda: "manage_publication is off" in str([r.__dict__.get("reason") for r in caplog.records]))
    )
    assert published(database) == {"keep", "theirs"}

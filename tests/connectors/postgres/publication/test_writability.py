"""A table that matches a pattern is never published so that the application's UPDATE fails."""

from __future__ import annotations

import re

import psycopg
import pytest

from pycdc.config import validate_capture
from tests.connectors.postgres.looping import Looping, config_for
from tests.connectors.postgres.reading import execute

pytestmark = pytest.mark.server

HINDERED = {
    "no key": ("CREATE TABLE t (id int, v int)", "REPLICA IDENTITY FULL"),
    "nothing": (
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING",
        "REPLICA IDENTITY DEFAULT",
    ),
    "deferrable key": ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v int)", "REPLICA IDENTITY FULL"),
    "index dropped": (
        "CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX xi ON t (id);"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX xi; DROP INDEX xi",
        "REPLICA IDENTITY FULL",
    ),
    "index dropped, key": (
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE UNIQUE INDEX xi ON t (id);"
        "ALTER TABLE t REPLICA IDENTITY USING INDEX xi; DROP INDEX xi",
        "REPLICA IDENTITY DEFAULT",
    ),
    "partition": (
        "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);"
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (9); ALTER TABLE t_1 REPLICA IDENTITY NOTHING",
        "REPLICA IDENTITY DEFAULT",
    ),
}
GENERATED = {
    "stored": (
        "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v + 1) STORED);"
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "REPLICA IDENTITY DEFAULT",
    ),
    "virtual": (
        "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v + 1) VIRTUAL);"
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "REPLICA IDENTITY DEFAULT",
    ),
    "key": ("CREATE TABLE t (v int, id int GENERATED ALWAYS AS (v + 1) STORED PRIMARY KEY)", "that are not generated"),
    "no key": (
        "CREATE TABLE t (id int, v int, g int GENERATED ALWAYS AS (v + 1) VIRTUAL)",
        "that are not generated",
    ),
}


def told(caplog: pytest.LogCaptureFixture, table: str = "t") -> list[tuple[str, str]]:
    """Reason and remedy."""
    records = [record.__dict__ for record in caplog.records]
    return [(str(r.get("reason")), str(r.get("remedy"))) for r in records if r.get("table") == f"public.{table}"]


def update(database: str, table: str = "t") -> None:
    execute(database, f"UPDATE {table} SET v = v + 1")


def published(database: str) -> set[str]:
    return {name for (name,) in execute(database, "SELECT tablename::text FROM pg_publication_tables")}


def leaves_out(database: str, caplog: pytest.LogCaptureFixture, cases: dict[str, tuple[str, str]]) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    with Looping(config_for(database, tables=["public.*"], publication_check=0.1)) as running:
        running.until_streaming()
        for number, (ddl, _) in enumerate(cases.values()):
            named = re.sub(r"\bt(_1)?\b", rf"t{number}\1", ddl).replace("xi", f"xi{number}")
            execute(database, f"BEGIN; {named}; COMMIT")
        execute(database, "CREATE TABLE last (id int PRIMARY KEY)")
        running.until(lambda: "last" in published(database))
        assert published(database) == {"a", "last"}
        for number, (_, remedy) in enumerate(cases.values()):
            update(database, f"t{number}")
            [(reason, told_remedy)] = told(caplog, f"t{number}")
            assert "UPDATE and DELETE on it fail" in reason
            assert remedy in told_remedy


def test_a_table_whose_update_would_fail_is_left_out(database: str, caplog: pytest.LogCaptureFixture) -> None:
    leaves_out(database, caplog, HINDERED)


@pytest.mark.pg(">=18")
def test_a_table_with_generated_columns_in_its_identity_is_left_out(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    leaves_out(database, caplog, GENERATED)


@pytest.mark.pg("<18")
def test_generated_columns_hinder_nobody_before_eighteen(database: str, caplog: pytest.LogCaptureFixture) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    with Looping(config_for(database, tables=["public.*"], publication_check=0.1)) as running:
        running.until_streaming()
        execute(database, GENERATED["stored"][0])
        execute(database, "INSERT INTO t VALUES (1, 1)")
        running.until(lambda: running.state("t", "v") == {1: 1})
        update(database)
        running.until(lambda: running.state("t", "v") == {1: 2})
        assert not told(caplog)


@pytest.mark.pg("newest")
@pytest.mark.parametrize("case", ["nothing", "index dropped, key", "partition", "stored"])
def test_a_captured_table_that_becomes_unwritable_is_taken_out_until_it_is_mended(
    database: str, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    ddl = {**HINDERED, **GENERATED}[case][0].split(";")
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    with Looping(config_for(database, tables=["public.*"], publication_check=0.1)) as running:
        running.until_streaming()
        execute(database, ";".join(ddl[:-1]))
        if case != "index dropped, key":
            execute(database, "INSERT INTO t VALUES (1, 1)")
            running.until(lambda: running.state("t" if case != "partition" else "t_1", "v") == {1: 1})
        execute(database, ddl[-1])
        running.until(lambda: told(caplog) and published(database) == {"a"})
        update(database)
        execute(database, "DELETE FROM t; INSERT INTO t VALUES (2, 5)")
        execute(database, told(caplog)[0][1])
        running.until(lambda: running.state("t" if case != "partition" else "t_1", "v").get(2) == 5)
        update(database)
        running.until(lambda: running.state("t" if case != "partition" else "t_1", "v").get(2) == 6)


@pytest.mark.pg("newest")
def test_a_table_that_is_named_in_full_stays_and_is_told_of(database: str, caplog: pytest.LogCaptureFixture) -> None:
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, v int)")
    with Looping(config_for(database, tables=["public.t"], publication_check=0.1)) as running:
        running.until_streaming()
        execute(database, "INSERT INTO t VALUES (1, 1); ALTER TABLE t REPLICA IDENTITY NOTHING")
        running.until(lambda: running.progress.unwritable)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            update(database)
        execute(database, "ALTER TABLE t REPLICA IDENTITY DEFAULT")
        update(database)
        running.until(lambda: not running.progress.unwritable)
        running.until(lambda: running.state("t", "v") == {1: 2})


@pytest.mark.pg("newest")
@pytest.mark.pg(">=15")
def test_a_filter_that_hinders_updates_is_told_of_by_the_pipeline_at_its_start(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)")
    execute(database, "CREATE PUBLICATION theirs FOR TABLE t WHERE (v > 0)")
    with Looping(config_for(database, publication="theirs", manage_publication=False)) as running:
        running.until_streaming()
        assert (
            "a filter on columns that its replica identity does not hold: v" in running.progress.unwritable["public.t"]
        )
        [(reason, remedy)] = told(caplog)
        assert "replica identity" in reason
        execute(database, remedy)
        update(database)
    with Looping(config_for(database, publication="theirs", manage_publication=False), running.offsets) as again:
        again.until_streaming()
        assert not again.progress.unwritable


def test_operations_that_are_skipped_are_not_published_so_that_tables_without_a_key_stay_writable(
    database: str,
) -> None:
    execute(database, "CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1)")
    document = {
        "name": "loop",
        "source": {"postgres": {"dsn": database, "tables": ["public.*"]}},
        "sink": {"null": {}},
        "envelope": {"skip": ["u", "d"]},
    }
    with Looping(validate_capture(document)) as running:
        running.until_streaming()
        update(database)
        execute(database, "DELETE FROM t; INSERT INTO t VALUES (2, 2)")
        running.until(lambda: len(running.records) == 2)
        offsets = running.offsets
    assert execute(database, "SELECT pubinsert, pubupdate, pubdelete FROM pg_publication") == [(True, False, False)]
    execute(database, "ALTER TABLE t REPLICA IDENTITY FULL")
    document["envelope"] = {}
    with Looping(validate_capture(document), offsets) as running:
        running.until_streaming()
        update(database)
        running.until(lambda: any(record.value["op"] == "u" for record in running.records if record.value))

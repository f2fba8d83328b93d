"""The commands tell of the tables that an application could not write to once they are published."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from pycdc.config import load_text
from pycdc.config.pipeline import require_capture
from tests.cli.conftest import Invoke
from tests.connectors.postgres.publication.test_writability import GENERATED, HINDERED

pytestmark = [pytest.mark.server, pytest.mark.pg("outermost")]

WRITABLE = {
    "key": "CREATE TABLE t (id int PRIMARY KEY, v int)",
    "full": "CREATE TABLE t (id int, v int); ALTER TABLE t REPLICA IDENTITY FULL",
    "index": "CREATE TABLE t (id int NOT NULL, v int); CREATE UNIQUE INDEX xi ON t (id);"
    "ALTER TABLE t REPLICA IDENTITY USING INDEX xi",
    "deferrable key, full": "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v int);ALTER TABLE t REPLICA IDENTITY FULL",
    "root without identity": "CREATE TABLE t (id int, v int) PARTITION BY RANGE (id);"
    "CREATE TABLE t_1 PARTITION OF t (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (9)",
    "generated, not in the identity": "CREATE TABLE t (id int PRIMARY KEY, v int,"
    "g int GENERATED ALWAYS AS (v + 1) STORED)",
}


def execute(dsn: str, query: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(query.encode())


def fails(dsn: str) -> bool:
    """Whether an UPDATE of the table fails while it is published, as the server has it."""
    try:
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE PUBLICATION p FOR TABLE t")
            connection.execute("UPDATE t SET v = 2")
            connection.rollback()
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InvalidColumnReference):
        return True
    return False


def findings(dsn: str, invoke: Invoke, folder: Path) -> list[dict[str, Any]]:
    """What doctor says of the identities."""
    source = {"postgres": {"dsn": dsn, "tables": ["public.*"]}}
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump({"name": "shop", "source": source, "sink": {"null": {}}}))
    found = json.loads(invoke("doctor", "--json", str(path)).stdout)["findings"]
    return [one for one in found if "UPDATE and DELETE" in one["title"]]


@pytest.mark.parametrize(("ddl", "remedy"), HINDERED.values(), ids=HINDERED)
def test_a_table_whose_update_would_fail_is_told_by_doctor_init_and_a_trial(
    database: str, invoke: Invoke, tmp_path: Path, ddl: str, remedy: str
) -> None:
    is_told(database, invoke, tmp_path, ddl, remedy)


@pytest.mark.pg(">=18")
@pytest.mark.parametrize(("ddl", "remedy"), GENERATED.values(), ids=GENERATED)
def test_a_table_with_generated_columns_in_its_identity_is_told_by_doctor_init_and_a_trial(
    database: str, invoke: Invoke, tmp_path: Path, ddl: str, remedy: str
) -> None:
    is_told(database, invoke, tmp_path, ddl, remedy)


def is_told(database: str, invoke: Invoke, tmp_path: Path, ddl: str, remedy: str) -> None:
    execute(database, f"CREATE TABLE a (id int PRIMARY KEY); {ddl}")
    assert fails(database)
    (finding,) = findings(database, invoke, tmp_path)
    assert finding["status"] == "failed"
    assert finding["title"] == "UPDATE and DELETE on public.t fail in the application once it is published"
    assert remedy in finding["fix"]
    proposed = invoke("init", "--dsn", database)
    assert re.search(r"^ +# - public\.t ", proposed.stdout, re.MULTILINE)
    assert remedy in proposed.stderr
    trial = invoke("run", "--dsn", database, "--table", "t", "--snapshot", "only")
    assert trial.exit_code == 3
    assert remedy in trial.stderr
    if "…" not in finding["fix"]:
        execute(database, finding["fix"].split("\n")[0])
        assert not fails(database)
        assert [one["status"] for one in findings(database, invoke, tmp_path)] == ["ok"]


@pytest.mark.parametrize("ddl", WRITABLE.values(), ids=WRITABLE)
def test_a_table_that_stays_writable_is_proposed(
    database: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ddl: str
) -> None:
    execute(database, ddl)
    assert not fails(database)
    assert [one["status"] for one in findings(database, invoke, tmp_path)] == ["ok"]
    monkeypatch.setenv("PYCDC_DSN", database)
    assert require_capture(load_text(invoke("init", "--dsn", database).stdout)).source.postgres.tables == ["public.t"]


def test_tables_without_identity_are_fine_where_updates_are_not_delivered(
    database: str, invoke: Invoke, tmp_path: Path
) -> None:
    execute(database, "CREATE TABLE t (id int)")
    source = {"postgres": {"dsn": database, "tables": ["t"]}}
    path = tmp_path / "shop.yaml"
    document = {"name": "shop", "source": source, "sink": {"null": {}}, "envelope": {"skip": ["u", "d"]}}
    path.write_text(yaml.safe_dump(document))
    assert "✗" not in invoke("doctor", str(path)).stdout


PARTS = {
    "filter": ("t WHERE (v > 5)", "REPLICA IDENTITY DEFAULT", "does not hold: v", "REPLICA IDENTITY FULL;"),
    "list": ("t (v)", "REPLICA IDENTITY DEFAULT", "without columns of its replica identity: id", "add id to"),
    "list, full": ("t (id, v)", "REPLICA IDENTITY FULL", "with a list of columns", "REPLICA IDENTITY DEFAULT;"),
    "filter, key": ("t WHERE (id > 5)", "REPLICA IDENTITY DEFAULT", "", ""),
    "filter, full": ("t WHERE (v > 5)", "REPLICA IDENTITY FULL", "", ""),
    "list, key": ("t (id)", "REPLICA IDENTITY DEFAULT", "", ""),
}


@pytest.mark.pg(">=15")
@pytest.mark.parametrize("partitioned", [False, True], ids=["table", "partition"])
@pytest.mark.parametrize(("part", "identity", "fact", "remedy"), PARTS.values(), ids=PARTS)
def test_a_publication_of_a_part_that_makes_updates_fail_is_told_by_doctor(
    database: str, invoke: Invoke, tmp_path: Path, part: str, identity: str, fact: str, remedy: str, partitioned: bool
) -> None:
    kind = " PARTITION BY RANGE (id)" if partitioned else ""
    execute(database, f"CREATE TABLE t (id int PRIMARY KEY, v int){kind}")
    if partitioned:
        # Its columns have other numbers than the root's.
        execute(database, "CREATE TABLE t_1 (gone int, v int, id int NOT NULL); ALTER TABLE t_1 DROP COLUMN gone")
        execute(database, "ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (0) TO (9)")
    execute(database, f"ALTER TABLE {'t_1' if partitioned else 't'} {identity}")
    via = " WITH (publish_via_partition_root)" if partitioned else ""
    execute(database, f"CREATE PUBLICATION pycdc_shop FOR TABLE {part}{via}")
    (finding,) = findings(database, invoke, tmp_path)
    if not fact:
        execute(database, "UPDATE t SET v = 2")
        assert finding["status"] == "ok"
        return
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        execute(database, "UPDATE t SET v = 2")
    assert finding["status"] == "failed"
    assert fact.partition(":")[0] in finding["detail"]
    assert finding["detail"].endswith(fact.partition(":")[2])
    assert remedy in finding["fix"]
    if not finding["fix"].startswith("--"):
        execute(database, finding["fix"].split("\n")[0])
        execute(database, "UPDATE t SET v = 2")
        assert [one["status"] for one in findings(database, invoke, tmp_path)] == ["ok"]

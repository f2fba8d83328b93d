"""`pycdc apply`: what it shows, what it changes, what it leaves to others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

import pycdc
from pycdc.model.change import Batch
from tests.cli.conftest import Invoke
from tests.running import Running

Write = Callable[[str], str]
ROLE = "apply_capture"


@pytest.fixture
def shop(database: str) -> str:
    execute(database, "CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users VALUES (1)")
    return database


def execute(dsn: str, statement: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def settings(dsn: str, folder: Path, **source: Any) -> dict[str, Any]:
    return {
        "name": "shop",
        "source": {"postgres": {"dsn": dsn, "publication_check": 0.2, **source}},
        "sink": {"custom": {"factory": "tests.cli.test_apply:Rows"}},
        "offsets": {"file": {"path": str(folder / "position")}},
        "checkpoint": {"interval": 0.05},
        "http": {"enabled": False},
    }


class Rows:
    """A sink that remembers table, operation and id of each row."""

    came: list[tuple[str, str, int]] = []  # noqa: RUF012 - shared on purpose, emptied by `rows`

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def write(self, batch: Batch) -> None:
        for change in batch:
            if change.table is not None and change.after is not None:
                self.came.append((change.table.name, change.op.value, change.after["id"]))

    def commit(self, *_: Any) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def rows() -> list[tuple[str, str, int]]:
    Rows.came.clear()
    return Rows.came


def begun(document: dict[str, Any]) -> None:
    """Run the pipeline until it streams and has stored that."""
    with Running(document) as running:
        running.until(
            lambda: running.pipeline.progress.checkpoints > 1 and running.pipeline.progress.state == "streaming"
        )


def published(dsn: str) -> set[str]:
    return {
        name for (name,) in execute(dsn, "SELECT tablename FROM pg_publication_tables WHERE pubname = 'pycdc_shop'")
    }


@pytest.mark.pg("newest")
def test_a_check_tells_by_its_exit_code_whether_something_is_to_be_changed(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any]
) -> None:
    path = config_file(yaml.safe_dump(settings(shop, tmp_path)))
    first = invoke("apply", path, "--check")
    assert (first.exit_code, published(shop)) == (4, set())
    assert "CREATE PUBLICATION pycdc_shop FOR TABLE ONLY" in first.stdout.replace('"', "")
    begun(settings(shop, tmp_path))
    assert invoke("apply", path, "--check").stdout == "nothing to change\n"
    execute(shop, "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1); ANALYZE orders")
    execute(shop, "CREATE TABLE bare (id int)")
    found = invoke("apply", path, "--check", "--json")
    assert found.exit_code == 4
    error_report = json.loads(found.stdout)
    assert error_report["read"] == [
        {"table": "public.orders", "rows_estimated": 1, "again": False, "topics": ["shop.public.orders"]}
    ]
    assert error_report["sql"] == ['ALTER PUBLICATION "pycdc_shop" ADD TABLE ONLY "public"."orders"']
    assert [left["table"] for left in error_report["left_out"]] == ["public.bare"]
    assert published(shop) == {"users"}


@pytest.mark.pg("newest")
def test_what_is_applied_is_read_by_the_pipeline_when_it_is_started(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any]
) -> None:
    """Also where the pipeline would ignore such tables by itself."""
    document = settings(shop, tmp_path, tables_added="ignore")
    begun(document)
    execute(shop, "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)")
    path = config_file(yaml.safe_dump(document))
    declined = invoke("apply", path)
    assert declined.exit_code == 2
    assert "give --yes or --check" in declined.stderr
    done = invoke("apply", path, "--yes")
    assert done.exit_code == 0, done.output
    assert "the pipeline takes them in when it is started" in done.stdout
    assert published(shop) == {"users", "orders"}
    with Running(document) as running:
        running.until(lambda: ("orders", "r", 1) in rows)
    assert invoke("apply", path, "--check").exit_code == 0


@pytest.mark.pg("newest")
def test_a_running_pipeline_is_asked_at_once(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any]
) -> None:
    document = settings(shop, tmp_path, tables_added="ignore", publication_check=3600)
    begun(document)
    path = config_file(yaml.safe_dump(document))
    with Running(document) as running:
        running.until_streaming()
        execute(shop, "CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)")
        done = invoke("apply", path, "--yes", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["applied"] is True
        running.until(lambda: ("orders", "r", 1) in rows)


@pytest.mark.pg("newest")
def test_a_table_that_a_running_pipeline_captures_leaves_when_that_is_restarted(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any]
) -> None:
    """Taken out at once, it would look lost to a pipeline that does not know the new configuration."""
    execute(shop, "CREATE TABLE orders (id int PRIMARY KEY)")
    begun(settings(shop, tmp_path))
    smaller = settings(shop, tmp_path, exclude_tables=["orders"])
    path = config_file(yaml.safe_dump(smaller))
    with Running(settings(shop, tmp_path)) as running:
        running.until_streaming()
        shown = invoke("apply", path, "--yes")
        assert shown.exit_code == 0, shown.output
        assert "public.orders: leaves the publication, when the pipeline is started with this" in shown.stdout
        assert published(shop) == {"users", "orders"}
    assert invoke("apply", path, "--yes").exit_code == 0
    assert published(shop) == {"users"}
    begun(smaller)


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    "drift",
    [
        "ALTER PUBLICATION pycdc_shop DROP TABLE users",
        "ALTER PUBLICATION pycdc_shop DROP TABLE users; ALTER PUBLICATION pycdc_shop ADD TABLE users",
        "ALTER PUBLICATION pycdc_shop SET (publish = 'insert')",
    ],
)
def test_drift_that_stops_a_pipeline_is_put_right(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any], drift: str
) -> None:
    document = settings(shop, tmp_path)
    begun(document)
    path = config_file(yaml.safe_dump(document))
    execute(shop, drift)
    execute(shop, "INSERT INTO users VALUES (2); UPDATE users SET id = 3 WHERE id = 1")
    with Running(document) as running:
        assert isinstance(running.failure(), pycdc.PositionGap)
    assert "pycdc apply" in invoke("doctor", path).stdout
    rows.clear()
    done = invoke("apply", path, "--yes")
    assert done.exit_code == 0, done.output
    assert "public.users: " in done.stdout
    assert "again; rows deleted meanwhile stay with the consumers" in done.stdout
    with Running(document) as running:
        running.until(lambda: {("users", "r", 2), ("users", "r", 3)} <= set(rows))
    assert invoke("apply", path, "--check").exit_code == 0


@pytest.mark.pg("newest")
def test_a_publication_that_was_dropped_cannot_be_put_right(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any]
) -> None:
    """From Postgres 18 on, what was written meanwhile would be missing without a word."""
    document = settings(shop, tmp_path)
    begun(document)
    execute(shop, "DROP PUBLICATION pycdc_shop")
    refused = invoke("apply", config_file(yaml.safe_dump(document)), "--yes")
    assert refused.exit_code == 3
    assert "start over" in refused.stderr


@pytest.mark.pg("newest")
def test_what_the_role_may_not_do_is_printed_for_the_owner(
    shop: str, tmp_path: Path, config_file: Write, invoke: Invoke, rows: list[Any]
) -> None:
    document = settings(shop, tmp_path)
    begun(document)
    execute(shop, "CREATE TABLE orders (id int PRIMARY KEY)")
    document["source"]["postgres"]["manage_publication"] = False
    path = config_file(yaml.safe_dump(document))
    assert invoke("apply", path, "--check").exit_code == 4
    refused = invoke("apply", path, "--yes")
    assert refused.exit_code == 3
    assert 'let their owner run: ALTER PUBLICATION "pycdc_shop" ADD TABLE ONLY "public"."orders";' in refused.stderr
    assert published(shop) == {"users"}


def test_a_pipeline_that_reads_kafka_has_nothing_to_apply(config_file: Write, invoke: Invoke) -> None:
    document = {
        "name": "back",
        "source": {"kafka": {"brokers": "localhost:1", "topics": ["t"], "format": "json"}},
        "sink": {"postgres": {"dsn": "dbname=x", "routes": [{"topic": "t", "table": "t", "key": {"id": "id"}}]}},
    }
    result = invoke("apply", config_file(yaml.safe_dump(document)))
    assert result.exit_code == 2
    assert "has no publication" in result.stderr

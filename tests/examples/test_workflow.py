"""examples/workflow: orders that DBOS drives, killed between steps and right behind one: each step is done once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pycdc.config.sagas import SagaConfig
from pycdc.sinks.postgres.sagas.saga_state import state_of
from tests.reading import wait_for

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "workflow"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
CONFIRMED = ["OrderPlaced", "StockReserved", "PaymentTaken", "OrderConfirmed"]
CANCELLED = ["OrderPlaced", "StockReserved", "PaymentRefused", "StockReleased", "OrderCancelled"]

pytestmark = pytest.mark.pg("newest")


@pytest.mark.slow
def test_an_order_that_is_killed_goes_on_and_each_step_and_its_event_happen_once(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute((FOLDER / "schema.sql").read_bytes())
        connection.execute("INSERT INTO stock VALUES ('lamp', 10)")
        connection.execute("SELECT pg_create_logical_replication_slot('oracle', 'pgoutput')")
        connection.execute("CREATE PUBLICATION none")
    finished(database, "order-0", "lamp", "4", "declined")
    killed_at(database, "dbos.operation_outputs", "order-1", "lamp", "2", "good")
    killed_at(database, "public.payments")
    finished(database)
    assert rows(database, "SELECT id, state FROM orders ORDER BY 1") == [
        ("order-0", "cancelled"),
        ("order-1", "confirmed"),
    ]
    assert rows(database, "SELECT on_hand FROM stock") == [(8,)]
    assert rows(database, "SELECT order_id, amount FROM payments") == [("order-1", 200)]
    events: dict[str, list[str]] = {}
    for event in messages(database):
        events.setdefault(event["correlation_id"], []).append(event["type"])
    assert events == {"order-0": CANCELLED, "order-1": CONFIRMED}


def test_the_tracker_sees_the_same_saga() -> None:
    page = (FOLDER / "README.md").read_text()
    saga = SagaConfig.model_validate_json(page.partition("```json")[2].partition("```")[0])
    assert state_of(saga, CONFIRMED) == "succeeded"
    assert state_of(saga, CANCELLED) == "compensated"


def killed_at(database: str, table: str, *order: str) -> None:
    """Kill the process of an order as soon as it waits for a table."""
    with locked(database, table), psycopg.connect(database, autocommit=True) as watcher:
        process = subprocess.Popen(command(database, *order), cwd=ROOT)
        try:
            wait_for(lambda: watcher.execute(WAITING).fetchone() == (1,))
        finally:
            process.kill()
            process.wait()


@contextmanager
def locked(database: str, table: str) -> Iterator[None]:
    with psycopg.connect(database) as connection:
        connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(*table.split("."))))
        yield
        connection.rollback()


def finished(database: str, *order: str) -> None:
    done = subprocess.run(command(database, *order), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def command(database: str, *order: str) -> list[str]:
    parts = psycopg.conninfo.conninfo_to_dict(database)
    user, secret = parts["user"], parts.get("password", "")
    url = f"postgresql://{user}:{secret}@{parts['host']}:{parts['port']}/{parts['dbname']}"
    return [sys.executable, "-m", "examples.workflow", url, *order]


def messages(database: str) -> list[dict[str, Any]]:
    """The logical messages, read from pgoutput's bytes."""
    options = "'proto_version', '1', 'publication_names', 'none', 'messages', 'true'"
    query = f"SELECT data FROM pg_logical_slot_peek_binary_changes('oracle', NULL, NULL, {options})"
    found = [bytes(data[10:]).partition(b"\0") for (data,) in rows(database, query) if data[:1] == b"M"]
    return [json.loads(rest[4:]) for prefix, _, rest in found if prefix == b"outbox"]


def rows(database: str, query: str) -> list[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()

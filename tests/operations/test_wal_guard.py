"""The guard of the source's disk, on real servers: levels, the webhook, what holds xmin, and starting over."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from pycdc.cli.app import main
from pycdc.config import InvalidConfig, validate_capture
from pycdc.config.pipeline import require_capture
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.operations.slot_monitor import SlotMonitor
from pycdc.operations.wal_guard import WalGuard
from tests.programs import Program
from tests.reading import wait_for
from tests.running import Running
from tests.services.postgres import PostgresServer

BUDGET = "2MiB"
MORE_THAN_THAT = "INSERT INTO items SELECT g, repeat(md5(g::text), 40) FROM generate_series(10001, 13000) g"


class Webhook(BaseHTTPRequestHandler):
    """Keeps what it is sent; refuses as many as `refusals` says."""

    received: ClassVar[list[dict[str, Any]]] = []
    refusals: ClassVar[int] = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if Webhook.refusals:
            Webhook.refusals -= 1
            self.send_response(503)
        else:
            Webhook.received.append(json.loads(body))
            self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def webhook() -> Iterator[str]:
    Webhook.received, Webhook.refusals = [], 0
    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()
        thread.join()


@pytest.fixture
def items(database: str) -> str:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, note text)")
        connection.execute("INSERT INTO items SELECT g, 'old' FROM generate_series(1, 10) g")
    return database


def document(dsn: str, folder: Path, **guard: Any) -> dict[str, Any]:
    return {
        "name": "guarded",
        "source": {
            "postgres": {
                "dsn": dsn,
                "tables": ["items"],
                "snapshot": "when_needed",
                "wal_guard": {"budget": BUDGET, **guard},
            }
        },
        "sink": {"console": {}},
        "offsets": {"file": {"path": str(folder / "position.json")}},
        "http": {"enabled": False},
    }


def written(folder: Path, made: dict[str, Any]) -> Path:
    path = folder / "guarded.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


def captured(path: Path, folder: Path, rows: int) -> list[dict[str, Any]]:
    """Run the pipeline until it printed so many rows, and is streaming."""
    command = [sys.executable, "-m", "pycdc", "run", str(path), "--no-live"]
    with Program(command, folder) as program:
        program.wait_until(lambda: len(program.lines) >= rows)
        assert program.stop() == 0
        return [json.loads(line) for line in program.lines]


def slots(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        query = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        return [name for (name,) in connection.execute(query)]


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.pg("newest")
def test_a_slot_over_its_budget_is_dropped_and_the_pipeline_starts_over_complete(items: str, tmp_path: Path) -> None:
    path = written(tmp_path, document(items, tmp_path, drop_slot=True))
    captured(path, tmp_path, 10)
    execute(items, "UPDATE items SET note = 'new' WHERE id < 4", "DELETE FROM items WHERE id = 9", MORE_THAN_THAT)
    once = [sys.executable, "-m", "pycdc", "guard", str(path), "--once", "--json"]
    done = subprocess.run(once, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert (told["level"], told["dropped"]) == ("over", True)
    assert told["retained_bytes"] > told["budget_bytes"] == 2 * 1024**2
    assert slots(items) == []
    with psycopg.connect(items) as connection:
        there = connection.execute("SELECT id, note FROM items ORDER BY id").fetchall()
    again = captured(path, tmp_path, len(there))
    assert sorted((event["after"]["id"], event["after"]["note"]) for event in again) == there
    assert slots(items) == ["pycdc_guarded"]


@pytest.mark.pg("newest")
def test_a_slot_that_a_snapshot_needs_is_not_dropped_again(items: str, tmp_path: Path) -> None:
    made = validate_capture(document(items, tmp_path, drop_slot=True))
    execute(items, "SELECT pg_create_logical_replication_slot('pycdc_guarded', 'pgoutput')", MORE_THAN_THAT)
    with Catalog(items) as catalog:
        slot = catalog.slot("pycdc_guarded")
        assert slot is not None
        state = WalGuard(made).look(catalog, slot, 0.0)
    assert (state.level, state.dropped) == ("over", False)
    assert slots(items) == ["pycdc_guarded"]


@pytest.mark.pg("newest")
def test_each_change_of_level_is_sent_once_and_again_where_the_webhook_refused(
    items: str, tmp_path: Path, webhook: str
) -> None:
    execute(items, "SELECT pg_create_logical_replication_slot('pycdc_guarded', 'pgoutput')")
    guard = WalGuard(validate_capture(document(items, tmp_path, webhook=webhook)))
    Webhook.refusals = 1
    with Catalog(items) as catalog:

        def look(now: float) -> None:
            slot = catalog.slot("pycdc_guarded")
            assert slot is not None
            guard.look(catalog, slot, now)

        look(0.0)
        assert Webhook.received == []
        execute(items, MORE_THAN_THAT)
        look(1.0)
        assert Webhook.received == []
        look(2.0)
        look(3.0)
        assert [told["level"] for told in Webhook.received] == ["over"]
        assert Webhook.received[0]["pipeline"] == "guarded"
        assert "held back" not in Webhook.received[0]["text"]
        assert "of WAL of 2.0 MB allowed" in Webhook.received[0]["text"]
        execute(items, "SELECT pg_replication_slot_advance('pycdc_guarded', pg_current_wal_lsn())", "CHECKPOINT")
        wait_for(lambda: _advanced(items))
        look(4.0)
    assert [told["level"] for told in Webhook.received][-1] in ("ok", "warning")


def _advanced(dsn: str) -> bool:
    """The restart LSN follows with a running-xacts record: one is written at each checkpoint."""
    execute(dsn, "CHECKPOINT", "SELECT pg_replication_slot_advance('pycdc_guarded', pg_current_wal_lsn())")
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 1024 * 1024 FROM pg_replication_slots "
            "WHERE slot_name = 'pycdc_guarded'"
        ).fetchone()
    return row == (True,)


@pytest.mark.pg("newest")
def test_what_holds_back_xmin_is_named(items: str, tmp_path: Path) -> None:
    with psycopg.connect(items, application_name="a long report") as report, Catalog(items) as catalog:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT 1 FROM items")
        execute(items, *["INSERT INTO items SELECT max(id) + 1 FROM items"] * 5)
        holder = catalog.xmin_holder()
        assert holder is not None
        assert (holder.kind, holder.age) == ("session", 5)
        assert "a long report" in holder.name


@pytest.mark.pg("newest")
def test_chunks_of_a_snapshot_wait_while_the_slot_is_over_its_budget(items: str, tmp_path: Path) -> None:
    made = document(items, tmp_path)
    made["source"]["postgres"] |= {"snapshot_method": "chunks", "snapshot_chunk": 2}
    made["sink"] = {"null": {"format": "json"}}
    running = Running(made)
    progress = running.pipeline.progress
    progress.over_wal_budget = True
    with running:
        running.until_streaming()
        execute(items, "INSERT INTO items VALUES (11, 'streamed')")
        running.until(lambda: progress.events == 1)
        assert [table.done for table in progress.snapshot] == [0]
        progress.over_wal_budget = False
        running.until(lambda: progress.snapshot[0].finished)
        assert progress.snapshot[0].done >= 10


@pytest.mark.pg("newest")
def test_the_monitor_of_a_running_pipeline_measures_the_slot(items: str, tmp_path: Path) -> None:
    made = document(items, tmp_path)
    made["sink"] = {"null": {"format": "json"}}
    with Running(made) as running:
        progress = running.pipeline.progress
        running.until_streaming()
        with SlotMonitor(require_capture(running.pipeline.config), progress, interval=0.05):
            running.until(lambda: progress.slot_state == "reserved")
            running.until(lambda: progress.xmin_ages)
            assert progress.over_wal_budget is False


@pytest.mark.pg(">=18")
def test_doctor_knows_that_the_server_gives_idle_slots_up(postgres: PostgresServer, items: str, tmp_path: Path) -> None:
    postgres.configure(idle_replication_slot_timeout="10min")
    try:
        with Catalog(items) as catalog:
            assert catalog.server().idle_slot_timeout == 600
        path = written(tmp_path, document(items, tmp_path))
        told = CliRunner().invoke(main, ["doctor", str(path)]).output
        assert "invalidates slots that nobody reads for 10 min" in told
    finally:
        postgres.configure(idle_replication_slot_timeout=None)


def test_dropping_without_a_new_snapshot_is_refused(tmp_path: Path) -> None:
    made = document("dbname=nowhere", tmp_path, drop_slot=True)
    made["source"]["postgres"]["snapshot"] = "initial"
    with pytest.raises(InvalidConfig, match="when_needed"):
        validate_capture(made)


@pytest.mark.parametrize(("option", "value"), [("budget", "7kB"), ("webhook", "file:///etc/passwd")])
def test_a_budget_too_small_and_a_webhook_that_is_none_are_refused(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(InvalidConfig, match=option):
        validate_capture(document("dbname=nowhere", tmp_path, **{option: value}))


def test_a_webhooks_url_is_a_secret(tmp_path: Path) -> None:
    made = validate_capture(document("dbname=nowhere", tmp_path, webhook="https://chat.example/T0KEN"))
    assert "T0KEN" not in repr(made)

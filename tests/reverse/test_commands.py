"""docs/reverse-reference.md, run as it stands: doctor, run, and what doctor says where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from tests.programs import Program
from tests.test_docs import blocks

TABLE = "CREATE TABLE inventory (item_id int PRIMARY KEY, quantity int NOT NULL, updated_at timestamptz)"


@pytest.fixture
def config(kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path) -> Path:
    text = next(block.text for block in blocks("yaml", page="docs/reverse-reference.md"))
    text = text.replace("inventory.stock-adjusted", topic_prefix).replace("localhost:9092", kafka.bootstrap)
    text = text.replace("http://localhost:8081", registry.url).replace("name: inventory-back", f"name: {topic_prefix}")
    path = tmp_path / "inventory-back.yaml"
    path.write_text(text + "http: {port: 0}\n")
    return path


def doctor(config: Path, dsn: str) -> dict[str, Any]:
    with Program([sys.executable, "-m", "pycdc", "version"], config.parent) as program:
        environment = {**program.environment, "MONOLITH_DSN": dsn}
    command = [sys.executable, "-m", "pycdc", "doctor", str(config), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["ready"] else 3), done.stderr
    return found


@pytest.mark.pg("newest")
def test_the_example_of_the_page_runs(
    config: Path, kafka: Any, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    failed = [f for f in doctor(config, database)["findings"] if f["status"] == "failed"]
    assert [(f["group"], f["title"]) for f in failed] == [
        ("kafka", f"topic {topic_prefix} does not exist"),
        ("tables", "table public.inventory does not exist"),
    ]
    kafka.create_topic(topic_prefix)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLE.encode())
        assert doctor(config, database)["ready"]
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        event = {"type": "StockAdjusted", "itemId": 7, "newQuantity": 3, "occurredAt": "2026-11-21T10:00:00Z"}
        producer.produce(topic_prefix, json.dumps(event).encode(), b"7")
        assert producer.flush(20) == 0
        command = [sys.executable, "-m", "pycdc", "run", str(config)]
        with Program(command, tmp_path, {"MONOLITH_DSN": database}) as program:
            query = "SELECT item_id, quantity, updated_at = '2026-11-21 10:00+00' FROM inventory"
            program.wait_until(lambda: connection.execute(query).fetchall() == [(7, 3, True)])
            assert program.stop() == 0
            assert f"position={topic_prefix}[0]@1" in program.log
        for other in (["status"], ["teardown", "--yes"]):
            command = [sys.executable, "-m", "pycdc", *other, str(config)]
            with Program(command, tmp_path, {"MONOLITH_DSN": database}) as told:
                assert told.wait() == 0, told.log
        assert connection.execute("SELECT to_regnamespace('pycdc')").fetchall() == [(None,)]

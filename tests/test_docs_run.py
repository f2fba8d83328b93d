"""What the documentation shows is what happens: its programs run against real servers and print what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

import pycdc
from pycdc.config import load_text
from pycdc.config.pipeline import require_capture
from tests.programs import Program
from tests.test_docs import Block, blocks

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def shop(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def run(sql: str, shop: psycopg.Connection[Any]) -> None:
    for statement in filter(str.strip, sql.split(";")):
        shop.execute(statement.encode())


def shown(language: str, number: int, page: str = "README.md") -> str:
    return blocks(language, page=page)[number].text


def slots(shop: psycopg.Connection[Any]) -> list[Any]:
    query = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() AND active"
    return shop.execute(query.encode()).fetchall()


def left_behind(shop: psycopg.Connection[Any]) -> list[Any]:
    query = """SELECT slot_name FROM pg_replication_slots WHERE database = current_database()
        UNION ALL SELECT pubname FROM pg_publication"""
    return shop.execute(query.encode()).fetchall()


def timeless(line: str) -> dict[str, Any]:
    """A line of the console sink without what differs from run to run."""
    change: dict[str, Any] = json.loads(line)
    assert re.fullmatch(r"[0-9A-F]+/[0-9A-F]+(\+\d+)?", change.pop("position"))
    change.pop("committed_at")
    return change


def changes(lines: list[str]) -> list[str]:
    """What a program printed, without log lines."""
    return [line for line in lines if re.match(r"[cudr] ", line)]


def test_the_smallest_example_prints_what_the_readme_shows_and_leaves_nothing(
    database: str, shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    expected = [timeless(line) for line in shown("json", 0).splitlines()]
    command = next(block.text for block in blocks("console", page="README.md") if "--dsn" in block.text)
    arguments = command.removeprefix("$ pycdc ").split()
    arguments = [database if "postgresql:" in argument else argument for argument in arguments]
    run(shown("sql", 0), shop)
    with Program([sys.executable, "-m", "pycdc", *arguments], tmp_path) as program:
        program.wait_until(lambda: len(program.lines) == 1 and bool(slots(shop)))
        run(shown("sql", 1), shop)
        program.wait_until(lambda: len(program.lines) >= len(expected))
        assert program.stop(signal.SIGINT) == 0
        assert [timeless(line) for line in program.lines] == expected
    assert left_behind(shop) == []


def test_the_library_example_prints_what_the_readme_shows(
    database: str, shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    expected = shown("text", 0).splitlines()
    run(shown("sql", 0), shop)
    program_text = shown("python", 0).replace("postgresql://localhost/shop", database)
    with Program([sys.executable, "-c", program_text], tmp_path) as program:
        program.wait_until(lambda: bool(slots(shop)))
        run(shown("sql", 1), shop)
        program.wait_until(lambda: len(changes(program.lines)) >= len(expected))
        assert changes(program.lines) == expected


@pytest.mark.parametrize("number", range(4), ids=["capture", "manual", "closing", "pipeline"])
def test_the_programs_of_the_library_page_run(
    number: int, database: str, shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    run(shown("sql", 0), shop)
    config = yaml.safe_load(shown("yaml", 0)) | {"sink": {"console": {}}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(config))
    text = shown("python", number, "docs/library.md").replace("postgresql://localhost/shop", database)
    with Program([sys.executable, "-c", text], tmp_path, {"PYCDC_DSN": database}) as program:
        program.wait_until(lambda: bool(slots(shop)))
        run("INSERT INTO items VALUES (2, 'jug', 9.00)", shop)
        program.wait_until(lambda: any("jug" in line for line in program.lines))


def test_the_sink_of_the_library_page_keeps_what_it_was_given(
    database: str, shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    run(shown("sql", 0), shop)
    sink = next(block.text for block in blocks("python", page="docs/library.md") if "class Audit" in block.text)
    config = next(block.text for block in blocks("yaml", page="docs/library.md") if "audit:Audit" in block.text)
    (tmp_path / "audit.py").write_text(sink)
    (tmp_path / "audit.yaml").write_text(config)
    log = tmp_path / "changes.log"
    command = [sys.executable, "-c", "import pycdc; pycdc.Pipeline('audit.yaml').run()"]
    with Program(command, tmp_path, {"PYCDC_DSN": database}) as program:
        program.wait_until(lambda: bool(slots(shop)))
        run("INSERT INTO items VALUES (2, 'jug', 9.00)", shop)
        program.wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
        program.wait_until((tmp_path / "audit.position").exists)
    assert [line.split(" ", 1)[1] for line in log.read_text().splitlines()] == ["r public.items", "c public.items"]


def library_program(words: str) -> str:
    return next(block.text for block in blocks("python", page="docs/library.md") if words in block.text)


def test_the_library_page_runs_a_pipeline_on_a_thread_and_asks_of_it(
    database: str, shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    run(shown("sql", 0), shop)
    config = yaml.safe_load(shown("yaml", 0)) | {"sink": {"console": {}}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(config))
    threaded = [sys.executable, "-c", library_program("threading.Thread(target=pipeline.run)")]
    with Program(threaded, tmp_path, {"PYCDC_DSN": database}) as program:
        program.wait_until(lambda: bool(slots(shop)))
        asked = [sys.executable, "-c", library_program("pipeline.doctor()")]
        done = subprocess.run(
            asked, cwd=tmp_path, env={**os.environ, "PYCDC_DSN": database}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert re.search(r"^\d+ bytes of WAL", done.stdout, re.M)
        assert re.search(r"^True \d+ bytes$", done.stdout, re.M)
        assert "failed" not in done.stdout
        run("INSERT INTO items VALUES (2, 'jug', 9.00)", shop)
        program.wait_until(lambda: any(line.startswith("stopped 0/") for line in program.lines))


def test_the_library_page_runs_a_pipeline_without_servers(tmp_path: Path) -> None:
    program = library_program("sink = MemorySink(")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_test_of_the_library_page_passes_without_a_server(tmp_path: Path) -> None:
    sink = next(block.text for block in blocks("python", page="docs/library.md") if "class Audit" in block.text)
    check = next(block.text for block in blocks("python", page="docs/library.md") if "import Audit" in block.text)
    (tmp_path / "audit.py").write_text(sink)
    (tmp_path / "check.py").write_text(check)
    done = subprocess.run([sys.executable, "check.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_slot_of_debezium_is_taken_over_where_it_was_confirmed(
    database: str, shop: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """docs/debezium.md, "Taking over a running connector": no row between its last confirmation and us is missing."""
    monkeypatch.setenv("PYCDC_DSN", database)
    config = load_text(
        next(block.text for block in blocks("yaml", page="docs/debezium.md") if "slot: debezium" in block.text)
    )
    source = require_capture(config).source.postgres
    run("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)", shop)
    run("CREATE PUBLICATION dbz_publication FOR ALL TABLES", shop)
    run("SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')", shop)
    run("INSERT INTO orders VALUES (2)", shop)
    taken = []
    stream = pycdc.capture(
        database,
        source.tables,
        name=config.name,
        snapshot="never",
        slot=source.slot,
        publication=source.publication,
        manage_publication=source.manage_publication,
    )
    for change in stream:
        taken.append((change.op.value, change.after))
        if len(taken) == 1:
            run("INSERT INTO orders VALUES (3)", shop)
        else:
            break
    stream.close()
    assert taken == [("c", {"id": 2}), ("c", {"id": 3})]
    assert shop.execute("SELECT pubname FROM pg_publication").fetchall() == [("dbz_publication",)]


def test_the_quickstart_ends_with_the_records_it_shows(
    database: str, shop: psycopg.Connection[Any], kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path
) -> None:
    """Steps 3 to 7 with the sample of compose.yaml, under a topic prefix of the test's own."""
    page = "docs/quickstart.md"
    sample = (Path(__file__).parents[1] / "deploy" / "shop.sql").read_text()
    run(sample.split("CREATE PUBLICATION")[0], shop)
    config = shown("yaml", 0, page).replace("name: shop", f"name: {topic_prefix}")
    config = config.replace("localhost:9092", kafka.bootstrap).replace(
        "http://localhost:8081/apis/ccompat/v7", registry.url
    )
    (tmp_path / "shop.yaml").write_text(config + "http: {port: 0}\n")  # another pipeline may run on this machine
    reader = shown("python", 0, page).replace("shop.public.orders", f"{topic_prefix}.public.orders")
    reader = reader.replace("localhost:9092", kafka.bootstrap).replace(
        "http://localhost:8081/apis/ccompat/v7", registry.url
    )
    update = re.search(r'-c "([^"]+)"', shown("console", 4, page))
    assert update is not None
    expected = shown("text", 0, page).splitlines()

    def cli(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pycdc", *arguments],
            cwd=tmp_path,
            env={**program.environment, "PYCDC_DSN": database},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    command = [sys.executable, "-m", "pycdc", "run", "shop.yaml"]
    with Program(command, tmp_path, {"PYCDC_DSN": database}) as program:
        program.wait_until(lambda: bool(slots(shop)))
        run(update[1], shop)
        with Program([sys.executable, "-c", reader], tmp_path) as reading:
            reading.wait_until(lambda: len(reading.lines) >= len(expected))
            assert reading.lines == expected
        cli("doctor", "shop.yaml")
        cli("status", "shop.yaml")
        assert program.stop() == 0
    cli("teardown", "shop.yaml", "--yes")
    assert left_behind(shop) == []


def test_the_queries_before_a_migration_find_what_crosses_the_boundary(shop: psycopg.Connection[Any]) -> None:
    run(
        """CREATE TABLE stock (sku text PRIMARY KEY); CREATE TABLE stock_moves (sku text REFERENCES stock);
        CREATE TABLE orders (id int PRIMARY KEY, sku text REFERENCES stock);
        CREATE VIEW shortages AS SELECT sku FROM stock; CREATE VIEW others AS SELECT id FROM orders""",
        shop,
    )
    keys, views, tables = (shop.execute(block.text.encode()).fetchall() for block in boundary_queries())
    assert keys == [("orders", "stock", "orders_sku_fkey")]
    assert views == [("shortages", "stock")]
    assert {(name, has_key) for name, _, has_key in tables} == {
        ("stock", True),
        ("stock_moves", False),
        ("orders", True),
    }


def boundary_queries() -> list[Block]:
    return blocks("sql", page="docs/migration.md")[:3]

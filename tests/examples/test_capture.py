"""examples/capture does what its README says, on a real Postgres."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.programs import Program

EXAMPLE = Path(__file__).parents[2] / "examples" / "capture"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", (EXAMPLE / "README.md").read_text(encoding="utf-8"), re.M | re.S)
CHANGES, CLEANUP = (text for language, text in BLOCKS if language == "sql")
OUTPUT = next(text for language, text in BLOCKS if not language).splitlines()
SETUP = re.findall(r'-c "([^"]+)"', next(text for language, text in BLOCKS if language == "console"))


def run(sql: str, shop: psycopg.Connection[Any]) -> None:
    for statement in filter(str.strip, sql.split(";")):
        shop.execute(statement.encode())


@pytest.fixture
def shop(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        run(";".join(SETUP), connection)
        yield connection


@pytest.fixture
def capture(database: str, tmp_path: Path) -> list[str]:
    """The command of the README."""
    script = str(EXAMPLE / "capture.py")
    return [sys.executable, script, database, "public.items", "--position", str(tmp_path / "items.position")]


def started(command: list[str], folder: Path) -> Program:
    program = Program(command, folder)
    program.wait_until(lambda: "streaming" in program.log)
    return program


@pytest.mark.pg("newest")
def test_the_readme_shows_what_the_example_prints(
    capture: list[str], shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    with started(capture, tmp_path) as program:
        run(CHANGES, shop)
        program.wait_until(lambda: len(program.lines) >= len(OUTPUT))
        assert program.stop(signal.SIGINT) == 0
        assert program.lines == OUTPUT


@pytest.mark.pg("newest")
def test_the_example_goes_on_where_it_was(capture: list[str], shop: psycopg.Connection[Any], tmp_path: Path) -> None:
    with started(capture, tmp_path) as program:
        run("INSERT INTO items VALUES (1, 'cup', 4.50)", shop)
        program.wait_until(lambda: bool(program.lines))
        assert program.stop(signal.SIGINT) == 0
        shown = program.lines
    run("INSERT INTO items VALUES (2, 'jug', 9.00)", shop)
    with started(capture, tmp_path) as program:
        program.wait_until(lambda: any("jug" in line for line in program.lines))
        # The last change before the end may come again.
        assert [line for line in program.lines if line not in shown] == [
            "c public.items {'id': 2} id: 2, name: jug, price: 9.00"
        ]


@pytest.mark.pg("newest")
def test_the_cleanup_leaves_nothing(capture: list[str], shop: psycopg.Connection[Any], tmp_path: Path) -> None:
    with started(capture, tmp_path) as program:
        assert program.stop() == 0
    run(CLEANUP, shop)
    slots = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
    assert shop.execute(slots.encode()).fetchall() == []
    assert shop.execute("SELECT pubname FROM pg_publication").fetchall() == []


@pytest.mark.pg("newest")
def test_a_wrong_table_is_an_error_with_a_remedy(
    capture: list[str], shop: psycopg.Connection[Any], tmp_path: Path
) -> None:
    command = ["public.itms" if part == "public.items" else part for part in capture]
    with Program(command, tmp_path) as program:
        assert program.wait() == 3
        assert "no table matches public.itms" in program.log
        assert "try:" in program.log

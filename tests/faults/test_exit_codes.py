"""The exit codes of docs/errors.md, by processes that end with them. 4, 5, 6 and 130 are in other files' tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from tests.programs import Program

pytestmark = pytest.mark.pg("newest")


@pytest.fixture
def document(database: str, tmp_path: Path) -> dict[str, Any]:
    """A pipeline to nowhere."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY)")
    return {
        "name": "codes",
        "source": {"postgres": {"dsn": database, "tables": ["items"]}},
        "sink": {"null": {}},
        "offsets": {"file": {"path": str(tmp_path / "position")}},
        "http": {"enabled": False},
    }


def run(document: dict[str, Any], folder: Path) -> Program:
    path = folder / "codes.json"
    path.write_text(json.dumps(document))
    return Program([sys.executable, "-m", "pycdc", "run", str(path)], folder)


def test_a_pipeline_that_is_stopped_or_has_read_all_ends_with_0(document: dict[str, Any], tmp_path: Path) -> None:
    with run(document, tmp_path) as program:
        program.wait_until(lambda: "event=streaming" in program.log)
        assert program.stop() == 0


def test_a_server_that_stays_away_ends_it_with_1(document: dict[str, Any], tmp_path: Path) -> None:
    document["source"]["postgres"]["dsn"] = "host=127.0.0.1 port=1 dbname=shop"
    document["retries"] = {"first_delay": 0.05, "give_up_after": 0.3}
    with run(document, tmp_path) as program:
        assert program.wait() == 1
        assert "try: check that the server of source.postgres.dsn runs" in program.log


def test_a_configuration_that_is_wrong_ends_it_with_2(document: dict[str, Any], tmp_path: Path) -> None:
    document["sorce"] = {}
    with run(document, tmp_path) as program:
        assert program.wait() == 2


@pytest.mark.parametrize("wrong", ["source", "offsets", "sink"])
def test_a_database_that_does_not_exist_ends_it_with_3_whoever_needs_it(
    document: dict[str, Any], database: str, tmp_path: Path, wrong: str
) -> None:
    nowhere = conninfo.make_conninfo(database, dbname="nowhere")
    if wrong == "source":
        document["source"]["postgres"]["dsn"] = nowhere
    elif wrong == "offsets":
        document["offsets"] = {"postgres": {"dsn": nowhere, "table": "positions"}}
    else:
        document["source"] = {"kafka": {"brokers": "127.0.0.1:1", "topics": ["items"]}}
        document["sink"] = {"postgres": {"dsn": nowhere, "routes": [{"topic": "items", "table": "items"}]}}
        del document["offsets"]
    with run(document, tmp_path) as program:
        assert program.wait() == 3, program.log
        assert "check the database's name in the dsn" in program.log

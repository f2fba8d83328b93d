"""`pycdc snapshot`: what it asks for, what it shows, what it refuses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml

import pycdc
from pycdc.model.change import Lsn, Position
from pycdc.offsets.file import FileOffsetStore
from tests.cli.conftest import Invoke
from tests.reading import wait_for

Write = Callable[[str], str]


@pytest.fixture
def shop(database: str) -> str:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE users (id int PRIMARY KEY); INSERT INTO users SELECT generate_series(1, 1500)")
        connection.execute("ANALYZE")
    return database


@pytest.fixture
def path(shop: str, config_file: Write, tmp_path: Path) -> str:
    return config_file(
        yaml.safe_dump(
            {
                "name": "shop",
                "source": {"postgres": {"dsn": shop, "snapshot": "only"}},
                "sink": {"null": {"format": "json"}},
                "offsets": {"file": {"path": str(tmp_path / "position")}},
                "http": {"enabled": False},
            }
        )
    )


@pytest.mark.pg("newest")
def test_what_is_asked_of_a_pipeline_that_does_not_run_is_done_when_it_is_started(path: str, invoke: Invoke) -> None:
    assert invoke("run", path).exit_code == 0
    asked = invoke("snapshot", path, "users", "--where", "id <= 10")
    assert asked.exit_code == 0, asked.output
    assert asked.stdout.startswith("asked to read users; the pipeline does not run")
    assert pycdc.Pipeline(path).snapshot("users", where="id = 11")
    with Path(path).open() as file:
        document = yaml.safe_load(file)
    document["source"]["postgres"]["snapshot"] = "never"
    pipeline = pycdc.Pipeline(document)
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    wait_for(
        lambda: len(pipeline.progress.snapshot) == 1 and pipeline.progress.operations.get(("public.users", "r")) == 11
    )
    pipeline.stop()
    thread.join()
    assert invoke("snapshot", path, "--status").stdout == "nothing is still to be read\n"


@pytest.mark.pg("newest")
def test_the_status_tells_tables_and_rows_and_never_a_key(path: str, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("snapshot", path, "--status").stdout == "nothing is still to be read\n"
    left = {"paused": True, "tables": [{"table": ["public", "users"], "after": ["canary"], "rows": 1200}]}
    checkpoint = pycdc.Checkpoint(Position(Lsn(1)), snapshot=left)
    FileOffsetStore(tmp_path / "position").store(checkpoint)
    assert invoke("snapshot", path, "--status").stdout == "paused\n  public.users  1,200 of about 1,500 rows\n"
    error_report = invoke("snapshot", path, "--status", "--json").stdout
    assert json.loads(error_report)["tables"][0]["rows"] == 1200
    assert "canary" not in error_report + repr(checkpoint) + invoke("status", path).stdout
    assert "paused: 1,200 rows of public.users read" in invoke("status", path).stdout


@pytest.mark.pg("newest")
@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ((), "name a table"),
        (("--pause", "users"), "--pause is for all tables"),
        (("--cancel", "users", "--where", "true"), "--where goes with a table to be read"),
        (("nowhere",), "nowhere is not a captured table"),
        (("users", "--where", "id = "), "the condition does not fit public.users"),
    ],
)
def test_a_wish_that_makes_no_sense_is_bad_usage(
    path: str, invoke: Invoke, arguments: tuple[str, ...], fact: str
) -> None:
    result = invoke("snapshot", path, *arguments)
    assert result.exit_code == 2
    assert fact in result.stderr


@pytest.mark.pg("newest")
def test_a_pipeline_that_was_never_started_cannot_be_asked(path: str, invoke: Invoke) -> None:
    result = invoke("snapshot", path, "users")
    assert result.exit_code == 3
    assert "slot pycdc_shop does not exist" in result.stderr

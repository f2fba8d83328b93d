"""`pycdc verify`: exit codes, what is printed and written, and what is left behind."""

from __future__ import annotations

import json
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.chaos.verified_pair import Pair
from tests.cli.conftest import Invoke
from tests.programs import Program
from tests.reading import wait_for

pytestmark = pytest.mark.pg("newest")

SESSIONS = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
AND (query LIKE '%%SNAPSHOT%%' OR state = 'idle in transaction')"""


@pytest.fixture
def pair(postgres: Any, kafka: Any, registry: Any, topic_prefix: str, tmp_path: Path) -> Iterator[Pair]:
    source, target = postgres.create_database(), postgres.create_database()
    try:
        with Pair(source, target, kafka.bootstrap, registry.url, topic_prefix) as pair:
            (tmp_path / "apply.json").write_text(json.dumps(pair.apply))
            (tmp_path / "capture.json").write_text(json.dumps(pair.capture))
            yield pair
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


def test_equal_differing_and_unverified_have_their_own_exit_codes(pair: Pair, invoke: Invoke, tmp_path: Path) -> None:
    config, report = str(tmp_path / "apply.json"), tmp_path / "report"
    equal = invoke("verify", config)
    assert (equal.exit_code, equal.stderr.count("error")) == (0, 0), equal.output
    assert re.search(r"public\.items: 400 rows, \d+ keys in flight, equal", equal.stdout)

    pair.sql(pair.target, "UPDATE items SET name = 'a secret' WHERE id = 1001; DELETE FROM stock WHERE item = 1002")
    differing = invoke("verify", config, "--report", str(report))
    assert differing.exit_code == 1
    assert "changed  id 1001; columns name" in differing.stdout
    assert "missing  place hall 2, item 1002" in differing.stdout
    for path in report.iterdir():
        assert "a secret" not in path.read_text()

    shown = invoke("verify", "show", str(report))
    assert (shown.exit_code, shown.stdout) == (1, differing.stdout)

    document = json.loads(invoke("verify", config, "--values", "--json", "--table", "public.items").stdout)
    assert [table["table"] for table in document["tables"]] == ["public.items"]
    assert document["tables"][0]["differences"][0]["target"] == {"name": "a secret"}

    for given in (("--source-dsn", pair.source, "--slot", "nobody"), ("--timeout", "0.1", "--capture", "nowhere.yaml")):
        failed = invoke("verify", config, *given)
        assert failed.exit_code == 2, failed.output
        assert "try:" in failed.stderr
    wait_for(lambda: pair.leftovers() == [])


def test_a_capture_by_its_slot_alone_is_verified_too(pair: Pair, invoke: Invoke, tmp_path: Path) -> None:
    slot = pair.sql(pair.source, "SELECT slot_name FROM pg_replication_slots")[0][0]
    found = invoke("verify", str(tmp_path / "apply.json"), "--source-dsn", pair.source, "--slot", slot)
    assert found.exit_code == 0, found.output


def test_rows_are_repaired_through_the_pipeline_if_they_are_still_wrong(
    pair: Pair, invoke: Invoke, tmp_path: Path
) -> None:
    config, report = str(tmp_path / "apply.json"), str(tmp_path / "report")
    pair.sql(
        pair.target,
        "UPDATE items SET name = 'wrong' WHERE id IN (1001, 1003); DELETE FROM stock WHERE item = 1002;"
        "INSERT INTO persons VALUES ('too many', 'x', 1, 'x')",
    )
    assert invoke("verify", config, "--report", report).exit_code == 1
    pair.sql(pair.source, "UPDATE items SET name = 'right again' WHERE id = 1003")

    again = invoke("verify", "rerun", report)
    assert again.exit_code == 1
    assert "3 of 4 differences are still there, 0 are new" in again.stdout

    planned = invoke("verify", "repair", report, "--dry-run")
    assert "2 rows would be asked for, 1 are too many, 1 are left alone" in planned.stdout, planned.output
    assert "snapshot of public.items where" in planned.stdout
    assert """DELETE FROM "public"."persons" WHERE ("code")::text = 'too many';""" in planned.stdout
    assert invoke("verify", config, "--table", "public.items").exit_code == 1  # nothing was asked for yet

    done = invoke("verify", "repair", report)
    assert (done.exit_code, "2 rows were asked for" in done.stdout) == (0, True), done.output
    wait_for(lambda: pair.sql(pair.target, "SELECT name FROM items WHERE id = 1001") == [("item 1001",)])
    wait_for(lambda: pair.sql(pair.target, "SELECT count(*) FROM stock WHERE item = 1002") == [(1,)])
    assert invoke("verify", config, "--table", "public.items", "--table", "public.stock").exit_code == 0
    assert invoke("verify", config, "--table", "public.persons").exit_code == 1


def test_a_watch_tells_each_look_and_serves_metrics_until_it_is_interrupted(pair: Pair, tmp_path: Path) -> None:
    options = ["--watch", "--interval", "0.2", "--http-port", "0", "--json"]
    with Program([sys.executable, "-m", "pycdc", "verify", "apply.json", *options], tmp_path) as program:
        program.wait_until(lambda: len(program.lines) > 1)
        assert [json.loads(line)["equal"] for line in program.lines[:2]] == [True, True]
        url = re.search(r"serves (http://\S+)", program.log)
        assert url is not None
        with urllib.request.urlopen(f"{url[1]}/metrics", timeout=10) as answer:
            assert b"pycdc_verify_age_seconds" in answer.read()
        assert program.stop(signal.SIGINT) == 130, program.log
    wait_for(lambda: [pair.sql(dsn, SESSIONS) for dsn in (pair.source, pair.target)] == [[(0,)], [(0,)]])
    wait_for(lambda: pair.leftovers() == [])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_its_end_leaves_no_slot_and_no_session(pair: Pair, tmp_path: Path, how: signal.Signals) -> None:
    """It comes while the verification waits for a transaction that keeps its slot from being made."""
    with psycopg.connect(pair.source) as holding:
        holding.execute("SELECT pg_current_xact_id()")
        with Program([sys.executable, "-m", "pycdc", "verify", "apply.json"], tmp_path) as program:
            program.wait_until(lambda: pair.leftovers() != [])
            assert program.stop(how) == (130 if how is signal.SIGINT else -9), program.log
        if how is signal.SIGINT:
            wait_for(lambda: pair.leftovers() == [])
    wait_for(lambda: pair.leftovers() == [])
    wait_for(lambda: [pair.sql(dsn, SESSIONS) for dsn in (pair.source, pair.target)] == [[(0,)], [(0,)]])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_its_end_leaves_no_snapshot_while_rows_are_compared(pair: Pair, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "pycdc", "verify", "apply.json", "--max-rate", "1"]
    with Program(command, tmp_path) as program:
        program.wait_until(lambda: "compares public." in program.log)
        assert all(pair.sql(dsn, SESSIONS) != [(0,)] for dsn in (pair.source, pair.target))
        assert program.stop(how) == (130 if how is signal.SIGINT else -9), program.log
    wait_for(lambda: [pair.sql(dsn, SESSIONS) for dsn in (pair.source, pair.target)] == [[(0,)], [(0,)]])
    assert pair.leftovers() == []


def test_a_transaction_that_keeps_the_slot_from_being_made_is_named(pair: Pair, invoke: Invoke, tmp_path: Path) -> None:
    with psycopg.connect(pair.source) as holding:
        holding.execute("SELECT pg_current_xact_id()")
        found = invoke("verify", str(tmp_path / "apply.json"), "--timeout", "0.5")
        assert found.exit_code == 2
        assert f"pid {holding.info.backend_pid}" in found.stderr
        assert f"pg_terminate_backend({holding.info.backend_pid})" in found.stderr
    wait_for(lambda: pair.leftovers() == [])

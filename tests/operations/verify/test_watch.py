"""A watch compares what events touched, keeps what it found, and tells how old its last look is."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from pycdc.config import validate, validate_capture
from pycdc.config.runtime import HttpConfig
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from pycdc.operations.verify import table_comparison
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.result import Verification
from pycdc.operations.verify.watch import WatchSchedule, watch
from tests.chaos.verified_pair import Pair, told
from tests.reading import wait_for

pytestmark = pytest.mark.pg("newest")

TABLES = (
    "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE w (code text PRIMARY KEY, v text);"
    "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 1500) n; ANALYZE t;"
    "INSERT INTO w SELECT 'k' || n, 'v' FROM generate_series(1, 50) n",
    "CREATE TABLE t (id int PRIMARY KEY, v text CHECK (v <> 'refused'));CREATE TABLE w (code text PRIMARY KEY, v text)",
)


@pytest.fixture
def pair(
    postgres: Any, kafka: Any, registry: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pair]:
    monkeypatch.setattr(table_comparison, "_RANGE", 100)
    source, target = postgres.create_database(), postgres.create_database()
    sink = {
        "on_error": "park",
        "routes": [{"topic": f"{topic_prefix}.public.{name}", "table": name} for name in ("t", "w")],
    }
    servers = kafka.bootstrap, registry.url, topic_prefix
    try:
        with Pair(source, target, *servers, tables=TABLES, sink=sink) as pair:
            yield pair
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


def told_of(found: Verification) -> list[Any]:
    return [(kind, key[0]) for _, kind, key, _ in told(found)]


def test_only_ranges_that_events_touched_are_compared_again_and_what_differed(pair: Pair) -> None:
    with pair.verifier() as verifier:
        everything = verifier.run()
        assert everything.tables[0].source_rows == 1500
        nothing = verifier.run_again(everything)
        assert [table.source_rows for table in nothing.tables] == [0, 0]

        pair.sql(pair.source, "UPDATE t SET v = 'new' WHERE id = 640")
        found = verifier.run_again(nothing)
        (t, w) = found.tables
        assert (told(found), w.source_rows) == ([], 0)
        assert 0 < t.source_rows + t.in_flight < 500

        pair.sql(pair.target, "UPDATE t SET v = 'wrong' WHERE id IN (7, 650)")
        pair.sql(pair.source, "UPDATE t SET v = 'new' WHERE id = 651; DELETE FROM w WHERE code = 'k1'")
        found = verifier.run_again(found)
        assert told_of(found) == [("changed", "650")]  # nobody looks at 7, which no event touched
        found = verifier.run_again(found)
        assert told_of(found) == [("changed", "650")]  # it is still known
        pair.sql(pair.target, "UPDATE t SET v = 'v' WHERE id = 650")
        found = verifier.run_again(found)
        assert told_of(found) == []
        assert told_of(verifier.run()) == [("changed", "7")]


def test_changes_are_compared_row_by_row(pair: Pair) -> None:
    with pair.verifier() as verifier:
        found = verifier.run()
        pair.sql(pair.target, "UPDATE t SET v = 'wrong' WHERE id = 641")
        pair.sql(pair.source, "UPDATE t SET v = 'new' WHERE id IN (640, 642); UPDATE t SET id = 3000 WHERE id = 5")
        pair.sql(pair.source, "INSERT INTO t VALUES (2000, 'x'); DELETE FROM w WHERE code = 'k1'")
        found = verifier.run_changes(found)
        assert told_of(found) == []  # nobody looks at 641, which no event touched
        assert 0 < sum(table.source_rows + table.in_flight for table in found.tables) < 20

        pair.sql(pair.source, "UPDATE t SET v = 'refused' WHERE id = 900")
        pair.sql(pair.target, "INSERT INTO w VALUES ('k3000', 'too many')")
        pair.sql(pair.source, "INSERT INTO w VALUES ('k3000', 'x'); DELETE FROM w WHERE code = 'k2'")
        found = verifier.run_changes(found)
        assert told_of(found) == [("changed", "900")]
        found = verifier.run_changes(found)  # all rows, where some differed
        assert told_of(found) == [("changed", "641"), ("changed", "900")]


def test_an_event_that_was_parked_or_lost_is_found_by_the_ranges_that_it_touched(pair: Pair) -> None:
    """It changed nothing in the target, but the row in the source."""
    with pair.verifier() as verifier:
        found = verifier.run()
        pair.sql(pair.source, "UPDATE t SET v = 'refused' WHERE id = 900")
        found = verifier.run_again(found)
        found = verifier.run_again(found)
    assert told_of(found) == [("changed", "900")]
    assert (found.differences[0].explanation or "").startswith("parked record")


@contextmanager
def watching(pair: Pair, schedule: WatchSchedule, **options: Any) -> Iterator[tuple[Progress, list[Verification]]]:
    heard: list[Verification] = []
    progress, stop = Progress(), threading.Event()
    given = VerifyOptions(capture=validate_capture(pair.capture), timeout=30.0, **options)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            watch(validate(pair.apply), given, schedule, heard.append, progress=progress, stop=stop)
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield progress, heard
    finally:
        stop.set()
        thread.join()
    assert failure == []


def asked(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def soon(heard: list[Verification], wanted: Callable[[Verification], bool]) -> None:
    wait_for(lambda: bool(heard) and wanted(heard[-1]))


def test_metrics_and_status_tell_the_age_and_the_differences_by_table_and_kind(pair: Pair) -> None:
    with ExitStack() as stack:
        progress, heard = stack.enter_context(watching(pair, WatchSchedule(0.2)))
        with StatusServer(HttpConfig(port=0), progress) as server:
            soon(heard, lambda found: found.equal)
            metrics = asked(f"{server.url}/metrics")
            assert 'pycdc_verify_differences{kind="changed",table="public.t"} 0.0' in metrics
            assert "pycdc_verify_age_seconds " in metrics
            pair.sql(pair.target, "UPDATE t SET v = 'wrong' WHERE id = 3; DELETE FROM w WHERE code = 'k2'")
            pair.sql(pair.source, "UPDATE t SET v = 'x' WHERE id = 4; UPDATE w SET v = 'x' WHERE code = 'k3'")
            soon(heard, lambda found: told_of(found) == [("changed", "3"), ("missing", "k2")])
            wait_for(lambda: 'kind="missing",table="public.w"} 1.0' in asked(f"{server.url}/metrics"))
            status = json.loads(asked(f"{server.url}/status"))["verification"]
            assert status["differences"] == {"public.t": {"changed": 1}, "public.w": {"missing": 1}}
            assert status["age_seconds"] < 600
            assert (status["full"], status["touched"] > 0) == (1, True)
            assert json.loads(asked(f"{server.url}/healthz"))["healthy"]
            exposed = asked(f"{server.url}/status")
    assert "wrong" not in exposed


def test_what_no_event_touched_is_looked_at_again_in_its_turn(pair: Pair) -> None:
    with watching(pair, WatchSchedule(0.1, full_every=1.0)) as (progress, heard):
        soon(heard, lambda found: found.equal)
        pair.sql(pair.target, "UPDATE t SET v = 'wrong' WHERE id = 3")
        soon(heard, lambda found: told_of(found) == [("changed", "3")])
        assert progress.verification is not None
        assert progress.verification.full > 1
    assert progress.state == "stopped"


def test_a_watch_goes_on_after_its_sessions_were_ended(pair: Pair) -> None:
    with watching(pair, WatchSchedule(0.1)) as (progress, heard):
        soon(heard, lambda found: found.equal)
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pycdc%'"
        pair.sql(pair.target, f"{ended} AND datname = current_database() AND query LIKE '%apply_offsets%'")
        count = len(heard)
        wait_for(lambda: len(heard) > count + 2)
        pair.sql(pair.target, "UPDATE t SET v = 'wrong' WHERE id = 5")
        pair.sql(pair.source, "UPDATE t SET v = 'x' WHERE id = 6")
        soon(heard, lambda found: told_of(found) == [("changed", "5")])
    assert progress.last_error is None

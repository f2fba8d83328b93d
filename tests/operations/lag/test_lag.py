"""`pycdc lag` beside running pipelines, as a user calls it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner, Result

from pycdc.cli import main
from tests.running import Running
from tests.services.kafka import KafkaAddress
from tests.services.registry import RegistryAddress

TABLE = "CREATE TABLE items (id int PRIMARY KEY, name text)"
ROW = "INSERT INTO items SELECT coalesce(max(id), 0) + 1, 'cup' FROM items"

pytestmark = pytest.mark.pg("newest")

Document = dict[str, Any]
Lag = Callable[..., Result]


@pytest.fixture
def lag(tmp_path: Path) -> Lag:
    """`pycdc lag` for documents: the first is CONFIG, those behind `--follow` too."""

    def run(*arguments: str | Document) -> Result:
        given = []
        for index, one in enumerate(arguments):
            if isinstance(one, dict):
                path = tmp_path / f"{index}.yaml"
                path.write_text(yaml.safe_dump(one))
                one = str(path)
            given.append(one)
        return CliRunner().invoke(main, ["lag", *given])

    return run


@pytest.fixture
def source(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(TABLE.encode())
        yield connection


@pytest.fixture
def capture(database: str, source: Any, kafka: KafkaAddress, registry: RegistryAddress, topic_prefix: str) -> Document:
    return {
        "name": topic_prefix,
        "source": {"postgres": {"dsn": database, "tables": ["items"]}},
        "sink": {"kafka": {"brokers": kafka.bootstrap, "registry": registry.url}},
        "http": {"enabled": False},
    }


@pytest.fixture
def back(capture: Document, database: str) -> Document:
    """Applies the items to another table, and takes the probes without writing them."""
    name = capture["name"]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"CREATE TABLE copies (id int PRIMARY KEY, name text)")
    routes = [
        {"topic": f"{name}.public.items", "table": "copies"},
        {"topic": f"{name}.message", "table": "copies", "when": {"op": "none"}},
    ]
    kafka = {**capture["sink"]["kafka"], "topics": [f"{name}.*"]}
    sink = {"postgres": {"dsn": database, "routes": routes}}
    return {"name": f"{name}back", "source": {"kafka": kafka}, "sink": sink, "http": {"enabled": False}}


def measured(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_probes_are_timed_without_any_other_traffic(capture: Document, kafka: KafkaAddress, lag: Lag) -> None:
    with Running(capture) as running:
        running.until_streaming()
        found = measured(lag(capture, "--probe", "--seconds", "2s", "--json", "--fail-above", "60s"))
    assert found["lag"] == "probe"
    assert found["running"] is True
    assert found["unanswered"] == 0
    assert found["delays"]["probe"]["samples"] >= 10
    assert 0 < found["delays"]["probe"]["p50"] <= found["delays"]["probe"]["p99"] <= found["delays"]["probe"]["max"]


def test_without_probes_nothing_is_written(
    capture: Document, source: psycopg.Connection[Any], kafka: KafkaAddress, lag: Lag
) -> None:
    with Running(capture) as running:
        running.until_streaming()
        source.execute(ROW.encode())
        running.until(lambda: running.pipeline.progress.events >= 1)
        found = measured(lag(capture, "--seconds", "1s", "--json"))
    assert f"{capture['name']}.message" not in kafka.topics()
    assert set(found["delays"]) == {"stored"}


def test_records_that_come_anyway_tell_when_they_were_committed(
    capture: Document, source: psycopg.Connection[Any], database: str, lag: Lag
) -> None:
    with Running(capture) as running, Ticking(database):
        running.until(lambda: running.pipeline.progress.events >= 3)
        found = measured(lag(capture, "--seconds", "2s", "--json"))
    assert found["lag"] == "delivered"
    assert found["delays"]["delivered"]["samples"] > 0
    assert found["delays"]["delivered"]["max"] < 60


def test_the_gate_is_shut_for_a_pipeline_that_stands_still(
    capture: Document, source: psycopg.Connection[Any], lag: Lag
) -> None:
    with Running(capture) as running:
        running.until_streaming()
    source.execute(ROW.encode())
    result = lag(capture, "--seconds", "1.5s", "--fail-above", "500ms", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["running"] is False
    assert found["bytes_behind"] > 0
    assert "is above 500.0 ms" in result.stderr


def test_the_way_back_is_measured_by_its_traffic(capture: Document, back: Document, database: str, lag: Lag) -> None:
    with Running(capture) as running, Ticking(database):
        running.until(lambda: running.pipeline.progress.events >= 3)
        with Running(back) as returning:
            returning.until(lambda: returning.pipeline.progress.events >= 3)
            found = measured(lag(back, "--seconds", "2s", "--json"))
    assert found["lag"] == "applied"
    assert found["delays"]["applied"]["samples"] > 0
    assert found["records_behind_max"] >= 0


def test_probes_are_followed_into_the_other_database(
    capture: Document, back: Document, source: psycopg.Connection[Any], kafka: KafkaAddress, lag: Lag
) -> None:
    with Running(capture) as running:
        running.until_streaming()
        source.execute(ROW.encode())
        source.execute(b"SELECT pg_logical_emit_message(true, 'x', 'the topic is there before anybody reads it')")
        running.until(
            lambda: {f"{capture['name']}{topic}" for topic in (".message", ".public.items")} <= kafka.topics()
        )
        with Running(back) as returning:
            returning.until(lambda: returning.pipeline.progress.events >= 2)
            arguments = ("--probe", "--seconds", "2s", "--json", "--follow", back)
            found = measured(lag(capture, *arguments))
    assert found["lag"] == "applied"
    assert found["delays"]["applied"]["p50"] >= found["delays"]["probe"]["p50"]
    assert source.execute(b"SELECT count(*) FROM copies").fetchone() == (1,)


def test_what_cannot_be_measured_is_told_with_the_way_out(capture: Document, back: Document, lag: Lag) -> None:
    assert "does not exist" in lag(capture).stderr
    silent = {**capture, "source": {"postgres": {**capture["source"]["postgres"], "messages": False}}}
    assert "messages: true" in lag(silent, "--probe").stderr
    deaf = {**back, "source": {"kafka": {**back["source"]["kafka"], "topics": ["x"]}}}
    assert f"does not read {capture['name']}.message" in lag(capture, "--probe", "--follow", deaf).stderr
    assert "add --probe" in lag(capture, "--follow", back).stderr
    assert "without --probe" in lag(back, "--probe").stderr
    assert "has never" in lag(back).stderr


class Ticking:
    """A row every few milliseconds, from a thread."""

    def __init__(self, dsn: str) -> None:

        self._dsn = dsn
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Ticking:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._end.wait(0.02):
                connection.execute(ROW.encode())

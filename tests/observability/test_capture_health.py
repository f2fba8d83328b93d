"""What a capture says of itself while one of its sides is away, slow, refusing or half open."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pycdc.model.change import Batch
from pycdc.observability.health import judge
from tests.connectors.postgres.looping import Looping, config_for
from tests.connectors.postgres.reading import execute
from tests.proxy import Proxy
from tests.services.postgres import PostgresServer

pytestmark = [pytest.mark.server, pytest.mark.pg("newest")]
LIMIT = 1.0
"""Seconds after which health is to show it."""


def reasons(running: Looping) -> str:
    return "; ".join(judge(running.progress, LIMIT).reasons)


def lag(running: Looping) -> float:
    return running.progress.lag_seconds or 0.0


def grows(running: Looping) -> None:
    before = lag(running)
    running.until(lambda: lag(running) > before + 1)


def test_it_is_behind_while_a_sink_holds_it_up_and_health_names_the_sink(database: str) -> None:
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    held, go = threading.Event(), threading.Event()
    with Looping(config_for(database, snapshot="never")) as running:
        running.until_streaming()
        running.until(lambda: running.progress.lag_seconds == 0)

        def hold(batch: Batch) -> None:
            if batch.runs:
                held.set()
                go.wait(60)

        running.sink.pause = hold
        execute(database, "INSERT INTO a VALUES (1)")
        running.until(held.is_set)
        grows(running)
        assert "the sink has made no progress" in reasons(running)
        assert "server" not in reasons(running)
        go.set()
        running.until(lambda: running.progress.lag_seconds == 0 and not reasons(running))


def test_it_is_behind_while_the_server_decodes_what_others_wrote(database: str) -> None:
    """Nothing comes before the end of a transaction, however much of it there is."""
    execute(database, "CREATE TABLE a (id int PRIMARY KEY, v text)")
    with Looping(config_for(database, snapshot="never", max_batch_changes=10)) as running:
        running.until_streaming()
        slow = threading.Event()
        running.sink.pause = lambda batch: slow.wait(0.05) if batch.runs else None
        execute(database, "INSERT INTO a SELECT i, repeat('x', 1000) FROM generate_series(1, 2000) i")
        running.until(lambda: (running.progress.lag_bytes or 0) > 1_000_000)
        grows(running)
        slow.set()
        running.until(lambda: running.progress.lag_bytes == 0 and running.progress.lag_seconds == 0)


@pytest.mark.parametrize("fault", ["refuse", "blackhole"])
def test_it_is_behind_while_the_server_is_away_and_health_names_the_server(
    postgres: PostgresServer, database: str, postgres_proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycdc.observability.capture_lag.FRESH", 1.0)
    execute(database, "CREATE TABLE a (id int PRIMARY KEY)")
    name = execute(database, "SELECT current_database()")[0][0]
    through = postgres.dsn(name, port=postgres_proxy.port)
    break_it: Callable[[], None] = getattr(postgres_proxy, fault)
    config = config_for(through, snapshot="never", silence_timeout=600)
    with Looping(config) as running:
        running.until_streaming()
        running.until(lambda: running.progress.lag_seconds == 0)
        break_it()
        execute(database, "INSERT INTO a VALUES (1)")
        grows(running)
        running.until(lambda: "server" in reasons(running) or "trying again" in reasons(running))
        assert "sink" not in reasons(running)
        postgres_proxy.heal()
        running.until(lambda: running.records and running.progress.lag_seconds == 0)

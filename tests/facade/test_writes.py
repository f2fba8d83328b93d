"""Writes are at one system, can be held, and their clients read them."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from pycdc.cli.facade import load_facade
from pycdc.facade.route_weights import RouteWeight
from tests.facade.conftest import Run, Running
from tests.facade.upstreams import Posts, Replication, Upstream, Writers
from tests.reading import wait_for

pytestmark = pytest.mark.server


def change_writes(facade: Running, weight: RouteWeight) -> None:
    found = load_facade(str(facade.path))
    found.admin().wait_for_routes(found.weights.change({"write": lambda _: weight}))


def test_held_writes_are_told_when_to_come_again_and_reach_nobody(run: Run, old: Upstream, new: Upstream) -> None:
    facade = run(retry_after=3)
    browser = facade.browser()
    assert browser.ask("POST", "/api/stock") == (200, "old 1")
    change_writes(facade, RouteWeight(held=True, held_until=math.inf))
    status, _ = browser.ask("POST", "/api/stock")
    assert (status, browser.headers["retry-after"]) == (503, "3")
    assert browser.ask("GET", "/api/stock/1") == (200, "old 1")
    change_writes(facade, RouteWeight(percent=100, target=100))
    assert browser.ask("POST", "/api/stock") == (200, "new 1")
    assert (old.number, new.number) == (1, 1)


def test_writes_are_not_moved_by_weight(run: Run) -> None:
    done = run().command("set", "write", "50")
    assert done.returncode == 2
    assert "pycdc cutover" in done.stderr


def test_a_write_that_failed_is_not_sent_again(run: Run, old: Upstream) -> None:
    facade = run()
    old.status = 500
    assert facade.browser().ask("POST", "/api/stock")[0] == 500
    assert old.asked["POST /api/stock"] == 1


def test_a_client_that_wrote_is_pinned_to_the_writer_and_others_are_not(run: Run) -> None:
    facade = run()
    facade.command("set", "read", "100", "--at-once")
    writer, other = facade.browser(), facade.browser()
    writer.ask("POST", "/api/stock")
    assert writer.cookies["pycdc-writer"] == "old"
    assert {writer.ask("GET", "/api/stock/1") for _ in range(20)} == {(200, "old 1")}
    assert {other.ask("GET", "/api/stock/1") for _ in range(20)} == {(200, "new 0")}


@pytest.mark.parametrize("cookie_seconds", [5, 0], ids=["with cookie", "without"])
def test_no_client_reads_older_than_it_wrote_whatever_the_lag(
    run: Run, old: Upstream, new: Upstream, cookie_seconds: int
) -> None:
    """The lag grows over all bounds in the middle. Without the cookie the same clients read old numbers."""
    facade = run(read_your_writes=cookie_seconds, gates={"urls": [f"{old.url}/gate"]})
    facade.command("set", "read", "100", "--at-once")
    with Replication(old, new, lag=0.3) as replication, Writers(facade.port) as writers:

        def wait_for_reads(more: int) -> None:
            before = writers.reads
            wait_for(lambda: writers.reads >= before + more)

        wait_for_reads(300)
        replication.broken = True
        wait_for_reads(150)
        old.gate = 503  # what pycdc's own gate answers once the lag is beyond its bound
        wait_for(lambda: facade.weight()["percent"] == 0)
        wait_for_reads(150)
    assert (writers.stale == 0) == bool(cookie_seconds)


def test_a_change_is_decided_by_at_once(run: Run) -> None:
    """`wait_for_routes` returns when Envoy decides by the change, also by one that changes nothing."""
    facade = run()
    for held in (True, True, False):
        change_writes(facade, replace(RouteWeight(), held=held, held_until=math.inf))
        assert facade.browser().ask("POST", "/api/stock")[0] == (503 if held else 200)


def test_writes_are_held_no_longer_than_they_may(run: Run) -> None:
    """Whoever held them may have been killed."""
    facade = run()
    change_writes(facade, RouteWeight(held=True, held_until=time.time() + 1))
    browser = facade.browser()
    assert browser.ask("POST", "/api/stock")[0] == 503
    wait_for(lambda: browser.ask("POST", "/api/stock")[0] == 200)


@pytest.mark.parametrize("percent", [100, 0], ids=["switched", "rolled back"])
def test_queued_writes_arrive_once_where_the_rows_are_owned_then(
    run: Run, old: Upstream, new: Upstream, percent: int
) -> None:
    facade = run(held_writes="queue")
    with Posts(facade.port) as posts:
        wait_for(lambda: len(posts.answers) > 20)
        change_writes(facade, RouteWeight(held=True, held_until=time.time() + 120))
        held = posts.begun
        wait_for(lambda: posts.begun > held + 50)
        waiting = range(held + 1, posts.begun - 1)
        assert not set(waiting) & set(posts.answers)
        assert old.number < held + 2
        assert new.number == 0
        change_writes(facade, RouteWeight(percent=percent, target=percent))
        wait_for(lambda: posts.answers.keys() >= set(waiting))
        released = posts.begun
        wait_for(lambda: posts.begun > released + 20)
    assert {status for status, _ in posts.answers.values()} == {200}
    expected = {f"POST /api/stock?{number}": 1 for number in range(posts.begun)}
    assert old.asked + new.asked == expected, "each once"
    owner = "new" if percent else "old"
    assert {posts.answers[number][1].split()[0] for number in waiting} == {owner}


def test_a_queued_write_that_the_service_refuses_is_not_sent_again(run: Run, new: Upstream) -> None:
    facade = run(held_writes="queue")
    new.status, new.headers = 503, {"x-pycdc-held": "1"}
    change_writes(facade, RouteWeight(held=True, held_until=time.time() + 120))
    with Posts(facade.port) as posts:
        wait_for(lambda: posts.begun > 20)
        change_writes(facade, RouteWeight(percent=100, target=100))
    assert {status for status, _ in posts.answers.values()} == {503}
    assert new.asked == {f"POST /api/stock?{number}": 1 for number in range(posts.begun)}


def test_a_queued_write_waits_no_longer_than_the_pause_may_last(run: Run, old: Upstream) -> None:
    facade = run(held_writes="queue", retry_after=3)
    facade.program.kill()  # nobody ends the pause
    change_writes(facade, RouteWeight(held=True, held_until=time.time() + 1))
    browser = facade.browser()
    since = time.monotonic()
    assert browser.ask("POST", "/api/stock")[0] == 503
    assert time.monotonic() - since > 0.5
    assert browser.headers["retry-after"] == "3"
    assert "x-pycdc-held" not in browser.headers
    assert old.number == 0
    facade.program = facade.start()
    wait_for(lambda: browser.ask("POST", "/api/stock")[0] == 200)
    assert old.number == 1

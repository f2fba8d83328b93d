"""Reads move in steps, and are taken away from a new system that does not bear them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pycdc.cli.facade import load_facade
from pycdc.operations.migration.facade_view import FacadeView
from tests.facade.conftest import Run, Running
from tests.facade.upstreams import SECONDS, Load, Upstream
from tests.reading import wait_for

pytestmark = pytest.mark.server

TAKEN_AWAY_IN = 5.0


def moved(run: Run, percent: int, **options: object) -> Running:
    facade = run(**options)
    assert facade.command("set", "read", str(percent), "--at-once").returncode == 0
    return facade


def test_reads_reach_all_of_the_new_system_step_by_step(run: Run) -> None:
    facade = run(bake=0.1)
    with Load(facade.port) as load:
        done = facade.command("set", "read", "100")
        assert done.stdout.split("\n")[:6] == [f"read: {percent} %" for percent in (0, 1, 5, 25, 50, 100)], done.stderr
        before = load.counts[200, "new"]
        wait_for(lambda: load.counts[200, "new"] > before + 50)
    assert load.failed == 0, load.counts


def test_a_weight_is_the_part_of_the_requests(run: Run, new: Upstream) -> None:
    facade = moved(run, 25)
    view = FacadeView(load_facade(str(facade.path)))
    with Load(facade.port) as load:
        wait_for(lambda: load.total > 1000)
        # What a page shows of it, which asks again and again.
        wait_for(lambda: figures(view)["p99 of new"]["value"] is not None)
    assert 0.18 < load.counts[200, "new"] / load.total < 0.32
    shown = figures(view)
    assert (shown["read"]["value"], shown["read"]["unit"]) == (25, "percent")
    assert 0 < shown["p99 of new"]["value"] <= SECONDS
    assert shown["failed at new"]["value"] == 0
    facade.program.stop()
    wait_for(lambda: not view.as_dict()["runs"])


def figures(view: FacadeView) -> dict[str, Any]:
    return {one["name"]: one for one in view.as_dict()["figures"]}


@pytest.mark.parametrize(("percent", "status", "delay"), [(100, 500, 0.0), (25, 200, 1.5)], ids=["wrong", "slow"])
def test_a_service_that_fails_loses_its_traffic_and_no_user_notices(
    run: Run, new: Upstream, percent: int, status: int, delay: float
) -> None:
    facade = moved(run, percent)
    with Load(facade.port) as load:
        wait_for(lambda: load.counts[200, "new"] > 50)
        new.status, new.delay = status, delay
        since = time.monotonic()
        wait_for(lambda: facade.weight()["percent"] == 0)
        assert time.monotonic() - since < TAKEN_AWAY_IN
        before = load.total
        wait_for(lambda: load.total > before + 200)
    assert load.failed <= load.total / 1000, load.counts
    assert facade.weight()["reason"].startswith("stepped back: ")
    asked = sum(new.asked.values())
    with Load(facade.port) as load:
        wait_for(lambda: load.total > 100)
    assert sum(new.asked.values()) == asked


def test_a_service_that_is_gone_loses_its_traffic_and_no_user_notices(run: Run, new: Upstream) -> None:
    facade = moved(run, 50)
    with Load(facade.port) as load:
        wait_for(lambda: load.counts[200, "new"] > 50)
        new.stop()
        wait_for(lambda: facade.weight()["percent"] == 0, TAKEN_AWAY_IN)
    assert load.failed <= load.total / 1000, load.counts


def test_a_gate_that_closes_takes_the_traffic_away_and_says_why(run: Run, old: Upstream, new: Upstream) -> None:
    facade = moved(run, 50, gates={"urls": [f"{old.url}/gate"]})
    wait_for(lambda: old.asked["GET /gate"] > 1)
    assert facade.weight()["percent"] == 50
    old.gate = 503
    wait_for(lambda: facade.weight()["percent"] == 0, TAKEN_AWAY_IN)
    assert "is closed (503): lag is 7 s" in facade.weight()["reason"]


def test_a_step_back_ends_the_wait_and_the_next_way_up_begins_anew(run: Run, new: Upstream) -> None:
    facade = run(steps=[50, 100])
    new.status = 500
    with Load(facade.port) as load:
        done = facade.command("set", "read", "100")
        assert (done.returncode, facade.weight()["target"]) == (1, 0)
        assert "stepped back: " in done.stderr
        new.status = 200
        assert facade.command("set", "read", "100").returncode == 0
        before = load.counts[200, "new"]
        wait_for(lambda: load.counts[200, "new"] > before + 20)
    assert load.failed == 0, load.counts


def test_without_requests_there_is_no_next_step(run: Run, old: Upstream) -> None:
    facade = run(bake=0.0, gates={"urls": [f"{old.url}/gate"]})
    facade.command("set", "read", "100", "--no-wait")
    wait_for(lambda: facade.weight()["percent"] == 1)
    before = old.asked["GET /gate"]
    wait_for(lambda: old.asked["GET /gate"] >= before + 3)  # two judgements, in which nothing may happen
    assert facade.weight()["percent"] == 1

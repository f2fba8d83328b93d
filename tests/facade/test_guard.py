"""What the guard decides, from numbers alone."""

from __future__ import annotations

import pytest

from pycdc.config.facade import FacadeConfig, FacadeGatesConfig
from pycdc.facade.cluster_statistics import ClusterStatistics
from pycdc.facade.guard import breach, next_step
from pycdc.facade.route_weights import RouteWeight

CONFIG = FacadeConfig.model_validate(
    {
        "clusters": {"old": "http://a:1", "new": "http://b:1"},
        "routes": {"read": {"path": "/"}},
        "bake": 10,
        "min_requests": 20,
    }
)


def answers(*, fast: int, slow: int = 0, failed: int = 0) -> ClusterStatistics:
    return ClusterStatistics(fast + slow, failed, {50.0: fast, 1000.0: fast + slow})


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (answers(fast=0), ""),
        (answers(fast=1000), ""),
        (answers(fast=1000, failed=10), ""),
        (answers(fast=1000, failed=11), "11 of 1000 requests failed in 4 s"),
        (answers(fast=2, failed=2), ""),
        (answers(fast=0, failed=3), "3 of 3 requests failed in 4 s"),
        (answers(fast=990, slow=10), ""),
        (answers(fast=989, slow=11), "p99 is 1000 ms, and may be 250 ms"),
        (answers(fast=0, slow=1), ""),
    ],
)
def test_a_breach_is_more_than_the_gates_allow(found: ClusterStatistics, why: str) -> None:
    assert breach(found, FacadeGatesConfig()) == why


def test_only_what_came_within_the_window_counts() -> None:
    before, now = answers(fast=1000, slow=500, failed=500), answers(fast=1100, slow=500, failed=500)
    assert now.since(before) == answers(fast=100)
    assert (now.since(before).p99, now.since(before).error_ratio) == (0.05, 0.0)


def test_after_a_restart_of_envoy_its_counters_count_from_nothing() -> None:
    assert answers(fast=3).since(answers(fast=1000)) == answers(fast=3)


@pytest.mark.parametrize(
    ("percent", "target", "requests", "age", "then"),
    [
        (0, 0, 0, 99, 0),
        (0, 100, 0, 0, 1),
        (1, 100, 20, 10, 5),
        (1, 100, 20, 9, 1),
        (1, 100, 19, 99, 1),
        (25, 30, 99, 99, 30),
        (7, 100, 99, 99, 25),
        (50, 100, 99, 99, 100),
        (100, 100, 99, 99, 100),
    ],
)
def test_a_step_is_taken_once_it_has_baked(percent: int, target: int, requests: int, age: float, then: int) -> None:
    weight = RouteWeight(percent, target, since=1000.0)
    assert next_step(weight, CONFIG, requests, now=1000.0 + age) == then

"""How a parallel run shares the tests among its workers, the processes of ``pytest-xdist``.

A portion, which one worker runs from its first test to its last, is a file's tests on one version of Postgres, so that
what they share is made once. The portions that take longest are handed out first: no worker shall begin one of them
when the others have ended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

APART = (
    "tests/chaos/",
    "tests/faults/test_crash_points",
    "tests/faults/test_kill",
    "tests/faults/test_signals",
    "tests/test_secrecy",
)
"""Files whose tests are portions of their own: each takes long, and they share nothing."""
TOGETHER = {
    "exclusive servers": (
        "tests/faults/test_refusing_servers.py",
        "tests/faults/test_self_report.py",
        "tests/faults/test_slow_servers.py",
        "tests/reverse/test_outages.py",
    ),
    "exclusive Kafka": (
        "tests/faults/test_exactly_once.py::test_each_change_comes_once_when_the_broker_is_killed",
        "tests/faults/test_recovery.py::test_a_broker_that_is_away_for_thirty_seconds",
        "tests/offsets/test_kafka.py",
        "tests/sinks/kafka/test_producer.py",
        "tests/sinks/kafka/test_transactional.py",
        "tests/test_services.py",
    ),
}
"""Portions with tests that have a Kafka or a registry to themselves. Five to six CPU seconds start one of either: that
is done once for each portion, not for each file."""
VERSION = re.compile(r"\[(?:.*-)?(pg[\d.]+)(?:-.*)?\]$")
SERVER_WEIGHT, SLOW_WEIGHT = 1, 20
"""How much longer tests take, by their marks, than one that needs no server: about seconds. Those of `TOGETHER` count
as slow."""


def portion(nodeid: str) -> str:
    """The name of the portion that the test with `nodeid` belongs to."""
    if nodeid.startswith(APART):
        return nodeid
    together = shared_portion(nodeid)
    if together is not None:
        return together
    path = nodeid.partition("::")[0]
    version = VERSION.search(nodeid)
    return f"{path}@{version[1]}" if version else path


def shared_portion(nodeid: str) -> str | None:
    """The name of the portion of several files that the test belongs to, if it belongs to one."""
    return next((name for name, prefixes in TOGETHER.items() if nodeid.startswith(prefixes)), None)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    yield
    if hasattr(config, "workerinput"):
        longest_first(items)


def longest_first(items: list[pytest.Item]) -> None:
    weights: Counter[str] = Counter()
    for item in items:
        server = item.get_closest_marker("server") is not None
        slow = item.get_closest_marker("slow") is not None or shared_portion(item.nodeid) is not None
        weights[portion(item.nodeid)] += SERVER_WEIGHT * server + SLOW_WEIGHT * slow
    items.sort(key=lambda item: -weights[portion(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling  # a run in one process needs no plugin

    class ByPortion(LoadScopeScheduling):  # type: ignore[misc]  # untyped
        def _split_scope(self, nodeid: str) -> str:
            return portion(nodeid)

    config.option.loadscopereorder = False  # by the number of tests: `longest_first` knows better
    return ByPortion(config, log)

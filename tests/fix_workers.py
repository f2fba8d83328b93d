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

APART = ("tests/chaos/", "tests/faults/test_kill", "tests/faults/test_signals", "tests/test_secrecy")
"""Files whose tests are portions of their own: each takes long, and they share nothing."""
VERSION = re.compile(r"\[(?:.*-)?(pg[\d.]+)(?:-.*)?\]$")
SERVER_WEIGHT, SLOW_WEIGHT = 1, 20
"""How much longer tests take, by their marks, than one that needs no server: about seconds."""


def portion(nodeid: str) -> str:
    """The name of the portion that the test with `nodeid` belongs to."""
    if nodeid.startswith(APART):
        return nodeid
    path = nodeid.partition("::")[0]
    version = VERSION.search(nodeid)
    return f"{path}@{version[1]}" if version else path


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    yield
    if hasattr(config, "workerinput"):
        longest_first(items)


def longest_first(items: list[pytest.Item]) -> None:
    weights: Counter[str] = Counter()
    for item in items:
        server = item.get_closest_marker("server") is not None
        slow = item.get_closest_marker("slow") is not None
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

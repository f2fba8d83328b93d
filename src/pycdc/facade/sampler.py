"""The sampler: it asks both systems what users asked, and compares the answers.

Mirroring by Envoy drops the second answer. So the sampler reads from Envoy's access log which GETs came, and asks them
itself: the old system, the new one, the old one again. Answers that differ are asked for again twice, each time later
than the copy may be behind; what still differs then, at the same place, is a difference.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import urllib3

from pycdc.config.facade import FacadeSampleConfig
from pycdc.facade.access_log import AccessLog
from pycdc.facade.answer_comparison import (
    AnswerDifference,
    ComparisonRules,
    ServiceAnswer,
    text_of,
    value_at,
)
from pycdc.facade.envoy import Facade
from pycdc.facade.envoy_config import path_regex
from pycdc.facade.route_noise import judged
from pycdc.facade.sample_report import Example, SampleReport

_ROUNDS: Final = 3
_SECONDS: Final = 5.0
"""That one answer may take."""
_WRITE_SECONDS: Final = 1.0
_PAUSE: Final = 0.1


@dataclass(order=True, slots=True)
class _Request:
    """`found` is what differed in each of the `rounds` so far."""

    due: float
    number: int
    route: str = field(compare=False)
    path: str = field(compare=False)
    headers: dict[str, str] = field(compare=False)
    rounds: int = field(default=0, compare=False)
    found: set[AnswerDifference] | None = field(default=None, compare=False)


class Sampler:
    """Compares what comes from now on. `values`: whether the report's examples hold what differs, and queries."""

    def __init__(self, facade: Facade, settings: FacadeSampleConfig, *, values: bool = False) -> None:
        routes = facade.config.routes
        self._facade = facade
        self._settings = settings
        self._values = values
        self._rules = ComparisonRules(settings.ignore, settings.unordered, settings.tolerance)
        self._patterns = [
            (name, re.compile(path_regex(route.path)), route.reads)
            for name, route in routes.items()
            if "GET" in route.methods
        ]
        self._log = AccessLog(facade.access_log)
        self._pool = urllib3.PoolManager(timeout=_SECONDS, retries=False)
        self._again: list[_Request] = []
        self._taken = 0
        self._next = time.monotonic()
        self._written = float("-inf")
        self.report = SampleReport([name for name, _, reads in self._patterns if reads])

    def run(self, stopped: Callable[[float], bool]) -> None:
        """Compare until `stopped`, which waits for so many seconds, returns True; the report is kept meanwhile."""
        try:
            while not stopped(_PAUSE):
                self._step()
        finally:
            self.report.write(self._facade.folder)
            self._log.close()

    def _step(self) -> None:
        for found in self._log.requests():
            request = self._request(found)
            if request is None:
                continue
            if request.due < self._next:
                self.report.routes[request.route].passed_over += 1
                continue
            self._next = request.due + 1 / self._settings.max_rate
            self._ask(request)
        while self._again and self._again[0].due <= time.monotonic():
            self._ask(heapq.heappop(self._again))
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self._written = time.monotonic()
            self.report.write(self._facade.folder)

    def _request(self, found: dict[str, Any]) -> _Request | None:
        """Return what a line of the log says; None where no route of reads takes it."""
        path = str(found["path"])
        bare = path.partition("?")[0]
        name, reads = next(((name, reads) for name, one, reads in self._patterns if one.fullmatch(bare)), ("", False))
        if not reads:
            return None
        given = {**(found.get("headers") or {}), "host": found.get("host")}
        self._taken += 1
        headers = {header: str(value) for header, value in given.items() if value}
        return _Request(time.monotonic(), self._taken, name, path, headers)

    def _ask(self, request: _Request) -> None:
        sample = self.report.routes[request.route]
        new_system = self._facade.config.routes[request.route].to
        try:
            old, new, again = (self._answer(cluster, request) for cluster in ("old", new_system, "old"))
        except urllib3.exceptions.HTTPError:
            sample.unanswered += 1
            return
        sample.noise.learn(old, again, self._rules)
        found = judged(old, new, again, self._rules)
        request.found = found if request.found is None else request.found & found
        request.rounds += 1
        if request.found and request.rounds < _ROUNDS:
            request.due = time.monotonic() + self._settings.settle
            heapq.heappush(self._again, request)
            return
        sample.add(old.status, self._example(request, old, new) if request.found else None)

    def _answer(self, cluster: str, request: _Request) -> ServiceAnswer:
        url = self._facade.config.clusters[cluster].rstrip("/") + request.path
        answer = self._pool.request("GET", url, headers=request.headers, redirect=False)
        return ServiceAnswer.of(answer.status, answer.data)

    def _example(self, request: _Request, old: ServiceAnswer, new: ServiceAnswer) -> Example:
        found = frozenset(request.found or ())
        values = None
        if self._values:
            values = {text_of(one.place): [value_at(old, one.place), value_at(new, one.place)] for one in found}
        shown = request.path if self._values else request.path.partition("?")[0]
        return Example(shown, time.time(), found, values)

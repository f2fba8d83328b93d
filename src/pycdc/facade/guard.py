"""The guard: each second it judges the new system by Envoy's statistics and by gates over HTTP.

A breach sends all reads of the cluster back to the old system. With all gates open, a weight on its way up takes the
next step once it has baked. Decisions are made without I/O (`breach`, `next_step`); `BreachGuard` asks and acts.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import urllib3

from pycdc.config.facade import FacadeConfig, FacadeGatesConfig
from pycdc.errors import ConnectionLost
from pycdc.facade.cluster_statistics import ClusterStatistics, cluster_statistics
from pycdc.facade.envoy import EnvoyAdmin, Facade
from pycdc.facade.route_weights import RouteWeight
from pycdc.facade.sample_report import FILE, SampleVerdict, read_verdicts
from pycdc.printable import printable

log = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two judgements."""
_SILENCE: Final = 3
"""Questions in a row without an answer after which a gate counts as closed."""
_GATE_SECONDS: Final = 1.0
_LARGEST_LOG: Final = 16_000_000
"""Bytes of the access log before another one is begun; nobody needs what was in it."""


def breach(found: ClusterStatistics, gates: FacadeGatesConfig) -> str:
    """Return why the new system may not go on, empty where it may. `found` is what lies in the window."""
    if found.failed >= gates.min_errors and found.error_ratio > gates.max_error_ratio:
        return f"{found.failed} of {found.requests} requests failed in {gates.window:g} s"
    p99 = found.p99
    if p99 is not None and p99 > gates.max_p99 and found.answered >= gates.min_errors:
        return f"p99 is {p99 * 1000:g} ms, and may be {gates.max_p99 * 1000:g} ms"
    return ""


def next_step(weight: RouteWeight, config: FacadeConfig, requests: int, now: float) -> int:
    """Return the percentage that a route shall have now. `requests` were answered since its last step."""
    if weight.percent >= weight.target:
        return weight.target
    baked = weight.percent == 0 or (now - weight.since >= config.bake and requests >= config.min_requests)
    return min(next(step for step in config.steps if step > weight.percent), weight.target) if baked else weight.percent


class BreachGuard:
    """Judges with every call of `check`, which is to be called each `INTERVAL`."""

    def __init__(self, facade: Facade, admin: EnvoyAdmin) -> None:
        self._facade = facade
        self._config = facade.config
        self._admin = admin
        self._clusters = sorted({route.to for route in self._config.routes.values() if route.reads})
        self._windows: dict[str, deque[tuple[float, ClusterStatistics]]] = {name: deque() for name in self._clusters}
        self._at_step: dict[str, tuple[float, ClusterStatistics]] = {}
        self._gates = HttpGates(self._config.gates)
        self._verdicts: Mapping[str, SampleVerdict] = {}

    def check(self) -> None:
        """Take one sample; send reads back, or take a step. Raises ConnectionLost where Envoy does not answer."""
        found = cluster_statistics(self._admin, self._clusters)
        weights = self._facade.weights.read()
        self._release(weights)
        reads = {name: one for name, one in weights.items() if self._config.routes[name].reads}
        moving = any(one.percent or one.target for one in reads.values())
        closed = self._gates.closed() if moving else ""
        self._verdicts = {} if self._config.sample is None else read_verdicts(self._facade.folder, reads)
        self._limit_log()
        for cluster in self._clusters:
            routes = {name: one for name, one in reads.items() if self._config.routes[name].to == cluster}
            self._judge(cluster, routes, found[cluster], closed)

    def _release(self, weights: Mapping[str, RouteWeight]) -> None:
        """Hold no writes for a cut-over that was killed: its fence has fallen by now too."""
        late = [name for name, one in weights.items() if one.held and one.held_until < time.time()]
        if late:
            self._change(late, lambda one: replace(one, held=False) if one.held_until < time.time() else one)
            log.warning("writes of %s are held no more: the pause is over", ", ".join(late))

    def _judge(self, cluster: str, routes: Mapping[str, RouteWeight], found: ClusterStatistics, closed: str) -> None:
        window = self._window(cluster, found, any(one.percent for one in routes.values()))
        moving = [name for name, one in routes.items() if one.percent or one.target]
        why = closed or breach(window, self._config.gates) or self._differing(routes)
        if not why:
            for name in moving:
                self._advance(name, routes[name], found)
            return
        if not moving:
            return
        self._change(moving, lambda weight: weight.moved(0, 0, f"stepped back: {why}"))
        for name in moving:
            log.warning("all reads of %s go to the old system: %s", name, why)

    def _differing(self, routes: Mapping[str, RouteWeight]) -> str:
        """Return the first route whose answers differed since its last step."""
        found = [name for name, one in self._verdicts.items() if name in routes]
        found = [name for name in found if self._verdicts[name].last_difference > routes[name].since > 0]
        return f"answers to {found[0]} differ, see {FILE}" if found else ""

    def _limit_log(self) -> None:
        log_file = self._facade.access_log
        if log_file.exists() and log_file.stat().st_size > _LARGEST_LOG:
            log_file.unlink()
            self._admin.reopen_logs()

    def _window(self, cluster: str, found: ClusterStatistics, carries: bool) -> ClusterStatistics:
        """Return what came within the window. It begins anew with the first request after none."""
        now, samples = time.monotonic(), self._windows[cluster]
        if not carries:
            samples.clear()
        samples.append((now, found))
        while len(samples) > 1 and samples[1][0] <= now - self._config.gates.window:
            samples.popleft()
        return found.since(samples[0][1])

    def _advance(self, name: str, weight: RouteWeight, found: ClusterStatistics) -> None:
        since, before = self._at_step.setdefault(name, (weight.since, found))
        if since != weight.since:
            before = found
            self._at_step[name] = (weight.since, found)
        percent = next_step(weight, self._config, found.since(before).answered, time.time())
        if percent == weight.percent or self._waits_for_answers(name):
            return
        self._change([name], lambda one: one.moved(percent, one.target, "step") if one.target >= percent else one)
        log.info("%d %% of the reads of %s go to the new system", percent, name)

    def _waits_for_answers(self, name: str) -> bool:
        """Return whether too few answers of both systems were compared since one that differed."""
        settings = self._config.sample
        return settings is not None and not self._verdicts[name].allows_step(settings.min_compared)

    def _change(self, names: Sequence[str], change: Callable[[RouteWeight], RouteWeight]) -> None:
        version = self._facade.weights.change(dict.fromkeys(names, change))
        self._admin.wait_for_routes(version)


class HttpGates:
    """The gates that are asked over HTTP."""

    def __init__(self, gates: FacadeGatesConfig) -> None:
        self._urls = gates.urls
        token = gates.token
        self._headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
        self._pool = urllib3.PoolManager(timeout=_GATE_SECONDS, retries=False)
        self._silent: Counter[str] = Counter()

    def closed(self) -> str:
        """Ask all; return the first that is closed with its reason, empty where none is."""
        return next(filter(None, map(self._ask, self._urls)), "")

    def _ask(self, url: str) -> str:
        try:
            answer = self._pool.request("GET", url, headers=self._headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            self._silent[url] += 1
            silent = self._silent[url] >= _SILENCE
            return f"the gate {url} does not answer ({type(error).__name__})" if silent else ""
        del self._silent[url]
        if answer.status == 200:
            return ""
        said = answer.data[:200].decode("utf-8", "replace").strip()
        return printable(f"the gate {url} is closed ({answer.status}): {said}")


def guarded(facade: Facade, admin: EnvoyAdmin, stopped: Callable[[float], bool]) -> None:
    """Guard until `stopped`, which waits for so many seconds, returns True."""
    guard = BreachGuard(facade, admin)
    while not stopped(INTERVAL):
        try:
            guard.check()
        except ConnectionLost as error:
            log.warning("%s", error.fact)

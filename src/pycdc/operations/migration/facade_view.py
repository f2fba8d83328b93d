"""The façade as the page shows it: weights, and what Envoy counted lately. Envoy is asked when somebody looks."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from pycdc.errors import ConnectionLost, EnvironmentNotReady
from pycdc.facade.cluster_statistics import ClusterStatistics, cluster_statistics
from pycdc.facade.envoy import Facade
from pycdc.facade.route_weights import RouteWeight
from pycdc.operations.migration.figures import Figure, at_most

_APART: Final = 0.5
"""Seconds between two samples at least, however many look."""

Samples = dict[str, ClusterStatistics]


class FacadeView:
    """Samples of one façade's statistics, as far back as `gates.window`.

    One thread at a time asks Envoy, which may hang; others see what was known before.
    """

    def __init__(self, facade: Facade) -> None:
        self._facade = facade
        self._config = facade.config
        self._clusters = sorted({route.to for route in self._config.routes.values() if route.reads})
        self._samples: tuple[tuple[float, Samples], ...] = ()
        self._asking = threading.Lock()

    def as_dict(self) -> dict[str, Any]:
        """Return weights, steps and figures. Raises CheckpointCorrupt."""
        weights = self._facade.weights.read()
        if self._asking.acquire(blocking=False):
            try:
                self._samples = self._asked(self._samples)
            finally:
                self._asking.release()
        window = self._window()
        return {
            "listen": self._config.listen,
            "runs": window is not None,
            "steps": [0, *self._config.steps],
            "routes": [self._route(name, weight) for name, weight in weights.items()],
            "figures": [one.as_dict() for one in (*self._shares(weights), *self._judged(window or {}))],
        }

    def _route(self, name: str, weight: RouteWeight) -> dict[str, Any]:
        route = self._config.routes[name]
        return {
            "route": name,
            "path": route.path,
            "methods": route.methods,
            "reads": route.reads,
            "to": route.to,
            "percent": weight.percent,
            "target": weight.target,
            "held": weight.held,
            "reason": weight.reason,
        }

    def _shares(self, weights: dict[str, RouteWeight]) -> list[Figure]:
        """Return the shares of reads. One on its way misses nothing yet."""
        reads = {name: one.percent for name, one in weights.items() if self._config.routes[name].reads}
        return [Figure(name, share, "percent", 100, True if share == 100 else None) for name, share in reads.items()]

    def _judged(self, window: Samples) -> list[Figure]:
        gates, figures = self._config.gates, []
        for name in self._clusters:
            found = window.get(name, ClusterStatistics())
            ratio = found.error_ratio if found.requests else None
            figures.append(at_most(f"p99 of {name}", found.p99, "seconds", gates.max_p99))
            figures.append(at_most(f"failed at {name}", ratio, "ratio", gates.max_error_ratio))
        return figures

    def _asked(self, samples: tuple[tuple[float, Samples], ...]) -> tuple[tuple[float, Samples], ...]:
        """Return the samples with one more, none where no Envoy answers."""
        now = time.monotonic()
        if samples and now - samples[-1][0] < _APART:
            return samples
        try:
            found = cluster_statistics(self._facade.admin(), self._clusters)
        except (EnvironmentNotReady, ConnectionLost):
            return ()
        begin = now - self._config.gates.window
        first = max((at for at, _ in samples if at <= begin), default=begin)
        return *(one for one in samples if one[0] >= first), (now, found)

    def _window(self) -> Samples | None:
        """Return what was counted in the window; None where no Envoy answers."""
        samples = self._samples
        if not samples:
            return None
        (_, first), (_, last) = samples[0], samples[-1]
        return {name: last[name].since(first[name]) for name in self._clusters}

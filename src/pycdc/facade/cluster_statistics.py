"""What Envoy has counted of the reads that the new system was asked for, and what of it lies in a window of time.

All of it is counted by the aggregate of both clusters (see `envoy_config`): a request counts once, a failed try of the
new system is one that the old system had to answer, and the time is the one that the user waited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from pycdc.facade.envoy import EnvoyAdmin
from pycdc.facade.envoy_config import fallback

_ANSWERED: Final = "upstream_rq_completed"
_FAILED: Final = ("upstream_rq_retry", "upstream_rq_retry_overflow")
_TIME: Final = "upstream_rq_time"


@dataclass(frozen=True, slots=True)
class ClusterStatistics:
    """What Envoy counted of a cluster.

    `answered` counts requests, `failed` tries that the new system did not answer well or in time, `buckets` is upper
    edge in milliseconds to the number of answers up to it.
    """

    answered: int = 0
    failed: int = 0
    buckets: Mapping[float, int] = field(default_factory=dict)

    def since(self, before: ClusterStatistics) -> ClusterStatistics:
        """Return what came after `before`; all, where Envoy began anew since."""
        if self.answered < before.answered or self.failed < before.failed:
            return self
        return ClusterStatistics(
            self.answered - before.answered,
            self.failed - before.failed,
            {edge: count - before.buckets.get(edge, 0) for edge, count in self.buckets.items()},
        )

    @property
    def requests(self) -> int:
        """All that are known: a try that failed may not have its answer from the old system yet."""
        return max(self.answered, self.failed)

    @property
    def error_ratio(self) -> float:
        return self.failed / self.requests if self.requests else 0.0

    @property
    def p99(self) -> float | None:
        """The upper edge, in seconds, of the bucket that holds the 99th of 100 answers; None without any."""
        total = max(self.buckets.values(), default=0)
        if not total:
            return None
        return next(edge for edge, count in sorted(self.buckets.items()) if count >= 0.99 * total) / 1000


def cluster_statistics(admin: EnvoyAdmin, clusters: list[str]) -> dict[str, ClusterStatistics]:
    """Return what Envoy has counted since its start, by cluster. Raises ConnectionLost."""
    names = "|".join((_ANSWERED, *_FAILED, _TIME))
    found = admin.statistics(quote(rf"^cluster\.({'|'.join(map(fallback, clusters))})\.({names})$"))
    counters = {one["name"]: int(one["value"]) for one in found if "value" in one}
    times = {one["name"]: _buckets(one) for entry in found for one in entry.get("histograms", ())}
    return {
        name: ClusterStatistics(
            counters.get(f"cluster.{fallback(name)}.{_ANSWERED}", 0),
            sum(counters.get(f"cluster.{fallback(name)}.{one}", 0) for one in _FAILED),
            times.get(f"cluster.{fallback(name)}.{_TIME}", {}),
        )
        for name in clusters
    }


def _buckets(histogram: dict[str, Any]) -> dict[float, int]:
    return {float(one["upper_bound"]): int(one["cumulative"]) for one in histogram["buckets"]}

"""Which scenarios there are, what each costs, and how large each is: in full, and to see that it works.

In full all of it is done within 45 minutes on two quiet cores: the figures that targets are about come from five short
runs beside the peer, in turns, the others from three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import growth, idle, large, latency, memory, recovery, reverse, snapshot, start, throughput, verify
from benchmarks.figures import Result, together
from benchmarks.rig import Rig
from benchmarks.workload import SHAPES

FEW = 3
"""Runs of what has no target of its own, at most."""
LEAST = 20_000
"""Rows: fewer are over before a clock has started."""


@dataclass(frozen=True, slots=True)
class Options:
    """`scale` is for numbers of rows."""

    peers: bool = True
    runs: int = 5
    scale: float = 1.0

    @property
    def few(self) -> int:
        return min(FEW, self.runs)

    def rows(self, count: int) -> int:
        return max(LEAST, int(count * self.scale))

    def engines(self, *peers: str, alone: tuple[str, ...] = ()) -> tuple[str, ...]:
        """pycdc, the peers if they take part, and what needs no peer's programs."""
        return ("pycdc", *(peers if self.peers else ()), *alone)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`minutes` is what `full` takes on two quiet cores, beside the peers and without `--scale`."""

    minutes: float
    full: Callable[[Rig, Options], Result]
    quick: Callable[[Rig, Options], Result]


def _throughput(rig: Rig, to: Options) -> Result:
    """Inserts into the first shape beside everybody; other operations and shapes beside Debezium alone."""
    inserts = throughput.measure(
        rig, rows=to.rows(400_000), runs=to.runs, engines=to.engines("debezium", alone=("pg_recvlogical", "null"))
    )
    others = tuple(one for one in throughput.OPERATIONS if one != "insert")
    return together(
        inserts,
        throughput.measure(
            rig,
            rows=to.rows(150_000),
            runs=to.few,
            shapes=tuple(SHAPES),
            operations=others,
            engines=to.engines("debezium"),
        ),
    )


def _latency(rig: Rig, to: Options) -> Result:
    quick, usual = to.engines("debezium-1ms"), to.engines("debezium-1ms", "debezium")
    return together(
        latency.measure(rig, rates=(1000,), seconds=6, runs=to.runs, engines=usual),
        latency.measure(rig, rates=(100, 5000), seconds=6, runs=to.few, engines=quick),
    )


def _growth(rig: Rig, to: Options) -> Result:
    """The largest transaction needs a million rows; the others show as much with half of them."""
    return together(
        growth.measure(rig, rows=to.rows(500_000), runs=to.few, series=("tables", "columns", "bytes")),
        growth.measure(rig, rows=to.rows(1_000_000), runs=min(2, to.runs), series=("transactions",)),
    )


SCENARIOS: dict[str, Scenario] = {
    "idle": Scenario(
        1.5,
        lambda rig, to: idle.measure(rig, seconds=30, engines=to.engines("debezium")),
        lambda rig, to: idle.measure(rig, seconds=3, engines=("pycdc",)),
    ),
    "start": Scenario(
        1.0,
        lambda rig, to: start.measure(rig, tables=1000, runs=to.runs),
        lambda rig, to: start.measure(rig, tables=100, runs=1),
    ),
    "throughput": Scenario(
        9.0,
        _throughput,
        lambda rig, to: throughput.measure(
            rig, rows=100_000, runs=1, engines=to.engines("debezium", alone=("pg_recvlogical", "null"))
        ),
    ),
    "latency": Scenario(
        6.0,
        _latency,
        lambda rig, to: latency.measure(
            rig, rates=(100, 1000, 5000), seconds=2, runs=1, engines=to.engines("debezium-1ms")
        ),
    ),
    "snapshot": Scenario(
        3.0,
        lambda rig, to: snapshot.measure(
            rig, rows=to.rows(500_000), runs=to.runs, engines=to.engines("debezium", alone=("pycdc-2", "copy"))
        ),
        lambda rig, to: snapshot.measure(
            rig, rows=50_000, runs=1, engines=to.engines("debezium", alone=("pycdc-2", "copy"))
        ),
    ),
    "reverse": Scenario(
        4.5,
        lambda rig, to: reverse.measure(rig, rows=to.rows(100_000), runs=to.runs, peer=to.peers),
        lambda rig, to: reverse.measure(rig, rows=20_000, runs=1, operations="insert", peer=to.peers, seconds=5),
    ),
    "verify": Scenario(
        6.0,
        lambda rig, to: verify.measure(
            rig, rows=to.rows(10_000_000), runs=to.few, engines=to.engines("reladiff", alone=("copy",))
        ),
        lambda rig, to: verify.measure(rig, rows=100_000, runs=1, engines=to.engines("reladiff", alone=("copy",))),
    ),
    "growth": Scenario(
        6.5,
        _growth,
        lambda rig, to: growth.measure(rig, rows=20_000, runs=1, series=("tables", "columns")),
    ),
    "large": Scenario(
        0.5,
        lambda rig, to: large.measure(rig, rows=to.rows(1_000_000), runs=1),
        lambda rig, to: large.measure(rig, rows=400_000, runs=1),
    ),
    "recovery": Scenario(
        1.5,
        lambda rig, to: recovery.measure(rig, runs=to.runs, rate=1000),
        lambda rig, to: recovery.measure(rig, runs=1, rate=500),
    ),
    "memory": Scenario(
        5.5,
        lambda rig, to: memory.measure(rig, rows=to.rows(10_000_000), seconds=60, rate=5000),
        lambda rig, to: memory.measure(rig, rows=200_000, seconds=5, rate=2000),
    ),
}
"""In the order of a run: an idle JVM before it has done anything, what is most likely to fail last."""

"""All benchmarks, or some of them, into benchmarks/results/latest.json and docs/performance.md.

    python -m benchmarks [--only throughput,latency,…] [--runs 5] [--scale 1] [--without-peers] [--quick]

All of it takes about two hours on two cores; figures are saved after each scenario. `--scale 0.3` writes three tenths
of the rows. `--quick` runs everything small, in a few minutes, to see that it works: what it prints means little, and
nothing is saved. Each scenario also runs alone, with options of its own: `python -m benchmarks.throughput --help`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import (
    figures,
    growth,
    idle,
    latency,
    memory,
    recovery,
    report,
    reverse,
    snapshot,
    start,
    throughput,
)
from benchmarks.figures import Result, note
from benchmarks.rig import Rig
from benchmarks.workload import SHAPES


@dataclass(frozen=True, slots=True)
class Options:
    """`scale` is for numbers of rows."""

    peers: bool
    runs: int
    scale: float

    def rows(self, count: int) -> int:
        return int(count * self.scale)

    def engines(self, *peers: str, alone: tuple[str, ...] = ()) -> tuple[str, ...]:
        """pycdc, the peers if they take part, and what needs no peer's programs."""
        return ("pycdc", *(peers if self.peers else ()), *alone)


Scenario = Callable[[Rig, Options], Result]

FULL: dict[str, Scenario] = {
    "throughput": lambda rig, to: throughput.measure(
        rig,
        rows=to.rows(1_000_000),
        runs=to.runs,
        shapes=tuple(SHAPES),
        operations=throughput.OPERATIONS,
        engines=to.engines("debezium", alone=("pg_recvlogical", "null")),
    ),
    "latency": lambda rig, to: latency.measure(
        rig, rates=(100, 1000, 5000), seconds=30, runs=to.runs, engines=to.engines("debezium", "debezium-1ms")
    ),
    "snapshot": lambda rig, to: snapshot.measure(
        rig, rows=to.rows(2_000_000), runs=to.runs, engines=to.engines("debezium", alone=("pycdc-2", "copy"))
    ),
    "reverse": lambda rig, to: reverse.measure(rig, rows=to.rows(500_000), runs=to.runs, peer=to.peers),
    "memory": lambda rig, to: memory.measure(rig, rows=to.rows(10_000_000), seconds=60, rate=5000),
    "growth": lambda rig, to: growth.measure(rig, rows=to.rows(1_000_000), runs=to.runs),
    "start": lambda rig, to: start.measure(rig, tables=1000, runs=to.runs),
    "recovery": lambda rig, to: recovery.measure(rig, runs=to.runs, rate=1000),
    "idle": lambda rig, to: idle.measure(rig, seconds=60, engines=to.engines("debezium")),
}
QUICK: dict[str, Scenario] = {
    "throughput": lambda rig, to: throughput.measure(
        rig, rows=100_000, runs=1, engines=to.engines("debezium", alone=("pg_recvlogical", "null"))
    ),
    "latency": lambda rig, to: latency.measure(
        rig, rates=(1000,), seconds=5, runs=1, engines=to.engines("debezium-1ms")
    ),
    "snapshot": lambda rig, to: snapshot.measure(
        rig, rows=100_000, runs=1, engines=to.engines("debezium", alone=("pycdc-2", "copy"))
    ),
    "reverse": lambda rig, to: reverse.measure(rig, rows=20_000, runs=1, operations="insert", peer=to.peers, seconds=5),
    "memory": lambda rig, to: memory.measure(rig, rows=200_000, seconds=5, rate=2000),
    "growth": lambda rig, to: growth.measure(rig, rows=20_000, runs=1, series=("tables", "columns")),
    "start": lambda rig, to: start.measure(rig, tables=100, runs=1),
    "recovery": lambda rig, to: recovery.measure(rig, runs=1, rate=500),
    "idle": lambda rig, to: idle.measure(rig, seconds=3, engines=("pycdc",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(FULL))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--without-peers", action="store_true", help="without Debezium, so without Connect")
    arguments = parser.parse_args()
    chosen = QUICK if arguments.quick else FULL
    unknown = set(arguments.only.split(",")) - set(chosen)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(chosen)}")
    options = Options(not arguments.without_peers, arguments.runs, arguments.scale)
    failed = []
    for name in arguments.only.split(","):
        note(f"\n== {name}")
        started = time.monotonic()
        try:
            # Servers of its own for each: what one leaves behind must not slow the next.
            with Rig() as rig:
                result = chosen[name](rig, options)
        except Exception as error:
            note(f"{name} failed: {type(error).__name__}: {error}")
            failed.append(name)
            continue
        figures.show(result)
        note(f"   {name} took {time.monotonic() - started:.0f} s")
        if not arguments.quick:
            # After each, so that hours are not lost with the last one.
            figures.save([result])
            report.main()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

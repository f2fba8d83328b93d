"""All benchmarks, or some of them, into benchmarks/results/latest.json and docs/performance.md.

    python -m benchmarks [--quick] [--only throughput,latency,…] [--without-peers]

`--quick` runs everything small, in a few minutes, to see that it works: it prints figures that mean little, and saves
nothing. Each scenario also runs alone, with options of its own: `python -m benchmarks.throughput --help`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

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

Scenario = Callable[[Rig, bool], Result]
"""From the servers, and whether the peers take part."""


def _throughput(rig: Rig, peers: bool) -> Result:
    engines = throughput.ENGINES if peers else ("pycdc", "null")
    shapes = tuple(SHAPES)
    return throughput.measure(
        rig, rows=1_000_000, runs=5, shapes=shapes, operations=throughput.OPERATIONS, engines=engines
    )


def _latency(rig: Rig, peers: bool) -> Result:
    engines = ("pycdc", "debezium", "debezium-1ms") if peers else ("pycdc",)
    return latency.measure(rig, rates=(100, 1000, 5000), seconds=30, runs=5, engines=engines)


def _with_debezium(peers: bool) -> tuple[str, ...]:
    return ("pycdc", "debezium") if peers else ("pycdc",)


FULL: dict[str, Scenario] = {
    "throughput": _throughput,
    "latency": _latency,
    "snapshot": lambda rig, peers: snapshot.measure(
        rig, rows=2_000_000, runs=5, engines=(*_with_debezium(peers), "copy")
    ),
    "reverse": lambda rig, peers: reverse.measure(rig, rows=500_000, runs=5, peer=peers),
    "memory": lambda rig, peers: memory.measure(rig, rows=10_000_000, seconds=60, rate=5000),
    "growth": lambda rig, peers: growth.measure(rig, rows=1_000_000, runs=5),
    "start": lambda rig, peers: start.measure(rig, tables=1000, runs=5),
    "recovery": lambda rig, peers: recovery.measure(rig, runs=5, rate=1000),
    "idle": lambda rig, peers: idle.measure(rig, seconds=60, engines=_with_debezium(peers)),
}
QUICK: dict[str, Scenario] = {
    "throughput": lambda rig, peers: throughput.measure(
        rig, rows=100_000, runs=1, engines=throughput.ENGINES if peers else ("pycdc", "null")
    ),
    "latency": lambda rig, peers: latency.measure(
        rig, rates=(1000,), seconds=5, runs=1, engines=("pycdc", "debezium-1ms") if peers else ("pycdc",)
    ),
    "snapshot": lambda rig, peers: snapshot.measure(
        rig, rows=100_000, runs=1, engines=(*_with_debezium(peers), "copy")
    ),
    "reverse": lambda rig, peers: reverse.measure(rig, rows=20_000, runs=1, operations="insert", peer=peers, seconds=5),
    "memory": lambda rig, peers: memory.measure(rig, rows=200_000, seconds=5, rate=2000),
    "growth": lambda rig, peers: growth.measure(rig, rows=20_000, runs=1, series=("tables", "columns")),
    "start": lambda rig, peers: start.measure(rig, tables=100, runs=1),
    "recovery": lambda rig, peers: recovery.measure(rig, runs=1, rate=500),
    "idle": lambda rig, peers: idle.measure(rig, seconds=3, engines=("pycdc",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(FULL))
    parser.add_argument("--without-peers", action="store_true")
    arguments = parser.parse_args()
    chosen = QUICK if arguments.quick else FULL
    unknown = set(arguments.only.split(",")) - set(chosen)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(chosen)}")
    failed = []
    for name in arguments.only.split(","):
        note(f"\n== {name}")
        started = time.monotonic()
        try:
            # Servers of its own for each: what one leaves behind must not slow the next.
            with Rig() as rig:
                result = chosen[name](rig, not arguments.without_peers)
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

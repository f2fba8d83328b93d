"""What a pipeline costs that has nothing to do: CPU and memory, beside Debezium.

python -m benchmarks.idle [--seconds 30] [--engines pycdc,debezium]
"""

from __future__ import annotations

import argparse
import time
from contextlib import AbstractContextManager
from typing import Any

from benchmarks import figures
from benchmarks.figures import Figure, Result, note
from benchmarks.peers import debezium
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Engine, Rig, Watermarks, wait_until
from benchmarks.workload import NARROW, prepare, write

SCENARIO = "idle"
SETTLE_SECONDS = 5.0
_GOAL: dict[str, Any] = {"target": "≤ 0.5 % of a core", "limit": 5.0, "compare": "at most"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--engines", default="pycdc,debezium")
    arguments = parser.parse_args()
    with Rig() as rig:
        result = measure(rig, seconds=arguments.seconds, engines=tuple(arguments.engines.split(",")))
    figures.show(result)


def measure(rig: Rig, *, seconds: float, engines: tuple[str, ...] = ("pycdc", "debezium")) -> Result:
    # A JVM that has done nothing else yet: what it took for other scenarios it would keep.
    rig.end_kept()
    found = {one: _run(rig, one, seconds) for one in engines}
    peer = found.get("debezium", {})
    shared: dict[str, Any] = {"better": "less", "peer_name": debezium.NAME if peer else ""}
    rows = [
        Figure(f"idle: {name}", unit, found["pycdc"][key], peer.get(key), **shared, **goal)
        for key, name, unit, goal in (
            ("cpu_ms", "CPU a second", "ms", _GOAL),
            ("rss_mb", "memory", "MB", {}),
        )
    ]
    return Result(SCENARIO, rows, rig.versions(), {"seconds": seconds})


def _run(rig: Rig, one: str, seconds: float) -> dict[str, float]:
    dsn, name = rig.database(), f"{rig.name}_idle_{one}"
    prepare(dsn, NARROW, [name])
    write(dsn, NARROW.insert, 1000)
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.orders")])
    with _running(rig, one, name, dsn) as running:
        wait_until(running, lambda: marks.total() >= 1000, "the first rows")
        time.sleep(SETTLE_SECONDS)
        seen = running.observed
        cpu = seen.cpu_seconds()
        time.sleep(seconds)
        found = {
            "cpu_ms": round((seen.cpu_seconds() - cpu) / seconds * 1000, 2),
            "rss_mb": round(seen.rss_mb(), 1),
        }
    marks.close()
    note(f"idle: {one} {found}")
    return found


def _running(rig: Rig, one: str, name: str, dsn: str) -> AbstractContextManager[Engine]:
    return (
        Pipeline(rig, capture(rig, name, dsn, slot=name))
        if one == "pycdc"
        else debezium.postgres_source(rig, name, dsn, slot=name)
    )


if __name__ == "__main__":
    main()

"""Peak memory where it could grow: during one huge transaction, and while the broker does not answer.

    python -m benchmarks.memory [--rows 10000000] [--seconds 60] [--rate 5000]

The broker is stopped with SIGSTOP, so connections stay open and nothing is answered, while rows keep coming. The peak
is the whole process's, imports included.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import figures
from benchmarks.figures import Figure, Result, note
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Rig, Watermarks, wait_until
from benchmarks.workload import NARROW, prepare, write

SCENARIO = "memory"
_GOAL: dict[str, Any] = {"better": "less", "target": "≤ 100 MB", "limit": 100.0, "compare": "at most"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=5000)
    arguments = parser.parse_args()
    with Rig() as rig:
        result = measure(rig, **vars(arguments))
    figures.show(result)


def measure(rig: Rig, *, rows: int, seconds: float, rate: int) -> Result:
    found = [_transaction(rig, rows), *_outage(rig, seconds, rate)]
    return Result(SCENARIO, found, rig.versions(), {"rows": rows, "seconds away": seconds, "rows a second": rate})


def _transaction(rig: Rig, rows: int) -> Figure:
    dsn, name = rig.database(), f"{rig.name}_huge"
    prepare(dsn, NARROW, [name])
    write(dsn, NARROW.insert, rows, per_transaction=rows)
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.orders")])
    with Pipeline(rig, capture(rig, name, dsn, slot=name)) as pipeline:
        wait_until(pipeline, lambda: marks.total() >= rows, "the whole transaction", 3600, pause=0.05)
        peak = pipeline.observed.peak_rss_mb()
    marks.close()
    rig.postgres.drop_database(dsn)
    note(f"one transaction of {rows:,} rows: {peak:.0f} MB")
    return Figure(f"peak memory, one transaction of {rows:,} rows", "MB", round(peak, 1), **_GOAL)


def _outage(rig: Rig, seconds: float, rate: int) -> list[Figure]:
    dsn, name = rig.database(), f"{rig.name}_away"
    prepare(dsn, NARROW, [name])
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.orders")])
    with Pipeline(rig, capture(rig, name, dsn, slot=name)) as pipeline:
        write(dsn, NARROW.insert, rate, per_transaction=100)
        wait_until(pipeline, lambda: marks.total() >= rate, "the first rows", pause=0.02)
        rig.kafka.pause()
        try:
            written = rate + _write_for(dsn, seconds, rate, rate + 1)
            peak = pipeline.observed.peak_rss_mb()
        finally:
            rig.kafka.resume()
        back = time.monotonic()
        caught = wait_until(pipeline, lambda: marks.total() >= written, "all rows", pause=0.02) - back
        peak = max(peak, pipeline.observed.peak_rss_mb())
    marks.close()
    rig.postgres.drop_database(dsn)
    note(f"broker away for {seconds:g} s: {peak:.0f} MB, {caught:.1f} s to catch up")
    return [
        Figure(f"peak memory, broker away for {seconds:g} s at {rate:,} rows/s", "MB", round(peak, 1), **_GOAL),
        Figure(f"catching up after {seconds:g} s at {rate:,} rows/s", "s", round(caught, 2), better="less"),
    ]


def _write_for(dsn: str, seconds: float, rate: int, first: int) -> int:
    """Rows at that rate, in transactions of a tenth of a second; how many."""
    written, step = 0, max(1, rate // 10)
    started = time.monotonic()
    while written < seconds * rate:
        write(dsn, NARROW.insert, step, per_transaction=step, first=first + written)
        written += step
        time.sleep(max(0.0, started + written / rate - time.monotonic()))
    return written


if __name__ == "__main__":
    main()

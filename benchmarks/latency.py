"""From a commit in Postgres to a consumer of Kafka, at fixed rates, beside Debezium.

    python -m benchmarks.latency [--rates 100,1000,5000] [--seconds 30] [--runs 5]
                                 [--engines pycdc,exactly-once,debezium,debezium-1ms]

pgbench commits one row a transaction on a schedule of its own and does not wait for anybody (open loop), so a stall is
seen by every transaction that falls into it. Each record tells when its transaction was committed; a consumer that
reads what is committed notes when it has it. Above 1,000 a second it looks into one record in so many, chosen by
offset, so that the consumer is not what is measured. Every sample is kept. Engines run one after another, each after a
warm-up of 3 s at the same rate, and once it has caught up with that. A JVM has replayed 200,000 rows before.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from contextlib import AbstractContextManager
from typing import Any

from benchmarks import figures
from benchmarks.arrivals import Arrivals
from benchmarks.figures import Figure, Result, median, note
from benchmarks.peers import debezium
from benchmarks.percentiles import Samples
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Engine, Rig, program, wait_until
from benchmarks.workload import PUBLICATION, make_slots, slot_is_read

SCENARIO = "latency"
TABLE = "CREATE TABLE ticks (id bigserial PRIMARY KEY, note text NOT NULL)"
STATEMENT = "INSERT INTO ticks (note) VALUES ('a row of some length');\n"
WARM_SECONDS = 3.0
TUNING = {"debezium": debezium.DEFAULTS, "debezium-1ms": debezium.QUICK}
EXACTLY_ONCE = "exactly-once"
NAMES = {
    "debezium": debezium.NAME,
    "debezium-1ms": f"{debezium.NAME}, poll.interval.ms=1",
    EXACTLY_ONCE: "pycdc, exactly once",
}
CATCH_UP_SECONDS = 60.0
CAUGHT_UP = 2.0
"""Seconds: above what Debezium's defaults let a record wait."""
LEVELS = (50.0, 90.0, 99.0, 99.9)
_LIMITS = {50.0: 3.0, 99.0: 10.0}
"""Milliseconds, at every rate."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="100,1000,5000")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engines", default="pycdc,debezium,debezium-1ms")
    arguments = parser.parse_args()
    rates = tuple(int(rate) for rate in arguments.rates.split(","))
    with Rig() as rig:
        engines = tuple(arguments.engines.split(","))
        result = measure(rig, rates=rates, seconds=arguments.seconds, runs=arguments.runs, engines=engines)
    figures.show(result)


def measure(
    rig: Rig,
    *,
    rates: tuple[int, ...],
    seconds: float,
    runs: int,
    engines: tuple[str, ...] = ("pycdc", "debezium", "debezium-1ms"),
) -> Result:
    found: list[Figure] = []
    if set(TUNING).intersection(engines):
        debezium.warm_up(rig)
    for rate in rates:
        results: dict[str, list[Samples]] = {one: [] for one in engines}
        for run in range(runs):
            for one in engines if run % 2 == 0 else reversed(engines):
                samples = sample(rig, one, rate, seconds, run)
                note(f"{rate} tx/s, run {run + 1} of {runs}: {one} {samples.milliseconds()}")
                results[one].append(samples)
        found += _figures(rate, results)
    settings: dict[str, Any] = {"seconds": seconds, "runs": runs, "delivery": "at least once"}
    for one in engines:
        if one in TUNING:
            settings[NAMES[one]] = debezium.described(TUNING[one])
    return Result(SCENARIO, found, rig.versions(), settings)


def sample(rig: Rig, one: str, rate: int, seconds: float, run: int) -> Samples:
    """Latencies of one run, in a database of its own."""
    dsn = rig.database(TABLE + f"; CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES")
    name = f"{rig.name}_{one.replace('-', '_')}_{rate}_{run}"
    make_slots(dsn, [name])
    topic = rig.kafka.create_topic(f"{name}.public.ticks")
    arrivals = Arrivals(rig.kafka.bootstrap, rig.registry.url, topic, every=max(1, rate // 1000))
    warm, samples = WARM_SECONDS, Samples()
    with _running(rig, one, name, dsn) as running:
        # What was written while an engine starts would be measured as its latency.
        wait_until(running, lambda: slot_is_read(dsn, name), "the engine reads its slot", pause=0.05)
        with _Writer(rig, dsn, rate, warm + seconds + 2 * CATCH_UP_SECONDS) as writer:
            wait_until(running, lambda: arrivals.read(None) > 0, "the first record", pause=0)
            _read_for(arrivals, None, warm)
            _catch_up(arrivals)
            _read_for(arrivals, samples, seconds)
            writer.check()
    arrivals.close()
    rig.postgres.drop_database(dsn)
    return samples


def _read_for(arrivals: Arrivals, samples: Samples | None, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        arrivals.read(samples)


def _catch_up(arrivals: Arrivals) -> None:
    """Until all records of a second were committed just before, or that seems not to happen."""
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        second = Samples()
        _read_for(arrivals, second, 1.0)
        if len(second) and second.at(100.0) < CAUGHT_UP:
            return
    note("it did not catch up with what was written during its warm-up: the rate is too high for it here")


class _Writer:
    """pgbench on a schedule, from entering to leaving the context."""

    def __init__(self, rig: Rig, dsn: str, rate: int, seconds: float) -> None:
        script = rig.folder / "tick.sql"
        script.write_text(STATEMENT)
        clients = "1" if rate < 1000 else "4" if rate < 5000 else "8"
        self._command = [str(program("pgbench")), "--no-vacuum", "--file", str(script), "--rate", str(rate)]
        self._command += [
            "--client",
            clients,
            "--jobs",
            "1",
            "--protocol",
            "prepared",
            "--time",
            str(int(seconds)),
            dsn,
        ]

    def __enter__(self) -> _Writer:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.wait()

    def check(self) -> None:
        if self._process.poll() is not None:
            raise ChildProcessError("pgbench has ended before the measurement")


def _running(rig: Rig, one: str, name: str, dsn: str) -> AbstractContextManager[Engine]:
    if one == "pycdc":
        return Pipeline(rig, capture(rig, name, dsn, slot=name))
    if one == EXACTLY_ONCE:
        return Pipeline(rig, capture(rig, name, dsn, slot=name, kafka={"delivery": "exactly_once"}))
    return debezium.postgres_source(rig, name, dsn, slot=name, tuning=TUNING[one])


def _figures(rate: int, results: dict[str, list[Samples]]) -> list[Figure]:
    """A figure for each percentile and peer; the curve of the middle run goes with the p99."""
    out = []
    for peer in [one for one in results if one != "pycdc"] or [""]:
        for level in LEVELS:
            values = {one: [run.at(level) * 1000 for run in runs] for one, runs in results.items()}
            goal: dict[str, Any] = {}
            if level in _LIMITS:
                limit = _LIMITS[level]
                goal = {"target": f"≤ {limit:g} ms", "limit": limit, "compare": "at most"}
            out.append(
                Figure(
                    f"commit to consumer, {rate} tx/s, p{level:g}",
                    "ms",
                    median(values.get("pycdc", [])),
                    median(values.get(peer, [])),
                    peer_name=NAMES.get(peer, ""),
                    better="less",
                    runs=values,
                    points={one: runs[len(runs) // 2].curve() for one, runs in results.items()} if level == 99 else {},
                    **goal,
                )
            )
    return out


if __name__ == "__main__":
    main()

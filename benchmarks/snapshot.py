"""The first snapshot: rows a second into Kafka with one reader and with workers, beside Debezium and psql's COPY.

    python -m benchmarks.snapshot [--rows 2000000] [--runs 5] [--engines pycdc,pycdc-2,debezium,copy]
                                  [--keys growing|random]

`pycdc-2` has two workers. Random keys lie in the table in no order, as UUIDs do. The clock runs from the record at
40 % of the topic to the one at 99 %, for all: at the end of a snapshot Debezium holds its last row back for a while,
which says nothing about its rate.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal

from benchmarks import figures, meanwhile
from benchmarks.figures import Figure, Result, median, note
from benchmarks.peers import debezium
from benchmarks.percentiles import Samples
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Engine, Rig, Watermarks, execute, program, wait_until
from benchmarks.workload import NARROW, prepare

SCENARIO = "snapshot"
WARM, END = 0.4, 0.99
_POLL = 0.01
WORKERS = {"pycdc": 1, "pycdc-2": 2, "pycdc-4": 4, "pycdc-8": 8}
ENGINES = ("pycdc", "pycdc-2", "debezium", "copy")
KEYS = {"growing": "i", "random": "i * 48271 % 2147483647"}
"""The second is a permutation, by Lehmer's generator."""
MEASURED: tuple[tuple[str, str, str, Literal["more", "less"]], ...] = (
    ("rows_per_second", "rows into Kafka", "rows/s", "more"),
    ("cpu_us", "CPU of its processes a row", "µs", "less"),
    ("peak_rss_mb", "peak memory", "MB", "less"),
    ("worker_rss_mb", "peak memory of a worker", "MB", "less"),
)
TUNING = {**debezium.TUNED, "snapshot.fetch.size": "10240", "snapshot.max.threads": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--keys", choices=KEYS, default="growing")
    arguments = parser.parse_args()
    with Rig() as rig:
        engines = tuple(arguments.engines.split(","))
        result = measure(rig, rows=arguments.rows, runs=arguments.runs, engines=engines, keys=arguments.keys)
    figures.show(result)


def measure(rig: Rig, *, rows: int, runs: int, engines: tuple[str, ...] = ENGINES, keys: str = "growing") -> Result:
    dsn = rig.database()
    prepare(dsn, NARROW, [])
    fill = NARROW.insert.replace("SELECT i,", f"SELECT {KEYS[keys]},") % {"first": 1, "last": rows}
    execute(dsn, fill, "VACUUM ANALYZE orders")
    results: dict[str, list[dict[str, float]]] = {one: [] for one in engines}
    for run in range(runs):
        for one in engines if run % 2 == 0 else reversed(engines):
            results[one].append(_run(rig, one, dsn, rows, run))
            note(f"snapshot, run {run + 1} of {runs}: {one} {results[one][-1]}")
    lags = [meanwhile.lag(rig, dsn, rows, run) for run in range(runs)] if "pycdc" in engines else []
    settings: dict[str, Any] = {"rows": rows, "runs": runs, "keys": keys}
    if "debezium" in engines:
        settings[debezium.NAME] = debezium.described(TUNING)
    return Result(SCENARIO, _figures(results) + _lag_figures(lags), rig.versions(), settings)


def _run(rig: Rig, one: str, dsn: str, rows: int, run: int) -> dict[str, float]:
    if one == "copy":
        return {"rows_per_second": round(rows / _copy(dsn))}
    name = f"{rig.name}_snap_{one.replace('-', '_')}_{run}"
    topic = rig.kafka.create_topic(f"{name}.public.orders")
    marks = Watermarks(rig.kafka.bootstrap, [topic])
    with _running(rig, one, name, dsn) as running:
        warm = wait_until(running, lambda: marks.total() >= rows * WARM, "the warm-up", pause=_POLL)
        cpu, already = running.observed.family_cpu_seconds(), marks.total()
        largest = 0.0

        def ended() -> bool:
            nonlocal largest
            for worker in running.observed.children() if one in WORKERS else []:
                with suppress(OSError):  # it ended just now
                    largest = max(largest, worker.peak_rss_mb())
            return marks.total() >= rows * END

        end = wait_until(running, ended, "the end", pause=_POLL)
        read = marks.total() - already
        found = {
            "rows_per_second": round(read / (end - warm)),
            "cpu_us": round((running.observed.family_cpu_seconds() - cpu) / read * 1e6, 2),
            "peak_rss_mb": round(running.observed.peak_rss_mb()),
        }
        if largest:
            found["worker_rss_mb"] = round(largest)
    marks.close()
    execute(
        dsn,
        f"SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{name}' AND active",
        f"SELECT pg_drop_replication_slot('{name}')",
    )
    return found


def _running(rig: Rig, one: str, name: str, dsn: str) -> AbstractContextManager[Engine]:
    if one in WORKERS:
        source = {"snapshot": "initial", "workers": WORKERS[one]}
        return Pipeline(rig, capture(rig, name, dsn, slot=name, source=source))
    return debezium.postgres_source(rig, name, dsn, slot=name, tuning=TUNING, snapshot="initial")


def _copy(dsn: str) -> float:
    started = time.monotonic()
    command = [str(program("psql")), "--no-psqlrc", "--quiet", "--dbname", dsn, "--command", "COPY orders TO STDOUT"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _figures(results: dict[str, list[dict[str, float]]]) -> list[Figure]:
    def values(one: str, key: str) -> list[float]:
        return [run[key] for run in results.get(one, []) if key in run]

    out = []
    theirs = debezium.NAME if "debezium" in results else ""
    for one, suffix, limit in (("pycdc", "", 2.0), ("pycdc-2", ", two workers", 2.5)):
        for key, name, unit, better in MEASURED:
            mine, peer = median(values(one, key)), median(values("debezium", key))
            if mine is None:
                continue
            goal: dict[str, Any] = {"better": better, "peer_name": theirs}
            if key == "rows_per_second":
                goal |= {"target": f"≥ {limit:g}× Debezium", "limit": limit, "compare": "at least", "of_ratio": True}
            runs = {engine: values(engine, key) for engine in results}
            out.append(Figure(f"snapshot: {name}{suffix}", unit, mine, peer, runs=runs, **goal))
        copied = median(values("copy", "rows_per_second"))
        mine = median(values(one, "rows_per_second"))
        if copied is not None and mine is not None:
            beside = "psql COPY to /dev/null"
            out.append(Figure(f"snapshot: beside psql{suffix}", "rows/s", mine, copied, peer_name=beside))
    return out


def _lag_figures(samples: list[Samples]) -> list[Figure]:
    out = []
    for level in (50.0, 99.0):
        runs = {"pycdc": [one.at(level) * 1000 for one in samples]}
        name = f"snapshot in chunks: lag of the stream meanwhile, p{level:g}"
        out.append(Figure(name, "ms", median(runs["pycdc"]), better="less", runs=runs))
    return out


if __name__ == "__main__":
    main()

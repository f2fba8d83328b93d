"""Verify: rows a second of two equal tables, beside psql's COPY of one of them and beside reladiff.

    python -m benchmarks.verify [--rows 10000000] [--runs 3] [--engines pycdc,copy,reladiff]

Both tables are filled alike, and one row goes through Kafka, so that there are offsets. `pycdc verify` is timed as a
process, from its start to its end, and so are the others. Then one row of the target is changed, which it has to name.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import figures
from benchmarks.figures import Figure, Result, median, note
from benchmarks.peers import reladiff
from benchmarks.pipelines import ROOT, Pipeline, back, capture, environment
from benchmarks.rig import Rig, execute, program, wait_until
from benchmarks.workload import NARROW, prepare

SCENARIO = "verify"
ENGINES = ("pycdc", "copy", "reladiff")
_ONE = "UPDATE orders SET status = 'sent' WHERE id = 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--engines", default=",".join(ENGINES))
    arguments = parser.parse_args()
    with Rig() as rig:
        engines = tuple(arguments.engines.split(","))
        result = measure(rig, rows=arguments.rows, runs=arguments.runs, engines=engines)
    figures.show(result)


def measure(rig: Rig, *, rows: int, runs: int, engines: tuple[str, ...] = ENGINES) -> Result:
    source, target = rig.database(), rig.database()
    for dsn in (source, target):
        prepare(dsn, NARROW, [], filled=rows)
    name = f"{rig.name}_verify"
    execute(source, f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
    apply = back(rig, f"{name}_apply", f"{name}.public.orders", target)
    rig.kafka.create_topic(f"{name}.public.orders")
    results: dict[str, list[dict[str, float]]] = {one: [] for one in (*engines, "changed")}
    with Pipeline(rig, capture(rig, name, source, slot=name)) as capturing, Pipeline(rig, apply) as applying:
        execute(source, _ONE)
        wait_until(applying, lambda: capturing.check() or _sent(target), "the first row")
        for run in range(runs):
            for one in engines if run % 2 == 0 else reversed(engines):
                results[one].append(_run(rig, one, apply["name"], source, target, rows))
                note(f"verify, run {run + 1} of {runs}: {one} {results[one][-1]}")
        execute(target, f"UPDATE orders SET status = 'lost' WHERE id = {rows // 2}", "VACUUM orders")
        for _ in range(runs):
            results["changed"].append(_verify(rig, apply["name"], rows, differing=rows // 2))
            note(f"verify, one row changed: {results['changed'][-1]}")
    settings: dict[str, Any] = {"rows": rows, "runs": runs}
    if "reladiff" in engines:
        settings[reladiff.NAME] = " ".join(reladiff.OPTIONS)
    return Result(SCENARIO, _figures(results), rig.versions(), settings)


def _sent(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT status FROM orders WHERE id = 1").fetchone() == ("sent",)


def _run(rig: Rig, one: str, name: str, source: str, target: str, rows: int) -> dict[str, float]:
    if one == "pycdc":
        return _verify(rig, name, rows)
    started = time.monotonic()
    if one == "copy":
        command = [str(program("psql")), "--no-psqlrc", "--quiet", "--dbname", source, "--command"]
        subprocess.run([*command, "COPY orders TO STDOUT"], check=True, stdout=subprocess.DEVNULL)
    else:
        reladiff.compare(source, target, "orders")
    return {"rows_per_second": round(rows / (time.monotonic() - started))}


def _verify(rig: Rig, name: str, rows: int, *, differing: int | None = None) -> dict[str, float]:
    """`pycdc verify` as a process; what it found is judged, too."""
    out: Path = rig.folder / "verified.json"
    command = [sys.executable, "-m", "pycdc", "verify", str(rig.folder / f"{name}.json"), "--json"]
    started = time.monotonic()
    with (
        out.open("wb") as stdout,
        subprocess.Popen(
            command, stdout=stdout, stderr=subprocess.PIPE, cwd=ROOT, env={**os.environ, **environment(rig)}
        ) as process,
    ):
        told = process.stderr.read().decode() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode != (0 if differing is None else 1):
        raise RuntimeError(f"pycdc verify ended with {process.returncode}: {told[-2000:]}")
    document = json.loads(out.read_text())
    (table,) = document["tables"]
    found = [one["key"] for one in table["differences"]]
    if (
        found != ([] if differing is None else [{"id": str(differing)}])
        or table["source_rows"] + table["in_flight"] < rows
    ):
        raise RuntimeError(f"pycdc verify compared {table['source_rows']} rows and found {found}")
    return {
        "rows_per_second": round(rows / seconds),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
        "seconds": round(seconds, 2),
        "waited": round(sum(one["waited_for_capture"] + one["waited_for_apply"] for one in document["points"]), 2),
        "comparing": table["seconds"],
    }


def _figures(results: dict[str, list[dict[str, float]]]) -> list[Figure]:
    def rates(one: str) -> list[float]:
        return [run["rows_per_second"] for run in results.get(one, [])]

    mine, runs = median(rates("pycdc")), {one: rates(one) for one in results}
    copied, theirs, changed = median(rates("copy")), median(rates("reladiff")), median(rates("changed"))
    out = []
    if copied is not None:
        goal: dict[str, Any] = {"target": "≥ 0.6× COPY", "limit": 0.6, "compare": "at least", "of_ratio": True}
        out.append(Figure("verify: equal tables", "rows/s", mine, copied, "psql COPY of one side", runs=runs, **goal))
    if theirs is not None:
        goal = {"target": "faster", "limit": 1.0, "compare": "at least", "of_ratio": True}
        out.append(Figure("verify: beside reladiff", "rows/s", mine, theirs, reladiff.NAME, runs=runs, **goal))
    goal = {"target": "≤ 1.2× the time of equal ones", "limit": 1 / 1.2, "compare": "at least", "of_ratio": True}
    out.append(Figure("verify: one row changed", "rows/s", changed, mine, "equal tables", runs=runs, **goal))
    peaks = [run["peak_rss_mb"] for run in results.get("pycdc", [])]
    limit: dict[str, Any] = {"target": "≤ 60 MB", "limit": 60.0, "compare": "at most", "runs": {"pycdc": peaks}}
    out.append(Figure("verify: peak memory", "MB", median(peaks), better="less", **limit))
    return out


if __name__ == "__main__":
    main()

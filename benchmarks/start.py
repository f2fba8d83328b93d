"""How long it takes from `pycdc run` to the first event in Kafka with many tables, and what importing costs.

    python -m benchmarks.start [--tables 1000] [--runs 5]

Each table has a primary key and four columns. The pipeline has run before, as most have that are started: its position
is stored, its topic and schemas are there, and one row waits in the slot. The clock starts when the process does, so
the interpreter and the imports are in it. The very first start, which makes the topic of its positions, is told too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import psycopg

from benchmarks import figures
from benchmarks.figures import Figure, Result, median, note
from benchmarks.pipelines import ROOT, Pipeline, capture, environment
from benchmarks.rig import Rig, Watermarks, wait_until
from benchmarks.workload import PUBLICATION, make_slots

SCENARIO = "start"
_IMPORT = "import time; t = time.perf_counter(); import pycdc; print((time.perf_counter() - t) * 1000)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with Rig() as rig:
        result = measure(rig, tables=arguments.tables, runs=arguments.runs)
    figures.show(result)


def measure(rig: Rig, *, tables: int, runs: int) -> Result:
    dsn = rig.database()
    make_tables(dsn, tables)
    name = f"{rig.name}_start"
    make_slots(dsn, [name])
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.t_0")])
    first, *others = (_start(rig, name, dsn, marks, run) for run in range(runs + 1))
    seconds, cpu = [one for one, _ in others], [one for _, one in others]
    marks.close()
    imports = [import_milliseconds(rig) for _ in range(max(5, runs))]
    found = [
        Figure(
            f"`pycdc run` to the first event, {tables} tables",
            "s",
            median(seconds),
            better="less",
            target="≤ 1 s",
            limit=1.0,
            compare="at most",
            runs={"pycdc": seconds},
        ),
        Figure("CPU of the process until then", "s", median(cpu), better="less", runs={"pycdc": cpu}),
        Figure(f"the very first start, {tables} tables", "s", round(first[0], 3), better="less"),
        Figure(
            "import pycdc",
            "ms",
            median(imports),
            better="less",
            target="≤ 150 ms",
            limit=150.0,
            compare="at most",
            runs={"pycdc": imports},
        ),
    ]
    return Result(SCENARIO, found, rig.versions(), {"tables": tables, "runs": runs})


def _start(rig: Rig, name: str, dsn: str, marks: Watermarks, run: int) -> tuple[float, float]:
    """Seconds to the row that was written before, of time and of CPU; then the pipeline is stopped in good order."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO t_0 VALUES (%s, 1, 'a', 1.5, now())", [run])
    started = time.monotonic()
    with Pipeline(rig, capture(rig, name, dsn, slot=name)) as pipeline:
        seconds = wait_until(pipeline, lambda: marks.total() > run, "the first event", pause=0.005) - started
        cpu = pipeline.observed.cpu_seconds()
    note(f"start {run}: {seconds:.2f} s, {cpu:.2f} s of CPU")
    return seconds, cpu


def make_tables(dsn: str, tables: int) -> None:
    """`t_0` and on, and a publication of all of them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(tables):
            columns = "id bigint PRIMARY KEY, a integer, b text, c numeric(10,2), d timestamptz"
            connection.execute(f"CREATE TABLE t_{number} ({columns})".encode())
        connection.execute(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES".encode())


def import_milliseconds(rig: Rig) -> float:
    """Of a fresh interpreter; the files are in the system's cache from the second time on."""
    command, variables = [sys.executable, "-c", _IMPORT], {**os.environ, **environment(rig)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=variables)
    return float(done.stdout)


if __name__ == "__main__":
    main()

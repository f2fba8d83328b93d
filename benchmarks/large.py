"""One large transaction: how long after its commit all of it is in Kafka, and what the server puts aside on its disk.

    python -m benchmarks.large [--runs 3] [--rows 1000000]

With `source.postgres.streaming` and without, in turns. The rows are written by many statements, as a job would. The
server does either above its `logical_decoding_work_mem`, 64 MB, which takes 350,000 rows.
"""

from __future__ import annotations

import argparse

import psycopg

from benchmarks import figures
from benchmarks.figures import Figure, Result, median, note
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Rig, Watermarks, wait_until
from benchmarks.workload import NARROW, prepare

SCENARIO = "large"
STATEMENTS = 50
_SPILLED = "SELECT spill_bytes / 1e6, stream_bytes / 1e6 FROM pg_stat_replication_slots WHERE slot_name = %s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with Rig() as rig:
        result = measure(rig, rows=arguments.rows, runs=arguments.runs)
    figures.show(result)


def measure(rig: Rig, *, rows: int, runs: int) -> Result:
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for run in range(runs):
        for streaming in (False, True):
            found[streaming].append(_run(rig, run, rows, streaming=streaming))
    out = []
    for place, (name, unit) in enumerate((("commit to the last record", "s"), ("put aside by the server", "MB"))):
        for streaming, how in ((False, "after the commit"), (True, "streamed")):
            values = [one[place] for one in found[streaming]]
            out.append(Figure(f"{name}, {how}", unit, median(values), better="less", runs={"pycdc": values}))
    return Result(SCENARIO, out, rig.versions(), {"rows": rows, "runs": runs})


def _run(rig: Rig, run: int, rows: int, *, streaming: bool) -> tuple[float, float]:
    """Seconds from the commit to the last record, and megabytes that the server put aside."""
    dsn, name = rig.database(), f"{rig.name}_large_{run}_{'on' if streaming else 'off'}"
    prepare(dsn, NARROW, [name])
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.orders")])
    document = capture(rig, name, dsn, slot=name, source={"streaming": streaming})
    with psycopg.connect(dsn) as connection, Pipeline(rig, document) as pipeline:
        connection.execute(NARROW.insert.encode(), {"first": 1, "last": 1})
        connection.commit()
        wait_until(pipeline, lambda: marks.total() >= 1, "the first row")
        for part in range(STATEMENTS):
            first, last = 2 + rows * part // STATEMENTS, 1 + rows * (part + 1) // STATEMENTS
            connection.execute(NARROW.insert.encode(), {"first": first, "last": last})
        connection.commit()
        committed = wait_until(pipeline, lambda: True, "the commit")
        seconds = wait_until(pipeline, lambda: marks.total() > rows, "the last row") - committed
    with psycopg.connect(dsn) as connection:
        spilled, streamed = connection.execute(_SPILLED, [name]).fetchone() or (0, 0)
    marks.close()
    rig.postgres.drop_database(dsn)
    how = f"{spilled:.0f} MB put aside, {streamed:.0f} MB streamed"
    note(f"{rows:,} rows, streaming {'on' if streaming else 'off'}: {seconds:.1f} s, {how}")
    return seconds, float(spilled)


if __name__ == "__main__":
    main()

"""From `kill -9` to the next event in Kafka, while rows keep coming.

    python -m benchmarks.recovery [--runs 5] [--rate 1000]

The process is started again at once, as a supervisor would. The clock runs from that start to the first record that was
not in the topic when it was killed. Rows that come twice are counted too: they are what at least once means.
"""

from __future__ import annotations

import argparse
import threading
import time

import psycopg

from benchmarks import figures
from benchmarks.figures import Figure, Result, median, note
from benchmarks.pipelines import Pipeline, capture
from benchmarks.rig import Rig, Watermarks, wait_until
from benchmarks.workload import NARROW, prepare

SCENARIO = "recovery"
STREAMING_SECONDS = 4.0
"""Before the kill: longer than the interval at which positions are stored."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=int, default=1000)
    arguments = parser.parse_args()
    with Rig() as rig:
        result = measure(rig, runs=arguments.runs, rate=arguments.rate)
    figures.show(result)


def measure(rig: Rig, *, runs: int, rate: int) -> Result:
    found = [_run(rig, run, rate) for run in range(runs)]
    seconds, repeated = [one[0] for one in found], [float(one[1]) for one in found]
    limits = {"limit": 2.0, "compare": "at most"}
    return Result(
        SCENARIO,
        [
            Figure(
                "kill -9 to the next event",
                "s",
                median(seconds),
                better="less",
                target="≤ 2 s",
                runs={"pycdc": seconds},
                **limits,  # type: ignore[arg-type]
            ),
            Figure(f"records repeated, at {rate:,} rows/s", "records", median(repeated), better="less"),
        ],
        rig.versions(),
        {"runs": runs, "rows a second": rate},
    )


def _run(rig: Rig, run: int, rate: int) -> tuple[float, int]:
    """Seconds to the next event, and records that came twice."""
    dsn, name = rig.database(), f"{rig.name}_kill_{run}"
    prepare(dsn, NARROW, [name])
    marks = Watermarks(rig.kafka.bootstrap, [rig.kafka.create_topic(f"{name}.public.orders")])
    document = capture(rig, name, dsn, slot=name)
    writer = _Writer(dsn, rate)
    with writer:
        with Pipeline(rig, document) as pipeline:
            first = wait_until(pipeline, lambda: marks.total() > 0, "the first rows")
            wait_until(pipeline, lambda: time.monotonic() > first + STREAMING_SECONDS, "some seconds of streaming")
            pipeline.kill()
        delivered = marks.total()
        started = time.monotonic()
        with Pipeline(rig, document) as pipeline:
            seconds = wait_until(pipeline, lambda: marks.total() > delivered, "the next event") - started
            written = writer.stop()
            wait_until(pipeline, lambda: marks.total() >= written and _quiet(marks), "all rows")
            repeated = marks.total() - written
    marks.close()
    rig.postgres.drop_database(dsn)
    note(f"killed, run {run + 1}: {seconds:.2f} s, {repeated} records came twice")
    return seconds, repeated


def _quiet(marks: Watermarks) -> bool:
    """Whether nothing more comes."""
    before = marks.total()
    time.sleep(1.0)
    return marks.total() == before


class _Writer:
    """Rows at a rate, from a thread, 20 transactions a second."""

    def __init__(self, dsn: str, rate: int) -> None:
        self._dsn, self._step = dsn, max(1, rate // 20)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._written = 0

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> int:
        """How many rows there are."""
        self._stop.set()
        self._thread.join()
        return self._written

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.wait(0.05):
                first = self._written + 1
                connection.execute(NARROW.insert.encode(), {"first": first, "last": self._written + self._step})
                self._written += self._step


if __name__ == "__main__":
    main()

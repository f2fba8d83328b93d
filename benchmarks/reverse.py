"""Apply: rows a second from a topic into a table, beside Debezium's JDBC sink and beside COPY and a merge.

    python -m benchmarks.reverse [--rows 200000] [--runs 3] [--form envelope|flat] [--operations insert,update]
                                 [--peer] [--limit] [--lag 1000] [--seconds 15]

The topic is filled by pycdc from a table of eight columns, so its records are Debezium's: inserts into an empty table,
then updates of every row. Both engines are measured by the same clock: when the row at 40 % (the peer's JVM is warm
then) and the last row are visible in the target. `--lag RATE` adds the time from a record's due time to its visibility
at that rate, open loop. The settings in the result say which way pycdc's rows went.
"""

from __future__ import annotations

import argparse
import re
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from benchmarks import apply_lag, figures, merge
from benchmarks.figures import Figure, Result, median, note
from benchmarks.peers import jdbc_sink
from benchmarks.pipelines import Pipeline, back, capture
from benchmarks.rig import Engine, Rig, Watermarks, execute, wait_until
from benchmarks.workload import NARROW, make_slots, prepare, write

SCENARIO = "reverse"
WARM = 0.4
_COLUMNAR = re.compile(r"go by columns\b.*\bcolumnar\W+[Tt]rue")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--form", choices=["envelope", "flat"], default="envelope")
    parser.add_argument("--operations", default="insert,update")
    parser.add_argument("--peer", action="store_true", help="Debezium's JDBC sink too")
    parser.add_argument("--limit", action="store_true", help="COPY and a merge too, without Kafka")
    parser.add_argument("--lag", type=int, default=0, metavar="RATE", help="apply lag at so many events a second")
    parser.add_argument("--seconds", type=int, default=15, help="of the lag measurement")
    arguments = parser.parse_args()
    with Rig() as rig:
        result = measure(rig, **vars(arguments))
    figures.show(result)


def measure(
    rig: Rig,
    *,
    rows: int,
    runs: int,
    form: str = "envelope",
    operations: str = "insert,update",
    peer: bool = True,
    limit: bool = True,
    lag: int = 1000,
    seconds: int = 15,
) -> Result:
    topics = fill(rig, rows, form)
    found: list[Figure] = []
    ways: set[str] = set()
    for operation in operations.split(","):
        engines = ["pycdc", *(["peer"] if peer else [])]
        results: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
        for number in range(runs):
            # Alternating, so that what drifts on the machine falls on both.
            for engine in engines if number % 2 == 0 else reversed(engines):
                note(f"reverse, {operation}, run {number + 1} of {runs}: {engine}")
                results[engine].append(apply(rig, topics[operation], rows, operation, engine, number, ways))
                note(f"  {results[engine][-1]}")
        found += _figures(operation, form, results)
        if limit:
            rates = [merge.rate(rig, rows, operation) for _ in range(runs)]
            found.append(_limit(operation, results["pycdc"], rates))
    if lag:
        found += apply_lag.measure(rig, topics["insert"], rate=lag, seconds=seconds, limit=rows)
    settings: dict[str, Any] = {
        "rows": rows,
        "runs": runs,
        "form": form,
        "rows a transaction": "pycdc's default",
        "pycdc's way": " and ".join(sorted(ways)),
    }
    if peer:
        settings[jdbc_sink.NAME] = jdbc_sink.described()
    return Result(SCENARIO, found, rig.versions(), settings)


def fill(rig: Rig, rows: int, form: str) -> dict[str, str]:
    """A topic of inserts and one of updates of the same rows."""
    dsn = rig.database()
    prepare(dsn, NARROW, [])
    topics = {}
    for operation, statement in (("insert", NARROW.insert), ("update", NARROW.update)):
        name = f"{rig.name}{form}{operation}"
        topics[operation] = f"{name}.public.orders"
        make_slots(dsn, [name])
        write(dsn, statement, rows)
        shaped: dict[str, Any] = {"flatten": {"deletes": "rewrite"}} if form == "flat" else {}
        marks = Watermarks(rig.kafka.bootstrap, [topics[operation]])
        with Pipeline(rig, capture(rig, name, dsn, slot=name, **shaped)) as pipeline:
            wait_until(pipeline, lambda m=marks: m.total() >= rows, "filling the topic")  # type: ignore[misc]
        marks.close()
    return topics


def apply(
    rig: Rig, topic: str, rows: int, operation: str, engine: str, number: int, ways: set[str]
) -> dict[str, float]:
    """One run of one engine into a new database. `ways` are told which way pycdc's rows went."""
    dsn = rig.database(NARROW.table)
    if operation == "update":
        write(dsn, NARROW.insert, rows, per_transaction=rows)
        execute(dsn, "VACUUM ANALYZE orders")
    name = f"{topic.partition('.')[0]}{engine}{number}"
    with _running(rig, engine, name, topic, dsn) as running, _Rows(dsn, operation) as visible:
        warm = visible.wait_for(int(rows * WARM), running)
        cpu = running.observed.cpu_seconds()
        end = visible.wait_for(rows, running)
        events = rows - visible.seen_first
        if isinstance(running, Pipeline):
            ways.add("columns" if _COLUMNAR.search(running.log_text()) else "event by event")
        return {
            "rows_per_second": round(events / (end - warm)),
            "cpu_us_per_row": round((running.observed.cpu_seconds() - cpu) / events * 1e6, 2),
            "peak_rss_mb": round(running.observed.peak_rss_mb()),
        }


def _running(rig: Rig, engine: str, name: str, topic: str, dsn: str) -> AbstractContextManager[Engine]:
    if engine == "pycdc":
        return Pipeline(rig, back(rig, name, topic, dsn))
    return jdbc_sink.jdbc_sink(rig, name, topic, dsn, table="orders")


class _Rows:
    """Looks whether a row is there, or changed. Rows arrive in the order of their ids: the topic has one partition."""

    def __init__(self, dsn: str, operation: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._query = "SELECT 1 FROM orders WHERE id = %s" + (" AND status = 'paid'" if operation == "update" else "")
        self.seen_first = 0

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()

    def wait_for(self, row: int, running: Engine) -> float:
        self.seen_first = self.seen_first or row
        return wait_until(running, lambda: self._there(row), f"row {row}", pause=0.005)

    def _there(self, row: int) -> bool:
        return self._connection.execute(self._query.encode(), [row], prepare=True).fetchone() is not None


def _figures(operation: str, form: str, results: dict[str, list[dict[str, float]]]) -> list[Figure]:
    """Rows a second, CPU and memory; the peer beside it where it ran."""
    shared: dict[str, Any] = {"peer_name": jdbc_sink.NAME if "peer" in results else ""}
    out = []
    for key, name, unit, better in (
        ("rows_per_second", "rows applied", "rows/s", "more"),
        ("cpu_us_per_row", "CPU of the process a row", "µs", "less"),
        ("peak_rss_mb", "peak memory", "MB", "less"),
    ):
        values = {engine: [run[key] for run in runs] for engine, runs in results.items()}
        goal: dict[str, Any] = {}
        if key == "rows_per_second":
            goal = {"target": "≥ 4× the peer", "limit": 4.0, "compare": "at least", "of_ratio": True}
        out.append(
            Figure(
                f"reverse, {operation}s, {form}: {name}",
                unit,
                median(values["pycdc"]),
                median(values.get("peer", [])),
                better=better,  # type: ignore[arg-type]
                runs=values,
                **shared,
                **goal,
            )
        )
    return out


def _limit(operation: str, runs: list[dict[str, float]], rates: list[float]) -> Figure:
    return Figure(
        f"reverse, {operation}s: beside COPY and a merge",
        "rows/s",
        median([run["rows_per_second"] for run in runs]),
        median(rates),
        peer_name="COPY + merge, no Kafka",
        runs={"peer": rates},
        notes="what the server takes from one connection when nothing has to be read, decoded or routed",
    )


if __name__ == "__main__":
    main()

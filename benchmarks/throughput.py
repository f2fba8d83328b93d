"""Events a second from Postgres' WAL into Kafka, over TCP, beside Debezium and pg_recvlogical on the same WAL.

    python -m benchmarks.throughput [--rows 1000000] [--per-transaction 1000] [--runs 5] [--shapes narrow,…]
                                    [--operations insert,…]
                                    [--engines pycdc,exactly-once,debezium,pg_recvlogical,null]

The WAL is written once for each shape and operation; every run replays it through a slot of its own, made before the
rows were. Engines take turns, in alternating order. Both write into a topic of one partition, and the clock is the
same: it runs from the record at 40 % of the topic (the JVM is warm then) to its last one. `null` is pycdc with a sink
that serialises and throws away, measured from within.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from benchmarks import figures
from benchmarks.figures import Figure, Result, median, note
from benchmarks.peers import debezium, recvlogical
from benchmarks.pipelines import Pipeline, capture, engine
from benchmarks.rig import Engine, Rig, Watermarks, wait_until
from benchmarks.workload import PUBLICATION, SHAPES, Shape, change, prepare

SCENARIO = "throughput"
EXACTLY_ONCE = "exactly-once"
ENGINES = ("pycdc", "debezium", "pg_recvlogical", "null")
OPERATIONS = ("insert", "update", "delete", "mixed")
WARM = 0.4
_POLL = 0.01
_TARGETS: dict[str, dict[str, Any]] = {
    "events_per_second": {"target": "≥ 2.5× Debezium", "limit": 2.5, "compare": "at least", "of_ratio": True},
    "cpu_us": {"target": "≤ 1/3.5 of Debezium's", "limit": 3.5, "compare": "at least", "of_ratio": True},
    "peak_rss_mb": {"target": "≤ 100 MB", "limit": 100.0, "compare": "at most"},
}

Runs = dict[str, list[dict[str, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--per-transaction", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shapes", default="narrow", help=f"all, or some of {', '.join(SHAPES)}")
    parser.add_argument("--operations", default="insert", help=f"all, or some of {', '.join(OPERATIONS)}")
    parser.add_argument("--engines", default="pycdc,debezium,pg_recvlogical")
    arguments = parser.parse_args()
    chosen = vars(arguments)
    for name, known in (("shapes", tuple(SHAPES)), ("operations", OPERATIONS), ("engines", ENGINES)):
        chosen[name] = known if chosen[name] == "all" else tuple(chosen[name].split(","))
    with Rig() as rig:
        result = measure(rig, **chosen)
    figures.show(result)


def measure(
    rig: Rig,
    *,
    rows: int,
    runs: int,
    per_transaction: int = 1000,
    shapes: tuple[str, ...] = ("narrow",),
    operations: tuple[str, ...] = ("insert",),
    engines: tuple[str, ...] = ENGINES,
) -> Result:
    """Every operation on the first shape, and inserts into the others."""
    cases = [(SHAPES[shapes[0]], operation) for operation in operations]
    cases += [(SHAPES[name], "insert") for name in shapes[1:]]
    found: list[Figure] = []
    if "debezium" in engines:
        debezium.warm_up(rig)
    for shape, operation in cases:
        results = replay_all(rig, shape, operation, rows, runs, per_transaction, engines)
        found += _figures(f"{shape.name}, {operation}s" if operation != "mixed" else f"{shape.name}, mixed", results)
    settings = {"rows": rows, "rows a transaction": per_transaction, "runs": runs}
    described = {debezium.NAME: debezium.described()} if "debezium" in engines else {}
    return Result(SCENARIO, found, rig.versions(), {**settings, **described})


def replay_all(
    rig: Rig, shape: Shape, operation: str, rows: int, runs: int, per_transaction: int, engines: tuple[str, ...]
) -> Runs:
    dsn = rig.database()
    slots = {(one, run): f"{rig.name}_{one}_{run}".replace("-", "_") for one in engines for run in range(runs)}
    prepare(dsn, shape, list(slots.values()), filled=0 if operation == "insert" else rows)
    records = change(dsn, shape, operation, rows, per_transaction)
    results: Runs = {one: [] for one in engines}
    for run in range(runs):
        for one in engines if run % 2 == 0 else reversed(engines):
            slot = slots[one, run]
            figures_of_run = replay(rig, one, dsn, slot, f"{shape.name}{operation}", rows, records)
            note(f"{shape.name}, {operation}, run {run + 1} of {runs}: {one} {figures_of_run}")
            results[one].append(figures_of_run)
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
    return results


def replay(rig: Rig, one: str, dsn: str, slot: str, case: str, rows: int, records: int) -> dict[str, float]:
    if one == "pg_recvlogical":
        return {"events_per_second": rows / recvlogical.seconds(dsn, slot, PUBLICATION)}
    if one == "null":
        inside = engine(rig, {**capture(rig, slot, dsn, slot=slot), "sink": {"null": {}}}, rows)
        return {
            "events_per_second": inside["events_per_second"],
            "cpu_us": inside["cpu_us_per_event"],
            "peak_rss_mb": inside["peak_rss_mb"],
        }
    name = f"{slot}_{case}".replace(" ", "_")
    topic = rig.kafka.create_topic(f"{name}.public.orders")
    marks = Watermarks(rig.kafka.bootstrap, [topic])
    with _running(rig, one, name, dsn, slot) as running:
        warm = wait_until(running, lambda: marks.total() >= records * WARM, "the warm-up", pause=_POLL)
        cpu, already = running.observed.cpu_seconds(), marks.total()
        end = wait_until(running, lambda: marks.total() >= records, "the last record", pause=_POLL)
        events = (records - already) * rows / records
        figures_of_run = {
            "events_per_second": round(events / (end - warm)),
            "cpu_us": round((running.observed.cpu_seconds() - cpu) / events * 1e6, 2),
            "peak_rss_mb": round(running.observed.peak_rss_mb()),
        }
    marks.close()
    return figures_of_run


def _running(rig: Rig, one: str, name: str, dsn: str, slot: str) -> AbstractContextManager[Engine]:
    if one == "pycdc":
        return Pipeline(rig, capture(rig, name, dsn, slot=slot))
    if one == EXACTLY_ONCE:
        return Pipeline(rig, capture(rig, name, dsn, slot=slot, kafka={"delivery": "exactly_once"}))
    return debezium.postgres_source(rig, name, dsn, slot=slot)


def _figures(case: str, results: Runs) -> list[Figure]:
    out = []
    for key, name, unit, better in (
        ("events_per_second", "events into Kafka", "events/s", "more"),
        ("cpu_us", "CPU of the process an event", "µs", "less"),
        ("peak_rss_mb", "peak memory", "MB", "less"),
    ):
        values = {one: [run[key] for run in runs if key in run] for one, runs in results.items()}
        if "pycdc" in values:
            peer = median(values.get("debezium", []))
            shared: dict[str, Any] = {"peer_name": debezium.NAME if peer else "", "better": better, **_TARGETS[key]}
            out.append(Figure(f"{case}: {name}", unit, median(values["pycdc"]), peer, runs=values, **shared))
        if values.get("null"):
            out.append(Figure(f"{case}: {name}, null sink", unit, median(values["null"]), runs=values))
    rates = {one: [run["events_per_second"] for run in runs] for one, runs in results.items()}
    if rates.get(EXACTLY_ONCE) and "pycdc" in rates:
        once, usual = median(rates[EXACTLY_ONCE]), median(rates["pycdc"])
        out.append(
            Figure(
                f"{case}: exactly once beside at least once",
                "events/s",
                once,
                usual,
                peer_name="at least once",
                better="more",
                target="≥ 0.85×",
                limit=0.85,
                compare="at least",
                of_ratio=True,
                runs=rates,
            )
        )
    if "pycdc" in rates and rates.get("pg_recvlogical"):
        beside: dict[str, Any] = {"peer_name": recvlogical.NAME, "notes": "over all of the WAL, to /dev/null"}
        mine, theirs = median(rates["pycdc"]), median(rates["pg_recvlogical"])
        out.append(Figure(f"{case}: beside the server's own client", "events/s", mine, theirs, runs=rates, **beside))
    return out


if __name__ == "__main__":
    main()

"""Whether speed depends on how many tables there are, how large transactions are, and how wide rows are.

    python -m benchmarks.growth [--rows 500000] [--runs 3] [--series tables,turns,transactions,…] [--sink null]

Tables: the same rows spread over 1 to 1,000 tables, transactions of 100 rows taking turns. Turns: transactions of 1,000
rows, in which each row is another table's than the one before. Transactions: 10 to 1,000,000 rows each; singles: one
row, which brings a Begin and a Commit of its own. Columns: 8, 30 and 100 of them. Bytes: one text column of 100 B to
10 kB. pycdc alone, by default into a sink that serialises and throws away, so that the broker is not what grows.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks import figures
from benchmarks.figures import Figure, Result, note
from benchmarks.pipelines import capture, engine
from benchmarks.rig import Rig
from benchmarks.workload import NARROW, PUBLICATION, Shape, make_slots, prepare, wide, write

SCENARIO = "growth"
TABLES = (1, 10, 100, 1000)
TRANSACTIONS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
COLUMNS = (8, 30, 100)
BYTES = (100, 1_000, 10_000)
SERIES = ("tables", "turns", "transactions", "singles", "columns", "bytes")
WARM = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--series", default=",".join(SERIES))
    parser.add_argument("--sink", choices=["null", "kafka"], default="null")
    arguments = parser.parse_args()
    with Rig() as rig:
        series = tuple(arguments.series.split(","))
        result = measure(rig, rows=arguments.rows, runs=arguments.runs, series=series, sink=arguments.sink)
    figures.show(result)


def measure(rig: Rig, *, rows: int, runs: int, series: tuple[str, ...] = SERIES, sink: str = "null") -> Result:
    made: dict[str, Callable[[], Figure]] = {
        # Every table has to be met before the clock starts: the first sight of one costs a look into the catalog.
        "tables": lambda: _flat(
            "tables", [(n, _rates(rig, _spread(rig, n, rows, runs), rows, sink)) for n in TABLES if 500 * n <= rows]
        ),
        "turns": lambda: _flat(
            "tables, a row each in turn",
            [(n, _rates(rig, _in_turn(rig, n, rows, runs), rows, sink)) for n in TABLES if 500 * n <= rows],
        ),
        "singles": lambda: _times(
            "time an event of a transaction of one row takes, against one of 1,000",
            [(n, _rates(rig, _written(rig, NARROW, rows // 4, runs, n), rows // 4, sink)) for n in (1000, 1)],
        ),
        "transactions": lambda: _flat(
            "rows a transaction",
            [(n, _rates(rig, _written(rig, NARROW, rows, runs, n), rows, sink)) for n in TRANSACTIONS if n <= 2 * rows],
        ),
        "columns": lambda: _linear("columns", [(n, _of_shape(rig, wide(n), rows // 4, runs, sink)) for n in COLUMNS]),
        "bytes": lambda: _linear(
            "bytes a row",
            [(n, _of_shape(rig, wide(2, n), max(10_000, rows * 100 // n // 4), runs, sink)) for n in BYTES],
        ),
    }
    found = [made[name]() for name in series]
    return Result(SCENARIO, found, rig.versions(), {"rows": rows, "runs": runs, "sink": sink})


def _of_shape(rig: Rig, shape: Shape, rows: int, runs: int, sink: str) -> list[float]:
    return _rates(rig, _written(rig, shape, rows, runs, 1000), rows, sink)


def _written(rig: Rig, shape: Shape, rows: int, runs: int, per_transaction: int) -> tuple[str, list[str]]:
    """A database with the WAL of these rows, and slots before them."""
    dsn, slots = rig.database(), _slots(rig, f"{shape.name}_{per_transaction}", runs)
    prepare(dsn, shape, slots)
    write(dsn, shape.insert, rows, per_transaction=per_transaction)
    return dsn, slots


def _spread(rig: Rig, tables: int, rows: int, runs: int) -> tuple[str, list[str]]:
    dsn, slots = _tables(rig, f"tables_{tables}", tables, runs)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for turn, first in enumerate(range(1, rows + 1, 100)):
            statement = NARROW.insert.replace("orders", f"orders_{turn % tables}")
            connection.execute(statement.encode(), {"first": first, "last": min(rows, first + 99)})
    return dsn, slots


def _in_turn(rig: Rig, tables: int, rows: int, runs: int) -> tuple[str, list[str]]:
    dsn, slots = _tables(rig, f"turns_{tables}", tables, runs)
    insert = NARROW.insert.replace("orders", "%1$I").replace("%(first)s", "%2$s").replace("%(last)s", "%2$s")
    body = f"FOR i IN first..last LOOP EXECUTE format($f${insert}$f$, 'orders_' || i % {tables}, i)"
    turn = f"CREATE PROCEDURE turn(first bigint, last bigint) LANGUAGE plpgsql AS $$BEGIN {body}; END LOOP; END$$"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(turn.encode())
    write(dsn, "CALL turn(%(first)s, %(last)s)", rows)
    return dsn, slots


def _tables(rig: Rig, name: str, tables: int, runs: int) -> tuple[str, list[str]]:
    """A database with so many tables like `orders`, and slots."""
    dsn, slots = rig.database(), _slots(rig, name, runs)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(tables):
            connection.execute(NARROW.table.replace("orders", f"orders_{number}").encode())
        connection.execute(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES".encode())
    make_slots(dsn, slots)
    return dsn, slots


def _slots(rig: Rig, name: str, runs: int) -> list[str]:
    plain = "".join(letter if letter.isalnum() else "_" for letter in name.lower())
    return [f"{rig.name}_{plain}_{run}" for run in range(runs)]


def _rates(rig: Rig, written: tuple[str, list[str]], rows: int, sink: str) -> list[float]:
    """Events a second of each run; the database goes away."""
    dsn, slots = written
    rates = []
    for slot in slots:
        document: dict[str, Any] = capture(rig, slot, dsn, slot=slot)
        if sink == "null":
            document["sink"] = {"null": {}}
        rates.append(float(engine(rig, document, rows, warm=int(rows * WARM))["events_per_second"]))
        note(f"growth, {slot}: {rates[-1]:,.0f} events/s")
    rig.postgres.drop_database(dsn)
    return rates


def _flat(what: str, measured: list[tuple[int, list[float]]]) -> Figure:
    """It should not matter: the slowest against the fastest."""
    medians = [(float(n), statistics.median(rates)) for n, rates in measured]
    slowest, fastest = min(rate for _, rate in medians), max(rate for _, rate in medians)
    return Figure(
        f"slowest against fastest, {measured[0][0]:,} to {measured[-1][0]:,} {what}",
        "",
        round(slowest / fastest, 3),
        target="≥ 0.9",
        limit=0.9,
        compare="at least",
        runs={f"{n:,}": rates for n, rates in measured},
        points={"events/s": medians},
        notes=", ".join(f"{n:,.0f}: {rate:,.0f}/s" for n, rate in medians),
    )


def _linear(what: str, measured: list[tuple[int, list[float]]]) -> Figure:
    """Time an event should grow no faster than the row."""
    factor = measured[-1][0] / measured[0][0]
    goal = {"target": f"≤ {factor:.3g} (linear)", "limit": round(factor, 2), "compare": "at most"}
    return _times(f"time an event grows by, for {factor:.3g} times the {what}", measured, **goal)


def _times(name: str, measured: list[tuple[int, list[float]]], **goal: Any) -> Figure:
    """The last against the first."""
    medians = [(float(n), statistics.median(rates)) for n, rates in measured]
    return Figure(
        name,
        "times",
        round(medians[0][1] / medians[-1][1], 2),
        better="less",
        **goal,
        runs={f"{n:,}": rates for n, rates in measured},
        points={"events/s": medians},
        notes=", ".join(f"{n:,.0f}: {rate:,.0f}/s" for n, rate in medians),
    )


if __name__ == "__main__":
    main()

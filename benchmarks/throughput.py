"""Events a second from Postgres' WAL into a null sink and into Kafka, over TCP, everything on this machine.

    python -m benchmarks.throughput [--rows 1000000] [--per-transaction 1000] [--runs 3] [--sinks null,kafka]

The WAL is written once; every run replays it through a slot of its own, made before the rows were. The table has eight
columns. Prints each run and the medians as JSON. Servers are those of the tests.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from tests.services import kafka, matrix, registry

TABLE = """CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id integer NOT NULL, sku text NOT NULL, quantity integer NOT NULL,
    price numeric(10,2) NOT NULL, status text NOT NULL, note text, created_at timestamptz NOT NULL)"""
INSERT = """INSERT INTO orders SELECT i, i %% 5000, 'sku-' || i %% 997, i %% 9 + 1, (i %% 10000) / 100.0, 'new',
    CASE WHEN i %% 3 = 0 THEN NULL ELSE 'a note of some length ' || i END, timestamptz '2026-01-01' + i * interval '1 s'
    FROM generate_series(%s::bigint, %s::bigint) AS i"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--per-transaction", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sinks", default="null,kafka")
    parser.add_argument("--postgres", type=int, default=15, help="major version")
    arguments = parser.parse_args()
    sinks = arguments.sinks.split(",")
    source = next(source for source in matrix.sources() if arguments.postgres in source.numbers)
    server = source.launch()
    brokers = kafka.launch() if "kafka" in sinks else None
    schemas = registry.launch() if "kafka" in sinks else None
    try:
        dsn = server.create_database()
        slots = {sink: [f"bench_{sink}_{run}" for run in range(arguments.runs)] for sink in sinks}
        write_wal(dsn, [slot for names in slots.values() for slot in names], arguments.rows, arguments.per_transaction)
        results: dict[str, list[dict[str, Any]]] = {sink: [] for sink in sinks}
        for run in range(arguments.runs):
            for sink in sinks:
                figures = replay(dsn, slots[sink][run], sink, brokers, schemas, arguments.rows)
                print(sink, json.dumps(figures), file=sys.stderr)
                results[sink].append(figures)
        print(json.dumps({"machine": machine(), "rows": arguments.rows, "medians": medians(results)}, indent=2))
    finally:
        for started in (schemas, brokers, server):
            if started is not None:
                started.close()


def write_wal(dsn: str, slots: list[str], rows: int, per_transaction: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLE.encode())
        connection.execute(b"CREATE PUBLICATION bench FOR TABLE orders")
        for slot in slots:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        for first in range(1, rows + 1, per_transaction):
            connection.execute(INSERT.encode(), [first, min(rows, first + per_transaction - 1)])


def replay(dsn: str, slot: str, sink: str, brokers: Any, schemas: Any, rows: int) -> dict[str, Any]:
    config = {
        "name": slot,
        "source": {
            "postgres": {
                "dsn": dsn,
                "tables": ["public.orders"],
                "slot": slot,
                "publication": "bench",
                "manage_publication": False,
                "snapshot": "never",
            }
        },
        "sink": {"null": {}} if sink == "null" else {"kafka": {"brokers": brokers.bootstrap, "registry": schemas.url}},
        "http": {"enabled": False},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.engine", file.name, str(rows)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def medians(results: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    return {
        sink: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for sink, runs in results.items()
    }


def machine() -> str:
    return f"{platform.machine()}, Python {platform.python_version()}, {platform.system()}"


if __name__ == "__main__":
    main()

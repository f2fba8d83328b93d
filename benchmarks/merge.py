"""What Postgres takes at most from one connection: COPY into a temporary table, then one upsert, batch after batch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg

from benchmarks.rig import Rig, execute
from benchmarks.workload import NARROW, write

BATCH = 4000
_MERGE = """INSERT INTO orders SELECT * FROM incoming ON CONFLICT (id) DO UPDATE SET
    (customer_id, sku, quantity, price, status, note, created_at) =
    (excluded.customer_id, excluded.sku, excluded.quantity, excluded.price, excluded.status, excluded.note,
     excluded.created_at)"""


def rate(rig: Rig, rows: int, operation: str) -> float:
    """Rows a second into a table that is empty (`insert`) or has all of the rows already (`update`)."""
    dsn = rig.database(NARROW.table)
    write(dsn, NARROW.insert, rows, per_transaction=rows)
    with psycopg.connect(dsn, autocommit=True) as connection:
        lines = list(_lines(connection))
    if operation == "insert":
        execute(dsn, "TRUNCATE orders")
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TEMPORARY TABLE incoming (LIKE orders)")
        connection.commit()
        started = time.perf_counter()
        for first in range(0, len(lines), BATCH):
            with connection.cursor().copy("COPY incoming FROM STDIN") as copy:
                copy.write(b"".join(lines[first : first + BATCH]))
            connection.execute(_MERGE)
            connection.execute("TRUNCATE incoming")
            connection.commit()
        return rows / (time.perf_counter() - started)


def _lines(connection: psycopg.Connection[tuple[object, ...]]) -> Iterator[bytes]:
    with connection.cursor().copy("COPY (SELECT * FROM orders ORDER BY id) TO STDOUT") as copy:
        for line in copy:
            yield bytes(line)

"""Tables and the statements that fill them. `%(first)s` to `%(last)s` are ids, all of one statement one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

PUBLICATION = "bench"


@dataclass(frozen=True, slots=True)
class Shape:
    """A table `orders` whose key is `id`, and the expressions over `i` that fill its other columns."""

    name: str
    columns: str
    values: str
    changed: str
    """The SET clause of an update."""

    @property
    def table(self) -> str:
        return f"CREATE TABLE orders (id bigint PRIMARY KEY, {self.columns})"

    @property
    def insert(self) -> str:
        rows = "generate_series(%(first)s::bigint, %(last)s::bigint) AS i"
        return f"INSERT INTO orders SELECT i, {self.values} FROM {rows}"

    @property
    def update(self) -> str:
        return f"UPDATE orders SET {self.changed} WHERE id BETWEEN %(first)s AND %(last)s"

    @property
    def delete(self) -> str:
        return "DELETE FROM orders WHERE id BETWEEN %(first)s AND %(last)s"


NARROW = Shape(
    "narrow",
    "customer_id integer NOT NULL, sku text NOT NULL, quantity integer NOT NULL, price numeric(10,2) NOT NULL, "
    "status text NOT NULL, note text, created_at timestamptz NOT NULL",
    "i %% 5000, 'sku-' || i %% 997, i %% 9 + 1, (i %% 10000) / 100.0, 'new', "
    "CASE WHEN i %% 3 = 0 THEN NULL ELSE 'a note of some length ' || i END, "
    "timestamptz '2026-01-01' + i * interval '1 s'",
    "status = 'paid', quantity = quantity + 1",
)
"""Eight columns: the table of all comparisons."""


def wide(columns: int, bytes_each: int = 12) -> Shape:
    """So many text columns beside the id."""
    names = [f"c{number}" for number in range(1, columns)]
    value = f"left(repeat(md5(i::text), {bytes_each // 32 + 1}), {bytes_each})"
    return Shape(
        f"{columns} columns of {bytes_each} B",
        ", ".join(f"{name} text" for name in names),
        ", ".join([value] * len(names)),
        f"{names[0]} = 'changed'",
    )


JSONB = Shape(
    "jsonb",
    "document jsonb NOT NULL",
    "jsonb_build_object('id', i, 'sku', 'sku-' || i %% 997, 'tags', jsonb_build_array('a', 'b', i), "
    "'address', jsonb_build_object('city', 'Ghent', 'street', 'Veldstraat ' || i %% 100))",
    "document = document || '{\"paid\": true}'",
)
ARRAYS = Shape(
    "arrays",
    "numbers integer[] NOT NULL, words text[] NOT NULL",
    "ARRAY[i, i + 1, i + 2, i + 3]::integer[], ARRAY['sku-' || i, 'a, b', NULL]",
    "numbers = numbers || 1",
)
NUMBERS = Shape(
    "numerics and timestamps",
    "a numeric(12,2) NOT NULL, b numeric(12,2) NOT NULL, c numeric(20,6) NOT NULL, d timestamptz NOT NULL, "
    "e timestamp NOT NULL, f date NOT NULL, g time NOT NULL",
    "i / 100.0, (i * 7 %% 100000) / 100.0, i / 1000000.0, timestamptz '2026-01-01' + i * interval '1 s', "
    "timestamp '2026-01-01' + i * interval '1 ms', date '2026-01-01' + (i %% 365)::integer, "
    "time '00:00' + i * interval '1 s'",
    "b = b + 1, d = d + interval '1 s'",
)
SHAPES = {shape.name: shape for shape in (NARROW, wide(30), JSONB, ARRAYS, NUMBERS)}


def prepare(dsn: str, shape: Shape, slots: Sequence[str], *, filled: int = 0) -> None:
    """The table, with `filled` rows that no slot sees, a publication, and slots from here on."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(shape.table.encode())
        if filled:
            connection.execute(shape.insert.encode(), {"first": 1, "last": filled})
            connection.execute(b"VACUUM ANALYZE orders")
        connection.execute(f"CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES".encode())
    make_slots(dsn, slots)


def make_slots(dsn: str, slots: Sequence[str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for slot in slots:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])


def slot_is_read(dsn: str, slot: str) -> bool:
    """Whether somebody streams from it."""
    with psycopg.connect(dsn) as connection:
        return (
            connection.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s AND active", [slot]).fetchone()
            is not None
        )


def write(dsn: str, statement: str, rows: int, *, per_transaction: int = 1000, first: int = 1) -> None:
    """Ids `first` and on, `rows` of them; each execution is one transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for start in range(first, first + rows, per_transaction):
            last = min(first + rows, start + per_transaction) - 1
            connection.execute(statement.encode(), {"first": start, "last": last})


def change(dsn: str, shape: Shape, operation: str, rows: int, per_transaction: int = 1000) -> int:
    """Write the WAL of an operation; the number of records that it makes in a topic, tombstones included."""
    if operation == "mixed":
        half, quarter = rows // 2, rows // 4
        write(dsn, shape.insert, half, per_transaction=per_transaction, first=rows + 1)
        write(dsn, shape.update, rows - half - quarter, per_transaction=per_transaction)
        write(dsn, shape.delete, quarter, per_transaction=per_transaction)
        return rows + quarter
    statement = {"insert": shape.insert, "update": shape.update, "delete": shape.delete}[operation]
    write(dsn, statement, rows, per_transaction=per_transaction)
    return rows * 2 if operation == "delete" else rows

"""Compare the monolith's tables with the service's, row by row. Ends with 1 where they differ.

python compare.py postgresql://postgres:postgres@localhost/shop postgresql://postgres:postgres@localhost:5433/inventory

Rows that are under way differ: let both sides rest, or look again at the keys that it names.
"""

# ruff: noqa: T201

from __future__ import annotations

import sys
from typing import Any

import psycopg

PAIRS = {
    "orders = reservations": (
        "SELECT id, sku, quantity, status, changed_at FROM orders",
        "SELECT order_id, item, pieces, state, changed_at FROM reservations",
    ),
    "stock = items": (
        "SELECT sku, on_hand, changed_at FROM stock",
        "SELECT code, available, changed_at FROM items",
    ),
    "prices = price_list": (
        "SELECT sku, price, changed_at FROM prices",
        "SELECT item, amount, changed_at FROM price_list",
    ),
}
"""The same columns in the same order, the key first."""
MOST = 10
"""Keys that are named for each pair."""


def main(monolith: str, service: str) -> int:
    with psycopg.connect(monolith) as left, psycopg.connect(service) as right:
        differences = {name: differing(rows(left, one), rows(right, other)) for name, (one, other) in PAIRS.items()}
    for name, keys in differences.items():
        print(f"{name}: {'equal' if not keys else f'{len(keys)} differ: ' + ', '.join(keys[:MOST])}")
    return 1 if any(differences.values()) else 0


def rows(connection: psycopg.Connection, query: str) -> dict[str, tuple[Any, ...]]:
    return {str(row[0]): row[1:] for row in connection.execute(query.encode())}


def differing(ours: dict[str, tuple[Any, ...]], theirs: dict[str, tuple[Any, ...]]) -> list[str]:
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

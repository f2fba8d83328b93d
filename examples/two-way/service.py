"""The inventory service, in short: it counts stock, takes items in and sets prices, a transaction each.

python service.py postgresql://postgres:postgres@localhost:5433/inventory --changes 100
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence

import psycopg

COUNT = "UPDATE items SET available = %s, changed_at = clock_timestamp() WHERE code = %s"
TAKE_IN = "INSERT INTO items (code, available) VALUES (%s, %s)"
PRICE = """INSERT INTO price_list (item, amount) VALUES (%s, %s)
    ON CONFLICT (item) DO UPDATE SET amount = excluded.amount, changed_at = clock_timestamp()"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    chance = random.Random(options.seed)  # noqa: S311  (a sample, no secret)
    with psycopg.connect(options.dsn, autocommit=True) as connection:
        for _ in range(options.changes):
            work(connection, chance)
            time.sleep(options.pause)
    print(f"{options.changes} changes")


def work(connection: psycopg.Connection, chance: random.Random) -> None:
    codes = [code for (code,) in connection.execute("SELECT code FROM items ORDER BY code")]
    kind = chance.random()
    if kind < 0.1:
        code = f"NEW-{len(codes) + 1}"
        with connection.transaction():
            connection.execute(TAKE_IN, (code, chance.randint(0, 100)))
            connection.execute(PRICE, (code, chance.randint(100, 9999) / 100))
    elif kind < 0.3:
        connection.execute(PRICE, (chance.choice(codes), chance.randint(100, 9999) / 100))
    else:
        connection.execute(COUNT, (chance.randint(0, 100), chance.choice(codes)))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsn", help="libpq connection string of the service's database")
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds after each")
    parser.add_argument("--seed", type=int)
    return parser


if __name__ == "__main__":
    main()

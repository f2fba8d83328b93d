"""Both sides at work: what the monolith and the service write, each into its own database."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Final

import psycopg

from pycdc.demo.two_way.tables import MONOLITH_TABLES, SERVICE_TABLES, SKUS
from pycdc.demo.workload import Workload

_CUSTOMERS: Final = ("Ada", "Björn", "Chloé", "Dmitri", "Elif", "Fatima", "Goran", "Hana", "Íris", "José")
_NOTES: Final = (None, None, "ring twice", "gift wrap")
_NEXT_STATUS: Final = {"new": "paid", "paid": "shipped"}
_FIRST_ORDERS: Final = 30
_MOST_ORDERS: Final = 400
"""Orders that are kept; more are shipped before new ones are taken."""
_MOST_EXTRA_ITEMS: Final = 40


class Monolith(Workload):
    """Takes orders, and sets prices now and then. Before the writes of stock moved, it counted stock as well."""

    def __init__(self, connection: psycopg.Connection, chance: random.Random) -> None:
        super().__init__(connection, chance)
        self._orders: list[tuple[int, str]] = []
        self._offer([(self._order, 30), (self._advance, 60), (self._cancel, 6), (self._price, 4)])

    def open(self) -> None:
        self._connection.execute(MONOLITH_TABLES)
        with self._transaction():
            rows = [(sku, self._chance.randint(50, 500)) for sku in SKUS]
            self._each("stock", "c", "INSERT INTO stock VALUES (%s, %s)", rows)
            priced = [(sku, any_price(self._chance)) for sku in SKUS]
            self._each("prices", "c", "INSERT INTO prices VALUES (%s, %s)", priced)
            for _ in range(_FIRST_ORDERS):
                self._order()
        self._count_as_existing()

    @contextmanager
    def repricing(self, sku: str, price: Decimal) -> Iterator[None]:
        """Change a price in a transaction of its own, which is committed when the block ends."""
        with self._transaction():
            self._set_price(sku, price)
            yield

    def _order(self) -> None:
        if len(self._orders) >= _MOST_ORDERS:
            self._advance()
            return
        row = (
            self._chance.choice(_CUSTOMERS),
            self._chance.choice(SKUS),
            self._chance.randint(1, 4),
            self._chance.choice(_NOTES),
        )
        statement = "INSERT INTO orders (customer, sku, quantity, note) VALUES (%s, %s, %s, %s) RETURNING id"
        self._orders.append((self._insert("orders", statement, row), "new"))

    def _advance(self) -> None:
        """Pay an order, then ship it, then put it away."""
        if not self._orders:
            self._order()
            return
        order, status = self._pick_order()
        if status not in _NEXT_STATUS:
            self._one("orders", "d", "DELETE FROM orders WHERE id = %s", (order,))
            return
        status = _NEXT_STATUS[status]
        statement = "UPDATE orders SET status = %s, changed_at = clock_timestamp() WHERE id = %s"
        self._one("orders", "u", statement, (status, order))
        self._orders.append((order, status))

    def _cancel(self) -> None:
        if self._orders:
            order, _ = self._pick_order()
            self._one("orders", "d", "DELETE FROM orders WHERE id = %s", (order,))

    def _price(self) -> None:
        self._set_price(self._chance.choice(SKUS), any_price(self._chance))

    def _set_price(self, sku: str, price: Decimal) -> None:
        statement = "UPDATE prices SET price = %s, changed_at = clock_timestamp() WHERE sku = %s"
        self._one("prices", "u", statement, (price, sku))

    def _pick_order(self) -> tuple[int, str]:
        return self._orders.pop(self._chance.randrange(len(self._orders)))


class Service(Workload):
    """Counts stock, takes items in and out of its range, and sets prices now and then."""

    def __init__(self, connection: psycopg.Connection, chance: random.Random) -> None:
        super().__init__(connection, chance)
        self._extra: list[str] = []
        self._taken_in = 0
        self._offer([(self._count, 78), (self._take_in, 10), (self._take_out, 8), (self._price, 4)])

    def open(self) -> None:
        self._connection.execute(SERVICE_TABLES)

    @contextmanager
    def repricing(self, sku: str, price: Decimal) -> Iterator[None]:
        """Change a price in a transaction of its own, which is committed when the block ends."""
        with self._transaction():
            self._set_price(sku, price)
            yield

    def _count(self) -> None:
        statement = "UPDATE items SET available = %s, changed_at = clock_timestamp() WHERE code = %s"
        self._one("items", "u", statement, (self._chance.randint(0, 500), self._chance.choice(SKUS)))

    def _take_in(self) -> None:
        if len(self._extra) >= _MOST_EXTRA_ITEMS:
            self._take_out()
            return
        self._taken_in += 1
        code = f"EXTRA-{self._taken_in}"
        self._one("items", "c", "INSERT INTO items VALUES (%s, %s)", (code, self._chance.randint(0, 500)))
        self._extra.append(code)

    def _take_out(self) -> None:
        if self._extra:
            code = self._extra.pop(self._chance.randrange(len(self._extra)))
            self._one("items", "d", "DELETE FROM items WHERE code = %s", (code,))

    def _price(self) -> None:
        self._set_price(self._chance.choice(SKUS), any_price(self._chance))

    def _set_price(self, sku: str, price: Decimal) -> None:
        statement = "UPDATE price_list SET amount = %s, changed_at = clock_timestamp() WHERE item = %s"
        self._one("price_list", "u", statement, (price, sku))


def any_price(chance: random.Random) -> Decimal:
    return Decimal(chance.randint(500, 49999)) / 100

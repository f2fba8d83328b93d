"""A sample shop: four tables, and the deals that change them. A changed primary key counts as a delete and a create."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

import psycopg

from pycdc.demo.workload import Workload

TABLES: Final = ("customers", "products", "orders", "order_lines")

_CREATE: Final = """
CREATE TABLE customers (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    email      text NOT NULL,
    city       text NOT NULL,
    newsletter boolean NOT NULL DEFAULT false
);
CREATE TABLE products (
    sku   text PRIMARY KEY,
    name  text NOT NULL,
    price numeric(8,2) NOT NULL,
    stock int NOT NULL
);
CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id int NOT NULL,
    status      text NOT NULL DEFAULT 'new',
    total       numeric(10,2) NOT NULL,
    currency    char(3) NOT NULL DEFAULT 'EUR',
    note        text,
    placed_at   timestamptz NOT NULL DEFAULT now(),
    shipped_at  timestamptz
);
CREATE TABLE order_lines (
    order_id bigint NOT NULL,
    line     int NOT NULL,
    sku      text NOT NULL,
    quantity int NOT NULL,
    price    numeric(8,2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
-- Old rows whole, so that an event tells what an update changed.
ALTER TABLE customers REPLICA IDENTITY FULL;
ALTER TABLE products REPLICA IDENTITY FULL;
ALTER TABLE orders REPLICA IDENTITY FULL;
"""

_CUSTOMERS: Final = 40
_FIRST_NAMES: Final = ("Ada", "Björn", "Chloé", "Dmitri", "Elif", "Fatima", "Goran", "Hana", "Íris", "José")
_LAST_NAMES: Final = ("Almeida", "Brown", "Çelik", "Dvořák", "Eriksson", "Fischer", "García", "Haddad", "Ito", "Jäger")
_CITIES: Final = ("Aarhus", "Berlin", "Córdoba", "Dublin", "Évora", "Florence", "Gdańsk", "Zürich")
_GOODS: Final = ("Desk", "Chair", "Lamp", "Shelf", "Rug", "Clock", "Mirror", "Vase", "Stool", "Kettle")
_FINISHES: Final = ("oak", "steel")
_NOTES: Final = (None, None, None, "ring twice", "gift wrap", "leave with the neighbour")
_NEXT_STATUS: Final = {"new": "paid", "paid": "packed", "packed": "shipped"}


class Shop(Workload):
    """The shop. For one thread; `written` and `transactions` are for all."""

    def __init__(self, connection: psycopg.Connection, chance: random.Random) -> None:
        super().__init__(connection, chance)
        self._skus: list[str] = []
        self._customers = 0
        self._orders: list[tuple[int, str]] = []
        self._offer(
            [
                (self._order, 25),
                (self._advance, 54),
                (self._cancel, 7),
                (self._sign_up, 4),
                (self._move, 5),
                (self._reprice, 3),
                (self._restock, 1),
                (self._relabel, 1),
            ]
        )

    def open(self) -> None:
        """Create the tables, and the rows that are there before capturing begins."""
        self._connection.execute(_CREATE)
        with self._transaction():
            for _ in range(_CUSTOMERS):
                self._sign_up()
            goods = [(f"{n[:3].upper()}-{f[0].upper()}-1", f"{n}, {f}") for n in _GOODS for f in _FINISHES]
            rows = [(sku, name, self._price(), self._chance.randint(50, 500)) for sku, name in goods]
            self._each("products", "c", "INSERT INTO products VALUES (%s, %s, %s, %s)", rows)
            self._skus = [sku for sku, _ in goods]
        self._count_as_existing()

    def _order(self) -> None:
        skus = self._chance.sample(self._skus, self._chance.randint(1, 4))
        lines = [(line, sku, self._chance.randint(1, 4), self._price()) for line, sku in enumerate(skus, 1)]
        total = sum(quantity * price for _, _, quantity, price in lines)
        order = self._insert(
            "orders",
            "INSERT INTO orders (customer_id, total, note) VALUES (%s, %s, %s) RETURNING id",
            (self._customer(), total, self._chance.choice(_NOTES)),
        )
        rows = [(order, *line) for line in lines]
        self._each("order_lines", "c", "INSERT INTO order_lines VALUES (%s, %s, %s, %s, %s)", rows)
        taken = [(quantity, sku) for _, sku, quantity, _ in lines]
        self._each("products", "u", "UPDATE products SET stock = stock - %s WHERE sku = %s", taken)
        self._orders.append((order, "new"))

    def _advance(self) -> None:
        """Pay, pack or ship an order."""
        if not self._orders:
            self._order()
            return
        order, status = self._pick_order()
        status = _NEXT_STATUS[status]
        shipped = status == "shipped"
        self._one(
            "orders",
            "u",
            "UPDATE orders SET status = %s, shipped_at = CASE WHEN %s THEN now() END WHERE id = %s",
            (status, shipped, order),
        )
        if not shipped:
            self._orders.append((order, status))

    def _cancel(self) -> None:
        if not self._orders:
            self._order()
            return
        order, _ = self._pick_order()
        self._one("order_lines", "d", "DELETE FROM order_lines WHERE order_id = %s", (order,))
        self._one("orders", "d", "DELETE FROM orders WHERE id = %s", (order,))

    def _sign_up(self) -> None:
        first, last = self._chance.choice(_FIRST_NAMES), self._chance.choice(_LAST_NAMES)
        self._customers = self._insert(
            "customers",
            "INSERT INTO customers (name, email, city) VALUES (%s, %s, %s) RETURNING id",
            (f"{first} {last}", f"{first.lower()}@example.com", self._chance.choice(_CITIES)),
        )

    def _move(self) -> None:
        where = (self._chance.choice(_CITIES), self._customer())
        self._one("customers", "u", "UPDATE customers SET city = %s, newsletter = NOT newsletter WHERE id = %s", where)

    def _reprice(self) -> None:
        row = (self._price(), self._chance.choice(self._skus))
        self._one("products", "u", "UPDATE products SET price = %s WHERE sku = %s", row)

    def _restock(self) -> None:
        self._one("products", "u", "UPDATE products SET stock = stock + 250 WHERE stock < %s", (100,))

    def _relabel(self) -> None:
        """Give a product a new primary key: a delete and a create."""
        place = self._chance.randrange(len(self._skus))
        old = self._skus[place]
        stem, _, edition = old.rpartition("-")
        new = f"{stem}-{int(edition) + 1}"
        self._one("products", "d", "UPDATE products SET sku = %s WHERE sku = %s", (new, old))
        self._pending["products", "c"] += self._pending["products", "d"]
        self._skus[place] = new

    def _pick_order(self) -> tuple[int, str]:
        return self._orders.pop(self._chance.randrange(len(self._orders)))

    def _customer(self) -> int:
        return self._chance.randint(1, self._customers)

    def _price(self) -> Decimal:
        return Decimal(self._chance.randint(500, 49999)) / 100

"""What the tables of the shop and of the service say, and nothing else: no code of what moved them or followed them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import psycopg

_ORDERS = "SELECT o.id, o.sku, o.pieces, o.state, p.state FROM orders o LEFT JOIN payments p ON p.order_id = o.id"
_RESERVATIONS = "SELECT order_id, item_id, pieces, released FROM reservations"
_MOVES = "SELECT order_id, item_id, delta FROM stock_adjusted WHERE order_id IS NOT NULL ORDER BY id"
_LEVELS = """SELECT item_id FROM stock_levels l
WHERE available - 1000 <> (SELECT coalesce(sum(delta), 0) FROM stock_adjusted a WHERE a.item_id = l.item_id)"""

_BOTH = (
    ("SELECT sku, on_hand, version FROM stock ORDER BY 1", "SELECT * FROM stock_levels ORDER BY 1"),
    ("SELECT id, sku, quantity, order_id FROM stock_moves ORDER BY 1", "SELECT * FROM stock_adjusted ORDER BY 1"),
    ("SELECT * FROM stock_reservations ORDER BY 1", "SELECT * FROM reservations ORDER BY 1"),
)


class OrderVerdict(NamedTuple):
    """Numbers of orders. `wrong`: what was done for them is not what their state says, or they are lost."""

    confirmed: int
    compensated: int
    open: int
    wrong: list[str]

    @property
    def success(self) -> float:
        """The share of the confirmed ones; compensated ones are counted apart."""
        return self.confirmed / max(1, self.confirmed + self.open + len(self.wrong))


def judged(shop: str, service: str, placed: Collection[str]) -> OrderVerdict:
    """Compare each order with its payment, its reservation and the stock that moved; `placed` have to be there."""
    orders, reservations, moved = _rows(shop, _ORDERS), _rows(service, _RESERVATIONS), _rows(service, _MOVES)
    reserved = {order: tuple(rest) for order, *rest in reservations}
    moves: dict[str, list[tuple[str, int]]] = {}
    for order, item, delta in moved:
        moves.setdefault(order, []).append((item, delta))
    known = {order for order, *_ in orders}
    wrong = sorted({*placed, *reserved, *moves} - known)
    states = {"confirmed": 0, "cancelled": 0}
    ended = 0
    for order, item, pieces, state, payment in orders:
        if state not in states:
            continue
        ended += 1
        facts = payment, reserved.get(order), moves.get(order, [])
        if facts in _right(state, item, pieces):
            states[state] += 1
        else:
            wrong.append(order)
    return OrderVerdict(states["confirmed"], states["cancelled"], len(orders) - ended, wrong)


def _right(state: str, item: str, pieces: int) -> list[Any]:
    """Return what may be there of an order: its payment, its reservation, the stock that moved."""
    if state == "confirmed":
        return [("taken", (item, pieces, False), [(item, -pieces)])]
    undone = (item, pieces, True), [(item, -pieces), (item, pieces)]
    return [("refused", *undone), ("refunded", *undone), (None, None, [])]


def unbalanced(service: str) -> list[str]:
    """Return the items whose level is not what was ever added and taken."""
    return [item for (item,) in _rows(service, _LEVELS)]


def same_rows(shop: str, service: str) -> bool:
    """Return whether the tables of the inventory are the same in both databases at this moment, row by row.

    While users write, the other side is behind for some milliseconds after each of them: ask again.
    """
    return all(_rows(shop, one) == _rows(service, other) for one, other in _BOTH)


def _rows(dsn: str, query: str) -> list[Any]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()

"""The inventory, as long as it is in the shop: the stock, and what orders have reserved of it."""

from __future__ import annotations

from typing import Any

from .sessions import Sessions, emit

_STOCK = "SELECT sku, on_hand, version FROM stock WHERE sku = %s"
_ADJUST = (
    "UPDATE stock SET on_hand = on_hand + %s, version = version + 1 WHERE sku = %s RETURNING sku, on_hand, version"
)
_MOVE = "INSERT INTO stock_moves (sku, quantity, order_id) VALUES (%s, %s, %s)"
_RESERVE = """INSERT INTO stock_reservations (order_id, sku, pieces) VALUES (%s, %s, %s)
ON CONFLICT (order_id) DO NOTHING RETURNING order_id"""
_TAKE = "UPDATE stock SET on_hand = on_hand - %s, version = version + 1 WHERE sku = %s AND on_hand >= %s RETURNING sku"
_RELEASE = """UPDATE stock_reservations SET released = true WHERE order_id = %s AND NOT released
RETURNING sku, pieces"""
_RESERVED = "SELECT order_id FROM stock_reservations WHERE order_id = %s"


class NoStockError(Exception):
    """Less is there than was asked for."""


class Inventory:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def stock(self, item: str) -> Any:
        """Return item, pieces and version; None where there is no such item."""
        return self._sessions.mine.execute(_STOCK, (item,)).fetchone()

    def adjust(self, item: str, delta: int) -> Any:
        """Return what `stock` does."""
        session = self._sessions.mine
        with session.transaction():
            row = session.execute(_ADJUST, (delta, item)).fetchone()
            if row is not None:
                session.execute(_MOVE, (item, delta, None))
            return row

    def reserve(self, order: str, item: str, pieces: int, cause: str) -> None:
        """Take pieces for an order, once. Raises NoStockError."""
        session = self._sessions.mine
        with session.transaction():
            if session.execute(_RESERVE, (order, item, pieces)).fetchone() is None:
                return
            if session.execute(_TAKE, (pieces, item, pieces)).fetchone() is None:
                raise NoStockError
            session.execute(_MOVE, (item, -pieces, order))
            reserved = {"reservationId": order, "itemId": item, "pieces": pieces, "expiresAt": None}
            emit(session, "inventory", "ItemReserved", order, cause, reserved)

    def release(self, order: str, reason: str, cause: str) -> bool:
        """Give back what an order has, once; False where nothing was ever reserved for it."""
        session = self._sessions.mine
        with session.transaction():
            row = session.execute(_RELEASE, (order,)).fetchone()
            if row is None:
                return session.execute(_RESERVED, (order,)).fetchone() is not None
            session.execute(_ADJUST, (row[1], row[0]))
            session.execute(_MOVE, (row[0], row[1], order))
            emit(session, "inventory", "ReservationReleased", order, cause, {"reservationId": order, "reason": reason})
        return True

"""How much of each item is available: read, adjusted once for each request that is answered, reserved once an order.

What becomes of reservations is written as events: logical messages of the transaction that did it.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg

MOVED = "PC001"
"""The SQLSTATE of a write that the other system owns now."""
OUTBOX = "outbox"
"""The prefix of logical messages that are events."""

_READ = "SELECT item_id, available, version FROM stock_levels WHERE item_id = %s"
_ADJUST = """UPDATE stock_levels SET available = available + %s, version = version + 1
WHERE item_id = %s AND available + %s >= 0 RETURNING item_id, available, version"""
_RECORD = "INSERT INTO stock_adjusted (item_id, delta, order_id) VALUES (%s, %s, %s)"
_RESERVE = "INSERT INTO reservations (order_id, item_id, pieces) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1"
_RESERVED = "SELECT 1 FROM reservations WHERE order_id = %s"
_RELEASE = "UPDATE reservations SET released = true WHERE order_id = %s AND NOT released RETURNING item_id, pieces"
_EMIT = "SELECT pg_logical_emit_message(true, %s, %s)"


class StockLevel(NamedTuple):
    item_id: str
    available: int
    version: int


class UnknownItemError(Exception):
    """There is no such item, or no such reservation."""


class NotAvailableError(Exception):
    """Less is available than is to be taken."""


class ElsewhereError(Exception):
    """Another system owns the stock at present."""


class Stock:
    """A session for each thread. Raises psycopg.OperationalError where the database is gone: who asks may ask again."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._local = threading.local()

    def level(self, item: str) -> StockLevel:
        """Raises UnknownItemError."""
        row = self._connection.execute(_READ, (item,)).fetchone()
        if row is None:
            raise UnknownItemError(item)
        return StockLevel(*row)

    def adjust(self, item: str, delta: int) -> StockLevel:
        """Raises UnknownItemError, NotAvailableError, ElsewhereError."""
        with self._owned():
            return self._changed(item, delta, None)

    def reserve(self, order: str, item: str, pieces: int, cause: str) -> None:
        """Take pieces for an order, once. Raises UnknownItemError, NotAvailableError, ElsewhereError."""
        with self._owned():
            if self._connection.execute(_RESERVE, (order, item, pieces)).fetchone() is None:
                return
            self._changed(item, -pieces, order)
            reserved = {"reservationId": order, "orderId": order, "itemId": item, "pieces": pieces, "expiresAt": None}
            self._emit("ItemReserved", order, cause, reserved)

    def release(self, order: str, reason: str, cause: str) -> None:
        """Give back what was taken for an order, once. Raises UnknownItemError, ElsewhereError."""
        with self._owned():
            row = self._connection.execute(_RELEASE, (order,)).fetchone()
            if row is None:
                if self._connection.execute(_RESERVED, (order,)).fetchone() is None:
                    raise UnknownItemError(order)
                return
            item, pieces = row
            self._changed(item, pieces, order)
            self._emit(
                "ReservationReleased", order, cause, {"reservationId": order, "orderId": order, "reason": reason}
            )

    def _changed(self, item: str, delta: int, order: str | None) -> StockLevel:
        row = self._connection.execute(_ADJUST, (delta, item, delta)).fetchone()
        if row is None:
            raise NotAvailableError(self.level(item).item_id)
        self._connection.execute(_RECORD, (item, delta, order))
        return StockLevel(*row)

    def _emit(self, kind: str, order: str, cause: str, payload: dict[str, Any]) -> None:
        event = {"id": str(uuid.uuid4()), "aggregatetype": "inventory", "aggregateid": order, "type": kind}
        text = json.dumps({**event, "correlation_id": order, "causation_id": cause, "payload": payload})
        self._connection.execute(_EMIT, (OUTBOX, text))

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """A transaction. Raises ElsewhereError where another system owns what it writes."""
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            if error.sqlstate != MOVED:
                raise
            raise ElsewhereError from None

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        found: psycopg.Connection[Any] | None = getattr(self._local, "connection", None)
        if found is None or found.closed:
            found = self._local.connection = psycopg.connect(self._dsn, autocommit=True)
        return found

"""How much of each item is available: read, and adjusted once for each request that is answered."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import psycopg

MOVED = "PC001"
"""The SQLSTATE of a write that the other system owns now."""

_READ = "SELECT item_id, available, version FROM stock_levels WHERE item_id = %s"
_ADJUST = """UPDATE stock_levels SET available = available + %s, version = version + 1
WHERE item_id = %s AND available + %s >= 0 RETURNING item_id, available, version"""
_RECORD = "INSERT INTO stock_adjusted (item_id, delta) VALUES (%s, %s)"


class StockLevel(NamedTuple):
    item_id: str
    available: int
    version: int


class UnknownItemError(Exception):
    """There is no such item."""


class NotAvailableError(Exception):
    """Less is available than is to be taken."""


class ElsewhereError(Exception):
    """Another system owns the stock at present."""


class Stock:
    """A session for each thread."""

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
        try:
            with self._connection.transaction():
                row = self._connection.execute(_ADJUST, (delta, item, delta)).fetchone()
                if row is None:
                    raise NotAvailableError(self.level(item).item_id)
                self._connection.execute(_RECORD, (item, delta))
                return StockLevel(*row)
        except psycopg.Error as error:
            if error.sqlstate != MOVED:
                raise
            raise ElsewhereError from None

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._dsn, autocommit=True)
        found: psycopg.Connection[Any] = self._local.connection
        return found

"""Orders at `/api/orders`, and the inventory's two requests as long as its tables are here."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

Answer = tuple[int, dict[str, Any]]

_ORDER = "INSERT INTO orders (sku, pieces) VALUES (%s, %s) RETURNING id, sku, pieces"
_ORDERED = "SELECT id, sku, pieces FROM orders WHERE id = %s"
_STOCK = "SELECT sku, on_hand, version FROM stock WHERE sku = %s"
_ADJUST = (
    "UPDATE stock SET on_hand = on_hand + %s, version = version + 1 WHERE sku = %s RETURNING sku, on_hand, version"
)
_MOVE = "INSERT INTO stock_moves (sku, quantity) VALUES (%s, %s)"


class Shop:
    """A session for each thread."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._local = threading.local()

    def order(self, item: str, pieces: int) -> Answer:
        return _order(self._connection.execute(_ORDER, (item, pieces)).fetchone())

    def ordered(self, number: int) -> Answer:
        return _order(self._connection.execute(_ORDERED, (number,)).fetchone())

    def stock(self, item: str) -> Answer:
        return _stock(self._connection.execute(_STOCK, (item,)).fetchone())

    def adjust(self, item: str, delta: int) -> Answer:
        try:
            with self._connection.transaction():
                row = self._connection.execute(_ADJUST, (delta, item)).fetchone()
                if row is not None:
                    self._connection.execute(_MOVE, (item, delta))
                return _stock(row)
        except psycopg.Error as error:
            if error.sqlstate != "PC001":
                raise
            return 503, {"error": "the inventory moves: try again"}

    @property
    def _connection(self) -> psycopg.Connection[Any]:
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._dsn, autocommit=True)
        found: psycopg.Connection[Any] = self._local.connection
        return found


def _order(row: Any) -> Answer:
    if row is None:
        return 404, {"error": "there is no such order"}
    return 200, {"id": row[0], "itemId": row[1], "pieces": row[2]}


def _stock(row: Any) -> Answer:
    if row is None:
        return 404, {"error": "there is no such item"}
    return 200, {"itemId": row[0], "available": row[1], "version": row[2]}


class ShopServer(ThreadingHTTPServer):
    def __init__(self, dsn: str, port: int) -> None:
        self.shop = Shop(dsn)
        super().__init__(("127.0.0.1", port), _ShopHandler)


class _ShopHandler(BaseHTTPRequestHandler):
    server: ShopServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        kind, _, name = self.path.removeprefix("/api/").partition("/")
        self._send(*(self.server.shop.ordered(int(name)) if kind == "orders" else self.server.shop.stock(name)))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/api/orders":
            self._send(*self.server.shop.order(asked["itemId"], asked["pieces"]))
        else:
            self._send(*self.server.shop.adjust(asked["itemId"], asked["delta"]))

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass

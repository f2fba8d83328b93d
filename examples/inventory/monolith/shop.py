"""Orders at `/api/orders`, and the inventory's requests as long as its tables are here. 503 says: nothing was done."""

from __future__ import annotations

import json
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

from .inventory import Inventory, NoStockError
from .orders import Orders
from .sessions import Sessions

Answer = tuple[int, dict[str, Any]]


class Shop:
    """What the requests do. Raises psycopg.Error."""

    def __init__(self, dsn: str) -> None:
        sessions = Sessions(dsn)
        self._orders = Orders(sessions)
        self._inventory = Inventory(sessions)

    def get(self, path: str) -> Answer:
        """Answer a GET."""
        kind, _, name = path.removeprefix("/api/").partition("/")
        return _order(self._orders.placed(name)) if kind == "orders" else _stock(self._inventory.stock(name))

    def post(self, path: str, asked: dict[str, Any]) -> Answer:
        """Answer a POST."""
        kind, *rest = path.removeprefix("/api/").split("/")
        if kind != "orders":
            return self._inventory_post(rest[0], asked)
        if rest:
            return (200 if self._orders.withdraw(rest[0], "withdrawn by the customer") else 409), {"id": rest[0]}
        order = asked.get("orderId") or str(uuid.uuid4())
        self._orders.place(order, asked["itemId"], asked["pieces"], asked.get("card", ""))
        return _order(self._orders.placed(order))

    def _inventory_post(self, action: str, asked: dict[str, Any]) -> Answer:
        if action == "adjust":
            return _stock(self._inventory.adjust(asked["itemId"], asked["delta"]))
        order, cause = asked["orderId"], asked["cause"]
        if action == "release":
            found = self._inventory.release(order, asked["reason"], cause)
            return (200 if found else 404), {"reservationId": order}
        self._inventory.reserve(order, asked["itemId"], asked["pieces"], cause)
        return 200, {"reservationId": order}


def _order(row: Any) -> Answer:
    if row is None:
        return 404, {"error": "there is no such order"}
    return 200, {"id": row[0], "itemId": row[1], "pieces": row[2], "state": row[3]}


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
        self._answer(lambda: self.server.shop.get(self.path))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        self._answer(lambda: self.server.shop.post(self.path, asked))

    def _answer(self, question: Any) -> None:
        try:
            status, answer = question()
        except NoStockError:
            status, answer = 409, {"error": "less is there than that"}
        except psycopg.Error as error:
            if error.sqlstate == "PC001":
                status, answer = 503, {"error": "the inventory moves: try again"}
            elif isinstance(error, psycopg.OperationalError):
                status, answer = 500, {"error": "the database is gone: whether it was done is not known"}
            else:
                raise
        self._send(status, answer)

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

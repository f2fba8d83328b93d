"""The stock over HTTP, as JSON: an item at `GET /api/inventory/{itemId}`, and what changes it.

`POST /api/inventory/adjust`, `reserve` and `release`. 503 with Retry-After says that nothing was done.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

from .stock import ElsewhereError, NotAvailableError, Stock, StockLevel, UnknownItemError

_PREFIX = "/api/inventory/"


class InventoryServer(ThreadingHTTPServer):
    """Serves on loopback; port 0 chooses a free one."""

    def __init__(self, dsn: str, port: int) -> None:
        self.stock = Stock(dsn)
        super().__init__(("127.0.0.1", port), _InventoryHandler)


class _InventoryHandler(BaseHTTPRequestHandler):
    server: InventoryServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if not self.path.startswith(_PREFIX):
            self._send(404, {"error": "there is nothing here"})
            return
        self._answer(lambda: _level(self.server.stock.level(self.path.removeprefix(_PREFIX))))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        actions = {"adjust": self._adjust, "reserve": self._reserve, "release": self._release}
        action = actions.get(self.path.removeprefix(_PREFIX))
        if action is None:
            self._send(404, {"error": "there is nothing here"})
            return
        try:
            question = action(json.loads(body))
        except (ValueError, KeyError, TypeError):
            self._send(400, {"error": "a field is missing, or is no number"})
            return
        self._answer(question)

    def _adjust(self, asked: Any) -> Callable[[], dict[str, Any]]:
        item, delta = str(asked["itemId"]), int(asked["delta"])
        return lambda: _level(self.server.stock.adjust(item, delta))

    def _reserve(self, asked: Any) -> Callable[[], dict[str, Any]]:
        order, item, pieces = str(asked["orderId"]), str(asked["itemId"]), int(asked["pieces"])
        cause = str(asked["cause"])

        def reserved() -> dict[str, Any]:
            self.server.stock.reserve(order, item, pieces, cause)
            return {"reservationId": order}

        return reserved

    def _release(self, asked: Any) -> Callable[[], dict[str, Any]]:
        order, reason, cause = str(asked["orderId"]), str(asked["reason"]), str(asked["cause"])

        def released() -> dict[str, Any]:
            self.server.stock.release(order, reason, cause)
            return {"reservationId": order}

        return released

    def _answer(self, question: Callable[[], dict[str, Any]]) -> None:
        try:
            found = question()
        except UnknownItemError:
            self._send(404, {"error": "there is no such item"})
        except NotAvailableError:
            self._send(409, {"error": "less is available than that"})
        except ElsewhereError:
            self._send(503, {"error": "the inventory moves: try again"})
        except psycopg.OperationalError:
            self._send(500, {"error": "the database is gone: whether it was done is not known"})
        else:
            self._send(200, found)

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


def _level(found: StockLevel) -> dict[str, Any]:
    return {"itemId": found.item_id, "available": found.available, "version": found.version}

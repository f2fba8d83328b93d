"""`GET /api/inventory/{itemId}` and `POST /api/inventory/adjust`, as JSON."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
        self._answer(lambda: self.server.stock.level(self.path.removeprefix(_PREFIX)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            asked = json.loads(body)
            item, delta = str(asked["itemId"]), int(asked["delta"])
        except (ValueError, KeyError, TypeError):
            self._send(400, {"error": "itemId and delta are needed"})
            return
        self._answer(lambda: self.server.stock.adjust(item, delta))

    def _answer(self, question: Any) -> None:
        try:
            found: StockLevel = question()
        except UnknownItemError:
            self._send(404, {"error": "there is no such item"})
        except NotAvailableError:
            self._send(409, {"error": "less is available than that"})
        except ElsewhereError:
            self._send(503, {"error": "the inventory moves: try again"})
        else:
            self._send(200, {"itemId": found.item_id, "available": found.available, "version": found.version})

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

"""`GET /api/inventory/{itemId}` and `POST /api/inventory/adjust`, of the monolith or of the service.

    python api.py monolith|service DSN PORT

Both answer the same JSON, from tables of their own.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import psycopg


class Model(NamedTuple):
    """The statements of a system: one row of id, available and version each, and the record of an adjustment."""

    read: str
    adjust: str
    record: str


MODELS = {
    "monolith": Model(
        "SELECT sku, on_hand, version FROM stock WHERE sku = %s",
        "UPDATE stock SET on_hand = on_hand + %s, version = version + 1 WHERE sku = %s RETURNING sku, on_hand, version",
        "INSERT INTO stock_moves (sku, quantity) VALUES (%s, %s)",
    ),
    "service": Model(
        "SELECT item_id, available, version FROM stock_levels WHERE item_id = %s",
        "UPDATE stock_levels SET available = available + %s, version = version + 1 WHERE item_id = %s "
        "RETURNING item_id, available, version",
        "INSERT INTO stock_adjusted (item_id, delta) VALUES (%s, %s)",
    ),
}


class Inventory:
    """A system's inventory; a session for each thread."""

    def __init__(self, model: Model, dsn: str) -> None:
        self._model = model
        self._dsn = dsn
        self._local = threading.local()

    def read(self, item: str) -> tuple[int, dict[str, Any]]:
        with self._connection.transaction():
            return _answer(self._connection.execute(self._model.read.encode(), (item,)).fetchone())

    def adjust(self, item: str, delta: int) -> tuple[int, dict[str, Any]]:
        try:
            with self._connection.transaction():
                row = self._connection.execute(self._model.adjust.encode(), (delta, item)).fetchone()
                if row is not None:
                    self._connection.execute(self._model.record.encode(), (item, delta))
                return _answer(row)
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


def _answer(row: tuple[str, int, int] | None) -> tuple[int, dict[str, Any]]:
    if row is None:
        return 404, {"error": "there is no such item"}
    return 200, {"itemId": row[0], "available": row[1], "version": row[2]}


def serve(inventory: Inventory, port: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(*inventory.read(self.path.rpartition("/")[2]))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(*inventory.adjust(asked["itemId"], asked["delta"]))

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

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(Inventory(MODELS[sys.argv[1]], sys.argv[2]), int(sys.argv[3]))

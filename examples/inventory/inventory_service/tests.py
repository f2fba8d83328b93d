"""The service's own tests, over HTTP: INVENTORY_TEST_DSN=… python -m unittest inventory_service.tests."""

from __future__ import annotations

import http.client
import json
import os
import threading
import unittest
from pathlib import Path
from typing import Any

import psycopg

from .server import InventoryServer

DSN = os.environ.get("INVENTORY_TEST_DSN", "")


class InventoryServiceTests(unittest.TestCase):
    def setUp(self) -> None:
        with psycopg.connect(DSN, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS stock_levels, stock_adjusted, reservations")
            connection.execute((Path(__file__).parent / "schema.sql").read_bytes())
            connection.execute("INSERT INTO stock_levels VALUES ('lamp', 3, 0)")
        self.server = InventoryServer(DSN, 0)
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        client = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        try:
            client.request(method, path, None if body is None else json.dumps(body))
            answer = client.getresponse()
            self.headers = answer.headers
            return answer.status, json.loads(answer.read())
        finally:
            client.close()

    def adjust(self, item: str, delta: int) -> tuple[int, Any]:
        return self.ask("POST", "/api/inventory/adjust", {"itemId": item, "delta": delta})

    def reserve(self, order: str, item: str, pieces: int) -> tuple[int, Any]:
        body = {"orderId": order, "itemId": item, "pieces": pieces, "cause": "placed"}
        return self.ask("POST", "/api/inventory/reserve", body)

    def release(self, order: str) -> int:
        return self.ask("POST", "/api/inventory/release", {"orderId": order, "reason": "refused", "cause": "refused"})[
            0
        ]

    def rows(self, query: str) -> list[Any]:
        with psycopg.connect(DSN, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def test_an_item_is_told(self) -> None:
        answer = {"itemId": "lamp", "available": 3, "version": 0}
        assert self.ask("GET", "/api/inventory/lamp") == (200, answer)

    def test_an_item_that_is_not_there_is_not_found(self) -> None:
        assert self.ask("GET", "/api/inventory/chair")[0] == 404
        assert self.adjust("chair", 1)[0] == 404
        assert self.ask("GET", "/elsewhere")[0] == 404

    def test_an_adjustment_is_recorded_with_the_level_it_made(self) -> None:
        assert self.adjust("lamp", -2) == (200, {"itemId": "lamp", "available": 1, "version": 1})
        assert self.rows("SELECT item_id, delta FROM stock_adjusted") == [("lamp", -2)]

    def test_more_than_is_available_cannot_be_taken(self) -> None:
        assert self.adjust("lamp", -4)[0] == 409
        assert self.rows("SELECT available, (SELECT count(*) FROM stock_adjusted) FROM stock_levels") == [(3, 0)]

    def test_a_request_without_item_or_number_is_refused(self) -> None:
        bodies: list[Any] = [{"itemId": "lamp"}, {"itemId": "lamp", "delta": "many"}, []]
        for body in bodies:
            assert self.ask("POST", "/api/inventory/adjust", body)[0] == 400

        assert self.ask("POST", "/api/inventory/steal", {})[0] == 404

    def test_what_is_reserved_is_taken_once(self) -> None:
        for _ in range(2):
            assert self.reserve("order-1", "lamp", 2) == (200, {"reservationId": "order-1"})
        assert self.rows("SELECT available, version FROM stock_levels") == [(1, 1)]
        assert self.rows("SELECT item_id, delta, order_id FROM stock_adjusted") == [("lamp", -2, "order-1")]

    def test_what_is_released_is_back_once(self) -> None:
        self.reserve("order-1", "lamp", 2)
        for _ in range(2):
            assert self.release("order-1") == 200
        assert self.reserve("order-1", "lamp", 2)[0] == 200
        assert self.rows("SELECT available, version FROM stock_levels") == [(3, 2)]
        assert self.rows("SELECT delta, order_id FROM stock_adjusted ORDER BY id") == [(-2, "order-1"), (2, "order-1")]
        assert self.rows("SELECT pieces, released FROM reservations") == [(2, True)]

    def test_a_reservation_is_refused_where_too_little_is_available_and_leaves_nothing(self) -> None:
        assert self.reserve("order-1", "lamp", 4)[0] == 409
        assert self.reserve("order-1", "chair", 1)[0] == 404
        assert self.release("order-1") == 404
        assert self.rows("SELECT 1 FROM reservations") == []

    def test_a_write_that_another_system_owns_is_to_be_tried_again(self) -> None:
        with psycopg.connect(DSN, autocommit=True) as connection:
            connection.execute(
                "CREATE OR REPLACE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$"
                "BEGIN RAISE EXCEPTION USING ERRCODE = 'PC001'; END $$"
            )
            connection.execute("CREATE TRIGGER moved BEFORE UPDATE ON stock_levels EXECUTE FUNCTION moved()")
        assert self.adjust("lamp", 1)[0] == 503
        assert self.headers["Retry-After"] == "1"

    def test_clients_at_the_same_time_lose_nothing(self) -> None:
        threads = [threading.Thread(target=self.adjust, args=("lamp", 1)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.ask("GET", "/api/inventory/lamp")[1]["available"] == 11


if __name__ == "__main__":
    unittest.main()

"""The monolith's own tests, as its users see it: SHOP_TEST_PORT=… python -m unittest monolith.tests.

The port is the façade's. They are the same before and after the inventory has moved.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import unittest
from typing import Any

PORT = int(os.environ.get("SHOP_TEST_PORT", "0"))


class ShopTests(unittest.TestCase):
    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        try:
            client.request(method, path, None if body is None else json.dumps(body))
            answer = client.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            client.close()

    def test_an_order_is_placed_and_found(self) -> None:
        status, placed = self.ask("POST", "/api/orders", {"itemId": "item-1", "pieces": 2})
        assert status == 200
        status, found = self.ask("GET", f"/api/orders/{placed['id']}")
        assert (status, found["itemId"], found["pieces"]) == (200, "item-1", 2)

    def test_an_order_that_is_paid_is_confirmed_and_the_same_one_is_placed_once(self) -> None:
        number = f"test-{time.time_ns()}"
        order = {"orderId": number, "itemId": "item-3", "pieces": 1}
        answers = [self.ask("POST", "/api/orders", order) for _ in range(2)]
        assert {(status, placed["id"]) for status, placed in answers} == {(200, number)}
        assert self.ended(number) == "confirmed"
        assert self.ask("POST", f"/api/orders/{number}/withdraw", {})[0] == 409

    def test_an_order_whose_card_is_declined_is_cancelled(self) -> None:
        _, placed = self.ask("POST", "/api/orders", {"itemId": "item-3", "pieces": 1, "card": "declined"})
        assert self.ended(placed["id"]) == "cancelled"

    def ended(self, order: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state: str = self.ask("GET", f"/api/orders/{order}")[1]["state"]
            if state not in ("placed", "cancelling"):
                return state
            time.sleep(0.05)
        raise AssertionError("the order does not end")

    def test_an_order_that_is_not_there_is_not_found(self) -> None:
        assert self.ask("GET", "/api/orders/0")[0] == 404

    def test_the_stock_of_an_item_is_told(self) -> None:
        status, found = self.ask("GET", "/api/inventory/item-1")
        assert (status, found["itemId"]) == (200, "item-1")
        assert self.ask("GET", "/api/inventory/nothing")[0] == 404

    def test_stock_is_adjusted(self) -> None:
        _, before = self.ask("GET", "/api/inventory/item-2")
        status, _ = self.ask("POST", "/api/inventory/adjust", {"itemId": "item-2", "delta": 0})
        assert status == 200
        assert before["version"] >= 0


if __name__ == "__main__":
    unittest.main()

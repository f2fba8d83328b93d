"""Customers who order at a fixed rate: some with a card that pays nothing, some who withdraw what they ordered."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections import Counter
from typing import Any

from examples.inventory.browser import Browser
from examples.inventory.crowd import Crowd

_RETRY = 0.05


class Buyers(Crowd):
    """A context manager. An order has a number that its buyer gave it, so it may be sent until it is answered."""

    def __init__(self, port: int, rate: float, buyers: int = 2) -> None:
        super().__init__(self._run, buyers)
        self.placed: set[str] = set()
        """The numbers of the orders that were accepted."""
        self.outcomes: Counter[str] = Counter()
        """`declined`: cards that pay nothing; `withdrawn` orders; requests sent `again`; orders `given up`."""
        self._port = port
        self._rate = rate

    def _run(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311  (load, no secret)
        browser = Browser(self._port)
        due = time.monotonic() + chance.random() / self._rate
        orders = 0
        while not self.ended.wait(max(0.0, due - time.monotonic())):
            orders += 1
            self._order(browser, f"order-{number}-{orders}", chance)
            due += 1 / self._rate

    def _order(self, browser: Browser, order: str, chance: random.Random) -> None:
        declined, withdrawn = chance.random() < 0.1, chance.random() < 0.1
        item, pieces = f"item-{chance.randint(1, 200)}", chance.randint(1, 3)
        body = {"orderId": order, "itemId": item, "pieces": pieces, "card": "declined" if declined else "good"}
        if not self._answered(browser, "/api/orders", body):
            self.outcomes["given up"] += 1
            return
        self.placed.add(order)
        self.outcomes["declined"] += declined
        if withdrawn and self._answered(browser, f"/api/orders/{order}/withdraw", {}):
            self.outcomes["withdrawn"] += 1

    def _answered(self, browser: Browser, path: str, body: dict[str, Any], seconds: float = 60.0) -> bool:
        """Send a request until it is answered."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                status, _ = browser.ask("POST", path, json.dumps(body))
            except (OSError, http.client.HTTPException):
                status = 0
            if 200 <= status < 500 and status:
                return True
            self.outcomes["again"] += 1
            time.sleep(_RETRY)
        return False

"""Users of the shop: they read and adjust at a fixed rate, whatever the answers take, and keep their cookies."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections import Counter
from itertools import pairwise
from typing import Any

from examples.inventory.browser import Browser
from examples.inventory.crowd import Crowd

_RETRY = 0.05
_PATIENCE = 60.0
_GONE = (0, 500, 503)
"""Nobody answered, or a system whose database is away; 0 stands for a broken connection."""


class Clients(Crowd):
    """A context manager. Each client is due at fixed times; what it waits for an answer counts from then."""

    def __init__(self, port: int, rate: float, clients: int = 6, *, again: bool = False) -> None:
        """`again`: reads that fail are asked again, as browsers' users do."""
        super().__init__(self._run, clients)
        self._again = again
        self.reads: list[float] = []
        """Seconds."""
        self.writes: list[float] = []
        self.outcomes: Counter[str] = Counter()
        """`ok`, `failed` and `stale` reads, those asked `again`; `written`, `held` and `unanswered` writes.

        Whether a write that was not answered was done, its client does not know. It is not sent again.
        """
        self.written_at: list[float] = []
        self._port = port
        self._rate = rate

    def _run(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311  (load, no secret)
        client = Browser(self._port)
        due = time.monotonic() + chance.random() / self._rate
        while not self.ended.wait(max(0.0, due - time.monotonic())):
            item = f"item-{chance.randint(1, 200)}"
            if chance.random() < 0.3:
                self._write(client, item, due)
            else:
                self._read(client, item, 0, due)
            due += 1 / self._rate

    def _read(self, client: Browser, item: str, at_least: int, due: float) -> None:
        status, answer = _asked(client, "GET", f"/api/inventory/{item}")
        while self._again and status in _GONE and time.monotonic() < due + _PATIENCE:
            self.outcomes["again"] += 1
            time.sleep(_RETRY)
            status, answer = _asked(client, "GET", f"/api/inventory/{item}")
        if status != 200:
            self.outcomes["failed"] += 1
            return
        self.reads.append(time.monotonic() - due)
        self.outcomes["stale" if answer["version"] < at_least else "ok"] += 1

    def _write(self, client: Browser, item: str, due: float) -> None:
        status, answer = _asked(client, "POST", "/api/inventory/adjust", {"itemId": item, "delta": 1})
        while _held(client, status) and not self.ended.is_set():
            self.outcomes["held"] += 1
            time.sleep(_RETRY)
            status, answer = _asked(client, "POST", "/api/inventory/adjust", {"itemId": item, "delta": 1})
        if status != 200:
            self.outcomes["unanswered"] += not _held(client, status)
            return
        self.outcomes["written"] += 1
        now = time.monotonic()
        self.writes.append(now - due)
        self.written_at.append(now)
        self._read(client, item, answer["version"], time.monotonic())

    def longest_pause(self, since: float) -> float:
        """Return the longest time without an accepted write, in seconds."""
        times = sorted(at for at in self.written_at if at >= since)
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)


def _held(browser: Browser, status: int) -> bool:
    """Return whether an answer says that nothing was done, and when to ask again."""
    return status == 503 and "retry-after" in browser.headers


def _asked(browser: Browser, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    try:
        status, text = browser.ask(method, path, None if body is None else json.dumps(body))
    except (OSError, http.client.HTTPException):
        return 0, {}
    return status, json.loads(text) if status == 200 else {}

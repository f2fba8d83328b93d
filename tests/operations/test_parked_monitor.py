"""A webhook hears of parked rows: once, and again where it did not take what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest

from pycdc.config import validate_capture
from pycdc.observability.progress import ParkedCount, Progress
from pycdc.operations.parked_monitor import ParkedMonitor
from tests.reading import wait_for


class Receiver(BaseHTTPRequestHandler):
    """Refuses the first document."""

    received: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        Receiver.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(503 if len(Receiver.received) == 1 else 200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def url() -> Iterator[str]:
    Receiver.received = []
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook"
        server.shutdown()
        thread.join()


def test_a_webhook_hears_once_that_rows_of_a_table_are_parked_and_that_none_is_any_more(url: str) -> None:
    config = validate_capture(
        {
            "name": "shop",
            "source": {"postgres": {"dsn": "dbname=nowhere"}},
            "sink": {"kafka": {"brokers": "nowhere:1", "format": "json"}},
            "parking": {"webhook": url},
        }
    )
    progress = Progress()
    with ParkedMonitor(config, progress, interval=0.01):
        progress.parked_now["public.items"] = ParkedCount(1, 0.0)
        wait_for(lambda: len(Receiver.received) == 2)
        progress.parked_now["public.items"] = ParkedCount(2, 0.0)
        progress.parked_now["public.users"] = ParkedCount(1, 0.0)
        wait_for(lambda: len(Receiver.received) == 3)
        progress.parked_now.clear()
        wait_for(lambda: len(Receiver.received) == 5)
    told = [(one["table"], one["parked"]) for one in Receiver.received]
    assert told == [*[("public.items", 1)] * 2, ("public.users", 1), ("public.items", 0), ("public.users", 0)]
    assert Receiver.received[0]["text"] == "pipeline shop: 1 row of public.items parked"

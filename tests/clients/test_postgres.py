"""Calls to a server hear the end of the pipeline, also those that open a connection."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from pycdc.clients.postgres import STOP_GRACE, connect, stopped_by


def by_its_own_event(dsn: str, stopping: threading.Event) -> None:
    connect(dsn, "the dsn", stopping=stopping)


def by_that_of_its_thread(dsn: str, stopping: threading.Event) -> None:
    with stopped_by(stopping):
        connect(dsn, "the dsn")


@pytest.mark.parametrize("way", [by_its_own_event, by_that_of_its_thread])
def test_connecting_to_a_server_that_says_nothing_ends_soon_after_the_stop(
    way: Callable[[str, threading.Event], None],
) -> None:
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Timer(0.1, stopping.set).start()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="after the pipeline was stopped"):
            way(f"host=127.0.0.1 port={silent.getsockname()[1]} connect_timeout=120", stopping)
    assert time.monotonic() - began < 20 * STOP_GRACE

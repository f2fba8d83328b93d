"""How many bytes wake the reader, by how many came in before."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pycdc.connectors.postgres.replication.receive_watermark import ReceiveWatermark


@pytest.fixture
def connected() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        yield client


@pytest.fixture
def wakeups(connected: socket.socket) -> Iterator[ReceiveWatermark]:
    made = ReceiveWatermark.of(connected.fileno())
    assert made is not None
    yield made
    made.close()


def at_rate(wakeups: ReceiveWatermark, megabytes: float) -> None:
    """So many megabytes a second, for ten milliseconds from now on."""
    now = wakeups._since
    for _ in range(10):
        now += 0.001
        wakeups.arrived(int(megabytes * 1000), now)


def lowat(connected: socket.socket) -> int:
    return connected.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


def test_few_bytes_wake_at_once(wakeups: ReceiveWatermark, connected: socket.socket) -> None:
    at_rate(wakeups, 0.2)
    assert (wakeups.lowat, lowat(connected)) == (1, 1)
    assert not wakeups.high_throughput


def test_many_bytes_are_gathered_and_the_kernel_knows(wakeups: ReceiveWatermark, connected: socket.socket) -> None:
    at_rate(wakeups, 20)
    assert wakeups.lowat == lowat(connected)
    assert wakeups.lowat == pytest.approx(40_000, rel=0.01)
    assert wakeups.high_throughput


def test_what_is_gathered_without_hurry_is_still_prompt(wakeups: ReceiveWatermark) -> None:
    at_rate(wakeups, 4)
    assert wakeups.lowat > 1
    assert not wakeups.high_throughput


def test_no_more_than_the_ceiling_is_gathered(wakeups: ReceiveWatermark) -> None:
    at_rate(wakeups, 500)
    assert wakeups.lowat == 64 * 1024


def test_rest_ends_the_gathering(wakeups: ReceiveWatermark, connected: socket.socket) -> None:
    at_rate(wakeups, 20)
    wakeups.rest()
    assert lowat(connected) == 1
    assert not wakeups.high_throughput


def test_a_socket_that_poll_does_not_gather_for_has_none() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert ReceiveWatermark.of(one.fileno()) is None

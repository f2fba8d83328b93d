"""Each fault of the proxy looks to both sides like the fault of a network that it stands for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy
from tests.services.process import free_port

SHORT = 0.3


class Echo:
    """Sends back what it gets, on as many connections as come."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.ended: list[str] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
                self.ended.append("fin")
            except OSError:
                self.ended.append("rst")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as connection:
        assert ask(connection, b"hello") == b"hello"
        yield connection


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=10)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return read(connection, len(data))


def read(connection: socket.socket, count: int) -> bytes:
    """``count`` bytes, or what there is before the end."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


def wait_for(condition: list[str], *wanted: str) -> None:
    deadline = time.monotonic() + 120
    while condition != list(wanted):
        assert time.monotonic() < deadline, f"got {condition}, not {wanted}"
        time.sleep(0.01)


def test_bytes_pass_unchanged_and_are_counted(proxy: Proxy, client: socket.socket) -> None:
    data = bytes(range(256)) * 8192
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(client, len(data)) == data
    sender.join()
    assert (proxy.accepted, proxy.open_connections, proxy.bytes_to_client) == (1, 1, len(data) + 5)


def test_an_end_passes_and_the_answer_still_comes_back(echo: Echo, client: socket.socket) -> None:
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    assert read(client, 100) == b"last"
    wait_for(echo.ended, "fin")


def test_a_black_hole_is_silent_and_gives_back_what_it_held(proxy: Proxy, client: socket.socket) -> None:
    proxy.blackhole()
    client.sendall(b"held")
    client.settimeout(SHORT)
    with pytest.raises(TimeoutError):
        client.recv(1)
    with connect(proxy) as late:
        late.settimeout(SHORT)
        late.sendall(b"x")
        with pytest.raises(TimeoutError):
            late.recv(1)
        proxy.heal()
        for connection, expected in ((client, b"held"), (late, b"x")):
            connection.settimeout(10)
            assert read(connection, len(expected)) == expected


def test_close_ends_both_sides_with_fin(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.close_connections()
    assert client.recv(1) == b""
    wait_for(echo.ended, "fin")
    with connect(proxy) as again:
        assert ask(again, b"again") == b"again"


def test_reset_ends_both_sides_with_rst(echo: Echo, proxy: Proxy, client: socket.socket) -> None:
    proxy.reset_connections()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    wait_for(echo.ended, "rst")
    with connect(proxy) as again:
        assert ask(again, b"again") == b"again"


def test_delay_holds_each_way_back_and_keeps_order(proxy: Proxy, client: socket.socket) -> None:
    proxy.delay(0.1)
    started = time.monotonic()
    assert ask(client, b"slow") == b"slow"
    assert time.monotonic() - started >= 0.2
    started = time.monotonic()
    for number in range(20):
        client.sendall(bytes([number]))
        time.sleep(0.005)
    assert read(client, 20) == bytes(range(20))
    assert time.monotonic() - started < 1.0


def test_cut_resets_in_the_middle_of_a_message(proxy: Proxy, client: socket.socket) -> None:
    proxy.cut_after(3)
    client.sendall(b"message")
    assert read(client, 3) == b"mes"
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    proxy.heal()
    with connect(proxy) as again:
        assert ask(again, b"message") == b"message"


def test_refuse_resets_what_is_open_and_turns_away_what_comes(proxy: Proxy, client: socket.socket) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as again:
        assert ask(again, b"again") == b"again"


def test_a_server_that_is_down_resets_the_client() -> None:
    # The reset may come before the connection counts as made.
    with Proxy("127.0.0.1", free_port()) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


def test_close_leaves_no_thread_and_no_port(echo: Echo) -> None:
    proxy = Proxy("127.0.0.1", echo.port)
    with connect(proxy) as client:
        assert ask(client, b"hello") == b"hello"
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert "proxy" not in {thread.name for thread in threading.enumerate()}


def test_an_answer_takes_the_place_of_the_servers_once_a_connection(proxy: Proxy, echo: Echo) -> None:
    proxy.answer(b"sorry")
    with connect(proxy) as refused:
        assert ask(refused, b"hello") == b"sorry"
        proxy.heal()
        refused.sendall(b"and now")
    with connect(proxy) as connection:
        assert ask(connection, b"hello") == b"hello"


def test_a_narrow_way_takes_its_time(proxy: Proxy, client: socket.socket) -> None:
    proxy.throttle(10_000)
    began = time.monotonic()
    client.sendall(b"x" * 3000)
    left = 3000
    while left:
        left -= len(client.recv(left))
    assert time.monotonic() - began > SHORT / 2
    proxy.heal()
    assert ask(client, b"hello") == b"hello"

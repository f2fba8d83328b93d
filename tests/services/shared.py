"""One server for all workers of a parallel test run.

The workers are processes of ``pytest-xdist``. The process that started them owns the servers: it launches one when a
worker first asks, and its watchdog ends them with it, however it goes. The workers learn addresses by a Unix socket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Client, Listener
from typing import Generic, Protocol, TypeVar

from .availability import ServerFailed, Unavailable
from .kafka import KafkaAddress
from .registry import RegistryAddress


class Server(Protocol):
    def heal(self) -> None: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=Server)


class Lazy(Generic[S]):
    """A server, launched at most once. That it cannot be had is found out once too."""

    def __init__(self, launch: Callable[[], S]) -> None:
        self._launch = launch
        self._server: S | None = None
        self._missing: Unavailable | None = None

    def get(self) -> S:
        if self._missing is not None:
            raise Unavailable(self._missing.reason, excused=self._missing.excused)
        if self._server is None:
            try:
                self._server = self._launch()
            except Unavailable as missing:
                self._missing = missing
                raise
        return self._server

    def heal(self) -> None:
        if self._server is not None:
            self._server.heal()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


class SharedServers:
    """Tells workers the addresses of servers, which ``lookups`` launch. One at a time, in a thread of its own."""

    def __init__(self, lookups: Mapping[str, Callable[[], str]]) -> None:
        self._lookups = lookups
        self._listener = Listener(family="AF_UNIX")
        self.address = str(self._listener.address)
        self._thread = threading.Thread(target=self._serve, name="shared servers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more. A launch that has begun is waited for: whoever closes the servers next sees it."""
        with Client(self.address) as connection:
            connection.send(None)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                with self._listener.accept() as worker:
                    name = worker.recv()
                    if name is None:
                        return
                    worker.send(self._answer(name))
            except (EOFError, OSError):
                continue  # a worker that died while it asked

    def _answer(self, name: str) -> str | Exception:
        try:
            return self._lookups[name]()
        except (Unavailable, ServerFailed) as failure:
            return failure


def address_of(name: str, shared: str) -> str:
    """Where the server ``name`` is, by the ``SharedServers`` at the address ``shared``."""
    with Client(shared) as connection:
        connection.send(name)
        answer = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    return str(answer)


class SharedKafka(KafkaAddress):
    """The Kafka that all workers use."""

    def _not_ours(self) -> Exception:
        return NotExclusive(repr(self))


class SharedRegistry(RegistryAddress):
    """The registry that all workers use."""

    def _not_ours(self) -> Exception:
        return NotExclusive(repr(self))


class NotExclusive(Exception):
    """A test disturbs a server that others use at the same time."""

    def __init__(self, server: str) -> None:
        super().__init__(f"{server} is used by other tests at the same time: mark this one `exclusive`")

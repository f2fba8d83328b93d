"""A TCP proxy on loopback that can fail: between a client and a server it is the network, broken on purpose.

Every fault holds for the connections that are open and for those that come, until ``heal``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

CHUNK = 64 * 1024
DEPTH = 16
"""Chunks on their way in one direction: what a delayed line holds before the sender feels it."""

NO_LINGER = struct.pack("ii", 1, 0)
"""Closing a socket with this drops what is unsent and answers the peer with RST."""


class Proxy:
    """Forwards connections to ``host:port``. Runs in a thread of its own; its methods may be called from any other."""

    host = "127.0.0.1"

    def __init__(self, host: str, port: int, *, listen_port: int = 0) -> None:
        self._target = (host, port)
        self.port = listen_port
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay = 0.0
        self._budget: int | None = None
        self._trap: _Trap | None = None
        self._answer = b""
        self._rate = 0
        self.accepted = 0
        """Connections taken so far."""
        self.bytes_to_client = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._links)

    def heal(self) -> None:
        """Forward everything at once again; what a black hole held back goes on its way."""
        self._call(self._heal())

    def blackhole(self) -> None:
        """Forward nothing and close nothing, as when a firewall forgets a connection. New ones are taken and silent."""
        self._do(self._flowing.clear)

    def delay(self, seconds: float) -> None:
        """Hold each chunk back for ``seconds``, in order, each way. The bandwidth stays."""
        self._do(lambda: setattr(self, "_delay", seconds))

    def throttle(self, rate: int) -> None:
        """Forward no more than ``rate`` bytes a second, on each connection and each way."""
        self._do(lambda: setattr(self, "_rate", rate))

    def answer(self, data: bytes) -> None:
        """Answer whoever says something with ``data``, once a connection; the server hears nothing."""
        self._do(lambda: setattr(self, "_answer", data))

    def cut_after(self, count: int) -> None:
        """Forward ``count`` more bytes to clients, over all connections, then reset: mid message, as it falls."""
        self._do(lambda: setattr(self, "_budget", count))

    def cut_at(self, words: bytes, *, behind: bytes, every: int) -> None:
        """Break a connection that sends ``words`` and has sent ``behind`` before, at every so manieth time: in turns
        before the server gets them, and after it did, whose answer then never comes."""
        self._do(lambda: setattr(self, "_trap", _Trap(words, behind, every)))

    def close_connections(self) -> None:
        """End every open connection with FIN, both sides. New ones are welcome."""
        self._do(lambda: self._end_links(_Link.close))

    def reset_connections(self) -> None:
        """End every open connection with RST, both sides. New ones are welcome."""
        self._do(lambda: self._end_links(_Link.reset))

    def refuse(self) -> None:
        """Reset what is open and refuse what comes, as a machine does whose server is down."""
        self._call(self._refuse())

    def close(self) -> None:
        if not self._thread.is_alive():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What follows runs in the loop's thread.

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _do(self, change: Callable[[], object]) -> None:
        async def work() -> None:
            change()

        self._call(work())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _heal(self) -> None:
        self._delay = 0.0
        self._budget = None
        self._trap = None
        self._answer = b""
        self._rate = 0
        self._flowing.set()
        if self._server is None:
            await self._listen()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._end_links(_Link.reset)

    async def _shut(self) -> None:
        await self._refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_links(self, end: Callable[[_Link], None]) -> None:
        for link in list(self._links):
            end(link)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target, limit=CHUNK)
        except OSError:
            _reset(writer)
            return
        except asyncio.CancelledError:
            _reset(writer)
            raise
        link = _Link(writer, upstream_writer)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._forward(reader, upstream_writer, link, to_client=False),
                self._forward(upstream_reader, writer, link, to_client=True),
            )
            link.close()
        except OSError:
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, *, to_client: bool
    ) -> None:
        """One direction: what is read waits in a line until it is due. The end of the stream travels the same way."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(DEPTH)
        feeding = asyncio.ensure_future(self._feed(reader, line))
        try:
            while True:
                due, data = await line.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await self._flowing.wait()
                if not data:
                    break
                if to_client:
                    data = b"" if link.deaf else self._spend(data, link)
                elif self._answer or link.answered:
                    data = link.answer(self._answer)
                elif self._trap is not None and (verdict := self._trap.springs(data, link)) is not None:
                    link.deaf = True
                    self._loop.call_later(0.05, link.reset)
                    data = data if verdict else b""
                for piece in self._pieces(data):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(len(piece) / self._rate if self._rate else 0)
            if writer.can_write_eof():
                writer.write_eof()
            await feeding
        finally:
            feeding.cancel()

    async def _feed(self, reader: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            await self._flowing.wait()
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await line.put((self._loop.time() + self._delay, data))

    def _pieces(self, data: bytes) -> list[bytes]:
        size = max(1, self._rate // 10) if self._rate else len(data) or 1
        return [data[start : start + size] for start in range(0, len(data), size)]

    def _spend(self, data: bytes, link: _Link) -> bytes:
        """What of ``data`` may still go to the client; the connection is reset behind it when the budget is used up."""
        if self._budget is not None:
            data = data[: self._budget]
            self._budget -= len(data)
            if self._budget == 0:
                self._loop.call_later(0.01, link.reset)
        self.bytes_to_client += len(data)
        return data


class _Trap:
    """See ``Proxy.cut_at``."""

    def __init__(self, words: bytes, behind: bytes, every: int) -> None:
        self._words = words
        self._behind = behind
        self._every = every
        self._seen = 0

    def springs(self, data: bytes, link: _Link) -> bool | None:
        """Whether the server still gets ``data``; None where nothing is to be cut."""
        link.marked = link.marked or self._behind in data
        if not link.marked or self._words not in data:
            return None
        self._seen += 1
        return None if self._seen % self._every else self._seen // self._every % 2 == 0


class _Link:
    """Both ends of one forwarded connection. ``deaf``: nothing more reaches the client; ``marked``: see ``_Trap``;
    ``answered``: see ``Proxy.answer``."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        self.deaf = False
        self.marked = False
        self.answered = False

    def answer(self, data: bytes) -> bytes:
        """Say ``data`` to the client, unless it was said; what the server gets instead of the client's words."""
        if not self.answered:
            self.answered = True
            self._ends[0].write(data)
        return b""

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def reset(self) -> None:
        for end in self._ends:
            _reset(end)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()

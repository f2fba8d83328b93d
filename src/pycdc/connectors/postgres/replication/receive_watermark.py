"""How many bytes the kernel gathers before it wakes the reader.

The walsender sends each change with a send() of its own; a reader that wakes for each costs both sides a context
switch (585,000 wake-ups for a million rows). SO_RCVLOWAT is set to what came in during the last 2 ms, 64 KiB at most,
so that poll() sleeps until about that much is there. Below 4 KiB it is 1, and every message is read as it comes. The
caller bounds its poll by `GATHER_POLL_MS` and then takes what is there, which bounds the latency.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final

GATHER_POLL_MS: Final = 3
_GATHER: Final = 0.002
_FLOOR: Final = 4 * 1024
_CEILING: Final = 64 * 1024
_HIGH_THROUGHPUT: Final = 16 * 1024


class ReceiveWatermark:
    """Sets SO_RCVLOWAT on a duplicate of libpq's socket. `lowat` is the present value."""

    __slots__ = ("_bytes", "_since", "_socket", "lowat")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._since = time.monotonic()
        self._bytes = 0
        self.lowat = 1

    @classmethod
    def of(cls, descriptor: int) -> ReceiveWatermark | None:
        """Make one for a socket; None where poll() does not honour SO_RCVLOWAT: Unix sockets."""
        sock = socket.socket(fileno=os.dup(descriptor))
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            return cls(sock)
        sock.close()
        return None

    def arrived(self, size: int, now: float) -> None:
        self._bytes += size
        elapsed = now - self._since
        if elapsed < _GATHER:
            return
        expected = int(self._bytes * _GATHER / elapsed)
        self._since, self._bytes = now, 0
        self._set(1 if expected < _FLOOR else min(expected, _CEILING))

    @property
    def high_throughput(self) -> bool:
        """Whether so much comes in that batches matter more than each change's delay: above 8 MB/s."""
        return self.lowat >= _HIGH_THROUGHPUT

    def rest(self) -> None:
        self._set(1)

    def _set(self, lowat: int) -> None:
        if lowat != self.lowat:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, lowat)
            self.lowat = lowat

    def close(self) -> None:
        self._socket.close()

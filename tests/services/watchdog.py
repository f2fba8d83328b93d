"""Ends servers and removes folders when the process that made them is gone, however it went.

``pytest`` can be killed with SIGKILL, and then nobody calls a finaliser. So a child in a session of its own watches
over the servers: it is told of each on its standard input, and acts when that input ends or its parent changes.
``PR_SET_PDEATHSIG`` would not do: it fires when the *thread* that started a server ends, and changing user clears it.

Run as a script this file is that child; imported, it is the way to talk to it. The lines that it reads are
``start PID SIGNAL``, ``end PID`` and ``dir PATH``.
"""

from __future__ import annotations

import atexit
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

GRACE_SECONDS = 5.0
"""How long a server has to end by its own signal (Postgres frees its shared memory then), before SIGKILL."""

PARENT_CHECK_SECONDS = 0.5
"""How often the parent is looked at: a forked worker of it can hold the pipe open, so its end alone is not enough."""


class Watchdog:
    """The parent's side. Made on first use, so a run without servers starts no process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def watch(self, pid: int, end_signal: int) -> None:
        """End ``pid`` with ``end_signal``, then its process group with SIGKILL, when this process is gone."""
        self._tell(f"start {pid} {int(end_signal)}")

    def forget(self, pid: int) -> None:
        """``pid`` has ended and was waited for: its number may soon belong to somebody else."""
        self._tell(f"end {pid}")

    def remove_at_end(self, path: str) -> None:
        self._tell(f"dir {path}")

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._child is None:
                self._child = self._start()
            assert self._child.stdin is not None
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()

    def _start(self) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            text=True,
            cwd="/",
            start_new_session=True,
        )
        atexit.register(self._finish, os.getpid())
        return child

    def _finish(self, owner: int) -> None:
        # A forked worker inherits the exit handler, not the right to end what its parent started.
        if self._child is None or os.getpid() != owner:
            return
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()


WATCHDOG = Watchdog()


def main(parent: int) -> None:
    """Listen until the parent is gone, then clean up what it left."""
    servers: dict[int, int] = {}
    folders: list[str] = []
    for line in _lines_while_alive(parent):
        verb, _, rest = line.partition(" ")
        if verb == "start":
            pid, end_signal = rest.split()
            servers[int(pid)] = int(end_signal)
        elif verb == "end":
            servers.pop(int(rest), None)
        elif verb == "dir":
            folders.append(rest)
    _end_all(servers)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _lines_while_alive(parent: int) -> Iterator[str]:
    buffer = b""
    while True:
        if not select.select([0], [], [], PARENT_CHECK_SECONDS)[0]:
            if os.getppid() != parent:
                return
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        yield from (line.decode() for line in lines)


def _end_all(servers: dict[int, int]) -> None:
    for pid, end_signal in servers.items():
        _send(pid, end_signal)
        _send(pid, signal.SIGCONT)  # a paused server acts on nothing but SIGKILL before it is woken
    deadline = time.monotonic() + GRACE_SECONDS
    while any(_exists(pid) for pid in servers) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in servers:
        _send(-pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    """Whether it still runs. One that ended and was not waited for does not, which only Linux tells."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return _send(pid, 0)


def _send(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]))

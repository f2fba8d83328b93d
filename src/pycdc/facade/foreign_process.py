"""Processes that are not children of this one, found by their command line."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


class ForeignProcess:
    """A process by its handle: nothing is sent to another one that got its number later. Raises ProcessLookupError."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)

    def __del__(self) -> None:
        with suppress(AttributeError):  # there was no such process
            os.close(self._handle)

    def ended(self, seconds: float | None = 0.0) -> bool:
        """Wait so many seconds, None for ever; return whether it has ended."""
        return bool(select.select([self._handle], [], [], seconds)[0])

    def wait(self, seconds: float | None = None) -> None:
        """Return once it has ended. Raises subprocess.TimeoutExpired."""
        if not self.ended(seconds):
            raise subprocess.TimeoutExpired(str(self.pid), seconds or 0.0)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)


def processes_with(*arguments: str) -> Iterator[ForeignProcess]:
    """Yield the processes of this file system whose command lines hold all `arguments`; none without /proc."""
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            process = ForeignProcess(int(folder.name))
            found = (folder / "cmdline").read_bytes().split(b"\0")
            if all(one.encode() in found for one in arguments) and _same_root(folder):
                yield process


def _same_root(folder: Path) -> bool:
    """Return whether a path means the same there: a container's processes are seen from outside."""
    try:
        return os.path.samefile(folder / "root", "/")
    except PermissionError:
        return True

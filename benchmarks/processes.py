"""A process seen from outside: the same ruler for an engine in Python and one in Java."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


class Observed:
    """CPU and memory of a running process, as /proc tells them. OSError once it has ended."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    def cpu_seconds(self) -> float:
        """Of all its threads, user and system."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def family_cpu_seconds(self) -> float:
        """With the processes that it started, whether they still run or it has seen them end."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        seconds = sum(map(int, fields[11:15])) / _TICK
        for child in self.children():
            with contextlib.suppress(OSError):
                seconds += child.cpu_seconds()
        return seconds

    def peak_rss_mb(self) -> float:
        return self._kilobytes("VmHWM") / 1024

    def forget_peak(self) -> None:
        """Begin anew with what it has now: a process may serve several runs."""
        (self._folder / "clear_refs").write_text("5")

    def rss_mb(self) -> float:
        return self._kilobytes("VmRSS") / 1024

    def children(self) -> list[Observed]:
        """The processes that it started and that run now."""
        found = [task.read_text().split() for task in self._folder.glob("task/*/children")]
        return [Observed(int(pid)) for pids in found for pid in pids]

    def _kilobytes(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", (self._folder / "status").read_text(), re.M)
        if found is None:
            raise ProcessLookupError(f"{self._folder.name} has ended")
        return int(found[1])

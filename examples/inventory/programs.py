"""Programs under a supervisor: one that ends by itself is started again, as systemd or Kubernetes would."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

COMMAND = "command"
"""The name of the command that runs at present."""

_LOOK = 0.1
_RESTART = 0.3
"""Seconds from the end of a program to its next start."""


class _Program(NamedTuple):
    command: Sequence[str]
    folder: Path | None
    process: subprocess.Popen[bytes]


class Programs:
    """A context manager: all of them end with it, those that were started last first."""

    def __init__(self, logs: Path) -> None:
        self.ended: Counter[str] = Counter()
        """How often each program ended by itself."""
        self._logs = logs
        self._programs: dict[str, _Program] = {}
        self._due: dict[str, float] = {}
        self._killed: set[str] = set()
        self._command: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")

    @property
    def names(self) -> list[str]:
        with self._lock:
            return list(self._programs)

    def start(self, name: str, command: Sequence[str], folder: Path | None = None) -> None:
        with self._lock:
            self._start(name, command, folder)

    def stop(self, name: str) -> None:
        """End a program for good."""
        with self._lock:
            program = self._programs.pop(name)
            self._due.pop(name, None)
        program.process.terminate()
        program.process.wait()

    def kill(self, name: str) -> bool:
        """Kill a program, as `kill -9` does; it is started again. False where it does not run."""
        with self._lock:
            if name == COMMAND:
                return self._kill_command()
            if name not in self._programs or self._programs[name].process.poll() is not None:
                return False
            self._killed.add(name)
            self._programs[name].process.kill()
        return True

    def _kill_command(self) -> bool:
        if self._command is None or self._command.poll() is not None:
            return False
        self._command.kill()
        return True

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command until it ends, or is killed as COMMAND."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            with self._lock:
                self._command = process
            out, err = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def pid(self, name: str) -> int:
        with self._lock:
            return self._programs[name].process.pid

    def log(self, name: str) -> bytes:
        return self._log(name).read_bytes()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _start(self, name: str, command: Sequence[str], folder: Path | None) -> None:
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
        self._programs[name] = _Program(command, folder, process)

    def _supervise(self) -> None:
        while not self._closing.wait(_LOOK):
            with self._lock:
                for name, program in list(self._programs.items()):
                    if program.process.poll() is not None:
                        self._restart(name, program)

    def _restart(self, name: str, program: _Program) -> None:
        now = time.monotonic()
        if now < self._due.setdefault(name, now + _RESTART):
            return
        del self._due[name]
        self.ended[name] += name not in self._killed
        self._killed.discard(name)
        self._start(name, program.command, program.folder)

    def __enter__(self) -> Self:
        self._supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._supervisor.join()
        for name in reversed(list(self._programs)):
            self.stop(name)

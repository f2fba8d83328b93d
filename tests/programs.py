"""Programs that a test starts as a user would, and watches by what they print."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

SECONDS = 180.0


class Program:
    """A process whose output goes to files in `folder`. A context manager: it does not outlive the block."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        number = len(list(folder.glob("*.out")))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=self.environment,
                # A shell starts what runs in its background with SIGINT ignored, and programs inherit that.
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def lines(self) -> list[str]:
        return self._out.read_text(encoding="utf-8").splitlines()

    @property
    def log(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            ended = self._process.poll()
            if ended is not None and not condition():
                raise AssertionError(f"ended with {ended}\n{self._transcript()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {SECONDS:g} s\n{self._transcript()}")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self._process.send_signal(number)
        return self._process.wait(SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        return self._process.wait(SECONDS)

    def _transcript(self) -> str:
        return f"--- output\n{self._out.read_text()}--- log\n{self.log}"

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

"""Processes as threads of which one runs at a time, and a clock that moves when all of them wait.

Whatever a process does outside of itself goes through `Scheduler.point`: there another one may get its turn, and the
process may be frozen or killed. So a seed decides everything, and a run can be repeated.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pytest

FREEZES = 0.002
KILLS = 0.004
SWITCHES = 0.1
LONGEST = 40.0
"""Seconds that a process may be frozen for."""


class Killed(BaseException):
    """The process is no more: nothing that it still does has an effect."""


Kind = Literal["kill", "error", "freeze"]


@dataclass(slots=True)
class Faults:
    """At random while `on`; or one `kind` alone, at the point of the number `at`. `passed` counts the points."""

    on: bool = True
    at: int = -1
    kind: Kind = "kill"
    passed: int = 0

    def chance(self, dice: random.Random, likely: float) -> bool:
        return self.on and dice.random() < likely

    def here(self) -> Kind | None:
        """Return what is to happen at this point."""
        self.passed += 1
        return self.kind if self.passed == self.at else None


class Process:
    """`body` runs in a thread of its own. `error` is what it ended with."""

    def __init__(self, scheduler: Scheduler, name: str, body: Callable[[Process], None]) -> None:
        self.name = name
        self.dead = False
        self.ended = False
        self.wakes = 0.0
        self.error: BaseException | None = None
        self._scheduler = scheduler
        self._body = body
        self._turn = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return not self.ended

    def resume(self) -> None:
        self._turn.release()

    def wait(self) -> None:
        self._turn.acquire()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        self.wait()
        self._scheduler.current.process = self
        try:
            self._body(self)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self._scheduler.hand_over()


class Current(threading.local):
    """The process that the thread is, if any."""

    process: Process | None = None


class Scheduler:
    """`now` is the clock that the processes see, in seconds."""

    def __init__(self, dice: random.Random, faults: Faults) -> None:
        self.dice = dice
        self.faults = faults
        self.now = 1000.0
        self.current = Current()
        self.processes: list[Process] = []
        self._control = threading.Semaphore(0)

    def start(self, name: str, body: Callable[[Process], None], *, after: float) -> Process:
        process = Process(self, name, body)
        process.wakes = self.now + after
        self.processes.append(process)
        return process

    def run(self) -> None:
        """Let one process run until it waits or gives way. Where all wait, the clock moves to who is ready first."""
        alive = [process for process in self.processes if process.alive]
        ready = [process for process in alive if process.wakes <= self.now]
        if not ready:
            self.now = min(process.wakes for process in alive)
            ready = [process for process in alive if process.wakes <= self.now]
        process = self.dice.choice(ready)
        process.resume()
        self._control.acquire()
        if process.ended:
            process.join()
            self.processes.remove(process)

    def hand_over(self) -> None:
        self._control.release()

    # -- called by processes

    @property
    def process(self) -> Process:
        found = self.current.process
        assert found is not None
        return found

    def point(self, error: Exception | None = None) -> None:
        """Something outside of the process is about to be done, or to fail with `error`. Raises Killed."""
        process = self.process
        if process.dead:
            raise Killed
        fault = self.faults.here()
        if fault == "kill" or self.faults.chance(self.dice, KILLS):
            process.dead = True
            raise Killed
        if fault == "error" and error is not None:
            raise error
        if fault == "freeze":
            self.sleep(LONGEST)
        elif self.faults.chance(self.dice, FREEZES):
            self.sleep(self.dice.uniform(0, LONGEST))
        elif self.dice.random() < SWITCHES:
            self.sleep(0)

    def sleep(self, seconds: float) -> None:
        process = self.process
        if process.dead:
            raise Killed
        process.wakes = self.now + seconds
        self.hand_over()
        process.wait()


@contextmanager
def virtual_time(scheduler: Scheduler) -> Iterator[None]:
    """Processes see the scheduler's clock; everything else sees the machine's."""
    monotonic, sleep = time.monotonic, time.sleep

    def now() -> float:
        return monotonic() if scheduler.current.process is None else scheduler.now

    def pause(seconds: float) -> None:
        if scheduler.current.process is None:
            sleep(seconds)
        else:
            scheduler.sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", now)
        patch.setattr(time, "sleep", pause)
        yield


class Stopping(threading.Event):
    """The event that ends a pipeline; whoever waits for it waits by the scheduler's clock."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def wait(self, timeout: float | None = None) -> bool:
        self._scheduler.sleep(timeout or 0.0)
        return self.is_set()

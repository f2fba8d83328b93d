"""Runs a pipeline on a thread of its own, so that the main thread can show it and hear signals at any time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final, Protocol

INTERRUPTED: Final = 130
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR: Final = b"\x1b[?25h"


class Runnable(Protocol):
    """A pipeline: `run` blocks, `stop` may be called from any thread."""

    def run(self) -> None: ...
    def stop(self) -> None: ...


class View(AbstractContextManager["View"], Protocol):
    """What shows the pipeline. `update` is called every `interval` seconds."""

    interval: float

    def update(self) -> None: ...
    def say(self, text: str) -> None: ...


def execute(pipeline: Runnable, view: View) -> None:
    """Block until the pipeline ends; raise what it raised. The first signal stops it, the second ends the process.

    SIGHUP stops it too, however often it comes: the terminal is gone, and there is nothing to show any more.
    """
    worker = _Worker(pipeline)
    with _Signals(pipeline.stop) as signals:
        try:
            with view:
                worker.start()
                _show(worker, view, signals)
        except OSError:
            if not signals.hung_up:
                raise
        if worker.ident is not None:
            worker.join()
    if worker.error is not None:
        raise worker.error


def _show(worker: threading.Thread, view: View, signals: _Signals) -> None:
    announced = False
    while worker.is_alive():
        if signals.received and not announced:
            announced = True
            view.say("stopping: delivering what was read and storing the position; once more to exit at once")
        view.update()
        worker.join(view.interval)


class _Worker(threading.Thread):
    def __init__(self, pipeline: Runnable) -> None:
        # A daemon, so that a second signal need not wait for it.
        super().__init__(name="pycdc-pipeline", daemon=True)
        self._pipeline = pipeline
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._pipeline.run()
        except BaseException as error:
            self.error = error


class _Signals:
    """While entered, SIGINT, SIGTERM and SIGHUP call `stop`; the second one but SIGHUP exits with 130."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, Any] = {}
        self.received = 0
        self.hung_up = False

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            # `nohup` has SIGHUP ignored, and means it.
            ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            wanted = [number for number in _SIGNALS if number != signal.SIGHUP or not ignored]
            self._before = {number: signal.signal(number, self._heard) for number in wanted}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # No printing here: the main thread may be in the middle of it.
        self.hung_up = self.hung_up or number == signal.SIGHUP
        self.received += 1
        if self.received > 1 and number != signal.SIGHUP:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR + b"\n")
            os._exit(INTERRUPTED)
        self._stop()

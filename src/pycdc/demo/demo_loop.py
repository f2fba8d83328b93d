"""The course of a demonstration, whatever it shows: run until its time is over, then wait for what is under way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from pycdc.api import Pipeline
from pycdc.errors import DeliveryError

_STALLED: Final = 15.0
"""Seconds without anything new after which the end does not wait any longer."""
_STOP_TIMEOUT: Final = 15.0
_POLL: Final = 0.02

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class Engine:
    """A pipeline in a thread of its own."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.pipeline = Pipeline(config)
        self.error: Exception | None = None
        """Why the thread ended by itself."""
        self._thread = threading.Thread(target=self._run, name=self.pipeline.config.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the pipeline. Raises DeliveryError where it does not come to an end."""
        self.pipeline.stop()
        self._thread.join(_STOP_TIMEOUT)
        if self._thread.is_alive():
            raise DeliveryError(f"the pipeline did not stop within {_STOP_TIMEOUT:.0f} s")

    def _run(self) -> None:
        try:
            self.pipeline.run()
        except Exception as exc:  # whatever it is, the main thread raises it
            self.error = exc


class Demonstration(Protocol[S_co, E_co]):
    """What `run` takes through its course."""

    def status(self) -> S_co: ...

    @property
    def over(self) -> bool:
        """Its time has come."""

    @property
    def arrived(self) -> int:
        """A number that grows for as long as something arrives."""

    @property
    def complete(self) -> bool:
        """Everything that was written has arrived."""

    def tend(self) -> None:
        """Do what is due; the loop calls it every moment. Raises what ended one of the threads."""

    def close_shop(self) -> None:
        """Stop writing."""

    def finish(self) -> E_co:
        """Stop, then say how it went."""


def run(demo: Demonstration[S, E], show: Callable[[S], None], interval: float, stop: threading.Event) -> E:
    """Run until the time is over or `stop` is set, showing the status every `interval` seconds."""
    while not stop.wait(interval) and not demo.over:
        demo.tend()
        show(demo.status())
    demo.close_shop()
    await_rest(demo, show, interval)
    return demo.finish()


def await_rest(demo: Demonstration[S, E], show: Callable[[S], None], interval: float) -> None:
    """Wait until everything arrived, or nothing more does."""
    seen, since = -1, time.monotonic()
    while not demo.complete and time.monotonic() - since < _STALLED:
        demo.tend()
        show(demo.status())
        if demo.arrived != seen:
            seen, since = demo.arrived, time.monotonic()
        shown = time.monotonic()
        while not demo.complete and time.monotonic() - shown < interval:
            time.sleep(_POLL)

"""What signals do to a running pipeline."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pycdc.cli.pipeline_runner import execute


class Waiting:
    """A pipeline that runs until it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.stops = 0

    def run(self) -> None:
        assert self.stopped.wait(180)

    def stop(self) -> None:
        self.stops += 1
        if self.stops == 1:
            threading.Timer(0.1, self.stopped.set).start()


class Terminal:
    """A view that sends the signals, and fails as a terminal does that was closed."""

    interval = 0.01

    def __init__(self, *signals: int, fails: bool = False) -> None:
        self._signals = list(signals)
        self._fails = fails

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.update()

    def update(self) -> None:
        sent, self._signals = self._signals, []
        for number in sent:
            os.kill(os.getpid(), number)
        if self._fails:
            raise OSError(5, "Input/output error")

    def say(self, text: str) -> None:
        self.update()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    # Whoever runs the tests may have started them by nohup.
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
    signal.signal(signal.SIGHUP, outside)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_pipeline_in_order(number: int) -> None:
    pipeline = Waiting()
    execute(pipeline, Terminal(number))
    assert pipeline.stops == 1


def test_a_terminal_that_is_gone_does_not_keep_the_pipeline_from_ending_in_order() -> None:
    pipeline = Waiting()
    execute(pipeline, Terminal(signal.SIGHUP, signal.SIGHUP, fails=True))
    assert pipeline.stopped.is_set()


def test_a_view_that_fails_without_that_is_an_error() -> None:
    with pytest.raises(OSError, match="Input/output"):
        execute(Waiting(), Terminal(fails=True))


def test_under_nohup_a_hang_up_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        pipeline = Waiting()
        execute(pipeline, Terminal(signal.SIGHUP, signal.SIGTERM))
        assert pipeline.stops == 1
    finally:
        signal.signal(signal.SIGHUP, before)

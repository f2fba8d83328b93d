"""`pycdc demo`: everything on this machine, for a look: databases, a broker, a registry, a sample and the engine."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from types import FrameType
from typing import Final, TypeVar

import click
from rich.console import Console, RenderableType
from rich.live import Live

from pycdc.cli import demo_view, two_way_view
from pycdc.demo import report
from pycdc.demo.demo_loop import Demonstration, run
from pycdc.demo.run import Demo
from pycdc.demo.two_way import report as two_way_report
from pycdc.demo.two_way.run import TwoWay

_LIVE_INTERVAL: Final = 0.2
_PLAIN_INTERVAL: Final = 1.0

S = TypeVar("S")
E = TypeVar("E")


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), default=20.0, show_default=True, help="0: until Ctrl-C.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=200.0,
    show_default=True,
    help="Row changes a second that the sample makes, on each side with --two-way; 0: as many as it can.",
)
@click.option("--two-way", is_flag=True, help="Two databases that follow each other while both are written to.")
@click.option("--plain", is_flag=True, help="A line a second instead of the live view.")
def demo(seconds: float, rate: float, two_way: bool, plain: bool) -> None:
    """Watch changes flow from Postgres to Kafka. Needs nothing but Python.

    Starts an embedded Postgres, broker and schema registry, and a shop that writes; captures it with the engine and
    shows what a consumer reads back from the broker. Nothing is left behind.

    With --two-way: a monolith's database and a service's, captured both, each applied to the other. Shows lag and
    conflicts, and compares all rows at the end.
    """
    console = Console()
    _spare_loopback_the_proxy()
    live = console if console.is_terminal and not console.is_dumb_terminal and not plain else None
    with _ended_by_signals() as stop:
        matches = _two_way(rate, seconds, stop, live) if two_way else _one_way(rate, seconds, stop, live)
    if not matches:
        sys.exit(1)


def _one_way(rate: float, seconds: float, stop: threading.Event, console: Console | None) -> bool:
    click.echo("starting Postgres, a broker, a schema registry and the engine …")
    with Demo(rate, seconds) as demo:
        click.echo(report.addresses(demo.addresses))
        summary = _watched(demo, report.line, demo_view.view, stop, console)
    click.echo(report.summary(summary))
    return summary.matches


def _two_way(rate: float, seconds: float, stop: threading.Event, console: Console | None) -> bool:
    click.echo("starting two Postgres, a broker, a schema registry and four pipelines …")
    with TwoWay(rate, seconds) as demo:
        click.echo(two_way_report.addresses(demo.addresses))
        summary = _watched(demo, two_way_report.line, two_way_view.view, stop, console)
    click.echo(two_way_report.summary(summary))
    return summary.matches


def _watched(
    demo: Demonstration[S, E],
    line: Callable[[S], str],
    view: Callable[[S, int, int], RenderableType],
    stop: threading.Event,
    console: Console | None,
) -> E:
    """Run it, and show it on `console` or as lines."""
    if console is None:
        return run(demo, lambda status: click.echo(line(status)), _PLAIN_INTERVAL, stop)
    with _errors_aside(), Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as screen:

        def show(status: S) -> None:
            screen.update(view(status, *console.size), refresh=True)

        return run(demo, show, _LIVE_INTERVAL, stop)


def _spare_loopback_the_proxy() -> None:
    """Reach the demonstration's registry without a proxy of the environment, which does not reach loopback."""
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = f"{spared},127.0.0.1" if spared else "127.0.0.1"


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event, so that the end is orderly; the second one ends at once."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, end) for each in signals]
    try:
        yield stop
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


@contextmanager
def _errors_aside() -> Iterator[None]:
    """Hold back what is logged while the live view has the screen, until its end."""
    kept = io.StringIO()
    try:
        with redirect_stderr(kept):
            yield
    finally:
        click.echo(kept.getvalue(), err=True, nl=False)

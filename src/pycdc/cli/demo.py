"""`pycdc demo`: everything on this machine, for a look: a database, a broker, a registry, a shop and the engine."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import FrameType
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from pycdc.cli.demo_view import view
from pycdc.demo import report
from pycdc.demo.run import Demo, run
from pycdc.demo.status import Status, Summary

_LIVE_INTERVAL: Final = 0.2
_PLAIN_INTERVAL: Final = 1.0


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), default=20.0, show_default=True, help="0: until Ctrl-C.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=200.0,
    show_default=True,
    help="Row changes a second that the shop makes; 0: as many as it can.",
)
@click.option("--plain", is_flag=True, help="A line a second instead of the live view.")
def demo(seconds: float, rate: float, plain: bool) -> None:
    """Watch changes flow from Postgres to Kafka. Needs nothing but Python.

    Starts an embedded Postgres, broker and schema registry, and a shop that writes; captures it with the engine and
    shows what a consumer reads back from the broker. Nothing is left behind.
    """
    console = Console()
    _spare_loopback_the_proxy()
    live = console.is_terminal and not console.is_dumb_terminal and not plain
    with _ended_by_signals() as stop:
        summary = _watched(Demo(rate, seconds), stop, console if live else None)
    click.echo(report.summary(summary))
    if not summary.matches:
        sys.exit(1)


def _watched(demo: Demo, stop: threading.Event, console: Console | None) -> Summary:
    """Start everything and show it, on `console` or as lines."""
    click.echo("starting Postgres, a broker, a schema registry and the engine …")
    with demo:
        click.echo(report.addresses(demo.addresses))
        if console is None:
            return run(demo, _print_line, _PLAIN_INTERVAL, stop)
        with _errors_aside(), Live(console=console, screen=True, auto_refresh=False, redirect_stderr=False) as screen:

            def show(status: Status) -> None:
                screen.update(view(status, *console.size), refresh=True)

            return run(demo, show, _LIVE_INTERVAL, stop)


def _print_line(status: Status) -> None:
    click.echo(report.line(status))


def _spare_loopback_the_proxy() -> None:
    """A proxy that the environment names, as in many offices, does not reach our own registry."""
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
    """What is logged while the live view has the screen waits for its end."""
    kept = io.StringIO()
    try:
        with redirect_stderr(kept):
            yield
    finally:
        click.echo(kept.getvalue(), err=True, nl=False)

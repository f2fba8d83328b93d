"""`pycdc guard`: keep the WAL that a slot holds back within its budget, also while the pipeline is away."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType

import click

from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import CapturePipeline
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.errors import ConfigError, PycdcError
from pycdc.observability import logs
from pycdc.operations.wal_guard import WalGuard, WalState
from pycdc.printable import printable


@click.command()
@config_argument
@click.option("--once", is_flag=True, help="Look once; the exit code is 1 for the levels warning and over.")
@click.option(
    "--interval", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds between looks."
)
@json_option
@click.pass_context
def guard(ctx: click.Context, path: str, once: bool, interval: float, as_json: bool) -> None:
    """Watch how much WAL a slot holds back.

    `pycdc run` does this for its own slot. A pipeline that is stopped or broken does not, and it is then that a disk
    runs full: let this run beside it, or with --once from a scheduler. What is done is what source.postgres.wal_guard
    says: a line and a call of the webhook for each change of level, and, only where drop_slot is set, the slot is
    dropped. Changes nothing else.
    """
    config = load_config(path)
    if not isinstance(config, CapturePipeline):
        raise ConfigError(f"{config.name} reads no slot", hint="give a pipeline with source.postgres")
    logs.configure(level=logging.ERROR if once else logging.INFO)
    if once:
        state = _look(config, WalGuard(config))
        _show(state, as_json=as_json)
        ctx.exit(int(state is not None and state.level != "ok"))
    _watch(config, interval)


def _look(config: CapturePipeline, guard: WalGuard) -> WalState | None:
    """Return None where there is no slot. Raises PycdcError where the server does not answer."""
    with Catalog(config.source.postgres.dsn.get_secret_value()) as catalog:
        slot = catalog.slot(config.slot)
        return None if slot is None else guard.look(catalog, slot, time.monotonic())


def _show(state: WalState | None, *, as_json: bool) -> None:
    if as_json:
        print_json(None if state is None else state.as_dict())
    elif state is None:
        click.echo("the slot does not exist: nothing is held back")
    else:
        click.echo(printable(f"{state.level}: {state}"))
        if state.xmin_holder is not None:
            click.echo(printable(f"oldest xmin: {state.xmin_holder}, {state.xmin_holder.age} transactions ago"))


def _watch(config: CapturePipeline, interval: float) -> None:
    """Look until a signal comes. A server that does not answer is asked again: there is nothing else to guard it."""
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    guard, failed = WalGuard(config), ""
    while not ended.is_set():
        try:
            _look(config, guard)
            failed = ""
        except PycdcError as error:
            if error.fact != failed:
                failed = error.fact
                click.echo(printable(f"cannot look: {error.fact}"), err=True)
        ended.wait(interval)

"""`pycdc snapshot`: read tables again while the stream goes on."""

from __future__ import annotations

import logging
from typing import cast

import click

from pycdc.build.offsets import stored_source
from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import CapturePipeline, require_capture
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.signals.messages import Signal, SignalAction, ask
from pycdc.observability import logs
from pycdc.operations.humanize import number
from pycdc.operations.status import paused, still_to_read
from pycdc.operations.stored_position import stored_position
from pycdc.printable import printable


@click.command()
@config_argument
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option("--where", metavar="SQL", help="Only the rows that fulfil this condition.")
@click.option("--pause", "action", flag_value="pause", help="Let snapshots rest; the stream goes on.")
@click.option("--resume", "action", flag_value="resume", help="Go on with them.")
@click.option("--cancel", "action", flag_value="cancel", help="Give up what this command asked for, of TABLE or all.")
@click.option(
    "--status", "action", flag_value="status", help="Show what is still to be read, as of the last checkpoint."
)
@json_option
def snapshot(path: str, tables: tuple[str, ...], where: str | None, action: str | None, as_json: bool) -> None:
    """Read captured tables again, while the stream goes on.

    The pipeline hears of it through the database's WAL. One that does not run obeys when it is started.
    """
    config = require_capture(load_config(path))
    logs.configure(level=logging.ERROR)
    if action == "status":
        _status(config, as_json=as_json)
        return
    _check(action, tables, where)
    signal = Signal(cast("SignalAction", action or "snapshot"), tables, where)
    running = ask(config, signal, stored_source(config))
    if as_json:
        print_json({"id": signal.id, "action": signal.action, "running": running})
    else:
        when = "" if running else "; the pipeline does not run, and obeys when it is started"
        click.echo(f"asked to {_said(signal)}{when}")


def _check(action: str | None, tables: tuple[str, ...], where: str | None) -> None:
    context = click.get_current_context()
    if action is None and not tables:
        raise click.UsageError("name a table, or give --status, --pause, --resume or --cancel", context)
    if action in ("pause", "resume") and tables:
        raise click.UsageError(f"--{action} is for all tables", context)
    if action is not None and where is not None:
        raise click.UsageError("--where goes with a table to be read", context)


def _said(signal: Signal) -> str:
    named = ", ".join(signal.tables) or "all snapshots"
    return f"read {named}" if signal.action == "snapshot" else f"{signal.action} {named}"


def _status(config: CapturePipeline, *, as_json: bool) -> None:
    checkpoint = stored_position(config)
    with Catalog(config.source.postgres.dsn.get_secret_value()) as catalog:
        estimates = {(ref.schema, ref.name): ref.rows_estimate for ref in catalog.tables(["*.*"])}
    found = still_to_read(checkpoint, estimates)
    if as_json:
        print_json({"paused": paused(checkpoint), "tables": found})
        return
    if not found:
        begun = checkpoint is not None and not checkpoint.snapshot_done
        click.echo("the first snapshot has no progress yet" if begun else "nothing is still to be read")
        return
    if paused(checkpoint):
        click.echo("paused")
    for table in found:
        estimated = "?" if table["estimated"] is None else number(table["estimated"])
        waits = ", waits for transactions that wrote before it was published" if table["waits"] else ""
        click.echo(printable(f"  {table['table']}  {number(table['rows'])} of about {estimated} rows{waits}"))

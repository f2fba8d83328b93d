"""`pycdc parked`: rows that a capture could not deliver, and what becomes of them."""

from __future__ import annotations

import logging
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Literal

import click

from pycdc.build import stored_source
from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import CapturePipeline, require_capture
from pycdc.connectors.postgres.signals.messages import Signal, ask
from pycdc.errors import ConfigError
from pycdc.model.parked_row import ParkedEntry, ParkedRow
from pycdc.observability import logs
from pycdc.operations.humanize import plural
from pycdc.parking.build import parked_topic
from pycdc.printable import printable


@click.group()
def parked() -> None:
    """Show rows that a pipeline parked, and have it try them again or drop them.

    The pipeline hears of it through the database's WAL, so that each key keeps its order. One that does not run obeys
    when it is started.
    """
    logs.configure(level=logging.ERROR)


@parked.command("list")
@config_argument
@click.option("--table", help="Only those of a table, as schema.table.")
@json_option
def list_(path: str, table: str | None, as_json: bool) -> None:
    """List what is parked, in its order. Values are not shown."""
    entries = [entry for entry in _entries(_capture(path)).values() if table in (None, entry.table)]
    if as_json:
        print_json([_as_dict(entry) for entry in entries])
        return
    for entry in entries:
        click.echo(
            printable(f"{entry.id}  {_time(entry)}  {entry.table}  {entry.op.value}  {entry.position}  {_why(entry)}")
        )
    if not entries:
        click.echo("nothing is parked")


@parked.command()
@config_argument
@click.argument("identity", metavar="ID")
@click.option("--values", is_flag=True, help="Show the rows' values too.")
@json_option
def show(path: str, identity: str, values: bool, as_json: bool) -> None:
    """Show a parked row: where it comes from, and why it is parked."""
    config = _capture(path)
    with closing(parked_topic(config)) as topic:
        row = next(topic.rows({identity}), None)
    if row is None:
        raise ConfigError(f"{identity} is not parked", hint=f"pycdc parked list {path}")
    told = _as_dict(row.entry) | (_values(row) if values else {})
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        click.echo(printable(f"{name:<10} {value}"))


@parked.command()
@config_argument
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--table", help="All rows of a table, as schema.table.")
@click.option("--all", "everything", is_flag=True, help="All that is parked.")
@json_option
def retry(path: str, ids: tuple[str, ...], table: str | None, everything: bool, as_json: bool) -> None:
    """Have rows tried again, with all that waits behind them.

    By the rules and functions that the pipeline has then: restart it first, where these were corrected. What still
    cannot be delivered stays parked.
    """
    _ask(path, "retry", ids, table, everything=everything, as_json=as_json)


@parked.command()
@config_argument
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--table", help="All rows of a table that cannot be delivered, as schema.table.")
@click.option("--all", "everything", is_flag=True, help="All that cannot be delivered.")
@json_option
def drop(path: str, ids: tuple[str, ...], table: str | None, everything: bool, as_json: bool) -> None:
    """Give rows up: consumers never see them. What waits behind them is delivered.

    Rows that only wait behind others are dropped where they are named.
    """
    _ask(path, "drop", ids, table, everything=everything, as_json=as_json)


def _ask(
    path: str,
    action: Literal["retry", "drop"],
    ids: tuple[str, ...],
    table: str | None,
    *,
    everything: bool,
    as_json: bool,
) -> None:
    if sum((bool(ids), table is not None, everything)) != 1:
        raise click.UsageError("name an ID, a --table, or --all", click.get_current_context())
    config = _capture(path)
    entries = _entries(config)
    strange = sorted(set(ids) - entries.keys())
    if strange:
        raise ConfigError(f"{strange[0]} is not parked", hint=f"pycdc parked list {path}")
    chosen = ids or tuple(
        entry.id
        for entry in entries.values()
        if table in (None, entry.table) and not (action == "drop" and entry.waits)
    )
    if not chosen:
        click.echo("[]" if as_json else "nothing is parked")
        return
    signal = Signal(action, parked=chosen)
    running = ask(config, signal, stored_source(config))
    if as_json:
        print_json({"id": signal.id, "action": action, "rows": list(chosen), "running": running})
    else:
        when = "" if running else "; the pipeline does not run, and obeys when it is started"
        click.echo(f"asked to {action} {plural(len(chosen), 'row')}{when}")


def _capture(path: str) -> CapturePipeline:
    config = require_capture(load_config(path))
    if not config.parks:
        raise ConfigError(
            f"pipeline {config.name} parks no rows",
            hint="set rules[].on_error: park for tables whose rows may be parked",
        )
    return config


def _entries(config: CapturePipeline) -> dict[str, ParkedEntry]:
    with closing(parked_topic(config)) as topic:
        return topic.entries()


def _as_dict(entry: ParkedEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "table": entry.table,
        "op": entry.op.value,
        "lsn": str(entry.position.lsn),
        "position": str(entry.position),
        "xid": entry.xid,
        "parked_at": _time(entry),
        "error": entry.reason.error,
        "reason": entry.reason.fact,
    }


def _values(row: ParkedRow) -> dict[str, Any]:
    [change] = row.run()
    return {"before": _texts(change.before), "after": _texts(change.after)}


def _texts(image: dict[str, Any] | None) -> dict[str, str] | None:
    return None if image is None else {name: str(value) for name, value in image.items()}


def _why(entry: ParkedEntry) -> str:
    return entry.reason.fact


def _time(entry: ParkedEntry) -> str:
    return datetime.fromtimestamp(entry.parked_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")

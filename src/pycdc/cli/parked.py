"""`pycdc parked`: what a capture could not deliver, and what becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import require_capture
from pycdc.observability import logs
from pycdc.operations.humanize import plural
from pycdc.operations.parked import (
    Action,
    ParkedItems,
    ask_for,
    letter_told,
    row_told,
    settle,
    shown,
    undelivered,
)
from pycdc.printable import printable

F = TypeVar("F", bound=Callable[..., Any])


def _chooses(function: F) -> F:
    """Add the options that say which rows are meant."""
    for add in (
        json_option,
        click.option("--all", "everything", is_flag=True, help="All."),
        click.option("--table", help="Those of a table, as schema.table."),
        click.argument("ids", metavar="[ID]...", nargs=-1),
        config_argument,
    ):
        function = add(function)
    return function


@click.group()
def parked() -> None:
    """Show rows that a pipeline could not deliver, and have it try them again or drop them.

    Rows that are parked (rules[].on_error) are handled by the pipeline, which hears of it through the database's WAL,
    so that each key keeps its order. One that does not run obeys when it is started. Dead letters are handled by this
    command.
    """
    logs.configure(level=logging.ERROR)


@parked.command("list")
@config_argument
@click.option("--table", help="Only those of a table, as schema.table.")
@json_option
def list_(path: str, table: str | None, as_json: bool) -> None:
    """List parked rows and dead letters, in their order. Values are not shown."""
    found = undelivered(require_capture(load_config(path))).of_table(table)
    told = [*map(row_told, found.rows.values()), *map(letter_told, found.letters.values())]
    if as_json:
        print_json(told)
        return
    for one in told:
        line = "  ".join(str(one.get(name, "-")) for name in ("id", "parked_at", "table", "op", "position", "reason"))
        click.echo(printable(line))
    if not told:
        click.echo("nothing is parked")


@parked.command()
@config_argument
@click.argument("identity", metavar="ID")
@click.option("--values", is_flag=True, help="Show the row's values too.")
@json_option
def show(path: str, identity: str, values: bool, as_json: bool) -> None:
    """Show a row: where it comes from, and why it is parked."""
    told = shown(require_capture(load_config(path)), identity, values=values)
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        click.echo(printable(f"{name:<10} {value}"))


@parked.command()
@_chooses
@click.option(
    "--out-of-order", is_flag=True, help="Copy dead letters although later rows may be in their topics already."
)
def retry(
    path: str, ids: tuple[str, ...], table: str | None, everything: bool, as_json: bool, out_of_order: bool
) -> None:
    """Have rows tried again, with all that waits behind them.

    By the rules and functions that the pipeline has then: restart it first, where these were corrected. What still
    cannot be delivered stays parked. Dead letters are copied to their topics, for which the pipeline is to be stopped.
    """
    _handle(path, "retry", ids, table, everything=everything, as_json=as_json, out_of_order=out_of_order)


@parked.command()
@_chooses
def drop(path: str, ids: tuple[str, ...], table: str | None, everything: bool, as_json: bool) -> None:
    """Give rows up: consumers never see them. What waits behind them is delivered.

    Rows that only wait behind others are dropped where they are named.
    """
    _handle(path, "drop", ids, table, everything=everything, as_json=as_json)


def _handle(
    path: str,
    action: Action,
    ids: tuple[str, ...],
    table: str | None,
    *,
    everything: bool,
    as_json: bool,
    out_of_order: bool = False,
) -> None:
    if sum((bool(ids), table is not None, everything)) != 1:
        raise click.UsageError("name an ID, a --table, or --all", click.get_current_context())
    config = require_capture(load_config(path))
    found = undelivered(config)
    chosen = found.named(ids) if ids else _chosen(found.of_table(table), action)
    if chosen.letters:
        settle(config, action, list(chosen.letters.values()), out_of_order=out_of_order)
    running = ask_for(config, action, chosen.rows) if chosen.rows else None
    if as_json:
        print_json({"rows": list(chosen.rows), "dead_letters": list(chosen.letters), "running": running})
        return
    if chosen.rows:
        when = "" if running else "; the pipeline does not run, and obeys when it is started"
        click.echo(f"asked to {action} {plural(len(chosen.rows), 'row')}{when}")
    if chosen.letters:
        done = "copied" if action == "retry" else "dropped"
        click.echo(f"{done} {plural(len(chosen.letters), 'dead letter')}")
    if not chosen.rows and not chosen.letters:
        click.echo("nothing is parked")


def _chosen(found: ParkedItems, action: Action) -> ParkedItems:
    """Return what is meant where no id is named: to be dropped, what cannot be delivered; to be retried, what can."""
    if action == "drop":
        return ParkedItems({name: row for name, row in found.rows.items() if not row.waits}, found.letters)
    return ParkedItems(found.rows, {name: one for name, one in found.letters.items() if one.can_be_copied})

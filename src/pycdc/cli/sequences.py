"""`pycdc sequences`: sequences that fell behind the ids which events bring along."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import click

from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import ApplyPipeline
from pycdc.errors import ConfigError
from pycdc.observability import logs
from pycdc.operations.humanize import plural
from pycdc.printable import printable
from pycdc.sinks.postgres.sequences import ColumnSequence, advance_sequences, read_sequences


@click.command()
@config_argument
@click.option("--apply", is_flag=True, help="Set those that are behind.")
@click.option(
    "--margin", type=click.IntRange(min=0), default=0, show_default=True, help="How far beyond the greatest value."
)
@json_option
@click.pass_context
def sequences(ctx: click.Context, path: str, apply: bool, margin: int, as_json: bool) -> None:
    """Compare sequences with the columns that they fill.

    Rows that a pipeline writes bring their ids along, and the sequences behind identity and serial columns do not
    notice: the first row that the application inserts by itself would collide. Shown are the sequences of all tables of
    the routes. With --apply, those that are behind are set, in one transaction and never backwards. Do it before the
    application writes again; a pipeline that still runs goes on bringing ids, for which --margin leaves room. The exit
    code is 1 where --apply left one behind, or one cannot be read.
    """
    config = load_config(path)
    logs.configure(level=logging.ERROR)
    if not isinstance(config, ApplyPipeline):
        raise ConfigError(f"{config.name} writes into no tables", hint="give a pipeline with sink.postgres")
    sink = config.sink.postgres
    changed = advance_sequences(sink, margin) if apply else []
    found = read_sequences(sink)
    if as_json:
        names = {one.sequence for one in changed}
        print_json({"sequences": [{**_as_dict(one), "set": one.sequence in names} for one in found]})
    else:
        _show(found, changed)
    if apply and any(one.behind or not one.readable for one in found):
        ctx.exit(1)


def _as_dict(one: ColumnSequence) -> dict[str, Any]:
    return {
        "sequence": one.sequence_name,
        "table": one.table_name,
        "column": one.column,
        "next": one.following,
        "reached": one.reached,
        "step": one.step,
        "readable": one.readable,
        "behind": one.behind,
    }


def _show(found: Sequence[ColumnSequence], changed: Sequence[ColumnSequence]) -> None:
    for one in found:
        click.echo(f"{printable(f'{one.sequence_name} fills {one.table_name}.{one.column}')}: {_described(one)}")
    for name in dict.fromkeys(one.sequence_name for one in changed):
        click.echo(printable(f"set {name}"))
    behind = [one for one in found if one.behind]
    if not found:
        click.echo("no table of the routes has a sequence")
    elif behind:
        click.echo(
            f"{plural(len(behind), 'sequence')} behind; give --apply to set {'it' if len(behind) == 1 else 'them'}"
        )


def _described(one: ColumnSequence) -> str:
    if not one.readable:
        return (
            f"cannot be read: GRANT SELECT, UPDATE ON SEQUENCE {printable(one.sequence_name)} and SELECT on the table"
        )
    most = "the table is empty" if one.reached is None else f"the table has {one.reached}"
    state = click.style("behind", fg="yellow") if one.behind else "fine"
    return f"next {one.following}, {most}, {state}"

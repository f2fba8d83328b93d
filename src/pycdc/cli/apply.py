"""`pycdc apply`: let database, publication and configuration agree, after showing what that takes."""

from __future__ import annotations

import logging
import sys

import click

from pycdc.cli.arguments import config_argument, json_option, load_config, print_json
from pycdc.config.pipeline import ApplyPipeline
from pycdc.connectors.postgres.publication.published_state import CandidateTable
from pycdc.errors import ConfigError
from pycdc.observability import logs
from pycdc.operations.humanize import number
from pycdc.operations.reconcile import Changes, as_dict, carry_out, find, topics
from pycdc.printable import printable, sql_printable

PENDING = 4


@click.command()
@config_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--check", is_flag=True, help="Change nothing; the exit code is 4 if something is to be changed.")
@json_option
@click.pass_context
def apply(ctx: click.Context, path: str, yes: bool, check: bool, as_json: bool) -> None:
    """Capture exactly the tables that are configured.

    Shows which tables will be added to the publication and read, which leave it, which cannot be captured and why, and
    what somebody changed about the publication; asks; does it. Rows are read by the pipeline, while the stream goes on;
    one that does not run reads them when it is started.
    """
    config = load_config(path)
    if isinstance(config, ApplyPipeline):
        raise ConfigError("a pipeline that reads Kafka has no publication", hint="give the configuration of a capture")
    logs.configure(level=logging.ERROR)
    found = find(config)
    todo = found.pending
    if not as_json:
        _show(found)
    elif check or not todo:
        print_json(as_dict(found, applied=False))
    if check or not todo:
        ctx.exit(PENDING if todo else 0)
    if not yes:
        _ask(ctx)
    done = list(carry_out(found))
    if as_json:
        print_json(as_dict(found, applied=True))
        return
    for line in done:
        click.echo(printable(f"done: {line}"))


def _ask(ctx: click.Context) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: give --yes or --check", ctx)
    click.confirm("Do it?", abort=True, err=True)


def _show(changes: Changes) -> None:
    found = changes.plan
    for fact in (*(drift.fact for drift in found.drift), *(narrowed.fact for narrowed in found.narrowed)):
        click.secho(printable(f"! {fact}"), fg="red")
    for table, again in changes.to_read:
        click.secho(printable(f"+ {table}: {_rows(changes, table, again=again)}"), fg="green")
    if changes.config.source.postgres.snapshot == "never":
        for table in found.joining:
            click.secho(printable(f"+ {table}: changes from now on; snapshot is never"), fg="green")
    for ref in found.withdraw:
        later = ", when the pipeline is started with this configuration" * (ref in changes.withdrawn_later)
        click.secho(printable(f"- {ref}: leaves the publication{later}; its topic stays"), fg="yellow")
    for left in found.left_out:
        click.echo(printable(f"  {left}; try: {left.remedy};"))
    if not changes.pending:
        click.echo("nothing to change")
        return
    for statement in changes.statements:
        click.echo(f"  {sql_printable(statement)};")


def _rows(changes: Changes, table: CandidateTable, *, again: bool) -> str:
    rows = table.ref.rows_estimate
    count = "its rows" if rows is None else f"about {number(rows)} rows"
    into = " and ".join(topics(changes, table)) or "the topics of its partitions"
    if changes.slot is None:
        return f"{count} in the first snapshot, into {into}"
    told = f"{count}, op r, go into {into}"
    return f"{told} again; rows deleted meanwhile stay with the consumers" if again else told

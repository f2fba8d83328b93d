"""`pycdc teardown`: remove what a pipeline left on the servers. Topics and schemas stay: others read them."""

from __future__ import annotations

import logging
import sys

import click

from pycdc.cli.arguments import config_argument, load_config
from pycdc.config.pipeline import ApplyPipeline
from pycdc.observability import logs
from pycdc.operations import apply_teardown
from pycdc.operations.teardown import remove
from pycdc.printable import printable


@click.command()
@config_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="End the session that reads the slot: one whose pipeline is gone.")
def teardown(path: str, yes: bool, force: bool) -> None:
    """Drop slot, publication and position.

    Changes since then are not captured; a pipeline started again takes a new snapshot, and so does one that is still
    running: stop it first. Topics and schemas stay.

    Of a pipeline that reads Kafka: its rows in the bookkeeping tables, and these once no pipeline has rows in them, its
    replication origins and its consumer group. Started again, it begins where source.kafka.start says. What it wrote
    stays.
    """
    config = load_config(path)
    logs.configure(level=logging.ERROR)
    if isinstance(config, ApplyPipeline):
        _of_reverse(config, yes=yes, force=force)
        return
    if not yes:
        _ask(f"Drop slot {config.slot}, publication {config.publication} and the stored position of {config.name}?")
    for line in remove(config, force=force):
        click.echo(printable(line))


def _of_reverse(config: ApplyPipeline, *, yes: bool, force: bool) -> None:
    if force:
        raise click.UsageError("--force is about slots, and this pipeline has none", click.get_current_context())
    for line in apply_teardown.plan(config):
        click.echo(printable(f"to be removed: {line}"), err=True)
    if not yes:
        _ask(f"Remove all that {config.name} keeps?")
    for line in apply_teardown.remove(config):
        click.echo(printable(line))


def _ask(question: str) -> None:
    if not _on_terminal():
        raise click.UsageError("there is no terminal to ask on: give --yes", click.get_current_context())
    click.confirm(question, abort=True, err=True)


def _on_terminal() -> bool:
    return sys.stdin.isatty()

"""`pycdc decommission`: what a group of tables left in the old system, and between both, goes."""

from __future__ import annotations

import logging
from dataclasses import asdict

import click

from pycdc.cli.arguments import json_option, print_json
from pycdc.cli.facade import migration_argument
from pycdc.observability import logs
from pycdc.operations.cutover.gates import Gate
from pycdc.operations.cutover.opening import opened_group
from pycdc.operations.decommission.commands import IGNORABLE, Decommission, Report
from pycdc.printable import printable

_DONE = ("decommissioned", "ready")


@click.command()
@migration_argument
@click.argument("name", metavar="GROUP")
@click.option("--now", is_flag=True, help="Without watching the tables for `decommission.quiet` seconds first.")
@click.option(
    "ignored",
    "--ignore",
    multiple=True,
    type=click.Choice(IGNORABLE),
    help="Go on although there are some.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing: show who uses it, and what would be removed.")
@json_option
@click.pass_context
def decommission(
    ctx: click.Context, path: str, name: str, now: bool, ignored: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Remove the old tables of a closed group, and what moved them.

    The first time it begins to watch: the tables go once nobody has read or written them for `decommission.quiet`
    seconds, no session holds them, and nothing depends on them. Then slots, publications, positions, bookkeeping,
    topics, tables, fence and roles are removed, and each is proved gone. What is killed in between goes on where it
    was when it is given again. The exit code is 1 as long as something is in use, watched or left.
    """
    logs.configure(level=logging.ERROR)
    with opened_group(path, name) as (group, facade, folder):
        work = Decommission(group, facade, folder, _show_progress)
        report = work.plan() if dry_run else work.run(now=now, ignored=ignored)
    if as_json:
        print_json({**asdict(report), "gates": [gate.as_dict() for gate in report.gates]})
    else:
        _show(report)
    ctx.exit(0 if report.status in _DONE else 1)


def _show_progress(line: str) -> None:
    click.echo(click.style(printable(line), dim=True), err=True)


def _show(report: Report) -> None:
    for gate in report.gates:
        click.echo(_line(gate))
    for word, remnants in (("there is", report.found), ("gone", report.removed), ("kept", report.kept)):
        for remnant in remnants:
            click.echo(printable(f"{word}: {remnant}"))
    for remnant in report.left:
        click.echo(printable(f"{click.style('LEFT', fg='red')}: {remnant}"))
    click.echo(printable(f"{report.group}: {report.status}"))


def _line(gate: Gate) -> str:
    word = click.style("open  ", fg="green") if gate.open else click.style("closed", fg="red")
    return f"{word} {printable(f'{gate.name}: {gate.reason}')}"

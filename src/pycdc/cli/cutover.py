"""`pycdc cutover`: a group of tables and its writes move to another system, and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from typing import Any

import click

from pycdc.cli.arguments import json_option, print_json
from pycdc.cli.facade import migration_argument
from pycdc.observability import logs
from pycdc.operations.cutover.commands import Cutover, planned
from pycdc.operations.cutover.group_state import GroupState, read_state
from pycdc.operations.cutover.opening import opened_group
from pycdc.operations.cutover.sides import Group
from pycdc.printable import printable


@click.group()
def cutover() -> None:
    """Move a group of tables and its writes to another system.

    following → reading → ready → fenced → drained → verified → switched → watching → closed. The state is in both
    databases. A command that was killed is given again: it goes on, or steps back.
    """
    logs.configure(level=logging.ERROR)


@contextmanager
def opened(path: str, name: str) -> Iterator[tuple[Group, Cutover]]:
    """Yield a group of a migration's file with its commands. Raises PycdcError."""
    with opened_group(path, name) as (group, facade, _):
        yield group, Cutover(group, facade, announce=_announce)


def _announce(text: str) -> None:
    click.echo(click.style(f"{printable(text)} …", dim=True), err=True)


def _command(function: Callable[..., GroupState]) -> Callable[..., None]:
    """Print the state that a command returns; with --dry-run what it would do."""

    @click.option("--dry-run", is_flag=True, help="Change nothing: show the gates, and what would be done.")
    @json_option
    @migration_argument
    @click.argument("name", metavar="GROUP")
    @wraps(function)
    def command(path: str, name: str, as_json: bool, dry_run: bool, **options: Any) -> None:
        with opened(path, name) as (group, commands):
            if dry_run:
                _show_plan(group, commands, function.__name__, as_json)
                return
            _show(name, function(commands, **options), as_json)

    return command


@cutover.command()
@migration_argument
@click.argument("name", metavar="GROUP")
@json_option
@click.pass_context
def check(ctx: click.Context, path: str, name: str, as_json: bool) -> None:
    """Ask all gates. The exit code is 1 where one is closed."""
    with opened(path, name) as (_, commands):
        gates = commands.check()
    if as_json:
        print_json({"group": name, "open": all(gate.open for gate in gates), "gates": [one.as_dict() for one in gates]})
    else:
        for gate in gates:
            colour = "green" if gate.open else "red"
            word = click.style("open  " if gate.open else "closed", fg=colour)
            click.echo(f"{word} {printable(f'{gate.name}: {gate.reason}')}")
    ctx.exit(0 if all(gate.open for gate in gates) else 1)


@cutover.command()
@_command
def start(commands: Cutover) -> GroupState:
    """Begin: the fence around the new system's tables lets only the apply side in."""
    return commands.start()


@cutover.command()
@migration_argument
@click.argument("name", metavar="GROUP")
@json_option
def status(path: str, name: str, as_json: bool) -> None:
    """Show where the group stands."""
    with opened(path, name) as (_, commands):
        _show(name, commands.state(), as_json)


@cutover.command()
@_command
def advance(commands: Cutover) -> GroupState:
    """Take the next step. From `ready` it holds writes and hands them over.

    Where a step fails, or takes longer than max_pause, it steps back by itself: writes stay where they were, and the
    exit code is 1.
    """
    return commands.advance()


@cutover.command(name="roll-back")
@_command
def roll_back(commands: Cutover) -> GroupState:
    """Bring reads and writes back to the old system, without losing what the new one has written."""
    return commands.roll_back()


@cutover.command()
@click.option("--now", is_flag=True, help="Before the rollback window is over.")
@_command
def close(commands: Cutover, now: bool) -> GroupState:
    """Give the way back up."""
    return commands.close(now=now)


def _show_plan(group: Group, commands: Cutover, command: str, as_json: bool) -> None:
    state = read_state(group.connections, group.name)
    gates = commands.check()
    plan = planned(state) if command in ("start", "advance") else command.replace("_", " ")
    if as_json:
        print_json(
            {
                "group": group.name,
                "stage": None if state is None else state.stage,
                "plan": plan,
                "gates": [gate.as_dict() for gate in gates],
            }
        )
        return
    click.echo(printable(f"would: {plan}"))
    for gate in gates:
        if not gate.open:
            click.echo(printable(f"closed {gate.name}: {gate.reason}"))


def _show(name: str, state: GroupState, as_json: bool) -> None:
    if as_json:
        print_json({"group": name, "owner": state.owner, **asdict(state)})
        return
    pause = "" if state.pause is None else f", writes were held for {state.pause:.2f} s"
    note = f" ({state.note})" if state.note else ""
    click.echo(printable(f"{name}: {state.stage}, the {state.owner} system writes{pause}{note}"))

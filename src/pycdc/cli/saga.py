"""`pycdc saga`: the sagas that an apply pipeline follows."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from pycdc.cli.arguments import config_argument, load_config
from pycdc.config.pipeline import ApplyPipeline, require_apply
from pycdc.errors import ApplyError
from pycdc.observability import logs
from pycdc.operations.sagas import Saga, SagaFilter, SagaTotals, list_sagas
from pycdc.printable import json_printable, printable
from pycdc.sinks.postgres.sagas.saga_state import SagaState


@click.group()
def saga() -> None:
    """Show the sagas that a pipeline into Postgres follows (`sink.postgres.sagas`). It may run meanwhile."""
    logs.configure(level=logging.ERROR)


@saga.command("list")
@config_argument
@click.option("--stuck", is_flag=True, help="Only those beyond their time limit, and inconsistent ones.")
@click.option("--saga", "name", help="Only those of a name.")
@click.option("--state", type=click.Choice([state.value for state in SagaState]), help="Only those in a state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
def list_(path: str, stuck: bool, name: str | None, state: str | None, limit: int, to_json: bool) -> None:
    """List sagas, those that changed last first, and how many there were of each.

    Exit code 1 with --stuck where there are any.
    """
    totals, found = list_sagas(_config(path), SagaFilter(stuck, name, state, limit=limit))
    if to_json:
        _print({"totals": [one.as_dict() for one in totals], "sagas": [asdict(one) for one in found]})
    else:
        for one in totals:
            click.secho(printable(_summary(one)), bold=True)
        for each in found:
            click.echo(printable(f"{_time(each.changed_at)}  {each.saga:<16} {_state(each):<20} {each.id}"))
        if not found:
            click.echo("no such saga" if stuck or name or state else "no saga yet")
    if stuck and found:
        click.get_current_context().exit(1)


@saga.command()
@config_argument
@click.argument("number", metavar="ID")
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
def show(path: str, number: str, to_json: bool) -> None:
    """Show a saga: its state, and which events came of it, when, in which records."""
    config = _config(path)
    _, found = list_sagas(config, SagaFilter(id=number))
    if not found:
        raise ApplyError("there is no saga of this id", hint=f"pycdc saga list {path}")
    if to_json:
        _print([asdict(one) for one in found])
        return
    for one in found:
        click.secho(printable(f"{one.saga} {one.id}: {_state(one)}"), bold=True)
        limit = "" if one.deadline is None else f", time limit {_time(one.deadline)}"
        click.echo(printable(f"  started {_time(one.started_at)}{limit}"))
        for kind, seen in one.events():
            at = datetime.fromtimestamp(seen["at"] / 1000, UTC)
            click.echo(printable(f"  {_time(at)}  {kind:<24} {seen['record']}"))
        settings = config.sink.postgres.sagas.get(one.saga)
        missing = [] if settings is None else [step for step in settings.steps if step not in one.seen]
        if missing:
            click.echo(printable(f"  did not come: {', '.join(missing)}"))


def _config(path: str) -> ApplyPipeline:
    return require_apply(load_config(path))


def _summary(totals: SagaTotals) -> str:
    counts = ", ".join(f"{count:,} {state}" for state, count in totals.states.items() if count)
    ratio = totals.success_ratio
    success = "" if ratio is None else f"; success {ratio:.4%}"
    return f"{totals.saga}: {counts or 'none'}; {totals.timed_out:,} timed out, {totals.stuck:,} stuck{success}"


def _state(one: Saga) -> str:
    return f"{one.state}, stuck" if one.stuck else one.state


def _time(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _print(value: Any) -> None:
    click.echo(json_printable(json.dumps(value, default=lambda one: one.isoformat(), ensure_ascii=False)))

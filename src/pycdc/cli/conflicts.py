"""`pycdc conflicts`: what an apply pipeline met and parked, and what becomes of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from pycdc.build.apply import build_replay
from pycdc.cli.arguments import config_argument, load_config
from pycdc.errors import ApplyError
from pycdc.model.event import Partition
from pycdc.observability import logs
from pycdc.printable import json_printable, printable
from pycdc.sinks.postgres.conflicts.conflict import ConflictKind
from pycdc.sinks.postgres.conflicts.conflict_table import as_json
from pycdc.sinks.postgres.conflicts.history import RecordPlace, key_bytes, key_text
from pycdc.sinks.postgres.failures.replay import Replay, Replayed, Waiting


@click.group()
def conflicts() -> None:
    """Show and resolve conflicts of a pipeline into Postgres, and apply what is parked.

    A pipeline may run meanwhile.
    """
    logs.configure(level=logging.ERROR)


@conflicts.command("list")
@config_argument
@click.option("--open", "unresolved", is_flag=True, help="Only those that are parked and wait.")
@click.option("--table", help="Only those of a table.")
@click.option("--kind", type=click.Choice([kind.value for kind in ConflictKind]), help="Only those of a kind.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
def list_(path: str, unresolved: bool, table: str | None, kind: str | None, limit: int, to_json: bool) -> None:
    """List conflicts, the newest first, and the events that are parked."""
    with build_replay(load_config(path)) as replay:
        found = replay.archive.conflicts(unresolved=unresolved, table=table, kind=kind, limit=limit)
        parked = replay.archive.parked(limit)
    if to_json:
        _print({"conflicts": found, "parked": parked})
        return
    for row in found:
        state = row["resolution"] or row["decision"]
        click.echo(printable(f"{row['id']:>6}  {_time(row['detected_at'])}  {row['kind']:<22} {state:<12} {_row(row)}"))
    if not found:
        click.echo("no conflicts")
    if parked:
        click.secho(f"{len(parked)} parked event{'s' * (len(parked) > 1)}", bold=True)
    for row in parked:
        click.echo(printable(f"  {_place(row)}  key {row['key']}  {row['error']} {row['sqlstate'] or ''}".rstrip()))


@conflicts.command()
@config_argument
@click.argument("number", metavar="ID", type=int)
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
def show(path: str, number: int, to_json: bool) -> None:
    """Show a conflict: the event, the row that it met, and what was decided."""
    with build_replay(load_config(path)) as replay:
        found = replay.archive.conflict(number)
    if found is None:
        raise ApplyError(f"there is no conflict {number}", hint=f"pycdc conflicts list {path}")
    if to_json:
        _print(found)
        return
    click.secho(printable(f"{found['kind']} {_row(found)}"), bold=True)
    for name in ("decision", "resolution", "detected_at", "event_time", "current_committed_at", "current_origin"):
        click.echo(printable(f"  {name:<21} {_text(found[name])}"))
    click.echo(printable(f"  {'record':<21} {_place(found)}"))
    for line in _columns(found):
        click.echo(printable(line))


@conflicts.command()
@config_argument
@click.argument("number", metavar="ID", type=int)
@click.option(
    "--with",
    "side",
    type=click.Choice(["incoming", "existing"]),
    required=True,
    help="incoming: write what the event says; existing: keep the row, or write back what it was.",
)
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
def resolve(path: str, number: int, side: str, to_json: bool) -> None:
    """Decide a conflict, parked or decided before.

    One that is parked is applied (or left out), and what waits behind it is replayed.
    """
    with build_replay(load_config(path)) as replay:
        done = replay.resolve(number, side)
    _show([] if done is None else [done], to_json=to_json, said=f"resolved {number} with {side}")


@conflicts.command()
@config_argument
@click.argument("event", metavar="[EVENT]", required=False)
@click.option("--key", help="Events of this key, as `list` shows it.")
@click.option("--all", "everything", is_flag=True, help="All that is parked.")
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
def replay(path: str, event: str | None, key: str | None, everything: bool, to_json: bool) -> None:
    """Apply parked events once more, in their order, by the routes and rules as they are now.

    EVENT is the ID of a conflict or a record (`topic[partition]@offset`): what is parked of its key, until the key is
    free or an event cannot be applied.
    """
    if sum((event is not None, key is not None, everything)) != 1:
        raise click.UsageError("name an EVENT, a --key, or --all", click.get_current_context())
    with build_replay(load_config(path)) as parked:
        done = [parked.replay(waiting) for waiting in _chosen(parked, event, key)]
    _show(done, to_json=to_json, said="nothing is parked")


def _chosen(parked: Replay, event: str | None, key: str | None) -> list[Waiting]:
    waiting = parked.waiting()
    if key is not None:
        return [each for each in waiting if each.key == key_bytes(key)]
    if event is None:
        return waiting
    place = _place_of(parked, event)
    found = parked.behind(place)
    if found is None:
        raise ApplyError(f"{place} is not parked", hint="`pycdc conflicts list` shows what is")
    return [found]


_PLACE = re.compile(r"(.+)\[(\d+)\]@(\d+)")


def _place_of(parked: Replay, event: str) -> RecordPlace:
    match = _PLACE.fullmatch(event)
    if match is not None:
        return RecordPlace(Partition(match[1], int(match[2])), int(match[3]))
    found = parked.archive.conflict(int(event)) if event.isdigit() else None
    if found is None:
        raise ApplyError(f"{event} is neither a conflict nor a record", hint="take either from `pycdc conflicts list`")
    return RecordPlace(Partition(found["topic"], found["partition"]), found["offset"])


# Shown.


def _show(done: list[Replayed], *, to_json: bool, said: str) -> None:
    """Exit code 1 where something is left."""
    if to_json:
        _print([_as_dict(each) for each in done])
    for each in [] if to_json else done:
        events = f"{each.applied} event{'s' * (each.applied != 1)}"
        line = f"{each.waiting.partition} key {key_text(each.waiting.key)}: applied {events}"
        click.echo(printable(f"{line}, {each.left} left: {each.reason}" if each.left else line))
    if not done and not to_json:
        click.echo(said)
    if any(each.left for each in done):
        click.get_current_context().exit(1)


def _as_dict(done: Replayed) -> dict[str, Any]:
    place = {"topic": done.waiting.partition.topic, "partition": done.waiting.partition.number}
    outcome = {"applied": done.applied, "left": done.left, "reason": done.reason}
    return {**place, "key": key_text(done.waiting.key), **outcome}


def _columns(found: Mapping[str, Any]) -> list[str]:
    """Print the three rows side by side."""
    rows = [found[name] for name in ("before", "current", "incoming")]
    names = list(dict.fromkeys(name for row in rows if row for name in row))
    if not names:
        return ["  the rows were not kept"]
    texts = [[name, *(_value(row, name) for row in rows)] for name in names]
    heading = ["column", "event's before", "row", "event"]
    widths = [max(len(line[number]) for line in [heading, *texts]) for number in range(4)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heading, *texts]
    ]


def _value(row: Mapping[str, Any] | None, name: str) -> str:
    return "" if row is None or name not in row else as_json(row[name]) or "null"


def _row(found: Mapping[str, Any]) -> str:
    return f"{found['table']} {as_json(found['key'])}"


def _place(found: Mapping[str, Any]) -> str:
    return f"{found['topic']}[{found['partition']}]@{found['offset']}"


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return _time(value)
    return {None: "-", "": "an application"}.get(value, str(value))


def _time(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%S")


def _print(value: Any) -> None:
    """Numbers keep their digits."""
    click.echo(json_printable(as_json(_plain(value)) or "null"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value

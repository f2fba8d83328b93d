"""Show where a pipeline that writes into tables is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from pycdc.config.pipeline import ApplyPipeline
from pycdc.operations.apply_status import ApplyState, PartitionState
from pycdc.operations.humanize import duration, number, plural
from pycdc.printable import printable


def show(config: ApplyPipeline, found: ApplyState) -> None:
    source = config.source.kafka
    running = f"running, {len(found.members)} of the group" if found.members else "not running"
    click.echo(
        f"{click.style(config.name, bold=True)}: {click.style(running, fg='green' if found.members else 'yellow')}"
    )
    names = [printable(str(place.partition)) for place in found.places]
    width = max(map(len, names), default=0)
    for name, place in zip(names, found.places, strict=True):
        click.echo(f"  {name:<{width}}  {_described(place, source.start)}")
    for label, value in _rows(found):
        click.echo(printable(f"  {label:<16} {value}"))
    for problem in found.problems():
        click.secho(f"  problem          {problem.fact}", fg="red")
        click.echo(f"  try              {problem.hint}")


def _rows(found: ApplyState) -> Iterator[tuple[str, str]]:
    for member in found.members:
        yield "member", f"{member.id} at {member.host}: {', '.join(sorted(map(str, member.partitions))) or 'idle'}"
    if found.bookkeeping is None:
        return
    parked = found.bookkeeping.parked or {}
    if parked:
        reasons = ", ".join(f"{error} {number(count)}" for error, count in parked.items())
        yield "parked", f"{plural(sum(parked.values()), 'record')} ({reasons})"
        yield "blocked", plural(found.bookkeeping.blocked_keys, "key")
    for topic, counts in found.bookkeeping.left_out.items():
        reasons = ", ".join(f"{reason} {number(count)}" for reason, count in counts.items())
        yield "left out", f"{topic}: {plural(sum(counts.values()), 'event')} ({reasons})"
    if found.bookkeeping.conflicts is not None:
        yield "conflicts", number(found.bookkeeping.conflicts)


def _described(place: PartitionState, start: str) -> str:
    stored, behind = place.stored, place.behind(start)
    parts = ["nothing applied yet" if stored is None else f"at {stored.next}, epoch {stored.epoch}"]
    if stored is not None:
        age = (datetime.now(UTC) - stored.applied_at).total_seconds()
        parts.append(f"applied {duration(max(0.0, age))} ago")
    parts.append("end unknown" if behind is None else f"{plural(behind, 'record')} behind")
    return ", ".join(parts)

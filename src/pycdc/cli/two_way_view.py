"""The two-way demonstration on a terminal: from a `TwoWayStatus` to what rich draws, for any size from 80 by 24."""

from __future__ import annotations

from collections import Counter
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pycdc.cli.demo_view import changed, facts, operation, title
from pycdc.demo.report import duration
from pycdc.demo.two_way.conflicts import ConflictRow
from pycdc.demo.two_way.direction import DirectionStatus
from pycdc.demo.two_way.report import arrow
from pycdc.demo.two_way.status import TwoWayAddresses, TwoWayStatus
from pycdc.demo.two_way.tables import PAIRS

_FIXED_LINES: Final = 25
"""Lines that everything but the events takes, the events' frame and heading included."""
_CONFLICT_LINES: Final = 5


def view(status: TwoWayStatus, width: int, height: int) -> RenderableType:
    """Draw the whole screen. The events are shown where there is room for some."""
    parts = [
        title("pycdc demo --two-way", "monolith ⇄ Kafka ⇄ inventory", status.elapsed, status.seconds),
        _addresses(status.addresses),
        _directions(status),
        _conflicts(status),
    ]
    if height > _FIXED_LINES:
        parts.append(_events(status, height - _FIXED_LINES))
    return Group(*parts)


def _frame(content: RenderableType, name: str, lines: int | None = None) -> Panel:
    height = None if lines is None else lines + 2
    return Panel(content, title=name, title_align="left", border_style="dim", box=box.ROUNDED, height=height)


def _addresses(where: TwoWayAddresses) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row("monolith", where.monolith)
    grid.add_row("inventory", where.service)
    grid.add_row("Kafka", f"{where.brokers}   registry {where.registry}")
    return _frame(grid, "look for yourself")


def _directions(status: TwoWayStatus) -> RenderableType:
    grid = Table.grid(expand=True)
    for _ in status.directions:
        grid.add_column(ratio=1)
    grid.add_row(*(_frame(_direction(each), arrow(each)) for each in status.directions))
    return grid


def _direction(status: DirectionStatus) -> Table:
    lag = status.lag
    rows: list[tuple[str, RenderableType]] = [
        ("written", f"{status.written:,}   {status.writing:,.0f}/s"),
        ("captured", f"{status.captured:,}         "),
        ("applied", Text(f"{status.applied:,}   {status.applying:,.0f}/s", "bold")),
        ("lag p50, p99", "-" if lag is None else f"{duration(lag.p50)}, {duration(lag.p99)}"),
        ("echoes", Text(f"{status.echoes:,}", "red bold" if status.echoes else "green")),
    ]
    rows += [(name, _state(state)) for name, state in status.pipelines.items()]
    if status.last_error is not None:
        rows[-1] = ("fault", Text(status.last_error, "red"))
    return facts(rows)


def _state(state: str) -> Text:
    return Text(state, "green" if state == "streaming" else "yellow")


def _conflicts(status: TwoWayStatus) -> RenderableType:
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(
        _frame(_counts(status), "conflicts", _CONFLICT_LINES),
        _frame(_newest(status.newest_conflict), "the newest", _CONFLICT_LINES),
    )
    return grid


def _counts(status: TwoWayStatus) -> RenderableType:
    found = sum((conflicts.counts for conflicts in status.conflicts.values()), Counter[tuple[str, str]]())
    if found:
        most = found.most_common(_CONFLICT_LINES)
        return facts([(kind, f"{winner} wins  {count:,}") for (kind, winner), count in most])
    shared = next(pair for pair in PAIRS if len(pair.writers) > 1)
    return Text(f"none yet; both sides write {shared.monolith} = {shared.service}", "dim")


def _newest(conflict: ConflictRow | None) -> RenderableType:
    if conflict is None:
        return Text()
    return facts(
        [
            (conflict.table, Text(", ".join(map(str, conflict.key.values())), "bold")),
            *((side, _value(value, wins=side == conflict.winner)) for side, value in conflict.values.items()),
            ("seen by", f"to-{conflict.side}: {conflict.kind}"),
        ]
    )


def _value(value: str, *, wins: bool) -> Text:
    return Text.assemble((value, "bold green"), " wins") if wins else Text(value, "dim strike")


def _events(status: TwoWayStatus, lines: int) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", width=8, no_wrap=True)
    table.add_column("table", width=12, no_wrap=True)
    table.add_column("key", width=12, no_wrap=True, overflow="ellipsis")
    table.add_column("what changed", ratio=1, no_wrap=True, overflow="ellipsis")
    for event in status.newest[:lines]:
        key = ", ".join(map(str, event.key.values()))
        table.add_row(operation(event), Text(event.table), Text(key), changed(event))
    return _frame(table, "newest changes, as read back from Kafka", lines + 1)

"""The demonstration on a terminal: from a `DemoStatus` to something that rich draws, for any size from 80 by 24 up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pycdc.demo.event_stats import ConsumedEvent
from pycdc.demo.report import duration, rate, size
from pycdc.demo.status import OPERATIONS, DemoAddresses, DemoStatus, by_operation

_STYLES: Final = {"r": "cyan", "c": "green", "u": "yellow", "d": "red"}
_BARS: Final = " ▁▂▃▄▅▆▇█"
_FIXED_LINES: Final = 17
"""Lines that everything but the events takes, the events' frame and heading included."""
_WIDE: Final = 110


def view(status: DemoStatus, width: int, height: int) -> RenderableType:
    """Draw the whole screen."""
    return Group(
        title("pycdc demo", "Postgres → pycdc → Kafka → this screen", status.elapsed, status.seconds),
        _addresses(status.addresses, width),
        _numbers(status),
        _events(status, max(1, height - _FIXED_LINES), wide=width >= _WIDE),
    )


def title(name: str, picture: str, elapsed: float, seconds: float) -> RenderableType:
    """Return one line: what this is, how far it is, how to end it."""
    row = Table.grid(expand=True)
    row.add_column(no_wrap=True, ratio=1)
    row.add_column(no_wrap=True, justify="right")
    of = f" of {seconds:.0f}" if seconds else ""
    stage = f"{elapsed:.0f}{of} s" if elapsed else "starting"
    row.add_row(
        Text.assemble((f" {name} ", "bold reverse"), f"  {picture}"),
        Text.assemble((stage, "bold"), ("   Ctrl-C ends it ", "dim")),
    )
    return row


def _addresses(where: DemoAddresses, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    grid.add_row("Postgres", where.postgres)
    grid.add_row("Kafka", f"{where.brokers}   {_topics(where, width)}")
    grid.add_row("Registry", where.registry)
    return Panel(grid, title="look for yourself", title_align="left", border_style="dim", box=box.ROUNDED)


def _topics(where: DemoAddresses, width: int) -> str:
    prefix = where.topics[0].rpartition(".")[0]
    names = ",".join(topic.rpartition(".")[2] for topic in where.topics)
    return f"topics {prefix}.{{{names}}}" if width >= _WIDE else f"{len(where.topics)} topics {prefix}.*"


def _numbers(status: DemoStatus) -> RenderableType:
    grid = Table.grid(expand=True)
    for share in (5, 4, 4):  # the counts grow, the rest has its width
        grid.add_column(ratio=share)
    grid.add_row(_frame(_changes(status), "changes"), _frame(_speed(status), "speed"), _frame(_slot(status), "slot"))
    return grid


def _frame(content: RenderableType, title: str) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim", box=box.ROUNDED, height=8)


def _changes(status: DemoStatus) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("written", justify="right", no_wrap=True)
    table.add_column("read", justify="right", no_wrap=True)
    written, read = by_operation(status.written), by_operation(status.read)
    for op, name in OPERATIONS.items():
        table.add_row(Text(name, _STYLES[op]), f"{written[op]:,}", f"{read[op]:,}")
    table.add_row("all", f"{sum(written.values()):,}", f"{sum(read.values()):,}", style="bold")
    return table


def facts(rows: Sequence[tuple[str, RenderableType]]) -> Table:
    """Names and values, a line each."""
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, overflow="ellipsis", ratio=1)
    for name, value in rows:
        table.add_row(name, value)
    return table


def _speed(status: DemoStatus) -> RenderableType:
    lag = status.lag
    told = facts(
        [
            ("events/s", Text(f"{rate(status):,.0f}", "bold")),
            ("lag p50", Text("-" if lag is None else duration(lag.p50), "bold")),
            ("lag p99", "-" if lag is None else duration(lag.p99)),
            ("greatest", "-" if lag is None else duration(lag.greatest)),
        ]
    )
    return Group(told, Text(), Text(sparkline(status.rates[-20:]), "green", justify="right"))


def sparkline(values: tuple[float, ...]) -> str:
    """Draw one bar for each value; the greatest is full."""
    top = max(values, default=0.0)
    return "".join(_BARS[round(value / top * (len(_BARS) - 1))] if top else _BARS[0] for value in values)


def _slot(status: DemoStatus) -> RenderableType:
    slot = status.slot
    rows: list[tuple[str, RenderableType]] = [
        ("pipeline", Text(status.pipeline, "bold green" if status.pipeline == "streaming" else "bold yellow")),
    ]
    if slot is not None:
        rows += [
            ("slot", Text("active", "green") if slot.active else Text("inactive", "yellow")),
            ("confirmed", slot.confirmed),
            ("behind", size(slot.behind)),
            ("WAL kept", size(slot.retained)),
        ]
    return facts(rows)


def _events(status: DemoStatus, lines: int, *, wide: bool) -> RenderableType:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", width=8, no_wrap=True)
    table.add_column("table", width=11, no_wrap=True)
    table.add_column("key", width=22 if wide else 9, no_wrap=True, overflow="ellipsis")
    table.add_column("what changed", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("lag", width=6, justify="right", no_wrap=True)
    for event in status.newest[:lines]:
        lag = "" if event.lag is None else duration(event.lag)
        key = _pairs(event.key) if wide else ", ".join(map(_value, event.key.values()))
        table.add_row(operation(event), Text(event.table), Text(key), changed(event), Text(lag, "dim"))
    shown = min(lines, len(status.newest))
    content: RenderableType = Group(table, *(Text() for _ in range(lines - shown)))
    return Panel(
        content,
        title="newest events, as read back from Kafka",
        title_align="left",
        subtitle=_remark(status),
        border_style="dim",
        box=box.ROUNDED,
    )


def operation(event: ConsumedEvent) -> Text:
    return Text(OPERATIONS.get(event.op, event.op), _STYLES.get(event.op, ""))


def _remark(status: DemoStatus) -> Text | None:
    if status.last_error is not None:
        return Text(f" last fault: {status.last_error} ", "red")
    return Text(f" and {status.others:,} of other sessions ") if status.others else None


def changed(event: ConsumedEvent) -> Text:
    """Show the columns that an update changed, with old and new value; of other events the row."""
    row, before = event.after or {}, event.before or {}
    if event.op == "u" and before:
        text = Text()
        for name, value in row.items():
            if before.get(name) != value:
                old = (f" {_value(before.get(name))}", "dim")
                text.append_text(Text.assemble(", " if text else "", name, old, " → ", (_value(value), "bold")))
        return text
    known = {name: value for name, value in (row or before).items() if name not in event.key and value is not None}
    return Text(_pairs(known), "dim" if event.op == "d" else "")


def _pairs(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in row.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)

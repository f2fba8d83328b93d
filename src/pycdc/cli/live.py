"""The view of a running pipeline on a terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pycdc.cli import live_apply
from pycdc.cli.rate_meter import RateMeter
from pycdc.observability.progress import Progress, TableSnapshot
from pycdc.operations.humanize import duration, number, size
from pycdc.operations.stored_position import shown
from pycdc.printable import printable

_STATE_STYLES = {"streaming": "green", "snapshot": "cyan", "retrying": "red", "stopping": "yellow"}
_ROWS_BESIDE_TABLES = 14
_BAR_WIDTH = 24


class LiveView:
    """Redrawn by `update` a few times a second, on standard error. Log lines appear above it."""

    interval = 0.5

    def __init__(self, name: str, slot: str | None, progress: Progress, url: str | None = None) -> None:
        self._name = name
        self._slot = slot
        self._progress = progress
        self._url = url
        self._meter = RateMeter()
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.update()
        self._live.stop()

    def update(self) -> None:
        rate = self._meter.rate(self._progress.events)
        height = self._console.height - _ROWS_BESIDE_TABLES
        view = picture(self._progress, self._name, self._slot, rate, url=self._url, tables=max(3, height))
        self._live.update(view, refresh=True)

    def say(self, text: str) -> None:
        self._console.print(Text(text, style="bold"))


def picture(
    progress: Progress, name: str, slot: str | None, rate: float, *, url: str | None = None, tables: int = 10
) -> RenderableType:
    """Draw the view as of now. At most `tables` tables are shown, those with most events first."""
    parts: list[RenderableType] = [_summary(progress, slot, rate, url)]
    reading = progress.state == "snapshot" or any(not table.finished for table in list(progress.snapshot))
    if reading and progress.snapshot:
        parts.append(_snapshot(list(progress.snapshot), tables))
    elif progress.applied:
        parts.append(live_apply.tables(progress.applied.copy(), tables))
    elif progress.tables:
        parts.append(_tables(progress.tables.copy(), tables))
    style = _STATE_STYLES.get(progress.state, "white")
    title = Text.assemble((name, "bold"), " ", (progress.state, style))
    return Panel(Group(*parts), title=title, title_align="left", border_style=style, expand=False)


def _summary(progress: Progress, slot: str | None, rate: float, url: str | None) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("events", f"{number(progress.events)}   {number(rate)}/s")
    grid.add_row("lag", _lag(progress))
    if not progress.partitions:
        grid.add_row("position", shown(progress.position) or "none stored yet")
    for name, value in live_apply.summary(progress):
        grid.add_row(name, value)
    for table, count in progress.parked_rows.copy().items():
        refused = table in progress.refused
        text = f"{table}: {number(count)} rows, {'schema refused' if refused else 'taken again'}"
        grid.add_row("parked", Text(printable(text), style="red" if refused else "dim"))
    if slot is not None:
        grid.add_row("slot", Text(_slot(progress, slot)))
    if progress.reconnects:
        grid.add_row("rewinds", number(progress.reconnects))
    if progress.last_error:
        grid.add_row("last error", Text(printable(progress.last_error), style="red"))
    if url is not None:
        grid.add_row("metrics", f"{url}/metrics")
    return grid


def _lag(progress: Progress) -> str:
    seconds = "unknown" if progress.lag_seconds is None else duration(progress.lag_seconds)
    return seconds if progress.lag_bytes is None else f"{seconds}   {size(progress.lag_bytes)}"


def _slot(progress: Progress, slot: str) -> str:
    if progress.slot_state is None:
        return slot
    retained = "" if progress.slot_retained is None else f", {size(progress.slot_retained)} held back"
    return f"{slot}   {progress.slot_state}{retained}"


def _tables(counts: dict[str, int], limit: int) -> Table:
    grid = Table(box=None, padding=(0, 2), header_style="dim")
    grid.add_column("table")
    grid.add_column("events", justify="right")
    busiest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for table, count in busiest[:limit]:
        grid.add_row(Text(printable(table)), number(count))
    if len(busiest) > limit:
        grid.add_row(f"… {len(busiest) - limit} more", number(sum(count for _, count in busiest[limit:])))
    return grid


def _snapshot(tables: list[TableSnapshot], limit: int) -> Table:
    grid = Table(box=None, padding=(0, 2), header_style="dim")
    grid.add_column("table")
    grid.add_column("rows", justify="right")
    grid.add_column("of about", justify="right")
    grid.add_column("a second", justify="right")
    grid.add_column("left", justify="right")
    grid.add_column("")
    # Those that are being read and still to come; finished ones make room.
    unfinished = [table for table in tables if not table.finished]
    visible = (unfinished + [table for table in reversed(tables) if table.finished])[:limit]
    for table in visible:
        estimated = number(table.estimated) if table.estimated else "?"
        rate = "" if table.rate is None or table.finished else number(table.rate)
        left = "" if table.seconds_left is None else duration(table.seconds_left)
        grid.add_row(Text(printable(table.table)), number(table.done), estimated, rate, left, _bar(table))
    if len(tables) > len(visible):
        grid.add_row(f"… {len(tables) - len(visible)} more", "", "", "", "", "")
    return grid


def _bar(table: TableSnapshot) -> RenderableType:
    if table.finished:
        return Text("done", style="green")
    # The estimate may be too low: a bar that is full while rows still come would lie.
    total = max(table.estimated, table.done + 1)
    return ProgressBar(total=total, completed=table.done, width=_BAR_WIDTH)

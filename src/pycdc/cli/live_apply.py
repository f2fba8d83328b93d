"""What the live view says of a pipeline that writes into tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from pycdc.observability.durations import Durations
from pycdc.observability.progress import Progress
from pycdc.operations.humanize import duration, number, plural
from pycdc.printable import printable

_OPERATIONS: Final = ("insert", "upsert", "update", "delete")


def summary(progress: Progress) -> Iterator[tuple[str, Text]]:
    """Rows of the view, by what there is to tell."""
    if progress.partitions:
        records = progress.records_behind
        lag = "lag unknown" if records is None else f"{plural(records, 'record')} behind"
        yield "position", Text(f"{plural(len(progress.partitions), 'partition')}, {lag}")
    if progress.transactions:
        taken = _quantiles(progress.applying)
        yield (
            "transactions",
            Text(f"{number(progress.transactions)}   {taken}, commit {_quantiles(progress.committing)}"),
        )
    for name, counts in (("retries", progress.retried), ("parked", progress.parked)):
        if counts:
            yield name, Text(printable(_by_reason(counts.copy())), style="yellow")
    if progress.skipped:
        yield "skipped", Text(number(sum(progress.skipped.copy().values())))
    if progress.duplicates:
        yield "duplicates", Text(number(sum(progress.duplicates.copy().values())))
    if progress.conflicts:
        yield "conflicts", Text(_by_reason(_decisions(progress)), style="yellow")
    for topic, reason in progress.halted.copy().items():
        yield "halted", Text(printable(f"{topic}: {reason}"), style="red")


def _quantiles(durations: Durations) -> str:
    middle, nearly_all = durations.quantile(0.5), durations.quantile(0.99)
    return "" if middle is None or nearly_all is None else f"p50 {duration(middle)}, p99 {duration(nearly_all)}"


def _by_reason(counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{reason} {number(count)}" for reason, count in sorted(counts.items()))
    return f"{number(sum(counts.values()))}   {named}"


def _decisions(progress: Progress) -> Counter[str]:
    out: Counter[str] = Counter()
    for (_, _, decision), count in progress.conflicts.copy().items():
        out[decision] += count
    return out


def tables(applied: Mapping[tuple[str, str], int], limit: int) -> Table:
    """Rows by table and operation; at most `limit` tables, those with most rows first."""
    totals: Counter[str] = Counter()
    for (table, _), count in applied.items():
        totals[table] += count
    shown = [name for name in _OPERATIONS if any(operation == name for _, operation in applied)]
    grid = Table(box=None, padding=(0, 2), header_style="dim")
    grid.add_column("table")
    for name in shown:
        grid.add_column(name, justify="right")
    busiest = sorted(totals, key=lambda table: (-totals[table], table))
    for table in busiest[:limit]:
        grid.add_row(Text(printable(table)), *(number(applied.get((table, name), 0)) for name in shown))
    if len(busiest) > limit:
        grid.add_row(f"… {len(busiest) - limit} more")
    return grid

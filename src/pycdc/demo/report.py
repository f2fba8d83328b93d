"""The demonstration in plain lines of text."""

from __future__ import annotations

import textwrap

from pycdc.demo.event_stats import ConsumedLag
from pycdc.demo.status import OPERATIONS, DemoAddresses, DemoStatus, DemoSummary, by_operation

_WIDTH = 80
_UNITS = ("B", "kB", "MB", "GB")


def addresses(where: DemoAddresses) -> str:
    """Write where any client can look, a line each."""
    return "\n".join(
        (
            f"  Postgres  {where.postgres}",
            f"  Kafka     {where.brokers}",
            f"  Registry  {where.registry}",
            textwrap.fill(f"  Topics    {' '.join(where.topics)}", _WIDTH, subsequent_indent=" " * 12),
        )
    )


def line(status: DemoStatus) -> str:
    """Write one moment in one line."""
    parts = [
        f"{status.elapsed:4.0f} s",
        f"written {status.written.total():,}",
        f"read back {status.read.total():,}",
        f"{rate(status):,.0f}/s",
        f"lag {lag(status.lag)}",
        "no slot" if status.slot is None else f"slot {size(status.slot.behind)} behind",
        status.pipeline if status.last_error is None else f"{status.pipeline}: {status.last_error}",
    ]
    return " | ".join(parts)


def summary(end: DemoSummary) -> str:
    """Write in a few lines what was proved."""
    written, read = by_operation(end.written), by_operation(end.read)
    lines = [
        f"  written    {end.written.total():>9,}   {_operations(written)}",
        f"  read back  {end.read.total():>9,}   {_operations(read)}",
        f"  {_summary(end)}",
        f"  lag        {lag(end.lag)}, from commit to reader",
        f"  rate       {end.rate:,.0f} events/s",
    ]
    if end.first_event is not None:
        lines.append(f"  start      {end.first_event:.1f} s to the first event")
    if end.slot is not None:
        lines.append(f"  slot       confirmed {end.slot.confirmed}, {size(end.slot.behind)} behind the end of the WAL")
    if end.others:
        lines.append(f"  others     {end.others:,} events of changes that other sessions made")
    return "\n".join(lines)


def _summary(end: DemoSummary) -> str:
    if end.matches:
        return "✓ every change was read back exactly once"
    differences = (f"{table} {OPERATIONS[op]}: {written:,}, {read:,}" for table, op, written, read in end.differences)
    return f"✗ written and read differ: {'; '.join(differences)}"


def _operations(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[op]:,} {name}" for op, name in OPERATIONS.items())


def rate(status: DemoStatus) -> float:
    """Events a second, over the last two seconds."""
    last = status.rates[-4:]
    return sum(last) / len(last) if last else 0.0


def lag(of: ConsumedLag | None) -> str:
    return "-" if of is None else f"p50 {duration(of.p50)}, p99 {duration(of.p99)}"


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(count: int) -> str:
    """Bytes for humans, in powers of 1024."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {_UNITS[unit]}"

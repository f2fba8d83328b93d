"""The two-way demonstration in plain lines of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pycdc.demo.report import lag
from pycdc.demo.two_way.comparison import ComparisonResult
from pycdc.demo.two_way.conflicts import ConflictReader, ConflictRow
from pycdc.demo.two_way.direction import DirectionStatus
from pycdc.demo.two_way.status import TwoWayAddresses, TwoWayStatus, TwoWaySummary
from pycdc.demo.two_way.tables import PAIRS, SERVICE

_MOST_KEYS: Final = 10


def addresses(where: TwoWayAddresses) -> str:
    """Write where any client can look, a line each."""
    return "\n".join(
        (
            f"  monolith   {where.monolith}",
            f"  inventory  {where.service}",
            f"  Kafka      {where.brokers}",
            f"  Registry   {where.registry}",
            "",
            *(f"  {pair.monolith:<8} = {pair.service:<13} written by the {_writers(pair.writers)}" for pair in PAIRS),
        )
    )


def _writers(names: tuple[str, ...]) -> str:
    return " and by the ".join("service" if name == SERVICE else name for name in names)


def line(status: TwoWayStatus) -> str:
    """Write one moment in one line."""
    parts = [f"{status.elapsed:4.0f} s", *map(_direction, status.directions)]
    parts.append(f"echoes {sum(each.echoes for each in status.directions)}")
    parts.append(f"conflicts {sum(side.counts.total() for side in status.conflicts.values())}")
    parts += sorted({each.last_error for each in status.directions if each.last_error is not None})
    return " | ".join(parts)


def _direction(status: DirectionStatus) -> str:
    return f"{arrow(status)} {status.writing:,.0f}/s, {status.applying:,.0f}/s applied, lag {lag(status.lag)}"


def arrow(status: DirectionStatus) -> str:
    return f"{status.start} → {status.end}"


def conflict(of: ConflictRow) -> str:
    """Both values and who won: ``prices LAMP-OAK: 7.50 in monolith, 8.10 in inventory, which wins``."""
    values = ", ".join(
        f"{value} in {side}{', which wins' if side == of.winner else ''}" for side, value in of.values.items()
    )
    return f"{of.table} {', '.join(map(str, of.key.values()))}: {values}"


def summary(end: TwoWaySummary) -> str:
    """Write in a few lines what was proved."""
    lines = []
    for status, measured in zip(end.directions, end.lags, strict=True):
        lines.append(
            f"  {arrow(status):<21} {status.written:,} written, {status.applied:,} applied, lag {lag(measured)}"
        )
    lines.append(f"  echoes     {sum(each.echoes for each in end.directions)}")
    lines += _conflicts(end.conflicts)
    if end.newest_conflict is not None:
        lines.append(f"             the last: {conflict(end.newest_conflict)}")
    lines += [f"  {_outcome(outcome)}" for outcome in end.outcomes]
    if not end.exact:
        lines.append("  ✗ not every write was captured exactly once")
    lines.append(f"  {'✓ both sides are equal' if end.equal else '✗ both sides differ'}")
    return "\n".join(lines)


def _conflicts(sides: dict[str, ConflictReader]) -> Iterable[str]:
    total = sum(side.counts.total() for side in sides.values())
    yield f"  conflicts  {total}"
    for side, found in sides.items():
        for (kind, winner), count in sorted(found.counts.items()):
            yield f"             {count} seen by the {side}'s pipeline: {kind}, {winner} wins"


def _outcome(outcome: ComparisonResult) -> str:
    names = f"{outcome.pair.monolith} = {outcome.pair.service}"
    if outcome.equal:
        return f"{names:<22} {outcome.rows:,} rows, equal"
    found = (("missing", outcome.missing), ("surplus", outcome.surplus), ("different", outcome.different))
    differences = "; ".join(f"{what}: {_keys(keys)}" for what, keys in found if keys)
    return f"{names:<22} {outcome.rows:,} rows, {differences}"


def _keys(keys: tuple[str, ...]) -> str:
    more = len(keys) - _MOST_KEYS
    return ", ".join(keys[:_MOST_KEYS]) + (f" and {more} more" if more > 0 else "")

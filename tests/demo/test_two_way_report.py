"""What the two-way demonstration says and draws, without servers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from rich.console import Console

from pycdc.cli.two_way_view import view
from pycdc.demo.event_stats import ConsumedEvent, ConsumedLag
from pycdc.demo.two_way import report
from pycdc.demo.two_way.comparison import ComparisonResult
from pycdc.demo.two_way.conflicts import ConflictReader, ConflictRow
from pycdc.demo.two_way.direction import DirectionStatus
from pycdc.demo.two_way.status import TwoWayAddresses, TwoWayStatus, TwoWaySummary
from pycdc.demo.two_way.tables import MONOLITH, PAIRS, SERVICE

WHERE = TwoWayAddresses(
    "postgresql://postgres:0123456789abcdef@127.0.0.1:10001/monolith",
    "postgresql://postgres:0123456789abcdef@127.0.0.1:10002/inventory",
    "127.0.0.1:10003",
    "http://127.0.0.1:10004",
)
EQUAL = tuple(ComparisonResult(pair, 24, (), (), ()) for pair in PAIRS)


def conflict(side: str = MONOLITH, decision: str = "keep_local", second: int = 0) -> ConflictRow:
    current, incoming = {"sku": "CUP", "price": 7.5}, {"sku": "CUP", "price": 8.1}
    detected = datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC)
    return ConflictRow(side, "prices", {"sku": "CUP"}, "update_stale", decision, current, incoming, detected)


def direction(start: str, end: str, *, echoes: int = 0, error: str | None = None) -> DirectionStatus:
    lag = ConsumedLag(0.018, 0.034, 0.1)
    states = {start: "streaming", f"to-{end}": "streaming"}
    return DirectionStatus(start, end, 1302, 1302, 1300, echoes, 0, 200.0, 199.0, lag, states, error)


def status(
    echoes: int = 0, error: str | None = None, conflicts: dict[str, ConflictReader] | None = None
) -> TwoWayStatus:
    events = tuple(
        ConsumedEvent("u", "prices", {"sku": "CUP"}, None, {"sku": "CUP", "price": 1}, 1, 1.0, 1.0) for _ in range(9)
    )
    both = direction(MONOLITH, SERVICE, echoes=echoes, error=error), direction(SERVICE, MONOLITH)
    return TwoWayStatus(WHERE, 3.2, 20.0, both, found() if conflicts is None else conflicts, events)


def found() -> dict[str, ConflictReader]:
    return {
        MONOLITH: ConflictReader(Counter({("update_stale", MONOLITH): 5}), conflict(second=1)),
        SERVICE: ConflictReader(Counter({("update_stale", SERVICE): 9}), conflict(SERVICE)),
    }


def summary(*, exact: bool = True, outcomes: tuple[ComparisonResult, ...] = EQUAL, echoes: int = 0) -> TwoWaySummary:
    moment = status(echoes)
    lags = tuple(each.lag for each in moment.directions)
    return TwoWaySummary(moment.directions, exact, lags, moment.conflicts, outcomes, 20.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "decision", "wins"),
    [
        (MONOLITH, "keep_local", MONOLITH),
        (MONOLITH, "apply_remote", SERVICE),
        (SERVICE, "keep_local", SERVICE),
        (SERVICE, "apply_remote", MONOLITH),
    ],
)
def test_who_won_is_told_by_the_sides_own_names(side: str, decision: str, wins: str) -> None:
    """To a pipeline, the row is local and the event is remote."""
    assert conflict(side, decision).winner == wins


def test_a_conflict_is_told_with_both_values_and_who_won() -> None:
    assert report.conflict(conflict()) == "prices CUP: 7.5 in monolith, which wins, 8.1 in inventory"


def test_a_line_tells_both_directions_echoes_and_conflicts() -> None:
    assert report.line(status()) == (
        "   3 s | monolith → inventory 200/s, 199/s applied, lag p50 18 ms, p99 34 ms"
        " | inventory → monolith 200/s, 199/s applied, lag p50 18 ms, p99 34 ms | echoes 0 | conflicts 14"
    )
    assert report.line(status(error="gone")).endswith("| gone")


def test_the_summary_tells_the_newest_conflict_and_that_both_sides_are_equal() -> None:
    end = summary()
    text = report.summary(end)
    assert end.matches
    assert "the last: prices CUP: 7.5 in monolith, which wins, 8.1 in inventory" in text
    assert "prices = price_list    24 rows, equal" in text
    assert text.endswith("✓ both sides are equal")


def test_the_summary_names_the_rows_that_differ_but_not_all_of_many() -> None:
    many = tuple(str(number) for number in range(25))
    end = summary(outcomes=(ComparisonResult(PAIRS[0], 30, ("7",), (), many),))
    text = report.summary(end)
    assert not end.matches
    assert "missing: 7; different: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 15 more" in text
    assert text.endswith("✗ both sides differ")


def test_echoes_are_a_failure_even_where_both_sides_are_equal() -> None:
    end = summary(exact=False, echoes=2)
    assert not end.matches
    assert "echoes     2" in report.summary(end)
    assert "✗ not every write was captured exactly once" in report.summary(end)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (140, 50)])
@pytest.mark.parametrize("moment", [status(), status(conflicts={}), status(error="x" * 300)])
def test_the_view_fits_the_terminal(width: int, height: int, moment: TwoWayStatus) -> None:
    console = Console(width=width, height=height)
    with console.capture() as captured:
        console.print(view(moment, width, height))
    lines = captured.get().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_the_view_shows_the_newest_conflict_with_both_values() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(view(status(), 80, 24))
    text = captured.get()
    assert "7.5 wins" in text
    assert "8.1" in text
    assert "none yet" not in text

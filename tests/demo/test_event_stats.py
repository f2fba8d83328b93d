from __future__ import annotations

from collections import Counter

import pytest

from pycdc.demo.event_stats import HISTORY, NEWEST, ConsumedEvent, EventStats, Latencies
from pycdc.demo.status import DemoSummary, by_operation


def event(op: str = "c", table: str = "orders", *, transaction: int = 1, lag: float = 0.01) -> ConsumedEvent:
    return ConsumedEvent(op, table, {"id": 1}, None, {"id": 1}, transaction, 1000.0, 1000.0 + lag)


def test_quantiles_are_exact_to_two_percent() -> None:
    latencies = Latencies()
    for millisecond in range(1, 1001):
        latencies.add(millisecond / 1000)
    lag = latencies.lag()
    assert lag is not None
    assert lag.p50 == pytest.approx(0.5, rel=0.02)
    assert lag.p99 == pytest.approx(0.99, rel=0.02)
    assert lag.greatest == 1.0


def test_a_lag_of_zero_or_less_does_no_harm() -> None:
    tally = EventStats({1})
    tally.add([event(lag=0.0), event(lag=-0.5)])
    lag = tally.lag()
    assert lag is not None
    assert lag.greatest == 0.0


def test_rows_of_the_snapshot_have_no_lag() -> None:
    tally = EventStats({1})
    tally.add([event("r", lag=60.0)])
    assert tally.lag() is None
    assert tally.recent_lag() is None


def test_changes_of_other_sessions_are_counted_apart() -> None:
    tally = EventStats({7})
    tally.add([event(transaction=7), event(transaction=8), event("r", transaction=8)])
    assert tally.counts() == Counter({("orders", "c"): 1, ("orders", "r"): 1})
    assert tally.others == 1


def test_the_newest_events_come_first_and_are_few() -> None:
    tally = EventStats({1})
    tally.add([event(table=str(number)) for number in range(NEWEST + 10)])
    newest = tally.newest()
    assert len(newest) == NEWEST
    assert [each.table for each in newest[:2]] == [str(NEWEST + 9), str(NEWEST + 8)]


def test_the_history_of_rates_has_a_fixed_length() -> None:
    tally = EventStats({1})
    assert tally.rates() == [0.0] * HISTORY
    tally.add([event()])
    assert len(tally.rates()) == HISTORY


def test_a_summary_names_what_differs() -> None:
    written = Counter({("orders", "c"): 3, ("orders", "u"): 1})
    read = Counter({("orders", "c"): 2, ("orders", "u"): 1, ("products", "d"): 1})
    summary = DemoSummary(written, read, 0, 0, 1.0, None, None, None)
    assert not summary.matches
    assert summary.differences == [("orders", "c", 3, 2), ("products", "d", 0, 1)]
    assert by_operation(written) == {"r": 0, "c": 3, "u": 1, "d": 0}

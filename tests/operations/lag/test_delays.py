"""Percentiles, and what becomes of what never arrived."""

from __future__ import annotations

from pycdc.operations.lag.delays import Delays, DelaySummary, LagMeasurement, Marks


def summary_of(*seconds: float) -> DelaySummary | None:
    delays = Delays()
    delays.add(seconds)
    return delays.summary()


def test_a_percentile_is_the_least_sample_that_so_many_do_not_exceed() -> None:
    assert summary_of(*(n / 100 for n in range(100, 0, -1))) == DelaySummary(100, 0.5, 0.9, 0.99, 1.0)


def test_one_sample_is_every_percentile() -> None:
    assert summary_of(0.25) == DelaySummary(1, 0.25, 0.25, 0.25, 0.25)


def test_without_samples_nothing_is_claimed() -> None:
    assert summary_of() is None


def test_clocks_that_disagree_make_no_negative_delay() -> None:
    assert summary_of(-0.001) == DelaySummary(1, 0.0, 0.0, 0.0, 0.0)


def test_what_waits_longer_than_all_that_arrived_is_counted() -> None:
    delays = Delays()
    delays.add([0.1, 0.2])
    assert delays.add_overdue([0.15, 3.0, 5.0]) == 2
    found = delays.summary()
    assert found is not None
    assert (found.samples, found.max) == (4, 5.0)


def test_a_mark_is_passed_once_by_the_reader_that_gets_there() -> None:
    marks = Marks()
    for place, at in ((10, 1.0), (20, 2.0), (20, 2.5), (30, 3.0)):
        marks.put(place, at)
    assert marks.passed(9, 4.0) == []
    assert marks.passed(25, 4.0) == [3.0, 2.0]
    assert marks.passed(25, 5.0) == []
    assert marks.waiting(5.0) == [2.0]


def test_the_delay_that_counts_is_the_one_that_reaches_furthest() -> None:
    some = DelaySummary(1, 0.0, 0.0, 0.0, 0.0)
    for present, decisive in (
        (("stored",), "stored"),
        (("stored", "delivered"), "delivered"),
        (("stored", "probe"), "probe"),
        (("stored", "probe", "applied"), "applied"),
        ((), None),
    ):
        assert LagMeasurement("shop", 1.0, "bytes", 0, 0, dict.fromkeys(present, some)).decisive == decisive

from __future__ import annotations

import pytest

from pycdc.cli.rate_meter import RateMeter
from pycdc.operations.humanize import duration, number, plural, size


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (1536, "1.5 kB"), (5 * 2**40, "5.0 TB"), (2**60, "1024.0 PB")],
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.34, "340 ms"), (4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_are_readable() -> None:
    assert number(1234567) == "1,234,567"
    assert (plural(1, "table"), plural(3, "table")) == ("1 table", "3 tables")


def test_the_rate_is_of_the_last_seconds() -> None:
    clock = [0.0]
    meter = RateMeter(lambda: clock[0])
    assert meter.rate(0) == 0
    clock[0] = 1.0
    assert meter.rate(1000) == 1000
    for second in range(2, 20):
        clock[0] = float(second)
        rate = meter.rate(1000)
    assert rate == 0

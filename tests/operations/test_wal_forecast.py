"""When the WAL that a slot holds back reaches its limit."""

from __future__ import annotations

import pytest

from pycdc.operations.wal_forecast import WalForecast

MB = 1_000_000


def test_steady_growth_is_carried_on() -> None:
    forecast = WalForecast()
    for second in range(0, 61, 5):
        forecast.add(100.0 + second, 10 * MB + second * MB)
    assert forecast.rate == pytest.approx(MB)
    assert forecast.seconds_until(3600 * MB) == pytest.approx(3600)
    assert forecast.seconds_until(-5) == 0


def test_nothing_is_foreseen_without_growth_a_limit_or_enough_time() -> None:
    forecast = WalForecast()
    assert forecast.seconds_until(MB) is None
    forecast.add(0, MB)
    forecast.add(9, 2 * MB)
    assert forecast.seconds_until(MB) is None
    forecast.add(20, 2 * MB)
    assert forecast.seconds_until(None) is None
    assert forecast.seconds_until(MB) is not None
    still = WalForecast()
    still.add(0, MB)
    still.add(60, MB)
    assert still.seconds_until(MB) is None


def test_what_was_confirmed_meanwhile_begins_the_rate_anew() -> None:
    forecast = WalForecast()
    forecast.add(0, 0)
    forecast.add(60, 600 * MB)
    forecast.add(65, 0)
    assert forecast.rate is None
    forecast.add(80, 15 * MB)
    assert forecast.rate == pytest.approx(MB)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    forecast = WalForecast()
    for minute in range(30):
        forecast.add(60.0 * minute, minute * MB if minute < 10 else (10 + 10 * (minute - 10)) * MB)
    assert forecast.rate == pytest.approx(10 * MB / 60)

from __future__ import annotations

import pytest

from pycdc.observability.capture_lag import FRESH, CaptureLag


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag(clock: Clock) -> CaptureLag:
    return CaptureLag(clock, clock)


def test_nobody_knows_before_both_ends_were_seen(lag: CaptureLag) -> None:
    assert (lag.seconds(), lag.bytes()) == (None, None)
    lag.measured(500)
    assert (lag.seconds(), lag.bytes()) == (None, None)


def test_it_is_zero_when_all_was_delivered(lag: CaptureLag) -> None:
    lag.measured(500)
    lag.reached(500)
    assert (lag.seconds(), lag.bytes()) == (0.0, 0)


def test_it_grows_while_nothing_is_delivered_and_while_the_server_decodes(lag: CaptureLag, clock: Clock) -> None:
    lag.measured(500)
    lag.reached(500)
    for seconds in (1, 2, 100):
        clock.now = 1000.0 + seconds
        lag.measured(500 + 10 * seconds)
        assert (lag.seconds(), lag.bytes()) == (seconds, 10 * seconds)


def test_it_grows_while_the_server_is_away(lag: CaptureLag, clock: Clock) -> None:
    lag.measured(500)
    lag.reached(500)
    clock.now += FRESH + 85
    assert lag.seconds() == FRESH + 85


def test_it_is_never_more_than_the_age_of_the_newest_commit_that_was_delivered(lag: CaptureLag, clock: Clock) -> None:
    lag.measured(500)
    lag.reached(500)
    clock.now += 60
    lag.measured(5000)
    lag.reached(4000, commit=clock.now - 3)
    assert lag.seconds() == 3
    assert lag.bytes() == 1000


def test_many_measurements_take_no_more_room_and_the_oldest_still_counts(lag: CaptureLag, clock: Clock) -> None:
    lag.measured(0)
    lag.reached(0)
    for number in range(1, 10_000):
        clock.now += 1
        lag.measured(number)
    assert lag.seconds() == 9999
    lag.reached(5000)
    assert 4999 <= lag.seconds() <= 6500  # type: ignore[operator]
    assert len(lag._waiting) <= 1024


def test_what_was_read_is_behind_until_it_is_durable(lag: CaptureLag, clock: Clock) -> None:
    lag.measured(500)
    lag.reached(500)
    lag.arrived(400)
    assert lag.seconds() == 0, "it was delivered before"
    lag.arrived(600)
    clock.now += 2
    assert (lag.seconds(), lag.bytes()) == (2, 100)
    lag.reached(600)
    assert (lag.seconds(), lag.bytes()) == (0, 0)


def test_nobody_knows_that_nothing_is_missing_once_the_stream_broke(lag: CaptureLag, clock: Clock) -> None:
    lag.measured(500)
    lag.reached(500)
    lag.interrupted()
    clock.now += 1
    assert (lag.seconds(), lag.bytes()) == (1, None)
    lag.measured(500)
    assert (lag.seconds(), lag.bytes()) == (0, 0)

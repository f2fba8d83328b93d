"""Who wins, decided without a server."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pycdc.config.postgres_sink import ConflictRule
from pycdc.model.event import Event, Partition
from pycdc.sinks.postgres.conflicts.conflict import (
    Conflict,
    Decision,
    Undecided,
    decide,
    event_is_last,
    matches_before,
    source_time,
    time_from,
)
from pycdc.sinks.postgres.conflicts.conflict import (
    ConflictKind as Kind,
)
from tests.generated_examples import examples

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(milliseconds: float) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def conflict(**changes: Any) -> Conflict:
    made = Conflict(
        "public.items",
        Kind.UPDATE_ORIGIN_DIFFERS,
        {"id": 1},
        current={"id": 1, "name": "secret"},
        incoming={"name": "secret"},
        before=None,
        event_time=at(0),
        current_time=at(0),
        origin="",
    )
    return replace(made, **changes)


def rule(default: str, **options: Any) -> ConflictRule:
    return ConflictRule.model_validate({"default": default, **options})


@pytest.mark.parametrize(
    ("chosen", "kind", "decision"),
    [
        (rule("apply_remote"), Kind.UPDATE_ORIGIN_DIFFERS, Decision.APPLY_REMOTE),
        (rule("keep_local"), Kind.DELETE_ORIGIN_DIFFERS, Decision.KEEP_LOCAL),
        (rule("version", version="v"), Kind.UPDATE_STALE, Decision.KEEP_LOCAL),
        (rule("version", version="v"), Kind.UPDATE_MISSING, Decision.APPLY_REMOTE),
        (rule("park"), Kind.INSERT_EXISTS, Decision.PARKED),
    ],
)
def test_a_rule_decides(chosen: ConflictRule, kind: Kind, decision: Decision) -> None:
    assert decide(conflict(kind=kind), chosen, None) is decision


@pytest.mark.parametrize(
    ("event", "row", "tie", "wins"),
    [
        (5, 3, "existing", True),
        (3, 5, "incoming", False),
        (3, 3, "incoming", True),
        (3, 3, "existing", False),
        (3, 3.999, "incoming", True),  # the server knows microseconds, the event does not
    ],
)
def test_the_later_write_wins_and_a_side_where_there_is_none(event: float, row: float, tie: str, wins: bool) -> None:
    chosen = rule("last_write_wins", tie=tie)
    assert event_is_last(conflict(event_time=at(event), current_time=at(row)), chosen) is wins


def test_times_of_a_column_are_compared_as_they_are() -> None:
    """Two writes of one side in a millisecond come in their order, and no writer tells that they are of one side."""
    chosen = rule("last_write_wins", row_time="changed", event_time="changed", tie="existing")
    assert event_is_last(conflict(event_time=at(3.002), current_time=at(3.001)), chosen)


def test_within_the_skew_clocks_decide_nothing_and_who_knew_the_row_wins() -> None:
    chosen = rule("last_write_wins", skew=1, tie="existing")
    close = conflict(event_time=at(900), current_time=at(0))
    assert not event_is_last(close, chosen)
    assert event_is_last(replace(close, agrees=True), chosen)
    assert event_is_last(replace(close, event_time=at(1001)), chosen)


def test_a_delete_that_did_not_know_an_applications_row_loses() -> None:
    chosen = rule("last_write_wins")
    removal = conflict(kind=Kind.DELETE_ORIGIN_DIFFERS, incoming=None, before={"id": 1, "name": "a"}, event_time=at(9))
    assert not event_is_last(removal, chosen)
    assert event_is_last(replace(removal, agrees=True), chosen)


@pytest.mark.parametrize("told", [{"before": None}, {"before": {"id": 1}}, {"remembered": True}])
def test_the_time_of_a_delete_counts_where_it_tells_no_row_and_where_the_row_is_an_events(told: Any) -> None:
    chosen = rule("last_write_wins", tie="existing")
    removal = conflict(kind=Kind.DELETE_ORIGIN_DIFFERS, incoming=None, **{"before": {"id": 1, "name": "a"}, **told})
    for event, wins in ((1, True), (0, False), (-1, False)):
        assert event_is_last(replace(removal, event_time=at(event)), chosen) is wins


def test_a_row_that_is_gone_has_the_time_of_its_delete_where_that_is_remembered() -> None:
    chosen = rule("last_write_wins", tie="existing")
    gone = conflict(kind=Kind.UPDATE_DELETED, current=None, remembered=True)
    assert not event_is_last(gone, chosen)
    assert event_is_last(replace(gone, event_time=at(1)), chosen)
    assert event_is_last(replace(gone, remembered=False), chosen)


def test_an_event_that_knew_the_row_is_no_conflict_but_where_times_or_versions_decide() -> None:
    agreed = conflict(agrees=True)
    assert matches_before(agreed, rule("apply_remote"))
    assert matches_before(agreed, rule("keep_local"))
    assert not matches_before(agreed, rule("last_write_wins"))
    assert not matches_before(conflict(), rule("apply_remote"))


# A function.


@pytest.mark.parametrize(
    ("answer", "decision"),
    [
        ("apply_remote", Decision.APPLY_REMOTE),
        ("keep_local", Decision.KEEP_LOCAL),
        ("park", Decision.PARKED),
        ({"name": "both"}, {"name": "both"}),
    ],
)
def test_a_function_decides(answer: Any, decision: Any) -> None:
    chosen = rule("python", function="shop.rules:decide")
    assert decide(conflict(), chosen, lambda met: answer) == decision


@pytest.mark.parametrize("answer", [None, "yes", 1, {1: "x"}, ["name"]])
def test_an_answer_that_means_nothing_is_told_with_the_functions_name(answer: Any) -> None:
    with pytest.raises(Undecided, match=r"shop\.rules:decide returned"):
        decide(conflict(), rule("python", function="shop.rules:decide"), lambda met: answer)


def test_a_function_that_fails_is_named_and_its_words_are_not_shown() -> None:
    def fails(met: Conflict) -> Any:
        raise KeyError(met.current["name"] if met.current else "")

    with pytest.raises(Undecided) as raised:
        decide(conflict(), rule("python", function="shop.rules:decide"), fails)
    assert str(raised.value) == "shop.rules:decide raised KeyError"
    assert "secret" not in repr(conflict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"default": "python"}, "function"),
        ({"default": "version"}, "version: column"),
        ({"default": "apply_remote", "version": "v"}, "decides nothing"),
        ({"default": "apply_remote", "skew": 1}, "has skew"),
        ({"default": "whoever"}, "default"),
        ({"default": "keep_local", "columns": {"q": "delta"}}, "detect: old_values"),
        ({"default": "last_write_wins", "columns": {"q": "delta"}}, "row_time: column"),
        ({"default": "last_write_wins", "row_time": "t", "event_time": "t", "skew": 1}, "skew and row_time"),
        ({"default": "last_write_wins", "row_time": "t"}, "event_time: field"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ConflictRule.model_validate(options)


def test_a_word_is_a_rule() -> None:
    assert ConflictRule.model_validate("keep_local").default == "keep_local"


# Times.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000_123, datetime(2023, 11, 14, 22, 13, 20, 123000, UTC)),
        (Decimal(0), datetime(1970, 1, 1, tzinfo=UTC)),
        ("2026-01-01T01:00:00+01:00", START),
        ("2026-01-01 00:00:00", START),
        (START.replace(tzinfo=None), START),
        ("infinity", None),
        (10**300, None),
        (True, None),
        (None, None),
        ({}, None),
    ],
)
def test_a_time_is_read_however_it_is_written(value: Any, expected: datetime | None) -> None:
    assert time_from(value) == expected


def test_the_time_of_an_event_is_its_sources_and_else_the_records() -> None:
    event = Event(Partition("items", 0), 0, 1000, envelope={"op": "u", "source": {"ts_ms": 5000}})
    assert source_time(event) == time_from(5000)
    assert source_time(Event(Partition("items", 0), 0, 1000)) == time_from(1000)


# Both sides.


class Side:
    """A database with one row, as two pipelines see it: by its last writer, or by a column with its time."""

    def __init__(self, tie: str, *, by_column: bool) -> None:
        self.rule = rule(
            "last_write_wins", tie=tie, **({"row_time": "changed", "event_time": "changed"} if by_column else {})
        )
        self.by_column = by_column
        self.value, self.time, self.local = 0, -1, False
        self.inbox: deque[tuple[int, int]] = deque()

    def write(self, value: int, clock: int) -> tuple[int, int]:
        if self.by_column:
            clock = max(clock, self.time + 1)
        self.value, self.time, self.local = value, clock, True
        return value, clock

    def receive(self) -> int:
        """The earliest time at which it can be: an event takes a millisecond."""
        value, time = self.inbox.popleft()
        met = conflict(event_time=at(time), current_time=at(self.time))
        if not (self.local or self.by_column) or event_is_last(met, self.rule):
            self.value, self.time, self.local = value, time, False
        return time + 1


@examples(250)
@given(
    st.lists(st.tuples(st.sampled_from(["write a", "write b", "a hears", "b hears"]), st.integers(0, 2))),
    st.booleans(),
)
def test_whatever_the_order_both_sides_end_with_the_same_row(steps: list[tuple[str, int]], by_column: bool) -> None:
    """Both may write in the same millisecond: then the side decides."""
    a, b = Side("incoming", by_column=by_column), Side("existing", by_column=by_column)
    clock = 0
    for number, (step, passed) in enumerate(steps, 1):
        clock += passed
        here, there = (a, b) if step in ("write a", "a hears") else (b, a)
        if step.startswith("write"):
            there.inbox.append(here.write(number, clock))
        elif here.inbox:
            clock = max(clock, here.receive())
    for side in (a, b):
        while side.inbox:
            side.receive()
    assert a.value == b.value

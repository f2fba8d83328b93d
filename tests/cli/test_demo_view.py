from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from pycdc.cli.demo_view import changed, sparkline, view
from pycdc.demo.event_stats import ConsumedEvent
from pycdc.demo.status import DemoStatus
from tests.demo.test_report import WHERE, status


def event(op: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> ConsumedEvent:
    return ConsumedEvent(op, "order_lines", {"order_id": 88, "line": 2}, before, after, 1, 10.0, 10.012)


def drawn(shown: DemoStatus, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(view(shown, width, height))
    return capture.get().rstrip("\n").split("\n")


ROW = {"order_id": 88, "line": 2, "sku": "LAM-O-1", "price": Decimal("214.20"), "note": "a note far too long" * 9}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60)])
@pytest.mark.parametrize("events", [0, 3, 64])
def test_the_view_fills_the_screen_exactly(width: int, height: int, events: int) -> None:
    lines = drawn(status(newest=(event("c", None, ROW),) * events), width, height)
    assert len(lines) == height
    assert {len(line) for line in lines[1:]} == {width}
    assert len(lines[0]) <= width


def test_every_address_and_number_can_be_read_at_80_by_24() -> None:
    text = "\n".join(drawn(status(newest=(event("c", None, ROW),)), 80, 24))
    for part in (WHERE.postgres, WHERE.brokers, WHERE.registry, "1,200", "12 ms", "0/15", "streaming", "3 of 20 s"):
        assert part in text


def test_the_first_moment_can_be_drawn() -> None:
    text = "\n".join(drawn(status(newest=(), rates=(), lag=None, slot=None, elapsed=0.0), 80, 24))
    assert "starting" in text


def test_an_error_of_the_pipeline_is_shown() -> None:
    fact = "the broker at 127.0.0.1:2 is gone, and so is its friend"
    assert fact in "\n".join(drawn(status(last_error=fact), 80, 24))


def test_events_of_other_sessions_are_mentioned() -> None:
    assert "1,234 of other sessions" in "\n".join(drawn(status(others=1234), 80, 24))


def test_values_are_text_and_never_markup() -> None:
    text = "[red]sku"
    line = ConsumedEvent("c", text, {"sku": text}, None, {"note": text}, 1, 10.0, 10.0)
    assert "\n".join(drawn(status(newest=(line,)), 120, 24)).count(text) == 3


def test_an_update_shows_the_columns_that_changed() -> None:
    before = {"order_id": 88, "line": 2, "sku": "A", "price": Decimal("1.00"), "note": None}
    text = changed(event("u", before, {**before, "price": Decimal("2.50"), "note": "x"}))
    assert text.plain == "price 1.00 → 2.50, note null → x"


def test_an_update_without_old_row_shows_the_new_one() -> None:
    assert changed(event("u", None, {"order_id": 88, "line": 2, "sku": "A"})).plain == "sku A"


def test_a_delete_shows_what_is_known_of_the_old_row() -> None:
    assert changed(event("d", {"order_id": 88, "line": 2, "sku": "A", "note": None}, None)).plain == "sku A"


@pytest.mark.parametrize(("values", "bars"), [((), ""), ((0.0, 0.0), "  "), ((0.0, 50.0, 100.0), " ▄█"), ((5.0,), "█")])
def test_a_sparkline_has_a_bar_a_value(values: tuple[float, ...], bars: str) -> None:
    assert sparkline(values) == bars

"""Changes that a capture sends twice are added once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.sinks.postgres.rig import TABLES, Process, Rig

pytestmark = pytest.mark.pg("newest")

RULE = {"topic": "items", "table": "items", "conflict": {"columns": {"quantity": "delta"}, "detect": "none"}}
DELTA = {"topic": "items", "table": "items", "operation": "delta", "delta": {"quantity": "by"}, "set": {}}


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


def change(op: str, at: tuple[int | None, int], before: Any, after: Any, ms: int | None = None, db: str = "a") -> Any:
    previous, lsn = at
    told = "null" if previous is None else f'"{previous}"'
    sequence = f'[{told},"{lsn}"]'
    source = {"name": "shop", "db": db, "sequence": sequence, "lsn": lsn, "ts_ms": ms or 1000 * (previous or 0)}
    key = {"id": (after or before)["id"]}
    return key, {"op": op, "before": before, "after": after, "source": source}


def row(number: int, quantity: int) -> dict[str, Any]:
    return {"id": number, "quantity": quantity}


def history() -> list[Any]:
    """Two transactions, of which the first has two changes of one WAL record; and a key that changes."""
    return [
        change("c", (None, 100), None, row(1, 10)),
        change("c", (None, 100), None, row(2, 20)),
        change("u", (200, 210), row(1, 10), row(1, 15)),
        change("u", (200, 220), row(2, 20), row(2, 22)),
        change("d", (300, 310), row(1, 15), None),
        change("c", (300, 310), None, row(3, 15)),
        change("u", (400, 305), row(3, 15), row(3, 18)),
    ]


def quantities(rig: Rig) -> list[tuple[int, int]]:
    return [(number, quantity) for number, quantity in rig.sql("SELECT id, quantity FROM items ORDER BY 1")]


@pytest.mark.parametrize("begins", range(7))
@pytest.mark.parametrize("size", [1, 100])
def test_what_is_sent_again_from_any_place_on_is_added_once(rig: Rig, begins: int, size: int) -> None:
    process = rig.process(RULE)
    rig.sql("INSERT INTO items (id, quantity) VALUES (4, 0)")
    events = [*history(), *history()[begins:], change("u", (500, 510), row(3, 18), row(3, 19))]
    for first in range(0, len(events), size):
        assert process.apply(*events[first : first + size]) is None
    assert quantities(rig) == [(2, 22), (3, 19), (4, 0)]
    assert process.progress.duplicates["items"] == 7 - begins


def test_what_others_wrote_meanwhile_is_kept(rig: Rig) -> None:
    process = rig.process(RULE)
    process.apply(*history())
    rig.sql("UPDATE items SET quantity = quantity + 1000 WHERE id = 3")
    another = rig.process(RULE)
    another.apply(*history(), change("u", (500, 510), row(3, 18), row(3, 19)))
    assert quantities(rig) == [(2, 22), (3, 1019)]


def test_a_null_value_that_is_sent_again_does_not_delete_what_was_made_since(rig: Rig) -> None:
    process = rig.process(RULE)
    life = [
        change("c", (100, 110), None, row(1, 5)),
        change("d", (200, 210), row(1, 5), None),
        ({"id": 1}, None),
        change("c", (300, 310), None, row(1, 7)),
    ]
    process.apply(*life)
    process.apply(*life[1:])
    assert quantities(rig) == [(1, 7)]


def test_envelopes_that_a_delta_adds_are_added_once(rig: Rig) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    process = rig.process(DELTA)
    moves = [change("c", (n * 100, n * 100 + 1), None, {"id": 1, "by": n}) for n in range(1, 6)]
    process.apply(*moves)
    process.apply(*moves[2:])
    assert quantities(rig) == [(1, 15)]


def test_a_log_that_goes_back_in_position_and_on_in_time_is_refused_by_name(rig: Rig) -> None:
    process = rig.process(RULE, on_error="park")
    process.apply(*history())
    strange = change("u", (50, 60), row(2, 22), row(2, 23), ms=1_000_000)
    assert process.apply(strange, change("u", (50, 70), row(3, 18), row(3, 20), db="b")) is None
    assert quantities(rig) == [(2, 22), (3, 20)]
    [(detail,)] = rig.sql("SELECT detail FROM pycdc.parked")
    assert "position" in detail


def test_a_pipeline_that_is_told_to_read_again_adds_again(rig: Rig) -> None:
    rig.process(RULE).apply(*history())
    rig.sql("DELETE FROM pycdc.apply_offsets; DELETE FROM items")
    process: Process = rig.process(RULE)
    rig.ends.clear()
    process.apply(*history())
    assert quantities(rig) == [(2, 22), (3, 18)]


def test_events_without_a_position_are_added_and_it_is_said_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.sql("INSERT INTO items (id) VALUES (1)")
    process = rig.process(DELTA)
    process.apply({"id": 1, "by": 2})
    process.apply({"id": 1, "by": 3})
    assert quantities(rig) == [(1, 5)]
    assert caplog.text.count("do not tell their position") == 1

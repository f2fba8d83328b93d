"""Parents and children, on a real Postgres: in which order rows are written, who waits for whom, and who is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.errors import ApplyError
from tests.sinks.postgres.rig import Rig

pytestmark = pytest.mark.pg("newest")

TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, total int CHECK (total > 0));
CREATE TABLE lines (id int PRIMARY KEY, order_id int REFERENCES orders, note text);
CREATE TABLE notes (id int PRIMARY KEY, line_id int REFERENCES lines);
"""
CHILDREN_FIRST = tuple({"topic": name, "table": name} for name in ("notes", "lines", "orders"))


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    yield rig
    rig.close()


def row(topic: str, number: int, **columns: Any) -> tuple[str, Any, Any]:
    return topic, number, {"id": number, **columns}


def gone(topic: str, number: int) -> tuple[str, Any, Any]:
    return topic, {"id": number}, None


def test_parents_are_written_before_children_and_deleted_after_them_whatever_the_routes_say(rig: Rig) -> None:
    process = rig.process(*CHILDREN_FIRST, wait_for_parents=0)
    assert process.feed(row("notes", 1, line_id=1), row("lines", 1, order_id=1), row("orders", 1)) is None
    assert rig.sql(
        "SELECT count(DISTINCT x) FROM (SELECT xmin::text x FROM orders UNION ALL SELECT xmin::text FROM notes) t"
    ) == [(1,)]
    assert process.feed(gone("orders", 1), gone("lines", 1), gone("notes", 1)) is None
    assert rig.sql("SELECT 1 FROM orders UNION ALL SELECT 1 FROM lines UNION ALL SELECT 1 FROM notes") == []


def test_beside_a_bad_row_deletes_still_find_their_order(rig: Rig) -> None:
    """Bisection writes event by event: a parent's delete that comes first is tried again behind its child's."""
    process = rig.process(*CHILDREN_FIRST, wait_for_parents=0, on_error="park")
    process.feed(row("orders", 1), row("lines", 1, order_id=1), row("notes", 1, line_id=1))
    process.feed(gone("orders", 1), row("orders", 2, total=-1), row("orders", 3), gone("lines", 1), gone("notes", 1))
    assert rig.sql("SELECT id FROM orders") == [(3,)]
    assert rig.sql("SELECT error FROM pycdc.parked") == [("CheckViolation",)]


@pytest.mark.parametrize("deferral", ["DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_circle_is_deferred_and_who_violates_it_is_found_by_name(rig: Rig, deferral: str) -> None:
    rig.sql(f"ALTER TABLE orders ADD last int, ADD FOREIGN KEY (last) REFERENCES lines {deferral}")
    process = rig.process(*CHILDREN_FIRST, wait_for_parents=0, on_error="park")
    assert process.feed(row("orders", 1, last=1), row("lines", 1, order_id=1)) is None
    assert rig.sql("SELECT last FROM orders") == [(1,)]
    process.feed(row("orders", 2, last=9), row("lines", 2, order_id=1), row("orders", 3))
    assert rig.sql("SELECT id FROM orders ORDER BY 1") == [(1,), (3,)]
    assert rig.sql("SELECT key, sqlstate FROM pycdc.parked") == [(b"2", "23503")]


def test_a_self_reference_is_satisfied_within_a_batch(rig: Rig) -> None:
    rig.sql("CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree DEFERRABLE)")
    process = rig.process({"topic": "tree", "table": "tree"}, wait_for_parents=0)
    assert process.feed(row("tree", 1, up=2), row("tree", 2, up=None), row("tree", 1, up=1)) is None
    assert rig.sql("SELECT id, up FROM tree ORDER BY 1") == [(1, 1), (2, None)]


def test_a_child_that_comes_before_its_parent_holds_its_partition_and_nothing_else(rig: Rig) -> None:
    process = rig.process(*CHILDREN_FIRST)
    early = [row("lines", 1, order_id=1), row("lines", 1, order_id=1, note="later")]
    taken = process.feed(row("orders", 5), row("lines", 5, order_id=5), *early, row("orders", 6))
    assert taken is not None
    assert str(taken.position) == "lines[0]@1, orders[0]@2"
    assert [(str(one), seconds) for one, seconds in taken.held.items()] == [("lines[0]", 1.0)]
    assert rig.sql("SELECT topic, next_offset FROM pycdc.apply_offsets ORDER BY 1") == [
        ("lines", 1),
        ("notes", 0),
        ("orders", 2),
    ]
    process.feed(row("orders", 1))
    assert process.feed(*early) is None
    assert rig.sql("SELECT id, note FROM lines ORDER BY 1") == [(1, "later"), (5, None)]


def test_waiting_ends_and_all_that_were_read_meanwhile_have_waited_as_long(rig: Rig) -> None:
    process = rig.process(*CHILDREN_FIRST, wait_for_parents=0.3, on_error="park")
    orphans = [row("lines", number, order_id=number) for number in range(1, 30)]
    since = time.monotonic()
    while process.feed(*orphans, row("lines", 50, order_id=None)) is not None:
        assert time.monotonic() < since + 5
    assert time.monotonic() < since + 3
    assert rig.sql("SELECT count(*), min(error) FROM pycdc.parked") == [(29, "ForeignKeyViolation")]
    assert rig.sql("SELECT id FROM lines") == [(50,)]


def test_who_waited_in_vain_stops_the_pipeline_at_itself(rig: Rig) -> None:
    process = rig.process(*CHILDREN_FIRST, wait_for_parents=0)
    with pytest.raises(ApplyError, match=r"lines\[0\] offset 1 .*lines_order_id_fkey"):
        process.feed(row("lines", 1, order_id=None), row("lines", 2, order_id=2), row("lines", 3), row("orders", 1))
    assert rig.sql("SELECT id FROM lines") == [(1,)]
    assert rig.sql("SELECT topic, next_offset FROM pycdc.apply_offsets ORDER BY 1") == [
        ("lines", 1),
        ("notes", 0),
        ("orders", 1),
    ]

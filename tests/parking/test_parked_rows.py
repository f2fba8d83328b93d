"""Which rows wait behind which, and what is tried again together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pycdc.errors import ParkingFull
from pycdc.model.change import Lsn, Op, Position
from pycdc.model.parked_row import EVERY_KEY, WAITS, ParkedEntry
from pycdc.observability.progress import ParkedCount, Progress
from pycdc.parking.parked_rows import ParkedRows

TABLE = "public.items"


def entry(identity: str, lsn: int, *keys: str, op: Op = Op.UPDATE, table: str = TABLE) -> ParkedEntry:
    return ParkedEntry(identity, table, keys, op, Position(Lsn(lsn)), 1, WAITS, 1000 * lsn, lsn)


def rows(*entries: ParkedEntry, limit: int = 100) -> ParkedRows:
    return ParkedRows(entries, limit, Progress())


def holds(parked: ParkedRows, *keys: str, lsn: int = 9, streamed: bool = True, table: str = TABLE) -> bool:
    return parked.holds(table, keys, Position(Lsn(lsn)), streamed=streamed)


def test_a_row_waits_behind_each_of_its_keys_and_only_in_its_table() -> None:
    parked = rows(entry("a", 1, "k"))
    assert holds(parked, "k")
    assert holds(parked, "other", "k")
    assert not holds(parked, "other")
    assert not holds(parked, "k", table="public.users")


def test_what_was_delivered_before_a_row_was_parked_and_comes_again_does_not_wait() -> None:
    parked = rows(entry("a", 5, "k"))
    assert not holds(parked, "k", lsn=4)
    assert holds(parked, "k", lsn=5)
    assert holds(parked, "k", lsn=4, streamed=False)
    assert holds(rows(entry("a", 5, "k", op=Op.READ)), "k", lsn=4)


def test_a_truncate_and_a_row_of_an_unknown_key_wait_for_all_and_let_all_wait() -> None:
    assert holds(rows(entry("a", 1, "k")), EVERY_KEY)
    assert holds(rows(entry("a", 1)), EVERY_KEY)
    assert holds(rows(entry("a", 1, EVERY_KEY)), "k")
    assert not holds(rows(), EVERY_KEY)


def test_rows_without_a_key_wait_for_nothing_but_a_truncate() -> None:
    assert not holds(rows(entry("a", 1)))
    assert holds(rows(entry("a", 1, EVERY_KEY)))


def test_what_shares_keys_is_tried_again_together_in_its_order() -> None:
    parked = rows(
        entry("a", 1, "k"), entry("b", 2, "x"), entry("c", 3, "k", "m"), entry("d", 4, "m"), entry("e", 5, "y")
    )
    assert [one.id for one in parked.component(["d"])] == ["a", "c", "d"]
    assert [one.id for one in parked.component(["b", "gone"])] == ["b"]
    truncated = rows(entry("a", 1, "k"), entry("t", 2, EVERY_KEY), entry("b", 3, "x"), entry("o", 4, "k", table="o.o"))
    assert [one.id for one in truncated.component(["b"])] == ["a", "t", "b"]


def test_a_key_is_free_once_all_its_rows_are_gone_and_the_progress_tells_the_rest() -> None:
    progress = Progress()
    parked = ParkedRows([entry("a", 2, "k"), entry("b", 3, "k")], 100, progress)
    assert progress.parked_now == {TABLE: ParkedCount(2, 2.0)}
    parked.remove("a")
    assert holds(parked, "k")
    parked.remove("b")
    assert not holds(parked, "k")
    parked.report()
    assert not progress.parked_now


def test_more_than_the_limit_stops_the_pipeline() -> None:
    parked = rows(entry("a", 1, "k"), limit=1)
    with pytest.raises(ParkingFull, match="1 rows are parked"):
        parked.add(entry("b", 2, "k"))


def test_the_order_is_that_of_parking_whatever_was_written_anew() -> None:
    first, second = entry("a", 1, "k"), entry("b", 2, "k")
    parked = rows(replace(second, sequence=1), replace(first, sequence=0))
    assert [one.id for one in parked.component(["b"])] == ["a", "b"]
    assert parked.next == 2

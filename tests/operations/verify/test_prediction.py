"""What events make of a row: folded as the pipeline's own writes say."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.model.event import Event, Partition
from pycdc.operations.verify import prediction
from pycdc.operations.verify.prediction import Prediction, Predictions, fold
from pycdc.operations.verify.spilling_map import SpillingMap
from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.writes import Operation, RowWrite, shape_of

PARTITION = Partition("items", 0)


def column(name: str) -> TargetColumn:
    return TargetColumn(name, ("pg_catalog", "text"), "S", "text", "", False, "", False)


TABLE = TargetTable("public", "items", {name: column(name) for name in ("id", "a", "b", "gone")}, ("id",), frozenset())


def event(offset: int = 0, **given: Any) -> Event:
    return Event(PARTITION, offset, 0, **given)


def write(operation: Operation, key: str, must_exist: bool = False, **values: str | None) -> RowWrite:
    shape = shape_of(TABLE, operation, ("id",), tuple(values), must_exist=must_exist)
    return RowWrite(shape, (key,), tuple(values.values()), (), event(), event())


def moved(operation: Operation, old: str, new: str) -> RowWrite:
    return RowWrite(shape_of(TABLE, operation, ("id",), ("id",)), (old,), (new,), (), event(), event())


def folded(*writes: RowWrite, marks: frozenset[str] = frozenset()) -> SpillingMap[Prediction]:
    predictions = Predictions({"public.items": marks} if marks else None)
    for one in writes:
        predictions.add(one)
    return predictions.tables["public.items"]


def test_the_last_image_counts() -> None:
    known = folded(write("upsert", "1", a="x", b="y"), write("upsert", "1", a="z", b=None))[("1",)]
    assert (known.present, known.columns) == (True, {"a": "z", "b": None})


def test_a_value_that_was_not_sent_stays_as_it_was() -> None:
    known = folded(write("upsert", "1", a="x", b="y"), write("update", "1", must_exist=True, a="z"))[("1",)]
    assert (known.present, known.columns) == (True, {"a": "z", "b": "y"})


def test_a_value_that_no_event_sent_is_left_to_the_snapshot() -> None:
    known = folded(write("update", "1", must_exist=True, a="z"))[("1",)]
    assert (known.present, known.columns, known.was, known.whole) == (True, {"a": "z"}, (("1",),), False)


def test_a_row_that_is_made_again_keeps_nothing_of_the_one_that_was_deleted() -> None:
    known = folded(write("upsert", "1", a="x", b="y"), write("delete", "1"), write("upsert", "1", a="z"))[("1",)]
    assert (known.present, known.columns, known.whole) == (True, {"a": "z"}, True)


def test_a_deleted_row_is_predicted_to_be_absent() -> None:
    assert folded(write("upsert", "1", a="x"), write("delete", "1"))[("1",)].present is False


def test_an_update_makes_no_row() -> None:
    assert folded(write("delete", "1"), write("update", "1", a="x"))[("1",)].present is False
    assert folded(write("update", "1", a="x"))[("1",)].present is None


def test_a_row_whose_key_changes_takes_its_values_along() -> None:
    rows = folded(write("upsert", "1", a="x", b="y"), moved("update", "1", "2"), moved("delete", "1", "2"))
    assert rows[("1",)].present is False
    assert (rows[("2",)].present, rows[("2",)].columns) == (True, {"a": "x", "b": "y"})


def test_a_row_that_is_moved_is_looked_for_under_both_keys() -> None:
    rows = folded(moved("update", "1", "2"), moved("delete", "1", "2"), write("upsert", "2", a="z"))
    assert rows[("1",)].present is False
    assert (rows[("2",)].present, rows[("2",)].was) == (True, (("1",), ("2",)))


def test_a_row_is_not_moved_onto_another() -> None:
    rows = folded(write("upsert", "2", a="there"), moved("update", "1", "2"), moved("delete", "1", "2"))
    assert rows[("2",)].columns == {"a": "there"}
    assert rows[("1",)].present is False


def test_a_row_that_is_marked_as_deleted_is_absent_and_comes_back_with_its_values() -> None:
    marks = frozenset(("gone",))
    removal = write("update", "1", gone="true")
    assert folded(write("upsert", "1", a="x"), removal, marks=marks)[("1",)].present is False
    back = folded(write("upsert", "1", a="x", b="y"), removal, write("upsert", "1", a="z"), marks=marks)[("1",)]
    assert (back.present, back.columns) == (True, {"a": "z", "b": "y"})


def test_records_that_were_parked_refused_or_cannot_be_decoded_predict_nothing() -> None:
    events = [event(1), event(2, headers=(("pycdc.origin", b"x"),)), event(3, problem="no JSON"), event(4)]
    found = fold(
        events,
        lambda one: [write("upsert", str(one.offset), a="x")],
        lambda one: [],
        lambda one: bool(one.headers),
        {(PARTITION, 1)},
    )
    assert list(found.predictions.tables["public.items"]) == [("4",)]
    assert found.left_out == {"parked": 1, "loop": 1, "undecodable": 1}


def test_rows_of_an_emptied_table_are_gone_but_for_those_that_were_written_since() -> None:
    truncate = event(2, envelope={"op": "t"})
    found = fold(
        [event(1), truncate, event(3)],
        lambda one: [write("upsert", str(one.offset), a="x")],
        lambda one: ["public.items"],
        lambda one: False,
        (),
    )
    assert found.predictions.emptied == {"public.items"}
    assert list(found.predictions.tables["public.items"]) == [("3",)]


def test_what_does_not_fit_into_memory_is_folded_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "MOST_HELD", 10_000)
    writes = [write("upsert", str(number), a=f"{number}" * 1000, b="y") for number in range(30)]
    writes += [write("delete", "3"), moved("update", "4", "40"), moved("delete", "4", "40")]
    writes += [write("update", str(number), must_exist=True, a="z") for number in range(5, 30)]
    rows = folded(*writes)
    assert rows.spilled
    assert list(rows) == [*((str(number),) for number in range(30)), ("40",)]
    assert [number for number in range(30) if rows[(str(number),)].present is False] == [3, 4]
    assert rows[("40",)].columns == {"a": "4" * 1000, "b": "y"}
    assert all(rows[(str(number),)].columns == {"a": "z", "b": "y"} for number in range(5, 30))

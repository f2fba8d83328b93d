"""Ranges that workers add up: the same on both sides, whoever reads them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from pycdc.errors import PycdcError
from pycdc.operations.verify import table_comparison
from pycdc.operations.verify.range_reading import RangeTask, read_range
from tests.chaos.verified_pair import Pair, Writer, told

pytestmark = pytest.mark.pg("newest")

FAULTS = "UPDATE items SET name = 'x' WHERE id IN (1001, 1399); DELETE FROM stock WHERE item = 1200;"
FOUND = [
    ("public.items", "changed", ("1001",), ("name",)),
    ("public.items", "changed", ("1399",), ("name",)),
    ("public.stock", "missing", ("hall 0", "1200"), ()),
]


@pytest.fixture
def pair(
    postgres: Any, kafka: Any, registry: Any, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pair]:
    monkeypatch.setattr(table_comparison, "_RANGE", 50)
    source, target = postgres.create_database(), postgres.create_database()
    try:
        with Pair(source, target, kafka.bootstrap, registry.url, topic_prefix) as pair:
            pair.sql(source, "ANALYZE")
            yield pair
    finally:
        postgres.drop_database(source)
        postgres.drop_database(target)


def test_processes_find_what_differs_and_nothing_else_under_writers(pair: Pair) -> None:
    with pair.verifier(workers=2) as verifier, Writer(pair.source, 1, 0.01):
        assert told(verifier.run()) == []
        pair.sql(pair.target, FAULTS)
        found = verifier.run()
    assert told(found) == FOUND
    assert {table.table: table.ranges > 4 for table in found.tables} == dict.fromkeys(
        ("public.items", "public.stock", "public.persons"), True
    )


class Elsewhere(Executor):
    """What a cluster does: it pickles functions, arguments and answers."""

    def __init__(self) -> None:
        self.tasks: list[RangeTask] = []
        self.open = True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        function, (task,) = pickle.loads(pickle.dumps((fn, args)))
        self.tasks.append(task)
        assert "port=" not in f"{task}"  # of the DSNs
        future.set_result(pickle.loads(pickle.dumps(function(task))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.open = False


def test_an_executor_of_ones_own_reads_ranges_that_are_aligned_on_both_sides(pair: Pair) -> None:
    made: list[Elsewhere] = []

    def make() -> Elsewhere:
        made.append(Elsewhere())
        return made[-1]

    pair.sql(pair.target, FAULTS)
    with pair.verifier(executor=make, tables=("public.items", "public.stock")) as verifier:
        assert told(verifier.run()) == FOUND
    (elsewhere,) = made
    assert not elsewhere.open
    items = [task.part for task in elsewhere.tasks if "items" in task.target.table.as_string(None)]
    assert len(items) > 4
    assert (items[0].low, items[-1].high) == (None, None)
    assert [one.high for one in items[:-1]] == [one.low for one in items[1:]]


def test_a_snapshot_that_is_gone_is_an_error_that_can_be_pickled(pair: Pair) -> None:
    made: list[Elsewhere] = []

    def make() -> Elsewhere:
        made.append(Elsewhere())
        return made[-1]

    with pair.verifier(executor=make, tables=("public.items",)) as verifier:
        verifier.run()
    with pytest.raises(PycdcError) as caught:
        read_range(made[0].tasks[0])
    assert pickle.loads(pickle.dumps(caught.value)).fact == caught.value.fact

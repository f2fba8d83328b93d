"""What transforms of an apply pipeline, and functions of routes, make of an event."""

from __future__ import annotations

from typing import Any

import pytest

from pycdc.config.pipeline import ApplyPipeline
from pycdc.errors import DeliveryError, TransformError
from pycdc.model.event import Event, Partition
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.routing.router import RouteTable
from pycdc.transforms.reverse import ReverseFunctions
from tests.sinks.postgres.routing.test_router import ITEMS, told

HERE = "tests.transforms.shop_functions"
CANARY = "canary-4711"


def functions(*entries: Any, **route: Any) -> tuple[ReverseFunctions, RouteTable]:
    config = ApplyPipeline.model_validate(
        {
            "name": "back",
            "source": {"kafka": {"brokers": "x", "topics": ["items"], "format": "json"}},
            "sink": {"postgres": {"dsn": "x", "routes": [{"topic": "items", "table": "items", **route}]}},
            "transforms": list(entries),
        }
    )
    made = ReverseFunctions(config)
    return made, RouteTable(config.sink.postgres, {"items": ITEMS}, functions=made)


def event(row: Any = None, key: Any = None, **options: Any) -> Event:
    return Event(Partition("items", 0), 7, 1_700_000_000_000, key=key, row=row, **options)


def parts(given: Event, *entries: Any) -> list[Event]:
    made, _ = functions(*entries)
    return list(made.parts(given))


def test_an_event_whose_topic_no_transform_names_is_itself() -> None:
    given = event({"id": 1})
    assert parts(given, {"function": f"{HERE}:fails", "topics": ["orders.*"]})[0] is given


def test_without_transforms_there_is_nothing_to_call() -> None:
    assert not functions()[0]


def test_an_event_is_changed_dropped_or_split() -> None:
    assert parts(event({"id": 1, "name": "cup"}), f"{HERE}:upper")[0].row == {"id": 1, "name": "CUP"}
    assert parts(event({"id": 1}), f"{HERE}:nothing") == []
    assert [part.row for part in parts(event({"id": 1}), f"{HERE}:twice")] == [
        {"id": 1, "line": 1},
        {"id": 1, "line": 2},
    ]


def test_topic_headers_key_and_operation_are_the_functions() -> None:
    [part] = parts(event({"id": 1}, {"id": 1}), f"{HERE}:removes")
    assert part.deleted
    assert (part.row, part.key, part.headers) == (None, {"id": 2}, (("why", b"gone"),))
    assert part.partition == Partition("others", 0)


def test_an_event_reads_as_a_change() -> None:
    from tests.transforms import shop_functions

    shop_functions.seen.clear()
    parts(event({"id": 1}, {"id": 1}, headers=(("a", b"b"),)), f"{HERE}:looks")
    [change] = shop_functions.seen
    assert (change.op, change.table, change.topic, change.key, change.headers) == (
        "u",
        None,
        "items",
        {"id": 1},
        [("a", b"b")],
    )
    assert str(change.position) == "items[0] offset 7"
    assert change.timestamp.isoformat() == "2023-11-14T22:13:20+00:00"


@pytest.mark.parametrize("function", ["fails", "returns_text", "no_after"])
def test_a_failure_names_the_function_and_no_value(function: str) -> None:
    with pytest.raises(TransformError) as caught:
        parts(event({"id": 1, "name": CANARY}), f"{HERE}:{function}")
    assert f"function {HERE}:{function} " in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_fault_that_may_pass_is_raised_as_it_is() -> None:
    with pytest.raises(DeliveryError):
        parts(event({"id": 1}), f"{HERE}:later")


# Functions of routes


def test_a_routes_function_makes_the_row() -> None:
    _, router = functions(function=f"{HERE}:item_row", key={"id": "itemId"})
    [write] = map(told, router.writes(event({"itemId": 5, "parts": [1, 2, 3]})))
    assert (write.key, write.set) == ({"id": "5"}, {"quantity": "6"})


def test_a_routes_function_may_tell_the_key() -> None:
    _, router = functions(function=f"{HERE}:item_with_key")
    [write] = map(told, router.writes(event({"code": "a-7"})))
    assert write.key == {"id": "7"}


def test_the_key_may_stand_in_the_messages_key() -> None:
    _, router = functions(function=f"{HERE}:item_row", key={"id": "itemId"})
    [write] = map(told, router.writes(event({"parts": []}, {"itemId": 9})))
    assert write.key == {"id": "9"}


def test_a_routes_function_can_choose_to_write_nothing() -> None:
    _, router = functions(function=f"{HERE}:nothing", key={"id": "itemId"})
    assert router.writes(event({"itemId": 5})) == []


def test_deletes_do_not_ask_the_function() -> None:
    _, router = functions(function=f"{HERE}:fails", key={"id": "itemId"})
    [write] = map(told, router.writes(event(None, {"itemId": 5}, deleted=True)))
    assert (write.operation, write.key) == ("delete", {"id": "5"})


def test_a_column_that_the_table_lacks_is_an_error() -> None:
    _, router = functions(function=f"{HERE}:strange_row")
    with pytest.raises(Unwritable, match="returned column surprise"):
        router.writes(event({"id": 1}))


@pytest.mark.parametrize("function", ["fails", "returns_text"])
def test_a_routes_failure_names_the_function_and_no_value(function: str) -> None:
    _, router = functions(function=f"{HERE}:{function}")
    with pytest.raises(Unwritable) as caught:
        router.writes(event({"id": 1, "name": CANARY}))
    assert f"function {HERE}:{function} " in str(caught.value)
    assert CANARY not in str(caught.value)


def lacking(**options: Any) -> Event:
    """A row of which `quantity` was not sent."""
    headers = (("__pycdc.unavailable", b"quantity"),)
    return event({"id": 2, "name": "cup", "quantity": None}, {"id": 2}, headers=headers, **options)


def test_a_value_that_was_not_sent_is_unchanged_to_a_function_and_may_stay_it() -> None:
    _, router = functions(f"{HERE}:upper")
    (write,) = router.writes(lacking())
    assert (told(write).operation, told(write).set, told(write).must_exist) == ("update", {"name": "CUP"}, True)


def test_a_row_whose_key_changes_is_moved_where_the_function_left_its_key_alone() -> None:
    _, router = functions(f"{HERE}:upper")
    assert [told(write).key for write in router.writes(lacking(other_key={"id": 1}))] == [{"id": "1"}, {"id": "2"}]
    _, router = functions(f"{HERE}:other_id")
    assert [told(write).key for write in router.writes(lacking(other_key={"id": 1}))] == [{"id": "1002"}]


def test_what_a_function_makes_of_old_rows_says_nothing_of_keys() -> None:
    _, router = functions(f"{HERE}:other_id")
    changed = event({"id": 2, "name": "a"}, {"id": 2}, before={"id": 2, "name": "b"})
    assert [told(write).key for write in router.writes(changed)] == [{"id": "1002"}]

"""Users' functions on the way into tables: they run once an event, and change in place only what is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.config.pipeline import ApplyPipeline
from pycdc.model.event import Partition
from pycdc.sinks.postgres.schema_drift import LOOK_AGAIN
from pycdc.transforms.reverse import ReverseFunctions
from tests.sinks.postgres.rig import TABLES, Process, Rig
from tests.transforms import shop_functions

pytestmark = pytest.mark.pg("newest")
HERE = "tests.transforms.shop_functions"


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql(TABLES)
    shop_functions.calls.clear()
    yield rig
    rig.close()


def process(rig: Rig, *routes: dict[str, Any], transforms: list[Any], **options: Any) -> Process:
    source = {"kafka": {"brokers": "x", "topics": ["*"], "format": "json"}}
    sink = {"postgres": {"dsn": rig.dsn, "routes": routes, **options}}
    config = ApplyPipeline.model_validate({"name": "back", "source": source, "sink": sink, "transforms": transforms})
    return rig.process(*routes, functions=ReverseFunctions(config), **options)


@pytest.mark.parametrize("kind", ["transform", "route"])
def test_user_code_runs_once_an_event_and_what_it_changes_in_place_is_its_own(rig: Rig, kind: str) -> None:
    route: dict[str, Any] = {"topic": "items", "table": "items"}
    transforms = [f"{HERE}:cents"] if kind == "transform" else []
    route |= {"set": {"name": "name", "doc": "doc"}} if transforms else {"function": f"{HERE}:cents_row"}
    names = ["a", "b", "far too long", "d", "e"]
    rows = [{"id": n, "name": name, "doc": {"cents": 5, "log": []}} for n, name in enumerate(names)]
    assert process(rig, route, transforms=transforms, on_error="park").apply(*rows) is None
    assert rig.sql("SELECT DISTINCT doc ->> 'cents', jsonb_array_length(doc -> 'log') FROM items") == [
        ("500", int(kind == "transform"))
    ]
    assert rig.sql("SELECT count(*) FROM items") == [(4,)]
    assert shop_functions.calls == [0, 1, 2, 3, 4]


def test_a_topic_whose_events_a_function_sends_into_a_table_that_changed_halts_and_others_go_on(rig: Rig) -> None:
    rig.sql("CREATE TABLE others (id int PRIMARY KEY, other text)")
    routes = [
        {"topic": "items", "table": "items", "set": {"name": "name"}},
        {"topic": "others", "table": "others", "set": {"other": "other"}},
        {"topic": "more", "table": "lines", "set": {"note": "note", "item": "item"}},
    ]
    one = process(rig, *routes, transforms=[f"{HERE}:to_others"], on_error="park")
    assert one.apply({"id": 1, "name": "a"}, {"id": 1, "other": "x"}) is None
    rig.sql("ALTER TABLE others DROP COLUMN other")
    records = [
        ("items", 2, {"id": 2, "name": "b"}),
        ("items", 2, {"id": 2, "other": "y"}),
        ("items", 3, {"id": 3, "name": "c"}),
        ("more", 1, {"id": 1, "item": 1, "note": "n"}),
    ]
    taken = one.feed(*records)
    assert taken is not None
    assert taken.held == {Partition("items", 0): LOOK_AGAIN}
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (2,)]
    assert rig.sql("SELECT note FROM lines") == [("n",)]
    assert list(one.progress.halted) == ["items"]
    assert "others" in one.progress.halted["items"]
    assert rig.sql("SELECT count(*) FROM pycdc.parked") == [(0,)]

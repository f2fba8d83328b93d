"""Events that were sent twice are applied once, where they have an id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pycdc.errors import ApplyError
from tests.sinks.postgres.rig import Process, Rig

pytestmark = pytest.mark.pg("newest")

DELTA = {"topic": "items", "table": "items", "operation": "delta", "delta": {"quantity": "by"}}


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql("CREATE TABLE items (id int PRIMARY KEY, quantity int CHECK (quantity < 1000))")
    rig.sql("INSERT INTO items VALUES (1, 0), (2, 0)")
    yield rig
    rig.close()


def event(identity: str | None, by: int, item: int = 1) -> tuple[Any, ...]:
    headers = () if identity is None else (("id", identity.encode()),)
    return "items", item, {"id": item, "by": by}, headers


def quantities(rig: Rig) -> list[Any]:
    return [row[0] for row in rig.sql("SELECT quantity FROM items ORDER BY id")]


def ids(rig: Rig) -> list[Any]:
    return [row[0] for row in rig.sql("SELECT id FROM pycdc.inbox ORDER BY id")]


def with_inbox(rig: Rig, **options: Any) -> Process:
    return rig.process(DELTA, **{"inbox": {}, **options})


def test_what_comes_again_is_left_out_within_a_batch_in_later_ones_and_after_a_restart(rig: Rig) -> None:
    process = with_inbox(rig)
    process.feed(event("a", 1), event("a", 1), event("b", 10))
    process.feed(event("b", 10), event("c", 100))
    assert process.progress.duplicates == {"items": 2}
    with_inbox(rig).feed(event("c", 100))
    assert quantities(rig) == [111, 0]
    assert ids(rig) == ["a", "b", "c"]


def test_an_event_without_an_id_cannot_be_applied_but_a_null_value_can(rig: Rig) -> None:
    process = with_inbox(rig, on_error="park")
    process.feed(event(None, 1), ("items", {"id": 2}, None))
    assert rig.sql("SELECT detail FROM pycdc.parked") == [
        ("the event has no id at $headers.id, which sink.postgres.inbox needs",)
    ]


def test_what_was_parked_was_seen_and_what_waits_was_not(rig: Rig) -> None:
    parking = with_inbox(rig, on_error="park")
    parking.feed(event("bad", 5000), event("bad", 5000))
    assert rig.sql("SELECT count(*) FROM pycdc.parked") == [(1,)]
    assert ids(rig) == ["bad"]
    rig.sql("DELETE FROM pycdc.parked")
    with pytest.raises(ApplyError):
        with_inbox(rig).feed(event("good", 1), event("worse", 5000), event("behind", 1))
    assert ids(rig) == ["bad", "good"]
    assert quantities(rig) == [1, 0]


def test_ids_are_forgotten_after_their_time_a_few_with_each_batch(rig: Rig) -> None:
    process = with_inbox(rig, inbox={"ttl": "1h"})
    rig.sql(
        "INSERT INTO pycdc.inbox SELECT 'back', 'old' || n, now() - '61 min'::interval FROM generate_series(1, 250) n"
    )
    rig.sql(
        "INSERT INTO pycdc.inbox VALUES ('back', 'young', now() - '59 min'::interval), ('other', 'x', '2001-01-01')"
    )
    for number in range(3):
        process.feed(event(str(number), 1))
    assert ids(rig) == ["0", "1", "2", "x", "young"]


def test_the_id_may_be_a_field_of_the_event(rig: Rig) -> None:
    process = with_inbox(rig, inbox={"id": "meta.id"})
    for _ in range(2):
        process.feed(("items", 1, {"id": 1, "by": 3, "meta": {"id": 77}}))
    assert quantities(rig) == [3, 0]

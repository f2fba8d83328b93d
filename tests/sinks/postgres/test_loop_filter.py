"""Changes that pycdc carried before: what is taken, what is left out, and what the mark says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycdc.config.postgres_sink import LoopsConfig
from pycdc.model.event import Event, Partition
from pycdc.model.origin import ChangeOrigin, mark, pipeline_of_origin, read_headers, read_mark
from pycdc.sinks.postgres.loop_filter import LoopFilter
from tests.sinks.postgres.rig import Rig


def event(offset: int, passage: ChangeOrigin | None) -> Event:
    return Event(Partition("t", 0), offset, 0, headers=() if passage is None else tuple(passage.headers()))


def taken(
    passages: list[ChangeOrigin | None], most: int = 100, **loops: Any
) -> list[tuple[ChangeOrigin | None, list[int]]]:
    events = [event(offset, passage) for offset, passage in enumerate(passages)]
    return [
        (
            portion.change_origin,
            [one.offset for place, one in enumerate(portion.events) if place not in portion.refused],
        )
        for portion in LoopFilter(LoopsConfig(**loops), "own").portions(events, most)
    ]


def test_by_default_only_what_applications_wrote_is_taken() -> None:
    assert taken([None, ChangeOrigin("other", 1), None]) == [(None, [0, 2])]


def test_what_came_different_ways_is_applied_in_different_transactions_in_order() -> None:
    one, two = ChangeOrigin("a", 1), ChangeOrigin("a", 2)
    assert taken([None, one, one, two, None], max_hops=3) == [(None, [0]), (one, [1, 2]), (two, [3]), (None, [4])]


def test_too_many_hops_a_refused_origin_and_what_began_here_are_left_out() -> None:
    change_origin: list[ChangeOrigin | None] = [
        ChangeOrigin("x", 2),
        ChangeOrigin("x", 3),
        ChangeOrigin("own", 1),
        ChangeOrigin("from-here-to-b", 1),
    ]
    assert taken(change_origin, max_hops=3, refuse_origins=["from-here-*"]) == [(change_origin[0], [0])]


def test_a_portion_has_so_many_events_at_most() -> None:
    assert taken([None] * 5, most=2) == [(None, [0, 1]), (None, [2, 3]), (None, [4])]


def test_a_mark_says_who_was_first_and_how_often_it_was_carried() -> None:
    first = read_mark(mark("a-to-b", ["public.t"]).encode())
    assert first is not None
    assert first.change_origin == ChangeOrigin("a-to-b", 1)
    assert first.tables == {"public.t"}
    second = read_mark(mark("b-to-c", [], read_headers(first.change_origin.headers())).encode())
    assert second is not None
    assert second.change_origin == ChangeOrigin("a-to-b", 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"pipeline": 1}',
        b"\xff",
        b'{"pipeline":"x","hops":1e999}',
        b'{"pipeline":"x","hops":-1}',
        b'{"pipeline":"x","hops":true}',
        b'{"pipeline":"x","hops":NaN}',
        b'{"pipeline":"x","hops":' + b"9" * 5000 + b"}",
        b'{"pipeline":"x","hops":' + b"9" * 400 + b"}",
        b"[" * 200_000,
        b'{"pipeline":"x","tables":' + b"[" * 200_000,
        b'{"pipeline":"x","tables":{}}',
        b'{"pipeline":"x","tables":[[]]}',
        b'{"pipeline":"x","origin":{"a":1}}',
        b'{"pipeline":"\\ud800"}',
        b'{"pipeline":"x","origin":"\\ud800"}',
        b'{"pipeline":"a\\nb"}',
        b'{"pipeline":"' + b"x" * 70 + b'"}',
        b'{"pipeline":"x","tables":["' + b"t" * 5_000_000 + b'"]}',
    ],
)
def test_other_content_is_no_mark(content: bytes) -> None:
    assert read_mark(content) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"pipeline": JSON, "hops": JSON, "origin": JSON, "tables": JSON}).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_no_content_does_more_than_mark_and_what_it_marks_can_be_passed_on(content: bytes) -> None:
    found = read_mark(content)
    if found is not None:
        assert read_headers(found.change_origin.headers()) == found.change_origin
        assert all(isinstance(value, bytes) for _, value in found.change_origin.headers())


@given(st.text(st.characters(codec=None)))
def test_an_origin_names_a_pipeline_or_nobody(name: str) -> None:
    found = pipeline_of_origin(name)
    assert found is None or read_mark(mark(found).encode()) is not None


def test_a_mark_of_before_counts_as_one_hop() -> None:
    assert read_mark(b'{"pipeline": "p"}') == ("p", ChangeOrigin("p", 1), frozenset())


@pytest.mark.parametrize("hops", [b"many", b"", b"-1", b"1_0", b"9" * 5000, b"1e999", "１".encode()])
@pytest.mark.parametrize("origin", [b"", b"\xff", b"a\nb", b"x" * 1_000_000, "é".encode()])
def test_headers_that_cannot_be_read_count_as_carried(hops: bytes, origin: bytes) -> None:
    change_origin = read_headers([("pycdc.origin", origin), ("pycdc.hops", hops)])
    assert change_origin == ChangeOrigin("unknown", 1)
    assert read_mark(mark("a-to-b", [], change_origin).encode()) == ("a-to-b", ChangeOrigin("unknown", 2), frozenset())


def test_headers_of_others_say_nothing_of_the_way() -> None:
    assert read_headers([("id", b"1")]) is None


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    rig = Rig(database)
    rig.sql("CREATE TABLE items (id int PRIMARY KEY)")
    yield rig
    rig.close()


@pytest.mark.pg("newest")
def test_each_transaction_is_marked_with_the_way_of_its_changes(rig: Rig) -> None:
    rig.sql("SELECT pg_create_logical_replication_slot('marks', 'pgoutput')")
    rig.sql("CREATE PUBLICATION p FOR TABLE items")
    process = rig.process(loops={"max_hops": 2})
    change_origin = tuple(ChangeOrigin("a-to-b", 1).headers())
    process.feed(
        ("items", 1, {"id": 1}),
        ("items", 2, {"id": 2}, change_origin),
        ("items", 3, {"id": 3}, ChangeOrigin("x", 2).headers()),
    )
    assert rig.sql("SELECT id FROM items ORDER BY 1") == [(1,), (2,)]
    assert process.progress.skipped == {("items", "loop"): 1}
    found = rig.sql(
        "SELECT data FROM pg_logical_slot_get_binary_changes('marks', NULL, NULL, 'proto_version', '1', "
        "'publication_names', 'p', 'messages', 'true') WHERE get_byte(data, 0) = ascii('M')"
    )
    marks = [json.loads(data[0][data[0].index(b"{") :]) for data in found][-2:]
    assert [(one["origin"], one["hops"]) for one in marks] == [("back", 1), ("a-to-b", 2)]
    rig.sql("SELECT pg_drop_replication_slot('marks')")

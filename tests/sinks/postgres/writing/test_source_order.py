"""The order of events of several partitions."""

from __future__ import annotations

from typing import Any

from pycdc.model.event import Event, Partition
from pycdc.sinks.postgres.writing.source_order import likely_order, source_order


def event(topic: str, source: dict[str, Any] | None, *, deleted: bool = False) -> Event:
    return Event(Partition(topic, 0), 0, 0, deleted=deleted, envelope={"source": source}, raw_value=b"{}")


def null(topic: str, key: bytes = b"1") -> Event:
    return Event(Partition(topic, 0), 0, 0, deleted=True, raw_key=key)


def told(topic: str, lsn: int, before: int | None = None, **more: Any) -> Event:
    sequence = {} if before is None else {"sequence": f'["{before}","{lsn}"]'}
    return event(topic, {"name": "shop", "db": "shop", "lsn": lsn, **sequence}, **more)


def test_events_go_by_their_transactions_and_their_places_in_them() -> None:
    assert source_order([told("a", 30), told("b", 10), told("a", 40), told("b", 20)]) == [1, 3, 0, 2]
    # The transaction that wrote first committed last.
    assert source_order([told("a", 10, before=90), told("b", 20, before=80)]) == [1, 0]


def test_of_a_changed_key_the_delete_comes_first() -> None:
    assert source_order([told("a", 10), told("b", 10, deleted=True)]) == [1, 0]


def test_a_partition_keeps_its_order_whatever_was_sent_again() -> None:
    again = [told("a", 10), told("a", 20), told("a", 10), told("a", 20), told("b", 15)]
    assert source_order(again) == [0, 4, 1, 2, 3]
    assert source_order([event("a", None), event("a", None)]) == range(2)


def test_the_order_is_not_known_where_one_does_not_tell_it_or_sources_differ() -> None:
    assert source_order([told("a", 1), event("b", None)]) is None
    assert source_order([told("a", 1), event("b", {"name": "other", "db": "shop", "lsn": 2})]) is None


def test_a_null_value_stays_behind_its_delete() -> None:
    removal = told("a", 20, deleted=True)
    removal.raw_key = b"1"
    assert source_order([removal, null("a"), told("a", 40), told("b", 10), told("b", 30)]) == [3, 0, 1, 4, 2]
    assert source_order([null("a"), told("a", 40), told("b", 10)]) == [0, 2, 1]  # its delete is applied
    assert source_order([removal, null("a", b"2"), told("b", 10)]) is None


def test_a_flattened_record_tells_its_place_where_it_was_asked_to() -> None:
    def flat(topic: str, **added: Any) -> Event:
        return Event(Partition(topic, 0), 0, 0, raw_value=b"{}", added=added)

    assert source_order([flat("a", __lsn=30), flat("b", __lsn=10)]) == [1, 0]
    late = flat("a", __lsn=10, __source_sequence='["90","10"]')
    assert source_order([late, flat("b", __lsn=20, __source_sequence='["80","20"]')]) == [1, 0]
    assert source_order([flat("a"), flat("b")]) is None


def test_what_tells_no_place_likely_has_the_order_of_the_records_times() -> None:
    times = [("a", 30), ("a", 20), ("b", 10), ("b", 40), ("c", 30)]
    assert likely_order([Event(Partition(topic, 0), 0, at, raw_value=b"{}") for topic, at in times]) == [2, 0, 1, 4, 3]
    assert likely_order([told("a", 30), told("b", 10)]) == [1, 0]


def test_the_places_of_a_binlog_are_an_order_too() -> None:
    places = [("bin.000010", 4), ("bin.000009", 900), ("bin.000010", 3)]
    events = [event(f"t{n}", {"name": "m", "file": file, "pos": pos, "row": 0}) for n, (file, pos) in enumerate(places)]
    assert source_order(events) == [1, 2, 0]

"""Which rows exchange their keys, and which only change them."""

from __future__ import annotations

from pycdc.events import Event, Partition
from pycdc.sinks.postgres.exchanges import apart
from pycdc.sinks.postgres.verdicts import Routed
from tests.sinks.postgres.test_writes import moved, write

PLACE = Partition("items", 0)


def test_a_row_that_is_updated_and_then_gets_another_key_takes_nobodys() -> None:
    """The old row of an update is there with REPLICA IDENTITY FULL, whether the key changed or not."""
    update = Event(PLACE, 1, 0, row={"id": 1}, before={"id": 1}, envelope={"op": "u"})
    leaving = Event(PLACE, 2, 0, deleted=True, before={"id": 1}, other_key={"id": 2}, envelope={"op": "d"})
    arriving = Event(PLACE, 3, 0, row={"id": 2}, other_key={"id": 1}, envelope={"op": "c"})
    told = [write("upsert", assigned={"name": "a"})], moved(1, 2)[:2], [moved(1, 2)[0], write("upsert", key=2)]
    events = [Routed(event, writes) for event, writes in zip((update, leaving, arriving), told, strict=True)]
    assert [routed.writes for routed in apart(events)] == list(told)

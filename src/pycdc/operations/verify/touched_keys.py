"""Keys that events touched since a verification: what a watch compares again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from pycdc.model.event import Event, Unwritable
from pycdc.operations.verify.prediction import moved_to
from pycdc.operations.verify.result import Difference, Key
from pycdc.operations.verify.spilling_map import SpillingMap
from pycdc.operations.verify.stream_window import Vector, lies_before
from pycdc.sinks.postgres.writing.writes import RowWrite

Writes = Callable[[Event], list[RowWrite]]

_KEY: Final = 200
"""Bytes of a key, about."""


class TouchedKeys:
    """By table. `whole` are tables of which it is not known which keys were touched."""

    def __init__(self, known: Iterable[Difference] = ()) -> None:
        """`known` differences are looked at again."""
        self._tables: dict[str, SpillingMap[None]] = {}
        self.whole: set[str] = set()
        for one in known:
            self._add(one.table, tuple(one.key.values()))

    def of(self, table: str) -> SpillingMap[None] | None:
        """Return the keys of a table as the routes write them; None for all of its keys."""
        return None if table in self.whole else self._tables.get(table, SpillingMap())

    def noted(
        self, events: Iterable[Event], writes: Writes, tables_of: Callable[[str], Collection[str]], low: Vector
    ) -> Iterator[Event]:
        """Take note of all events, applied or not; yield those from `low` on.

        `writes` are the routes' own, `tables_of` names the tables that the events of a topic go into.
        """
        for event in events:
            if event.truncates or event.problem or not self._note(event, writes):
                self.whole.update(tables_of(event.partition.topic))
            if not lies_before(event, low):
                yield event

    def _note(self, event: Event, writes: Writes) -> bool:
        """Return whether the keys that the event touches are known."""
        try:
            for write in writes(event):
                self._add(str(write.shape.table), write.key)
                if write.shape.moves:
                    self._add(str(write.shape.table), moved_to(write))
        except Unwritable:
            return False
        return True

    def _add(self, table: str, key: Key) -> None:
        keys = self._tables.setdefault(table, SpillingMap())
        if key not in keys:
            keys[key] = None
            keys.grew(_KEY)

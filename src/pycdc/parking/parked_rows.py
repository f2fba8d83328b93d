"""What is parked at present: which rows, in which order, and whether another row has to wait behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pycdc.errors import ParkingFull
from pycdc.model.change import Position
from pycdc.model.parked_row import EVERY_KEY, ParkedEntry
from pycdc.observability.progress import ParkedCount, Progress


class ParkedRows:
    """The entries of all that is parked, in the order of parking. `limit`: how many there may be."""

    def __init__(self, entries: Iterable[ParkedEntry], limit: int, progress: Progress) -> None:
        self._limit = limit
        self._progress = progress
        self._entries: dict[str, ParkedEntry] = {}
        self._tables: dict[str, dict[str, list[str]]] = {}
        self._changed: set[str] = set()
        progress.parked_now.clear()
        self.next = 0
        """The sequence number of the next row that is parked."""
        for entry in sorted(entries, key=_order):
            self._add(entry)
        self.report()

    def __contains__(self, identity: str) -> bool:
        return identity in self._entries

    def __getitem__(self, identity: str) -> ParkedEntry:
        return self._entries[identity]

    @property
    def tables(self) -> Collection[str]:
        """The tables that have parked rows."""
        return self._tables.keys()

    def add(self, entry: ParkedEntry) -> None:
        """Park a row. Raises ParkingFull."""
        if len(self._entries) >= self._limit:
            raise ParkingFull(
                f"{len(self._entries)} rows are parked, which is all that parking.limit allows",
                hint="look at `pycdc parked list`, retry or drop rows, or raise parking.limit",
            )
        self._add(entry)

    def remove(self, identity: str) -> ParkedEntry:
        entry = self._entries.pop(identity)
        by_key = self._tables[entry.table]
        for key in _places(entry):
            by_key[key].remove(identity)
            if not by_key[key]:
                del by_key[key]
        if not by_key:
            del self._tables[entry.table]
        self._changed.add(entry.table)
        return entry

    def report(self) -> None:
        """Tell the progress how many rows are parked, where that has changed."""
        counts: dict[str, ParkedCount] = {}
        for entry in self._entries.values() if self._changed else ():
            known = counts.get(entry.table, ParkedCount(0, entry.parked_at / 1000))
            counts[entry.table] = ParkedCount(known.rows + 1, min(known.since, entry.parked_at / 1000))
        for table in self._changed:
            if table in counts:
                self._progress.parked_now[table] = counts[table]
            else:
                self._progress.parked_now.pop(table, None)
        self._changed.clear()

    def holds(self, table: str, keys: Collection[str], position: Position, *, streamed: bool) -> bool:
        """Return whether a row of `table` has to wait.

        A change of the stream that lies before what is parked was delivered before it, and comes again after a crash.
        """
        by_key = self._tables.get(table)
        if by_key is None:
            return False
        if EVERY_KEY in keys:
            firsts = [ids[0] for ids in by_key.values()]
        else:
            firsts = [by_key[key][0] for key in (*keys, EVERY_KEY) if key in by_key]
        return any(
            not (streamed and first.streamed and position < first.position)
            for first in map(self._entries.__getitem__, firsts)
        )

    def component(self, ids: Collection[str]) -> list[ParkedEntry]:
        """Return the rows of `ids` that are parked, and all that share a key with them, in their order."""
        chosen = {identity: self._entries[identity] for identity in ids if identity in self._entries}
        keys = {(entry.table, key) for entry in chosen.values() for key in _places(entry)}
        grown = 0
        while grown != len(chosen):
            grown = len(chosen)
            for identity, entry in self._entries.items():
                if identity not in chosen and _meets(entry, keys):
                    chosen[identity] = entry
                    keys.update((entry.table, key) for key in _places(entry))
        return sorted(chosen.values(), key=_order)

    def _add(self, entry: ParkedEntry) -> None:
        self._entries[entry.id] = entry
        self.next = max(self.next, entry.sequence + 1)
        self._changed.add(entry.table)
        by_key = self._tables.setdefault(entry.table, {})
        for key in _places(entry):
            by_key.setdefault(key, []).append(entry.id)


def _order(entry: ParkedEntry) -> int:
    return entry.sequence


def _places(entry: ParkedEntry) -> Collection[str]:
    """Return the keys under which a row is kept; one without a key keeps nothing waiting."""
    return entry.keys or (f"no key {entry.id}",)


def _meets(entry: ParkedEntry, keys: Collection[tuple[str, str]]) -> bool:
    if (entry.table, EVERY_KEY) in keys and entry.keys:
        return True
    if EVERY_KEY in entry.keys:
        return any(table == entry.table for table, _ in keys)
    return any((entry.table, key) in keys for key in entry.keys)

"""Rows that take a key before the row that has it has left it: two that exchange their keys, or keys that all move on.

A deferrable key lets the source do that within a transaction, and its records come row by row: the create under a key
stands before the delete by which the row that had it goes elsewhere. Taken one after another, the first would overwrite
the second, and the delete would remove it. Rules, for the records of one transaction:

1. Who arrives at a key that a row has, and that is left behind it, puts that row under a key of nobody's.
2. Who leaves a key is the row that has been there for longest.
3. A batch may end between the two: who arrives at a key that a row has, and that nothing in the batch leaves, waits
   with its partition for what follows (see `Unapplied`): for the record by which the row leaves, or for one of another
   transaction, which says that it does not. Then the row has been somebody else's, or the record comes a second time,
   and it is applied as it is. Those that arrive at a key which a row leaves that waits, wait too.
4. Where nobody says which transaction a record is of, all such records of a batch are taken for one, and a row that is
   told of under the old key later on says that nothing has to be waited for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import Final

from pycdc.clients.postgres import Connection
from pycdc.model.event import Event, Partition, Unwritable
from pycdc.sinks.postgres.failures.failure_policy import Routed
from pycdc.sinks.postgres.routing.key_changes import moving
from pycdc.sinks.postgres.writing.free_keys import free_key
from pycdc.sinks.postgres.writing.key_equality import is_same_row
from pycdc.sinks.postgres.writing.known_rows import KeyInSpace, KeyTexts, KnownRows, key_of
from pycdc.sinks.postgres.writing.writes import RowWrite, Space, shape_of

WAITS: Final = (
    "its row gets a key that another row of the table has, and no record of its transaction says where that one goes: "
    "where somebody else wrote that row, move or delete it; else records are missing"
)
_NUMBERS: Final = ("txId", "__txId", "__source_txId")
"""What a transaction is called in an envelope, and in flattened records whose capture adds it."""


def apart(connection: Connection, events: list[Routed]) -> list[Routed]:
    """Return `events`, whose writes keep such rows apart.

    Those for whose keys there is no other, or that have to wait, are a problem.
    """
    if not any(routed.event.other_key or len(routed.writes) > 1 for routed in events):
        return events
    while True:
        batch = _Batch(connection, events)
        written = batch.written()
        if not batch.waiting:
            break
        for place in batch.waiting:
            events[place].problem, events[place].early, events[place].writes = WAITS, True, []
    for routed, (writes, problem) in zip(events, written, strict=True):
        routed.writes, routed.problem = writes, routed.problem or problem
    return events


class _Batch:
    """`waiting` are the places of events that have to wait."""

    def __init__(self, connection: Connection, events: list[Routed]) -> None:
        self._events = events
        self._known = KnownRows(connection)
        self._numbers = _transactions(events)
        self._transactions: dict[object, _Transaction] = {}
        self._last: dict[Partition, object] = {}
        self._last_mention: dict[KeyInSpace, int] = {}
        self.waiting: set[int] = set()
        for place, (routed, number) in enumerate(zip(events, self._numbers, strict=True)):
            own = self._transactions.setdefault(number, _Transaction(connection, self._known))
            own.leaves(place, routed)
            if number is None:
                self._last_mention.update(dict.fromkeys(_mentioned_keys(routed), place))
            else:
                self._last[routed.event.partition] = number

    def written(self) -> list[tuple[list[RowWrite], str | None]]:
        """Return what stands for the writes of each event, or its problem."""
        out = []
        for place, routed in enumerate(self._events):
            writes: list[RowWrite] = []
            problem = None
            try:
                for own in _by_space(routed.writes):
                    writes += self._of_space(place, routed.event, own)
            except Unwritable as error:
                writes, problem = [], str(error)
            self._known.written(routed.writes if problem else writes)
            out.append((writes, problem))
        return out

    def _of_space(self, place: int, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        number = self._numbers[place]
        transaction = self._transactions[number]
        goes_on = number is None or number == self._last[event.partition]
        may_wait = goes_on and self._last_mention.get(_old(own), -1) <= place
        writes = transaction.writes(place, event, own, may_wait=may_wait)
        if writes is None:
            self.waiting |= transaction.waiting_for(_old(own), place)
        return writes or []


class _Transaction:
    """The records of one that are in the batch."""

    def __init__(self, connection: Connection, known: KnownRows) -> None:
        self._connection = connection
        self._known = known
        self._leaving: dict[KeyInSpace, list[int]] = {}
        self._aside: dict[KeyInSpace, deque[KeyTexts]] = {}
        """Under which keys rows stand whose own others took, those first that were there first."""
        self._arriving: dict[KeyInSpace, KeyTexts] = {}
        """The old keys of rows whose delete told of the new one, and whose create is to come."""
        self._takers: dict[KeyInSpace, list[tuple[int, KeyInSpace]]] = {}
        self._gone: dict[KeyInSpace, KeyTexts] = {}
        """Under which key a row stood that left, for the tombstone behind its delete."""

    def leaves(self, place: int, routed: Routed) -> None:
        """Take note of the keys that rows leave by an event."""
        for own in _by_space(routed.writes):
            if _leaves(routed.event, own) and not _is_tombstone(routed.event):
                self._leaving.setdefault(_old(own), []).append(place)

    def writes(self, place: int, event: Event, own: list[RowWrite], *, may_wait: bool) -> list[RowWrite] | None:
        """Return what stands for `own`, the writes of an event into one space; None where it waits.

        Raises Unwritable.
        """
        if _is_tombstone(event):
            return self._behind_delete(own)
        out: list[RowWrite] = []
        new, leaves = _new(event, own), _leaves(event, own)
        if new is not None and not self._is_mentioned(event, own, new):
            if self._is_left(new, place) and self._known.is_there(new):
                out.append(self._put_aside(new, own[0], place))
            elif may_wait and leaves and own[0].shape.moves and all(map(self._known.is_there, (new, _old(own)))):
                return None
            if event.deleted:
                self._arriving[new] = own[0].key
        if leaves and self._aside.get(_old(own)):
            return [*out, *self._on(own)]
        return [*out, *own]

    def waiting_for(self, row: KeyInSpace, place: int) -> set[int]:
        """Return the place of an event that waits, and of those that took the key which its row was to leave."""
        found = {place}
        takers = self._takers.get(row, [])
        while takers:
            place, row = takers.pop()
            found.add(place)
            takers = self._takers.get(row, [])
        return found

    def _is_mentioned(self, event: Event, own: list[RowWrite], new: KeyInSpace) -> bool:
        """Return whether a row that gets a key has it already.

        It has by the delete before its create, which may have been in the batch before this one, or in another text.
        """
        first = own[0]
        if not first.shape.moves:
            return False
        if event.other_key is not None and not event.deleted:
            self._arriving.pop(new, None)
            return True
        return is_same_row(self._connection, first.shape.space, first.key, new[1])

    def _is_left(self, row: KeyInSpace, place: int) -> bool:
        """Return whether the row that came to its key last leaves it behind an event."""
        places = self._leaving.get(row, [])
        return len(places) - bisect_right(places, place) > len(self._aside.get(row, ()))

    def _put_aside(self, row: KeyInSpace, first: RowWrite, place: int) -> RowWrite:
        (table, names), key = row
        other = free_key(table, names, key, lambda texts: self._known.is_there(((table, names), texts)))
        if other is None:
            raise Unwritable(
                f"rows of table {table} exchange their keys within a transaction, and its key has no column for which "
                "a free value in between is found (whole numbers, texts of some length, uuid): exchange them by a "
                "third key in the source"
            )
        self._aside.setdefault(row, deque()).append(other)
        self._takers.setdefault(row, []).append((place, (first.shape.space, first.key)))
        return moving(first, key, other)

    def _on(self, own: list[RowWrite]) -> list[RowWrite]:
        """Return the writes by which whoever had the key for longest goes on."""
        first, row = own[0], _old(own)
        aside = self._gone[row] = self._aside[row].popleft()
        if first.shape.moves:
            rest = [write for write in own if not write.shape.moves]
            return [moving(first, aside, key_of(first)), *rest]
        return [_removal(first, aside)]

    def _behind_delete(self, own: list[RowWrite]) -> list[RowWrite]:
        aside = self._gone.get(_old(own))
        return own if aside is None or own[0].shape.moves else [_removal(own[0], aside)]


def _removal(write: RowWrite, key: KeyTexts) -> RowWrite:
    shape = shape_of(write.shape.table, "delete", write.shape.key, order=write.shape.order)
    return write._replace(shape=shape, key=key, set=(), add=())


def _transactions(events: list[Routed]) -> list[object]:
    """Return which transaction each event is of, None where nobody says.

    A null value does not: behind its delete it is of that one's, else it is a delete itself, of the transaction of what
    follows it.
    """
    out: list[object] = []
    before: dict[Partition, object] = {}
    open_places: dict[Partition, list[int]] = {}
    for place, routed in enumerate(events):
        event = routed.event
        if event.raw_value is None and not event.is_behind_delete():
            open_places.setdefault(event.partition, []).append(place)
            out.append(None)
            continue
        if event.raw_value is not None:
            before[event.partition] = _transaction(event)
        out.append(before.get(event.partition))
        for earlier in open_places.pop(event.partition, ()):
            out[earlier] = out[place]
    return out


def _transaction(event: Event) -> object:
    """Return what tells its transaction from others; None where nobody says."""
    source_block = event.source or event.added or {}
    number = next((source_block[name] for name in _NUMBERS if source_block.get(name) is not None), None)
    return None if number is None else (event.partition.topic, number)


def _is_tombstone(event: Event) -> bool:
    return event.raw_value is None and event.is_behind_delete()


def _old(own: list[RowWrite]) -> KeyInSpace:
    return own[0].shape.space, own[0].key


def _new(event: Event, own: list[RowWrite]) -> KeyInSpace | None:
    """Return the key that a row gets by an event."""
    space = own[0].shape.space
    if own[0].shape.moves:
        return space, key_of(own[0])
    return (space, own[-1].key) if _arrives(event, own[-1], own) else None


def _mentioned_keys(routed: Routed) -> Iterable[KeyInSpace]:
    """Return the rows that an event tells of, and that were under their keys before it."""
    if routed.event.other_key is not None or routed.event.deleted:
        return []
    return [(write.shape.space, write.key) for write in routed.writes if not write.shape.moves]


def _leaves(event: Event, own: list[RowWrite]) -> bool:
    """Return whether a row leaves the key of the first of its writes for another one."""
    if own[0].shape.moves:
        return event.deleted or any(write.shape.operation == "delete" for write in own)
    return bool(event.other_key) and own[0].shape.operation == "delete"


def _arrives(event: Event, write: RowWrite, own: Iterable[RowWrite]) -> bool:
    """Return whether a row gets its key by the event, whose writes are `own`.

    One that keeps it is moved by none of them.
    """
    if write.shape.moves or write.shape.operation == "delete" or event.deleted:
        return False
    moved = any(one.shape.moves and one.shape.space == write.shape.space for one in own)
    return bool(event.other_key) or moved or event.op == "c"


def _by_space(writes: Iterable[RowWrite]) -> Iterable[list[RowWrite]]:
    found: dict[Space, list[RowWrite]] = {}
    for write in writes:
        found.setdefault(write.shape.space, []).append(write)
    return found.values()

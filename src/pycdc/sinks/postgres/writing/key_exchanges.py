"""Rows that take a key before the row that has it has left it: two that exchange their keys, or keys that all move on.

A deferrable key lets the source do that within a transaction, and its records come row by row: the create under a key
stands before the delete by which the row that had it goes elsewhere. Taken one after another, the first would overwrite
the second, and the delete would remove it. Rules, for the records of one transaction:

1. Who arrives at a key that a row has, and that is left behind it, puts that row under a key of nobody's.
2. Who leaves a key is the row that a delete tells, where it tells more than the key; else the one that has been there
   for longest. A row that stays goes back to its key.
3. A batch may end between the two: who arrives at a key that a row has, and that nothing in the batch leaves, waits
   with its partition for what follows (see `Unapplied`): for the record by which the row leaves, or for one of another
   transaction, which says that it does not. Then the row has been somebody else's, or the record comes a second time,
   and it is applied as it is. Those that arrive at a key which a row leaves that waits, wait too. Where nothing follows
   for too long, a row that is the same already is taken for a second telling, and another one is refused.
4. Where nobody says which transaction a record is of, all such records of a batch are taken for one, and a row that is
   told of under the old key later on says that nothing has to be waited for.
5. A new row, and a delete that gives the row no other key, are looked at where the source's table has a deferrable key,
   which its records say or the route: elsewhere no row is inserted under a key that another one has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable
from typing import Final

from pycdc.clients.postgres import Connection
from pycdc.model.event import Event, Partition, Unwritable
from pycdc.sinks.postgres.failures.failure_policy import Routed
from pycdc.sinks.postgres.routing.key_changes import moving
from pycdc.sinks.postgres.writing.free_keys import free_key
from pycdc.sinks.postgres.writing.key_equality import is_same_row
from pycdc.sinks.postgres.writing.key_occupants import Occupant, is_of, old_row
from pycdc.sinks.postgres.writing.key_rules import KeyRules, mark_of
from pycdc.sinks.postgres.writing.known_rows import KeyInSpace, KeyTexts, KnownRows, key_of
from pycdc.sinks.postgres.writing.statements import is_as_written
from pycdc.sinks.postgres.writing.writes import RowWrite, Space, shape_of

WAITS: Final = (
    "its row gets a key that another row of the table has, and no record of its transaction says where that one goes: "
    "where somebody else wrote that row, move or delete it; else records are missing"
)
_NUMBERS: Final = ("txId", "__txId", "__source_txId")
"""What a transaction is called in an envelope, and in flattened records whose capture adds it."""


def apart(connection: Connection, events: list[Routed], rules: KeyRules | None = None) -> list[Routed]:
    """Return `events`, whose writes keep such rows apart.

    Those for whose keys there is no other, or that have to wait, are a problem.
    """
    rules = rules or KeyRules()
    if not any(
        routed.event.other_key or len(routed.writes) > 1 or rules.may_exchange(routed.event) for routed in events
    ):
        return events
    late: set[int] = set()
    while True:
        batch = _Batch(connection, events, rules, late)
        written = batch.written()
        if not (batch.waiting or batch.undecided):
            break
        for place, why in batch.undecided.items():
            events[place].problem, events[place].writes = why, []
        for place in batch.waiting:
            event = events[place].event
            if rules.waited(event) and _is_told_twice(connection, event, events[place].writes):
                late.add(place)
                continue
            events[place].problem, events[place].early, events[place].writes = WAITS, True, []
    for routed, (writes, problem) in zip(events, written, strict=True):
        routed.writes, routed.problem = writes, routed.problem or problem
    return events


def _is_told_twice(connection: Connection, event: Event, writes: list[RowWrite]) -> bool:
    """Return whether the rows of an event are what they would become."""
    return not event.deleted and all(not write.shape.moves and is_as_written(connection, write) for write in writes)


class _Batch:
    """`waiting` are the places of events that have to wait, `late` those that have waited.

    `undecided` are those that took a key of which a later event does not tell whose row it changes.
    """

    def __init__(self, connection: Connection, events: list[Routed], rules: KeyRules, late: Collection[int]) -> None:
        self._events = events
        self._late = late
        self._known = KnownRows(connection)
        self._numbers = _transactions(events)
        self._transactions: dict[object, _Transaction] = {}
        self._last: dict[Partition, object] = {}
        self._last_mention: dict[KeyInSpace, int] = {}
        there: dict[KeyInSpace, Occupant] = {}
        self.waiting: set[int] = set()
        self.undecided: dict[int, str] = {}
        for place, (routed, number) in enumerate(zip(events, self._numbers, strict=True)):
            own = self._transactions.setdefault(number, _Transaction(connection, self._known, rules, there))
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
            except _Undecided as error:
                self.undecided[error.place] = str(error)
            except Unwritable as error:
                writes, problem = [], str(error)
            self._known.written(routed.writes if problem else writes)
            out.append((writes, problem))
        return out

    def _of_space(self, place: int, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        number = self._numbers[place]
        transaction = self._transactions[number]
        goes_on = number is None or number == self._last[event.partition]
        may_wait = goes_on and place not in self._late and self._last_mention.get(_old(own), -1) <= place
        writes = transaction.writes(place, event, own, may_wait=may_wait)
        if writes is None:
            self.waiting |= transaction.waiting_for(_old(own), place) if own[0].shape.moves else {place}
        return writes or []


class _Undecided(Unwritable):
    """It is not told which of several rows under one key is changed. `place` is that of the event that took the key."""

    def __init__(self, place: int, table: object) -> None:
        super().__init__(
            f"within a transaction, a row of table {table} gets a key that another one has, and a later event does not "
            "tell which of the two it changes: have records written with the old row (in an envelope, with REPLICA "
            "IDENTITY FULL)"
        )
        self.place = place


class _Transaction:
    """The records of one that are in the batch."""

    def __init__(
        self, connection: Connection, known: KnownRows, rules: KeyRules, there: dict[KeyInSpace, Occupant]
    ) -> None:
        """`there` are the rows that came under their keys last, or were told of there, of all transactions."""
        self._connection = connection
        self._known = known
        self._rules = rules
        self._leaving: dict[KeyInSpace, list[int]] = {}
        self._aside: dict[KeyInSpace, list[Occupant]] = {}
        """Rows whose key others took, those first that were there first."""
        self._there = there
        self._arriving: dict[KeyInSpace, KeyTexts] = {}
        """The old keys of rows whose delete told of the new one, and whose create is to come."""
        self._takers: dict[KeyInSpace, list[tuple[int, KeyInSpace]]] = {}
        self._deleted: dict[KeyInSpace, KeyTexts | None] = {}
        """Where a row was that left, for the tombstone behind its delete; None: another row is there now."""

    def leaves(self, place: int, routed: Routed) -> None:
        """Take note of the keys that rows leave by an event."""
        for own in _by_space(routed.writes):
            if self._leaves(routed.event, own) and not _is_tombstone(routed.event):
                self._leaving.setdefault(_old(own), []).append(place)

    def writes(self, place: int, event: Event, own: list[RowWrite], *, may_wait: bool) -> list[RowWrite] | None:
        """Return what stands for `own`, the writes of an event into one space; None where it waits.

        Raises Unwritable.
        """
        if _is_tombstone(event):
            return self._behind_delete(event, own)
        out: list[RowWrite] = []
        new, leaves = _new(event, own), self._leaves(event, own)
        if new is not None and not self._is_mentioned(event, own, new):
            if self._is_left(new, place) and self._known.is_there(new):
                out.append(self._put_aside(new, own[0], place))
            elif may_wait and self._waits(event, own, new, leaves=leaves):
                return None
            if event.deleted:
                self._arriving[new] = own[0].key
        if leaves:
            out += self._gone(event, own)
        else:
            out += own if new is not None else self._changed(event, own)
        if new is not None:
            self._there[new] = Occupant(new[1], event.raw_key, event.row, own[-1])
        return out

    def waiting_for(self, row: KeyInSpace, place: int) -> set[int]:
        """Return the place of an event that waits, and of those that took the key which its row was to leave."""
        found = {place}
        takers = self._takers.get(row, [])
        while takers:
            place, row = takers.pop()
            found.add(place)
            takers = self._takers.get(row, [])
        return found

    def _leaves(self, event: Event, own: list[RowWrite]) -> bool:
        """Return whether a row leaves the key of the first of its writes."""
        if own[0].shape.moves:
            return event.deleted or any(write.shape.operation == "delete" for write in own)
        if own[0].shape.operation != "delete":
            return False
        return bool(event.other_key) or (event.deleted and self._rules.may_exchange(event))

    def _waits(self, event: Event, own: list[RowWrite], new: KeyInSpace, *, leaves: bool) -> bool:
        """Return whether a row has the key that another one gets, and may leave it by a record that is to come."""
        if own[0].shape.moves:
            return leaves and all(map(self._known.is_there, (new, _old(own))))
        if own[0].shape.order in self._rules.keeping or not (event.other_key or self._rules.may_exchange(event)):
            return False
        return self._known.is_there(new)

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
        occupant = self._there.pop(row, None) or Occupant(key)
        occupant.place = other
        self._aside.setdefault(row, []).append(occupant)
        self._takers.setdefault(row, []).append((place, (first.shape.space, first.key)))
        return moving(first, key, other)

    def _gone(self, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        """Return the writes by which one of the rows under a key leaves it."""
        first, row = own[0], _old(own)
        aside, there = self._aside.get(row, []), self._there.get(row)
        leaving = self._meant(event, row)
        if leaving is not None and leaving is not there:
            aside.remove(leaving)
            self._deleted[row] = leaving.place
            if first.shape.moves:
                rest = [write for write in own if not write.shape.moves]
                return [moving(first, leaving.place, key_of(first)), *rest]
            return [_removal(first, leaving.place)]
        self._there.pop(row, None)
        self._deleted[row] = row[1]
        if not aside:
            return own
        back = self._there[row] = aside.pop()
        place, back.place = back.place, row[1]
        self._deleted[row] = None
        return [*own, moving(first, place, row[1])]

    def _changed(self, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        """Return the writes of a row that keeps its key, at the place where it is meanwhile."""
        row = _old(own)
        if event.deleted:
            self._there.pop(row, None)
            return own
        meant = self._meant(event, row)
        if meant is None:
            self._there[row] = Occupant(row[1], event.raw_key, event.row, own[-1])
            return own
        meant.image, meant.raw_key, meant.write = {**(meant.image or {}), **(event.row or {})}, event.raw_key, own[-1]
        return own if meant is self._there.get(row) else [write._replace(key=meant.place) for write in own]

    def _meant(self, event: Event, row: KeyInSpace) -> Occupant | None:
        """Return which of several rows under a key an event is about; None where there is one at most."""
        aside, there = self._aside.get(row, []), self._there.get(row)
        if not aside:
            return there
        leaves = event.deleted or event.other_key is not None
        told = old_row(event)
        if told is None:
            if not leaves:
                raise _Undecided(self._takers[row][-1][0], row[0][0])
            return aside[0]
        rows = [*aside, *([] if there is None else [there])]
        known = [one for one in rows if one.image is not None and is_of(event, told, one)]
        unknown = next((one for one in rows if one.image is None), None)
        if not known:
            return unknown or aside[0]
        same = known[0].write
        if unknown is not None and same is not None and is_as_written(self._connection, same):
            return unknown  # they are the same, and a statement that moved a row does not move it again
        return known[0]

    def _behind_delete(self, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        """Return what a tombstone does: nothing, where another row may be under the key since its delete."""
        row = _old(own)
        if row in self._deleted:
            place = self._deleted[row]
            if place is None:
                return []
            return own if own[0].shape.moves else [_removal(own[0], place)]
        may_be_taken = not own[0].shape.moves and (event.other_key or self._rules.may_exchange(event))
        return [] if may_be_taken else own


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


def _arrives(event: Event, write: RowWrite, own: Iterable[RowWrite]) -> bool:
    """Return whether a row gets its key by the event, whose writes are `own`.

    One that keeps it is moved by none of them.
    """
    if write.shape.moves or write.shape.operation == "delete" or event.deleted:
        return False
    moved = any(one.shape.moves and one.shape.space == write.shape.space for one in own)
    return bool(event.other_key) or moved or (mark_of(event) or event.op) in (b"c", "c")


def _by_space(writes: Iterable[RowWrite]) -> Iterable[list[RowWrite]]:
    found: dict[Space, list[RowWrite]] = {}
    for write in writes:
        found.setdefault(write.shape.space, []).append(write)
    return found.values()

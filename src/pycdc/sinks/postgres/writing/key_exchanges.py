"""Rows that take a key before the row that has it has left it: two that exchange their keys, or keys that all move on.

A deferrable key lets the source do that, and its records come row by row: the create under a key stands before the
delete by which the row that had it goes elsewhere. Taken one after another, the first would overwrite the second, and
the delete would remove it. So where a batch brings both, the row that has the key is moved to a key of nobody's in
between. Where no row has it, it was the row itself that moved on, and nothing is different; a key for which there is
no other is looked for in the batch and in the table.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import uuid4

from pycdc.clients.postgres import Connection
from pycdc.model.event import Event, Unwritable
from pycdc.rows.target_column import TargetColumn
from pycdc.sinks.postgres.failures.failure_policy import Routed
from pycdc.sinks.postgres.routing.key_changes import moving
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.key_equality import is_same_row
from pycdc.sinks.postgres.writing.statements import has_row
from pycdc.sinks.postgres.writing.writes import RowWrite, Space, shape_of

Key = tuple[str, ...]
RowKey = tuple[Space, Key]

_BITS: Final = {"int2": 16, "int4": 32, "int8": 64}
_FEWEST: Final = 8
"""Letters of a text that nobody else has."""


def apart(connection: Connection, events: list[Routed]) -> list[Routed]:
    """`events`, whose writes keep such rows apart. Those for whose keys there is no other are a problem."""
    if not any(routed.event.other_key or len(routed.writes) > 1 for routed in events):
        return events
    left: dict[RowKey, tuple[int, object]] = {}
    for place, routed in enumerate(events):
        for own in _by_space(routed.writes):
            row = own[0].shape.space, own[0].key
            behind = row in left and routed.event.raw_value is None  # a tombstone tells no transaction
            if _leaves(routed.event, own) and not behind:
                left[row] = place, _transaction(routed.event)
    taken = set(_taken(events, left)) if left else set()
    if taken:
        _keep_apart(events, _Between(connection, taken))
    return events


def _taken(events: list[Routed], left: dict[RowKey, tuple[int, object]]) -> Iterator[RowKey]:
    """Yield the rows of `left` whose key another event takes before."""
    for place, routed in enumerate(events):
        for write in routed.writes:
            row = write.shape.space, write.key
            if row in left and place < left[row][0] and _arrives(routed.event, write, routed.writes):
                own, other = _transaction(routed.event), left[row][1]
                if own == other or own is None or other is None:
                    yield row


class _Between:
    """Keys of nobody's, by the rows whose keys others take; `left` are those rows that have gone on."""

    def __init__(self, connection: Connection, taken: set[RowKey]) -> None:
        self._connection = connection
        self._taken = taken
        self._there: dict[RowKey, bool] = {}
        """Whether there is such a row behind the events so far, as far as these tell."""
        self._free: set[RowKey] = set()
        """Those that came under their key when nobody had it, by several records."""
        self._keys: dict[RowKey, Key] = {}
        self._left: set[RowKey] = set()

    def writes(self, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        """Return what stands for `own`, the writes of an event into one space. Raises Unwritable."""
        out = self._writes(event, own)
        for write in own:
            gone = write.shape.moves or write.shape.operation == "delete"
            self._there[write.shape.space, write.key] = not gone
            if write.shape.moves:
                self._there[write.shape.space, _key(write.set)] = True
        return out

    def _writes(self, event: Event, own: list[RowWrite]) -> list[RowWrite]:
        first, space = own[0], own[0].shape.space
        out: list[RowWrite] = []
        new = _key(first.set) if first.shape.moves else own[-1].key if _arrives(event, own[-1], own) else None
        if new is not None and self._is_wanted((space, new)) and not self._is_its_own(event, own, new):
            other = _of_nobody(*space, new)
            if other is not None:
                self._keys[space, new] = other
                out.append(moving(first, new, other))
            elif self._is_taken(space, new):
                raise Unwritable(
                    f"rows of table {space[0]} exchange their keys within a transaction, and its key has no column for "
                    "which a value in between can be made (whole numbers, texts of some length, uuid): exchange them "
                    "by a third key in the source"
                )
            else:
                self._free.add((space, new))
        old = space, first.key
        if not _leaves(event, own):
            return [*out, *own]
        self._free.discard(old)
        if old not in self._keys:
            return [*out, *own]
        return [*out, *self._on(own, old)]

    def _is_wanted(self, row: RowKey) -> bool:
        return row in self._taken and row not in self._keys and row not in self._free

    def _is_its_own(self, event: Event, own: list[RowWrite], new: Key) -> bool:
        """Return whether the key that a row gets may be its own already.

        It may be written in another way, or a batch before this one had the delete by which the row left its old key.
        """
        first, space = own[0], own[0].shape.space
        if not first.shape.moves:
            return False
        behind = bool(event.other_key) and self._there.get((space, first.key)) is not False
        found = behind and (not event.deleted or event.is_behind_delete())
        if found or is_same_row(self._connection, space, first.key, new):
            self._free.add((space, new))
            return True
        return False

    def _is_taken(self, space: Space, key: Key) -> bool:
        there = self._there.get((space, key))
        return has_row(self._connection, space, key) if there is None else there

    def _on(self, own: list[RowWrite], old: RowKey) -> list[RowWrite]:
        """Whoever had the key goes on; if nobody had it, the row that took it does."""
        first, aside = own[0], self._keys[old]
        if first.shape.moves:
            rest = [write for write in own if not write.shape.moves]
            return [moving(first, aside, _key(first.set)), first, *rest]
        removal = shape_of(first.shape.table, "delete", first.shape.key, order=first.shape.order)
        gone = first._replace(shape=removal, key=aside, set=(), add=())
        if old in self._left:
            return [gone]  # the tombstone behind the delete
        self._left.add(old)
        return [moving(first, first.key, aside), gone]


def _key(values: tuple[str | None, ...]) -> Key:
    return tuple(value or "" for value in values)


def _keep_apart(events: list[Routed], between: _Between) -> None:
    for routed in events:
        try:
            writes = [write for own in _by_space(routed.writes) for write in between.writes(routed.event, own)]
        except Unwritable as error:
            routed.problem = str(error)
            routed.writes = []
        else:
            routed.writes = writes


def _leaves(event: Event, own: list[RowWrite]) -> bool:
    """Return whether a row leaves the key of the first of its writes for another one."""
    if own[0].shape.moves:
        return event.deleted or any(write.shape.operation == "delete" for write in own)
    return bool(event.other_key) and own[0].shape.operation == "delete"


def _arrives(event: Event, write: RowWrite, own: Iterable[RowWrite]) -> bool:
    """Return whether a row gets its key by the event, whose writes are `own`: none of them moves one that keeps it."""
    if write.shape.moves or write.shape.operation == "delete" or event.deleted:
        return False
    moved = any(one.shape.moves and one.shape.space == write.shape.space for one in own)
    return bool(event.other_key) or moved or event.op == "c"


def _by_space(writes: Iterable[RowWrite]) -> Iterable[list[RowWrite]]:
    found: dict[Space, list[RowWrite]] = {}
    for write in writes:
        found.setdefault(write.shape.space, []).append(write)
    return found.values()


def _transaction(event: Event) -> object:
    """None where nobody says."""
    number = (event.source or {}).get("txId")
    return None if number is None else (event.partition.topic, number)


def _of_nobody(table: TargetTable, names: tuple[str, ...], key: Key) -> Key | None:
    """Return a key that no row has; None where none can be made."""
    for place, name in enumerate(names):
        text = _new_text(table.columns[name])
        if text is not None:
            return *key[:place], text, *key[place + 1 :]
    return None


def _new_text(column: TargetColumn) -> str | None:
    """Of a value that nobody has; None where none can be made."""
    if column.base in _BITS:
        most = 1 << (_BITS[column.base] - 1)
        return str(-most + secrets.randbelow(most // 2))
    if column.base == "numeric":
        digits = 18 if column.typmod < 0 else ((column.typmod - 4) >> 16) - ((column.typmod - 4) & 0x7FF)
        return str(-secrets.randbelow(10**digits) - 1) if 0 < digits < 1000 else None
    if column.base == "uuid":
        return str(uuid4())
    if column.base in ("text", "varchar", "citext", "bpchar"):
        length = 32 if column.typmod < 0 else min(32, column.typmod - 4)
        return secrets.token_hex(16)[:length] if length >= _FEWEST else None
    return None

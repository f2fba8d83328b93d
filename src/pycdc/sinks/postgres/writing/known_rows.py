"""Which rows there are while the writes of a batch are put together: the database's, and what they did so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pycdc.clients.postgres import Connection
from pycdc.sinks.postgres.writing.statements import has_row
from pycdc.sinks.postgres.writing.writes import RowWrite, Space

KeyTexts = tuple[str, ...]
KeyInSpace = tuple[Space, KeyTexts]


class KnownRows:
    """Nothing of the batch is written yet. The database is asked for rows of which somebody wants to know."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._there: dict[KeyInSpace, Callable[[], bool]] = {}

    def is_there(self, row: KeyInSpace) -> bool:
        """Return whether there is such a row behind the writes so far; no, where its texts are no key."""
        known = self._there.get(row)
        there = self._has(row) if known is None else known()
        self._there[row] = _yes if there else _no
        return there

    def written(self, writes: Iterable[RowWrite]) -> None:
        """Take note of writes, in their order."""
        for write in writes:
            row = write.shape.space, write.key
            if write.shape.operation == "delete":
                self._there[row] = _no
            elif write.shape.moves:
                self._moved(row, (write.shape.space, key_of(write)))
            elif write.shape.operation != "update":
                self._there[row] = _yes

    def _moved(self, old: KeyInSpace, new: KeyInSpace) -> None:
        taken, moved = self._state(new), self._state(old)
        self._there[new] = lambda: taken() or moved()
        self._there[old] = lambda: taken() and moved()

    def _state(self, row: KeyInSpace) -> Callable[[], bool]:
        """Return what tells whether a row is there.

        Of one that was moved before it is known at once, so that no question leads through a thousand others.
        """
        if row not in self._there:
            return lambda: self._has(row)
        return _yes if self.is_there(row) else _no

    def _has(self, row: KeyInSpace) -> bool:
        return has_row(self._connection, *row)


def key_of(move: RowWrite) -> KeyTexts:
    """Return the key that a row gets."""
    return tuple(value or "" for value in move.set)


def _yes() -> bool:
    return True


def _no() -> bool:
    return False

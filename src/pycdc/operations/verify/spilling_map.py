"""A mapping for keys in flight: as much as fits in memory, and the rest in a file that nobody else can open."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, MutableMapping
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from pycdc.errors import EnvironmentNotReady
from pycdc.operations.verify.result import Key

if TYPE_CHECKING:
    import sqlite3  # few verifications spill, and it is a megabyte

V = TypeVar("V")

MOST_HELD: Final = 8 << 20
"""Bytes that a mapping keeps in memory, about."""
_SETTINGS: Final = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -2048", "temp_store = FILE")
_TABLE: Final = "CREATE TABLE rows (n INTEGER PRIMARY KEY, k TEXT UNIQUE, v BLOB)"
_PUT: Final = "INSERT INTO rows (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
_PAGE: Final = 500


class SpillingMap(MutableMapping[Key, V]):
    """Keys in the order in which they came.

    A value that was asked for by its key may be changed in place until `spill`. Whoever puts, asks for or changes
    values says with `grew` about how many bytes they are. The file is SQLite's own temporary one, which has no name in
    its folder and is gone with the process. Raises EnvironmentNotReady where its disk is full.
    """

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most = most
        self._held = 0
        self._near: dict[Key, V] = {}
        self._far: sqlite3.Connection | None = None

    def grew(self, size: int) -> None:
        """Take note of `size` bytes more; what is in memory is written out where that is too much."""
        self._held += size
        if self._held > self._most:
            self.spill()

    @property
    def spilled(self) -> bool:
        """Whether some of it is in the file."""
        return self._far is not None

    def spill(self) -> None:
        """Write out what is in memory."""
        self._held = 0
        if not self._near:
            return
        import sqlite3

        rows = [(_text(key), pickle.dumps(value, pickle.HIGHEST_PROTOCOL)) for key, value in self._near.items()]
        try:
            if self._far is None:
                self._far = _opened()
            self._far.executemany(_PUT, rows)
        except sqlite3.OperationalError as error:
            raise EnvironmentNotReady(
                f"rows in flight cannot be written into a temporary file ({error})",
                hint="free space where temporary files are, or name another folder with SQLITE_TMPDIR",
            ) from None
        self._near = {}

    def __getitem__(self, key: Key) -> V:
        if key not in self._near:
            self._near[key] = self._read(key)
        return self._near[key]

    def __setitem__(self, key: Key, value: V) -> None:
        self._near[key] = value

    def __contains__(self, key: object) -> bool:
        if key in self._near:
            return True
        if self._far is None or not isinstance(key, tuple):
            return False
        return self._far.execute("SELECT 1 FROM rows WHERE k = ?", (_text(key),)).fetchone() is not None

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        self._near.pop(key, None)
        if self._far is not None:
            self._far.execute("DELETE FROM rows WHERE k = ?", (_text(key),))

    def __iter__(self) -> Iterator[Key]:
        for page in self.pages():
            yield from (key for key, _ in page)

    def pages(self, size: int = _PAGE) -> Iterator[list[tuple[Key, V]]]:
        """Yield keys and values, `size` at a time."""
        if self._far is None:
            pairs = iter(list(self._near.items()))
            while page := list(islice(pairs, size)):
                yield page
            return
        self.spill()
        query, last = "SELECT n, k, v FROM rows WHERE n > ? ORDER BY n LIMIT ?", 0
        while found := self._far.execute(query, (last, size)).fetchall():
            last = found[-1][0]
            yield [(tuple(json.loads(text)), pickle.loads(value)) for _, text, value in found]  # noqa: S301 - our own

    def __len__(self) -> int:
        if self._far is None:
            return len(self._near)
        self.spill()
        found: tuple[int] = self._far.execute("SELECT count(*) FROM rows").fetchone()
        return found[0]

    def _read(self, key: Key) -> V:
        if self._far is None:
            raise KeyError(key)
        row = self._far.execute("SELECT v FROM rows WHERE k = ?", (_text(key),)).fetchone()
        if row is None:
            raise KeyError(key)
        value: V = pickle.loads(row[0])  # noqa: S301 - our own
        return value


def _text(key: Key) -> str:
    return json.dumps(key)


def _opened() -> sqlite3.Connection:
    import sqlite3

    # The name is empty: SQLite's own temporary file.
    far = sqlite3.connect("", isolation_level=None)
    for setting in _SETTINGS:
        far.execute(f"PRAGMA {setting}")
    far.execute(_TABLE)
    return far

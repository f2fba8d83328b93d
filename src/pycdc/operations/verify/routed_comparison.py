"""Compare a table whose rows no server can compute: each row of the source goes through the route's code.

Rows that are missing or changed show while the source is read. Rows that are too many show by the target's keys, added
up by buckets; only where those differ is the source read once more, so that memory does not grow with the table.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.operations.verify.in_flight import CanonicalTexts, Flight, Mismatch, Texts
from pycdc.operations.verify.relation import ComparedRelation, Layout
from pycdc.operations.verify.result import DifferenceKind, Key, shown_key
from pycdc.operations.verify.spilling_map import SpillingMap
from pycdc.sinks.postgres.writing.writes import RowWrite

_CHUNK: Final = 500
_BUCKETS: Final = 1 << 16
_KEY: Final = 200
"""Bytes of a key that is held, about."""
_MOST_CANDIDATES: Final = 100_000
"""Keys that may be too many and are held at once."""

Rows = Callable[[], Iterator[RowWrite]]
"""The writes of the table's rows in the source's snapshot; it can be asked for them again."""


@dataclass(slots=True)
class Expected:
    """A row of the target as a route writes it, in canonical texts. `columns` are those that the route sets."""

    key: Key
    columns: Mapping[str, str | None]


@dataclass(slots=True)
class RoutedComparison:
    """Keys in `flight` are left out; rows of the source that they may come from are kept in `kept`."""

    layout: Layout
    target: ComparedRelation
    connection: Connection
    texts: CanonicalTexts
    rows: Rows
    flight: Flight
    complete: bool
    kept: SpillingMap[Texts | None] = field(default_factory=SpillingMap)
    source_rows: int = 0
    target_rows: int = 0

    def run(self) -> Iterator[Mismatch]:
        """Yield what differs. Raises psycopg.Error, PycdcError."""
        self._want()
        expected = _Buckets()
        for chunk in self._chunks():
            texts = self.target.texts(self.connection, self.layout, [one.key for one in chunk])
            for one in chunk:
                self.source_rows += 1
                found = texts.get(one.key)
                if found is None:
                    yield Mismatch(DifferenceKind.MISSING, one.key)
                    continue
                expected.add(one.key)
                mismatch = self._compared(one, found)
                if mismatch is not None:
                    yield mismatch
        there = _Buckets()
        for key in self._target_keys():
            self.target_rows += 1
            there.add(key)
        if self.complete:
            yield from self._extra(there.differing(expected))

    def kept_texts(self, keys: Sequence[Key]) -> Mapping[Key, Texts]:
        """Return the rows of the source that were kept, as far as it has them."""
        found = ((key, self.kept.get(key)) for key in keys)
        return {key: row for key, row in found if row is not None}

    def _want(self) -> None:
        for page in self.flight.rows.pages():
            for _, known in page:
                for key in known.was:
                    self.kept[key] = None
                    self.kept.grew(_KEY)

    def _chunks(self) -> Iterator[list[Expected]]:
        """Yield the rows whose keys are not in flight."""
        waiting: list[RowWrite] = []
        for write in self.rows():
            waiting.append(write)
            if len(waiting) >= _CHUNK:
                yield self._canonical(waiting)
                waiting = []
        if waiting:
            yield self._canonical(waiting)

    def _canonical(self, writes: Sequence[RowWrite]) -> list[Expected]:
        out: list[Expected] = []
        names = [column.name for column in self.layout.key]
        compared = {column.name for column in self.layout.columns} - set(names)
        keys = self.texts.rows(names, [write.key for write in writes])
        groups: dict[tuple[str, ...], list[tuple[Key, Texts]]] = {}
        for write, key in zip(writes, keys, strict=True):
            if key is None:
                continue
            values = {n: text for n, text in zip(write.shape.set, write.set, strict=True) if n in compared}
            groups.setdefault(tuple(values), []).append((tuple(text or "" for text in key), tuple(values.values())))
        for columns, members in groups.items():
            rows = self.texts.rows(columns, [texts for _, texts in members])
            for (key, _), row in zip(members, rows, strict=True):
                one = Expected(key, {} if row is None else dict(zip(columns, row, strict=True)))
                if key in self.kept:
                    self.kept[key] = texts = self._texts_of(one)
                    self.kept.grew(_KEY + sum(len(text) for text in texts if text is not None))
                if key not in self.flight.rows:
                    out.append(one)
        return out

    def _texts_of(self, one: Expected) -> Texts:
        key = dict(zip((column.name for column in self.layout.key), one.key, strict=True))
        return tuple(one.columns.get(column.name, key.get(column.name)) for column in self.layout.columns)

    def _compared(self, one: Expected, found: Texts) -> Mismatch | None:
        differing = [
            (column.name, one.columns[column.name], text)
            for column, text in zip(self.layout.columns, found, strict=True)
            if column.name in one.columns and one.columns[column.name] != text
        ]
        if not differing:
            return None
        names, wanted, there = zip(*differing, strict=True)
        return Mismatch(DifferenceKind.CHANGED, one.key, names, wanted, there)

    # Rows that are too many.

    def _extra(self, suspicious: set[int]) -> Iterator[Mismatch]:
        candidates: set[Key] = set()
        for key in self._target_keys() if suspicious else ():
            if _bucket(key) in suspicious:
                candidates.add(key)
                if len(candidates) >= _MOST_CANDIDATES:
                    yield from self._without_source(candidates)
                    candidates = set()
        yield from self._without_source(candidates)

    def _without_source(self, candidates: set[Key]) -> Iterator[Mismatch]:
        """Yield those that no row of the source has, all of which are read for it."""
        for chunk in self._chunks() if candidates else ():
            candidates.difference_update(one.key for one in chunk)
        yield from (Mismatch(DifferenceKind.EXTRA, key) for key in sorted(candidates))

    def _target_keys(self) -> Iterator[Key]:
        """Yield those that are not in flight."""
        name = sql.Identifier("pycdc_verify_keys")
        query = self.target.keys_query(self.layout)
        self.connection.execute(sql.SQL("DECLARE {} NO SCROLL CURSOR FOR {}").format(name, query))
        try:
            while rows := self.connection.execute(sql.SQL("FETCH 5000 FROM {}").format(name)).fetchall():
                yield from (key for key in map(shown_key, rows) if key not in self.flight.rows)
        finally:
            self.connection.execute(sql.SQL("CLOSE {}").format(name))


class _Buckets:
    """Keys by buckets: how many there are, and the sum of their hashes.

    Numbers alone do not show it: a route may make one row of several, which then make up for one that is too many.
    """

    def __init__(self) -> None:
        self._numbers = array("Q", bytes(8 * _BUCKETS))
        self._sums = array("Q", bytes(8 * _BUCKETS))

    def add(self, key: Key) -> None:
        place = _bucket(key)
        self._numbers[place] += 1
        self._sums[place] = (self._sums[place] + hash(key)) % (1 << 64)

    def differing(self, other: _Buckets) -> set[int]:
        """Return the buckets that do not have the same keys."""
        own = zip(self._numbers, self._sums, strict=True)
        others = zip(other._numbers, other._sums, strict=True)
        return {place for place, (one, two) in enumerate(zip(own, others, strict=True)) if one != two}


def _bucket(key: Key) -> int:
    return zlib.crc32("\0".join(key).encode("utf-8", "surrogatepass")) % _BUCKETS

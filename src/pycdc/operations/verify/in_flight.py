"""Keys that events touched between the two snapshots: each row of the target is compared with its prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.operations.verify.canonical import ColumnType, text_of
from pycdc.operations.verify.prediction import Prediction, RowKey
from pycdc.operations.verify.relation import ComparedRelation, Layout
from pycdc.operations.verify.result import DifferenceKind, Key
from pycdc.operations.verify.spilling_map import SpillingMap

_CHUNK: Final = 500
"""Rows that a statement asks for."""
KEYS: Final = 5000
"""Keys that a statement names."""

Texts = tuple[str | None, ...]
SourceTexts = Callable[[Sequence[Key]], Mapping[Key, Texts]]
"""The canonical texts of the layout's columns in the source's snapshot, for those of the keys that it has."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A row that is not as predicted. `columns` are those that differ; the texts are of these."""

    kind: DifferenceKind
    key: Key
    columns: tuple[str, ...] = ()
    predicted: Texts = ()
    found: Texts = ()


class CanonicalTexts:
    """Texts as a route writes them, turned into canonical ones by the target itself.

    `connection` is one of its own: a text that its column refuses would end the snapshot's transaction.
    """

    def __init__(self, connection: Connection, columns: Mapping[str, ColumnType]) -> None:
        self._connection = connection
        self._columns = columns

    def rows(self, names: Sequence[str], rows: Sequence[Texts]) -> list[Texts | None]:
        """Return the canonical texts of each row of the columns `names`; None for one that the columns refuse."""
        out: list[Texts | None] = []
        for at in range(0, len(rows), _CHUNK):
            chunk = rows[at : at + _CHUNK]
            try:
                out += self._asked(names, chunk)
            except (psycopg.DataError, psycopg.errors.RaiseException):
                out += [self._alone(names, row) for row in chunk]
        return out

    def _alone(self, names: Sequence[str], row: Texts) -> Texts | None:
        try:
            return self._asked(names, [row])[0]
        except psycopg.DataError:
            return None

    def _asked(self, names: Sequence[str], rows: Sequence[Texts]) -> list[Texts]:
        if not names:
            return [()] * len(rows)
        spots = [sql.SQL(f"u.c{number}") for number in range(len(names))]
        chosen = [self._columns[name] for name in names]
        texts = [
            text_of(sql.SQL("({}::{})").format(spot, sql.SQL(column.declared)), column)
            for spot, column in zip(spots, chosen, strict=True)
        ]
        arrays = sql.SQL(", ").join(
            sql.SQL("{}::text[]").format(sql.Literal([row[number] for row in rows])) for number in range(len(names))
        )
        query = sql.SQL("SELECT {} FROM unnest({}) WITH ORDINALITY AS u ({}, n) ORDER BY u.n").format(
            sql.SQL(", ").join(texts),
            arrays,
            sql.SQL(", ").join(sql.SQL(f"c{number}") for number in range(len(names))),
        )
        return self._connection.execute(query).fetchall()


@dataclass(frozen=True, slots=True)
class Flight:
    """The predictions of one table by canonical keys, with canonical texts in their columns."""

    rows: SpillingMap[Prediction] = field(default_factory=SpillingMap)

    def chunks(self) -> Iterator[list[Key]]:
        """Yield the keys in flight, as many as one statement can name."""
        for page in self.rows.pages(KEYS):
            yield [key for key, _ in page]


def canonical_flight(predictions: SpillingMap[Prediction], layout: Layout, texts: CanonicalTexts) -> Flight:
    """Return the predictions with canonical keys and texts. Raises psycopg.Error."""
    flight = Flight()
    for page in predictions.pages(_CHUNK):
        for key, known in _canonical_page(dict(page), layout, texts).items():
            flight.rows[key] = known
            flight.rows.grew(known.size)
    return flight


def _canonical_page(
    predictions: Mapping[RowKey, Prediction], layout: Layout, texts: CanonicalTexts
) -> dict[Key, Prediction]:
    key_names = [column.name for column in layout.key]
    asked = list(dict.fromkeys([*predictions, *(key for one in predictions.values() for key in one.was)]))
    canonical = dict(zip(asked, texts.rows(key_names, asked), strict=True))
    compared = {column.name for column in layout.columns} - set(key_names)
    rows: dict[Key, Prediction] = {}
    groups: dict[tuple[str, ...], list[Prediction]] = {}
    for key, known in predictions.items():
        found = canonical[key]
        if found is None:
            continue
        # A copy: other columns of the same row may be compared with another table.
        own = rows[_key(found)] = replace(
            known,
            was=tuple(was for one in known.was if (was := _whole(canonical[one])) is not None),
            columns={name: text for name, text in known.columns.items() if name in compared},
            unknown=set(known.unknown),
        )
        if own.present is not False and own.columns:
            groups.setdefault(tuple(own.columns), []).append(own)
    for names, members in groups.items():
        canonical_rows = texts.rows(names, [tuple(one.columns.values()) for one in members])
        for known, row in zip(members, canonical_rows, strict=True):
            if row is None:
                known.unknown |= set(names)
                known.columns = {}
            else:
                known.columns = dict(zip(names, row, strict=True))
    return rows


def compare_flight(
    flight: Flight, layout: Layout, target: ComparedRelation, connection: Connection, source: SourceTexts
) -> Iterator[Mismatch]:
    """Yield what is not as predicted. Raises psycopg.Error."""
    for page in flight.rows.pages(_CHUNK):
        there = target.texts(connection, layout, [key for key, _ in page])
        lacking = [key for _, known in page if _lacks(known, layout) for key in known.was]
        here = source(list(dict.fromkeys(lacking))) if lacking else {}
        for key, known in page:
            mismatch = _compared(key, known, layout, there.get(key), here)
            if mismatch is not None:
                yield mismatch


def _lacks(known: Prediction, layout: Layout) -> bool:
    """Whether the source's snapshot has to complete the row."""
    if known.whole or known.present is False:
        return False
    key = {column.name for column in layout.key}
    predicted = known.columns.keys() | known.unknown | key
    return known.present is None or any(column.name not in predicted for column in layout.columns)


def _compared(
    key: Key, known: Prediction, layout: Layout, found: Texts | None, source: Mapping[Key, Texts]
) -> Mismatch | None:
    if known.present is False:
        return None if found is None else Mismatch(DifferenceKind.EXTRA, key)
    row = next((source[one] for one in reversed(known.was) if one in source), None)
    if found is None:
        return Mismatch(DifferenceKind.MISSING, key) if known.present or row is not None else None
    key_names = {column.name for column in layout.key}
    differing: list[tuple[str, str | None, str | None]] = []
    for place, column in enumerate(layout.columns):
        if column.name in known.unknown or column.name in key_names:
            continue
        if column.name in known.columns:
            wanted = known.columns[column.name]
        elif row is not None and not known.whole:
            wanted = row[place]
        else:
            continue
        if wanted != found[place]:
            differing.append((column.name, wanted, found[place]))
    if not differing:
        return None
    names, wanted_texts, found_texts = zip(*differing, strict=True)
    return Mismatch(DifferenceKind.CHANGED, key, names, wanted_texts, found_texts)


def _whole(key: Texts | None) -> Key | None:
    return None if key is None else _key(key)


def _key(key: Texts) -> Key:
    return tuple(text or "" for text in key)

"""Compare one table of the target in one cut: its settled keys by ranges, its keys in flight one by one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Final

import psycopg
from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import target_error
from pycdc.operations.verify.canonical import ColumnType
from pycdc.operations.verify.digests import Digest
from pycdc.operations.verify.feeds import Feed, Unit
from pycdc.operations.verify.in_flight import (
    KEYS,
    CanonicalTexts,
    Flight,
    Mismatch,
    SourceTexts,
    Texts,
    canonical_flight,
    compare_flight,
)
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.prediction import Prediction, Predictions
from pycdc.operations.verify.range_comparison import BothSides, Counts, Found, compare, differing
from pycdc.operations.verify.range_reading import RangeTask, Totals, read_ahead
from pycdc.operations.verify.ranges import Bound, KeyRange, by_text
from pycdc.operations.verify.readers import Readers
from pycdc.operations.verify.relation import ROW_DIGEST, ComparedRelation, Layout, ranges_of, without_key
from pycdc.operations.verify.result import (
    Difference,
    DifferenceKind,
    Key,
    TableResult,
    shown_key,
)
from pycdc.operations.verify.routed_comparison import RoutedComparison, Rows
from pycdc.operations.verify.row_condition import condition
from pycdc.operations.verify.spilling_map import SpillingMap

_RANGE: Final = 250_000
"""Rows of a range, about: at its end both servers wait for each other."""
_MOST_RANGES: Final = 1000
_SAMPLE: Final = 20_000
"""Rows that bounds of ranges are chosen from."""
_FEW_TOUCHED: Final = 200_000
"""Keys that are looked for one by one: a range is read faster than that."""
_TEXTS: Final = 500
"""Rows whose values are read at once."""
_ROWS: Final = "SELECT greatest(sum(c.reltuples), 0)::int8 FROM pg_class c WHERE c.oid = ANY (%s::oid[])"
_IN_ORDER: Final = """SELECT abs(s.correlation) FROM pg_stats s
WHERE s.schemaname = %s AND s.tablename = %s AND s.attname = %s"""
_CORRELATED: Final = 0.9


@dataclass(slots=True)
class TableComparison:
    """`stop` is asked between ranges; `result` is filled as the comparison goes on."""

    unit: Unit
    readers: Readers
    predictions: Predictions
    digest: Digest
    options: VerifyOptions
    result: TableResult
    routed: Rows | None = None
    """For a table whose rows no server can compute."""
    touched: SpillingMap[None] | None = None
    """Keys as the routes write them, whose ranges are compared alone; None for all ranges."""
    by_row: bool = False
    """Whether rows of these keys are compared in place of their ranges, unless they are too many."""
    _target_oids: tuple[int, ...] = ()
    """Of the table, once they were asked for."""

    def run(self, after: Key | None = None, until: Callable[[], bool] = lambda: False) -> Key | None:
        """Compare keys from `after` on, and all keys in flight. Raises PycdcError.

        Returns where to go on from if `until` returned True between ranges, None at the end.
        """
        began = time.monotonic()
        try:
            flight = self._flight()
            if self.touched is not None and not self.touched and not flight.rows:
                return None
            if self.routed is not None:
                self._routed(flight, self.routed)
                return None
            self._in_flight(flight)
            if self.by_row and self.touched is not None and len(self.touched) <= _FEW_TOUCHED:
                self._touched_rows(flight, self.touched)
                return None
            return self._ranges(flight, after, until)
        finally:
            self.result.seconds += time.monotonic() - began

    # Both sides.

    @property
    def layout(self) -> Layout:
        types = self.unit.types
        return Layout(
            tuple(_nullable(types[name], self.unit) for name in self.unit.key) or (ROW_DIGEST,),
            tuple(_nullable(types[name], self.unit) for name in self.unit.columns),
            self.digest,
        )

    def _target(self) -> ComparedRelation:
        unit = self.unit
        names = [sql.Identifier(name) for name in unit.columns]
        table = sql.Identifier(unit.target.schema, unit.target.name)
        only = [condition(self.options.where)] if self.options.where is not None else []
        one = ComparedRelation(table, tuple(map(sql.Identifier, unit.key)), tuple(names), (*unit.live, *only))
        return one if unit.key else without_key(one, self.layout, self.digest)

    def _source(self, feed: Feed) -> ComparedRelation:
        """With the condition of the options over the columns as they are called in the target."""
        one = self._whole_source(feed)
        if self.options.where is not None:
            names = tuple(map(sql.Identifier, self.unit.columns))
            key = tuple(map(sql.Identifier, self.unit.key))
            table = one.renamed(self.unit.columns, self.unit.target.name)
            one = ComparedRelation(table, key, names, (condition(self.options.where),))
        return one if self.unit.key else without_key(one, self.layout, self.digest)

    def _whole_source(self, feed: Feed) -> ComparedRelation:
        columns = feed.columns
        only = sql.SQL("ONLY ") if feed.source.copy.only else sql.SQL("")
        table = only + sql.Identifier(feed.source.copy.schema, feed.source.copy.name)
        key = tuple(columns[name] for name in self.unit.key)
        return ComparedRelation(table, key, tuple(columns[name] for name in self.unit.columns), feed.where)

    def _sources(self) -> tuple[ComparedRelation, ...]:
        """None where events emptied the table: what no event made since is gone."""
        if str(self.unit.target) in self.predictions.emptied:
            return ()
        return tuple(map(self._source, self.unit.feeds))

    def _oids(self) -> list[int]:
        return [feed.source.oid for feed in self.unit.feeds]

    # Keys in flight.

    def _flight(self) -> Flight:
        known = self.predictions.tables.get(str(self.unit.target)) or SpillingMap[Prediction]()
        return canonical_flight(known, self.layout, CanonicalTexts(self.readers.texts, self.unit.types))

    def _in_flight(self, flight: Flight) -> None:
        self.result.in_flight = max(self.result.in_flight, len(flight.rows))
        if not flight.rows:
            return
        with (
            self.readers.source.transaction(self._oids()) as source,
            self.readers.target.transaction() as target,
        ):
            for mismatch in compare_flight(flight, self.layout, self._target(), target, self._texts_in(source)):
                self._add_mismatch(mismatch, in_flight=True)

    def _routed(self, flight: Flight, rows: Rows) -> None:
        """Compare settled keys through the route's code, and then those in flight: the source's rows are read once."""
        emptied = str(self.unit.target) in self.predictions.emptied
        with self.readers.target.transaction([self._target_oid()]) as target:
            comparison = RoutedComparison(
                self.layout,
                self._target(),
                target,
                CanonicalTexts(self.readers.texts, self.unit.types),
                (lambda: iter(())) if emptied else rows,
                flight,
                self.unit.complete,
            )
            for mismatch in comparison.run():
                self._add_mismatch(mismatch, in_flight=False)
            self.result.in_flight = max(self.result.in_flight, len(flight.rows))
            for mismatch in compare_flight(flight, self.layout, self._target(), target, comparison.kept_texts):
                self._add_mismatch(mismatch, in_flight=True)
        self.result.source_rows, self.result.target_rows = comparison.source_rows, comparison.target_rows

    def _texts_in(self, connection: Connection) -> SourceTexts:
        sources, layout = self._sources(), self.layout

        def texts(keys: Sequence[Key]) -> Mapping[Key, Texts]:
            out: dict[Key, Texts] = {}
            for one in sources:
                out.update(one.texts(connection, layout, keys))
            return out

        return texts

    def _add_mismatch(self, one: Mismatch, *, in_flight: bool) -> None:
        if one.kind is DifferenceKind.EXTRA and not self.unit.complete:
            return
        values = self.options.values and one.kind is DifferenceKind.CHANGED
        self._add(
            Difference(
                self.result.table,
                one.kind,
                dict(zip(self.unit.key, one.key, strict=True)),
                one.columns,
                in_flight=in_flight,
                source=dict(zip(one.columns, one.predicted, strict=True)) if values else None,
                target=dict(zip(one.columns, one.found, strict=True)) if values else None,
            )
        )

    def _add(self, difference: Difference) -> None:
        if difference.in_flight and any(
            (one.kind, one.key) == (difference.kind, difference.key) for one in self.result.differences
        ):
            return  # an earlier cut of the same verification found it
        self.result.differing[difference.kind] += 1
        if len(self.result.differences) < self.options.max_differences:
            self.result.differences.append(difference)

    # Settled keys.

    def _ranges(self, flight: Flight, after: Key | None, until: Callable[[], bool]) -> Key | None:
        counts = Counts()
        try:
            start = KeyRange(after, None)
            bounds, ordered = self._bounds(start)
            parts: list[tuple[KeyRange, Sequence[Bound]]] = (
                [(part, ()) for part in start.cut(bounds)] if ordered else [(start, bounds)]
            )
            chosen = list(self._sampled(self._touched(parts)))
            totals = self._totals(chosen)
            for part, inner in chosen:
                if part.low is not None and part.low != after and until():
                    return part.low
                began, before = time.monotonic(), counts.target_rows
                self._range(flight, part, inner, counts, next(totals))
                self._pace(counts.target_rows - before, time.monotonic() - began)
            return None
        finally:
            self.result.source_rows += counts.source_rows
            self.result.target_rows += counts.target_rows
            self.result.ranges += counts.ranges
            self.result.differing_ranges += counts.differing_ranges

    def _touched(self, parts: list[tuple[KeyRange, Sequence[Bound]]]) -> list[tuple[KeyRange, Sequence[Bound]]]:
        """Return those that touched keys lie in. Where ranges have no index, one pass goes over them all."""
        if self.touched is None:
            return parts
        if not self.touched:
            return []
        if len(parts) == 1 and by_text(self.layout.key[0]):
            return parts
        cut = [(one, ()) for part, inner in parts for one in part.cut(inner)]
        bounds = [part.low for part, _ in cut[1:] if part.low is not None]
        chosen: set[int] = set()
        for page in self.touched.pages():
            keys = self._canonical_keys(page)
            try:
                chosen |= ranges_of(self.readers.texts, self.layout, keys, bounds)
            except psycopg.Error as error:
                raise target_error(error) from None
        return [cut[number] for number in sorted(chosen)]

    def _sampled(self, parts: list[tuple[KeyRange, Sequence[Bound]]]) -> Iterator[tuple[KeyRange, Sequence[Bound]]]:
        share = self.options.sample
        if share >= 1.0 or len(parts) == 1 or self.touched is not None:
            yield from parts
            return
        chosen = random.SystemRandom().sample(range(len(parts)), max(1, round(share * len(parts))))
        self.result.notes.append(f"a sample: {len(chosen)} of {len(parts)} ranges")
        yield from (parts[number] for number in sorted(chosen))

    def _pace(self, rows: int, seconds: float) -> None:
        """Wait as long as `max_rate` asks for."""
        if self.options.max_rate is not None:
            time.sleep(max(0.0, rows / self.options.max_rate - seconds))

    def _totals(self, parts: Sequence[tuple[KeyRange, Sequence[Bound]]]) -> Iterator[Totals | None]:
        """Return what workers add up, part by part; None for each where they are not asked."""
        readers = self.readers
        if readers.workers is None or len(parts) == 1:
            return repeat(None)
        snapshots = readers.source.snapshot, readers.target.snapshot
        oids = tuple(self._oids()), (self._target_oid(),)
        tasks = [
            RangeTask(readers.ends, snapshots, self.layout, self._sources(), self._target(), oids, part, tuple(inner))
            for part, inner in parts
        ]
        return read_ahead(readers.workers, self.options.workers, tasks)

    def _touched_rows(self, flight: Flight, touched: SpillingMap[None]) -> None:
        """Compare the rows of touched keys that are settled."""
        result = self.result
        for page in touched.pages(KEYS):
            keys = self._canonical_keys(page)
            with self._both_sides(flight) as both:
                source, target = both.rows(KeyRange(), keys)
                result.source_rows += len(source)
                result.target_rows += len(target)
                self._add_found(both, list(differing(source, target, complete=both.complete)))

    def _canonical_keys(self, page: Sequence[tuple[Key, None]]) -> list[Key]:
        """Return keys that the routes wrote as `canonical` writes them, without those that are none."""
        texts = CanonicalTexts(self.readers.texts, self.unit.types)
        try:
            found = texts.rows(self.unit.key, [key for key, _ in page])
        except psycopg.Error as error:
            raise target_error(error) from None
        return [shown_key(key) for key in found if key is not None]

    @contextmanager
    def _both_sides(self, flight: Flight) -> Iterator[BothSides]:
        if not self._target_oids and self.unit.feeds:
            self._target_oids = (self._target_oid(),)
        readers, oids = self.readers, self._target_oids
        with readers.source.transaction(self._oids()) as source, readers.target.transaction(oids) as target:
            yield BothSides(
                self.layout,
                self._sources(),
                self._target(),
                source,
                target,
                readers.executor,
                flight,
                self.unit.complete,
            )

    def _range(
        self, flight: Flight, part: KeyRange, inner: Sequence[Bound], counts: Counts, totals: Totals | None
    ) -> None:
        with self._both_sides(flight) as both:
            found: list[Found] = []
            for one in compare(both, part, inner, counts, totals):
                found.append(one)
                if len(found) >= _TEXTS:
                    self._add_found(both, found)
                    found = []
            self._add_found(both, found)

    def _add_found(self, both: BothSides, found: Sequence[Found]) -> None:
        changed = [key for kind, key in found if kind is DifferenceKind.CHANGED]
        here = self._texts_in(both.source_connection)(changed) if changed else {}
        there = both.target.texts(both.target_connection, both.layout, changed)
        for kind, key in found:
            names: tuple[str, ...] = ()
            values: dict[str, tuple[str | None, str | None]] = {}
            if kind is DifferenceKind.CHANGED and key in here and key in there:
                pairs = zip(self.unit.columns, here[key], there[key], strict=True)
                values = {name: (left, right) for name, left, right in pairs if left != right}
                names = tuple(values)
            shown = self.options.values and bool(values)
            self._add(
                Difference(
                    self.result.table,
                    kind,
                    dict(zip((column.name for column in both.layout.key), shown_key(key), strict=True)),
                    names,
                    source={name: pair[0] for name, pair in values.items()} if shown else None,
                    target={name: pair[1] for name, pair in values.items()} if shown else None,
                )
            )

    # Bounds.

    def _target_oid(self) -> int:
        with self.readers.target.transaction() as connection:
            quoted = sql.Identifier(self.unit.target.schema, self.unit.target.name).as_string(connection)
            row = connection.execute("SELECT to_regclass(%s)::oid::int8", (quoted,)).fetchone()
        return int(row[0]) if row else 0

    def _bounds(self, start: KeyRange) -> tuple[list[Bound], bool]:
        """Return bounds of ranges inside of `start`, and whether ranges are read one after another, by an index.

        Where the rows do not lie in the order of the key, one pass over the table hashes all ranges.
        """
        layout, feeds = self.layout, self.unit.feeds
        with self.readers.source.transaction() as connection:
            row = connection.execute(_ROWS, (self._oids(),)).fetchone()
            rows = int(row[0] or 0) if row else 0
            if rows <= 2 * _RANGE or len(feeds) != 1 or not self.unit.key:
                return [], True
            source = self._whole_source(feeds[0])
            count = min(_MOST_RANGES, rows // _RANGE)
            percent = min(100.0, 100.0 * max(_SAMPLE, 20 * count) / rows)
            bounds = source.sampled(connection, layout, percent, count, start)
            name = feeds[0].source.fields.get(feeds[0].route.key.get(self.unit.key[0], self.unit.key[0]), "")
            copy = feeds[0].source.copy
            found = connection.execute(_IN_ORDER, (copy.schema, copy.name, name)).fetchone()
        correlated = found is not None and found[0] is not None and found[0] >= _CORRELATED
        by_index = not by_text(layout.key[0]) and (correlated or self.readers.workers is not None)
        return bounds, by_index or len(layout.key) > 1


def _nullable(column: ColumnType, unit: Unit) -> ColumnType:
    """Return the column as nullable if it is so on either side: both sides' texts are made alike."""
    filled = all(column.name in feed.filled for feed in unit.feeds)
    return replace(column, nullable=column.nullable or not filled)

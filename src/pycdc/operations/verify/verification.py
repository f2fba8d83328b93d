"""Verify a pipeline: the tables that it writes against those that its events come from, exactly and without a pause."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

import psycopg

from pycdc.build.decoder import build_decoder
from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import target_error
from pycdc.clients.postgres_sessions import database_identity
from pycdc.config.pipeline import ApplyPipeline, PipelineConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.errors import ConfigError, PycdcError
from pycdc.model.event import Event
from pycdc.model.patterns import names_any
from pycdc.operations.verify.canonical import ColumnType, columns_of
from pycdc.operations.verify.comparison_progress import ATTEMPTS, ComparisonProgress, result_of, unit_name
from pycdc.operations.verify.cut import Announce, Cut, EndSessions, open_cut, point_of
from pycdc.operations.verify.digests import agreed
from pycdc.operations.verify.explanations import explain
from pycdc.operations.verify.feeds import Reasons, SourceTable, Unit, captured_tables, tables_of_topics, units
from pycdc.operations.verify.options import VerifyOptions, ends_of
from pycdc.operations.verify.prediction import Predictions, fold
from pycdc.operations.verify.readers import Readers, TableRewritten, source_reader, target_reader
from pycdc.operations.verify.result import Difference, TableResult, Verification
from pycdc.operations.verify.routed_comparison import Rows
from pycdc.operations.verify.row_condition import require_condition
from pycdc.operations.verify.stream_window import StreamWindow, Vector, are_kept
from pycdc.operations.verify.table_comparison import TableComparison
from pycdc.operations.verify.touched_keys import TouchedKeys
from pycdc.operations.verify.two_passes import plain_cut, twice
from pycdc.operations.verify.two_way import OtherDirection, confirmed, has_more
from pycdc.process_pool import ProcessPool
from pycdc.sinks.postgres.loop_filter import LoopFilter
from pycdc.sinks.postgres.route_checks import existing_tables, read_tables
from pycdc.sinks.postgres.routing.router import RouteTable
from pycdc.sinks.postgres.sequences import read_sequences
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.writes import RowWrite
from pycdc.transforms.reverse import ReverseFunctions

_CUTS: Final = 2
"""That are taken anew for this many events between the snapshots: fewer rows are compared one by one then."""
_MANY_EVENTS: Final = 100_000
_CANCEL_SECONDS: Final = 2.0


def verify(config: PipelineConfig, options: VerifyOptions, announce: Announce = lambda text: None) -> Verification:
    """Verify once, twice for `two_passes`; confirm what differs where the other direction is known. See `Verifier`."""
    if options.two_passes is not None:
        with Verifier(config, replace(options, values=True), announce) as verifier:
            found = twice(verifier.run, options.two_passes, announce)
        return found if options.values else found.without_values()
    if options.other_apply is None or options.other_capture is None:
        with Verifier(config, options, announce) as verifier:
            return verifier.run()
    other = OtherDirection(options.other_apply, options.other_capture, options.timeout)
    # The values show whether a row is still the same; they are left out of the report again.
    with Verifier(config, replace(options, values=True), announce) as verifier:
        found = confirmed(verifier.run(), other, verifier.run)
    return found if options.values else found.without_values()


@dataclass(frozen=True, slots=True)
class _Changes:
    """What is compared where the rest was before: `keys` that events touched from `since` on.

    `by_row`: rows in place of their ranges.
    """

    since: Vector
    keys: TouchedKeys
    by_row: bool


class Verifier:
    """Verifies one pipeline as often as it is asked. A context manager. `announce` hears what is being done.

    Nothing is paused and nothing is locked for longer than a range is read. Raises PycdcError that says what to do
    where a precondition does not hold; no slot, no snapshot and no session is left behind then.
    """

    def __init__(self, config: PipelineConfig, options: VerifyOptions, announce: Announce = lambda text: None) -> None:
        if not isinstance(config, ApplyPipeline):
            raise ConfigError(
                f"pipeline {config.name} does not write topics into tables, so there is nothing to compare",
                hint="name the configuration of the pipeline that applies the events",
            )
        source, sink = config.source.kafka, config.sink.postgres
        self._config = config
        self._options = options
        self._announce = announce
        self._source, self._sink = source, sink
        self._ends = ends_of(config, options)
        self._functions = ReverseFunctions(config) or None
        self._loops = LoopFilter(sink.loops, config.name)
        self._since: Vector | None = None
        """The ends of the topics before the first cut of the last run: what lies behind may have been touched since."""
        self._reading: tuple[Connection, ...] = ()
        self._opened = ExitStack()
        try:
            self._decoder = decoder = self._opened.enter_context(build_decoder(source))
            wanted = [route.topic for route in sink.routes]
            self._window = StreamWindow(source, config.group, decoder, lambda topic: names_any(wanted, topic))
            self._executor = self._opened.enter_context(ThreadPoolExecutor(1, "pycdc-verify"))
            self._sessions = self._opened.enter_context(closing(EndSessions(self._ends)))
            self._catalog = self._opened.enter_context(Catalog(self._ends.source_dsn))
        except BaseException:
            self._opened.close()
            raise

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def run(self) -> Verification:
        """Verify all tables that were asked for. Raises PycdcError."""
        self._since = None
        return self._closing(())

    def run_again(self, before: Verification) -> Verification:
        """Verify what events touched since the last run, and what differed in `before`. Raises PycdcError.

        All of it where that is unknown: some differences are not kept, or the topics have lost events since.
        """
        if any(map(has_more, before.tables)) or any(table.problem is not None for table in before.tables):
            return self.run()
        return self._closing(before.differences)

    def run_changes(self, before: Verification) -> Verification:
        """Verify as `run_again` does, but rows in place of their ranges: as long as few changed, it takes a moment.

        Everything where `before` is not equal. Raises PycdcError.
        """
        if not before.equal:
            return self.run()
        return self._closing((), by_row=True)

    def cancel(self) -> None:
        """End what another thread runs here, with an error there."""
        for connection in self._reading:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CANCEL_SECONDS)
            connection.close()
        self._sessions.close()

    def _closing(self, known: Sequence[Difference], *, by_row: bool = False) -> Verification:
        try:
            return self._run(known, by_row=by_row)
        except BaseException:
            self._sessions.close()
            self._since = None
            raise
        finally:
            self._reading = ()

    def _run(self, known: Sequence[Difference], *, by_row: bool) -> Verification:
        since, self._since = self._since, None
        began = time.monotonic()
        out = self._begun()
        progress, attempts = ComparisonProgress(), 0
        with ExitStack() as opened:
            source = opened.enter_context(closing(source_reader(self._ends)))
            target = opened.enter_context(closing(target_reader(self._ends)))
            workers = self._workers(opened)
            readers = Readers(self._ends, source, target, self._sessions.target, self._executor, workers)
            self._reading = source.connection, target.connection
            complete = False
            while not complete:
                try:
                    with closing(self._cut()) as cut:
                        self._since = self._since or cut.low
                        again = None
                        if since is not None and are_kept(since, cut.spans):
                            again = _Changes(since, TouchedKeys(known), by_row)
                        complete = self._in_cut(cut, readers, out, progress, again)
                except TableRewritten:
                    attempts += 1
                    if attempts >= ATTEMPTS * max(1, len(progress.results)):
                        raise
        out.tables = [progress.results[name] for name in progress.results if name in progress.done]
        self._note_sequences(out)
        out.seconds = time.monotonic() - began
        return out

    def _workers(self, opened: ExitStack) -> Executor | None:
        if self._options.executor is not None:
            return opened.enter_context(self._options.executor())
        return opened.enter_context(ProcessPool(self._options.workers)) if self._options.workers > 1 else None

    # One cut.

    def _cut(self) -> Cut:
        """Return a cut; another one where capture and pipeline lagged, and have caught up for the first."""
        if self._options.two_passes is not None:
            return plain_cut(self._ends)
        for _ in range(_CUTS):
            self._announce("takes a consistent cut")
            cut = open_cut(self._ends, self._sessions, self._window, self._announce)
            if cut.events <= _MANY_EVENTS:
                break
            self._announce(f"{cut.events} events lie between the snapshots")
            cut.close()
        else:
            cut = open_cut(self._ends, self._sessions, self._window, self._announce)
        return cut

    def _in_cut(
        self,
        cut: Cut,
        readers: Readers,
        out: Verification,
        progress: ComparisonProgress,
        changes: _Changes | None,
    ) -> bool:
        """Compare as many tables as the cut's age allows. Return whether all are compared."""
        out.points.append(point_of(cut))
        readers.source.use(cut.exported.name)
        readers.target.use(cut.target_snapshot)
        with readers.source.transaction() as here, readers.target.transaction() as there:
            digest = agreed(here, there, self._options.digest)
            tables, types = self._tables(there)
            sources = list(self._sources(here))
        out.digest = digest.name
        reasons = Reasons(self._config, self._options.capture)
        wanted, out.left_out = units(
            self._config, tables, types, sources, reasons, self._options.tables, self._options.columns
        )
        router = RouteTable(self._sink, tables, self._functions, partial(_is_ordered, cut.vector))
        left = [unit for unit in wanted if unit_name(unit) not in progress.done]
        compared = {str(unit.target) for unit in left}
        predictions = self._predictions(cut, tables, router, compared, changes)
        for place, unit in enumerate(left, 1):
            self._announce(f"compares {unit.target}")
            name = unit_name(unit)
            result = progress.results.setdefault(name, result_of(unit))
            try:
                if self._options.where is not None:
                    require_condition(self._sessions.target, unit, self._options.where)
                routed = None if unit.obstacle is None else self._routed(cut, unit, router)
                comparison = TableComparison(unit, readers, predictions, digest, self._options, result, routed)
                if changes is not None:
                    comparison.touched, comparison.by_row = changes.keys.of(str(unit.target)), changes.by_row
                rest = comparison.run(progress.after.get(name), partial(self._is_old, cut))
            except PycdcError as error:
                progress.failed(unit, error)
                continue
            if rest is not None:
                progress.after[name] = rest
                return False
            self._explain(result, router)
            progress.done.add(name)
            if self._is_old(cut) and place < len(left):
                return False
        return True

    def _explain(self, result: TableResult, router: RouteTable) -> None:
        try:
            explain(
                [result],
                self._sessions.target,
                self._sink.bookkeeping,
                self._config.name,
                self._decoder,
                router.writes,
            )
        except psycopg.Error as error:
            raise target_error(error) from None

    def _routed(self, cut: Cut, unit: Unit, router: RouteTable) -> Rows:
        """Return what asks for the rows of a table that no server can compute.

        Raises ConfigError where the capture is not known.
        """
        capture = self._options.capture
        if capture is None:
            raise ConfigError(
                f"table {unit.target} can only be compared through the code that encodes its rows: {unit.obstacle}",
                hint="name the capture's configuration with --capture, or other tables with --table",
            )
        if not unit.key:
            raise ConfigError(
                f"table {unit.target} has no key, and its rows go through code: {unit.obstacle}",
                hint="give the route a key, or leave the table out with --table",
            )
        from pycdc.operations.verify.routed_rows import RowRouter  # the serializers, which few tables need

        rows = RowRouter(capture, self._config, self._catalog.server().database, router.writes)
        orders = {self._sink.routes.index(feed.route) for feed in unit.feeds}
        tables = list({feed.source.oid: feed.source for feed in unit.feeds}.values())

        def routed() -> Iterator[RowWrite]:
            for table in tables:
                for _, writes in rows.rows(cut, table):
                    for write in writes:
                        shape = write.shape
                        if shape.order in orders and shape.operation != "delete" and not shape.moves:
                            yield write

        return routed

    def _note_sequences(self, out: Verification) -> None:
        """Note the sequences that the rows have left behind: no difference while the pipeline runs."""
        tables = {table.table: table for table in out.tables}
        for one in read_sequences(self._sink):
            if one.behind and one.table_name in tables:
                tables[one.table_name].notes.append(
                    f"sequence {one.sequence_name} is behind column {one.column}: `pycdc sequences` sets it"
                )

    def _is_old(self, cut: Cut) -> bool:
        return time.monotonic() - cut.began > self._options.max_snapshot_age

    def _tables(
        self, connection: psycopg.Connection[object]
    ) -> tuple[dict[str, TargetTable], dict[str, dict[str, ColumnType]]]:
        if self._options.two_passes is None:
            tables = read_tables(self._sessions.target, self._sink.routes)
        else:  # whoever writes them needs no unique index
            tables = existing_tables(self._sessions.target, self._sink.routes)
        types: dict[str, dict[str, ColumnType]] = {}
        for name, table in tables.items():
            quoted = psycopg.sql.Identifier(table.schema, table.name).as_string(connection)
            row = connection.execute("SELECT to_regclass(%s)::oid::int8", (quoted,)).fetchone()
            types[name] = columns_of(connection, row[0]) if row else {}  # type: ignore[index]
        return tables, types

    def _sources(self, connection: psycopg.Connection[object]) -> Iterator[SourceTable]:
        capture = self._options.capture
        if capture is not None:
            return captured_tables(capture, self._catalog, connection)
        topics = sorted({partition.topic for partition in self._window.ends()})
        return tables_of_topics(topics, self._catalog, connection)

    def _predictions(
        self,
        cut: Cut,
        tables: dict[str, TargetTable],
        router: RouteTable,
        compared: Collection[str],
        changes: _Changes | None,
    ) -> Predictions:
        self._announce("reads the events between the snapshots")
        marks = {
            str(tables[route.table]): frozenset(route.soft_delete) for route in self._sink.routes if route.soft_delete
        }
        events: Iterator[Event]
        if changes is None:
            events = self._window.events(cut.low, cut.vector, cut.spans)
        else:
            events = self._window.events(changes.since, cut.vector, cut.spans)
            events = changes.keys.noted(events, router.writes, partial(self._tables_of, tables), cut.low)
        folded = fold(
            events,
            lambda event: [write for write in router.writes(event) if str(write.shape.table) in compared],
            lambda event: [str(table) for table in router.truncated(event)],
            self._refused,
            cut.parked,
            marks,
        )
        return folded.predictions

    def _tables_of(self, tables: dict[str, TargetTable], topic: str) -> list[str]:
        return [str(tables[route.table]) for route in self._sink.routes if names_any([route.topic], topic)]

    def _refused(self, event: Event) -> bool:
        return any(portion.refused for portion in self._loops.portions([event], 1))

    def _begun(self) -> Verification:
        source, target = _identity(self._sessions.source), _identity(self._sessions.target)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        return Verification(
            self._config.name, self._options.command, started, source, target, "", _configuration(self._config)
        )


def _is_ordered(vector: Vector, topic: str) -> bool:
    return sum(partition.topic == topic for partition in vector) <= 1


def _identity(connection: psycopg.Connection[object]) -> str:
    known = database_identity(connection)
    return f"{connection.info.dbname} ({known})" if known else connection.info.dbname


def _configuration(config: PipelineConfig) -> str:
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]

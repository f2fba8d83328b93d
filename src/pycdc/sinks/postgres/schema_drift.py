"""The tables of the routes as they are now, and what is done when one changes under the pipeline.

A statement that no longer fits its table says so by an error. Then the catalog is read again, once: where the routes
fit the table as it is, work goes on with new statements. Where they do not, the table's topics halt, and no others. A
halted table is looked at again from time to time, and goes on by itself once it fits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Final

import psycopg

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import described
from pycdc.config.postgres_sink import PostgresSinkConfig, Route
from pycdc.model.event import Partition
from pycdc.model.patterns import names_any
from pycdc.observability.logger import get_logger
from pycdc.observability.progress import Progress
from pycdc.sinks.postgres.conflicts.setup import set_up_conflicts
from pycdc.sinks.postgres.failures.errors import raised
from pycdc.sinks.postgres.route_checks import cautions, mismatches, read_tables, require, untenable, waiting
from pycdc.sinks.postgres.routing.router import Functions, RouteTable
from pycdc.sinks.postgres.target_tables import TargetTable, tables_now
from pycdc.sinks.postgres.writing.foreign_key_order import tied
from pycdc.sinks.postgres.writing.write_errors import Unfinished
from pycdc.sinks.postgres.writing.writes import Shape

log = get_logger()

LOOK_AGAIN: Final = 30.0
"""Seconds between two looks at a table that does not fit."""
_CHANGED: Final = ("42703", "42P01", "42P10", "42704", "42804", "42846", "42883", "428C9", "3F000", "0A000")
"""A column, table, unique index, type, cast, operator or schema is another, or a plan is of before the change."""


class Drifted(Unfinished):
    """A statement does not fit `table` any more. `column` is one that every new row has to give now.

    `inside`: a trigger or function met it, so that it may be of some rows only.
    """

    def __init__(self, table: TargetTable, error: psycopg.Error, column: str | None) -> None:
        self.table = table
        self.inside = bool(error.diag.context)
        self.error = error
        self.column = column


def drift(error: psycopg.Error, shape: Shape) -> Drifted | None:
    """Return what `error`, raised by a statement of `shape`, means for its table; None if it is about anything else."""
    if error.sqlstate == "23502":
        column = error.diag.column_name or ""
        known = {*shape.key, *shape.set, *shape.table.required}
        changed = error.diag.table_name == shape.table.name and column not in known
        return Drifted(shape.table, error, column) if changed else None
    return Drifted(shape.table, error, None) if error.sqlstate in _CHANGED and not raised(error) else None


def _shape(table: TargetTable) -> list[object]:
    """Return what of a table is in its statements."""
    return [getattr(table, one.name) for one in fields(table) if one.name not in ("rank", "ties")]


@dataclass(slots=True)
class KnownTables:
    """What outlives a sink: `tables` by the routes' names as they last fitted, and columns that had to be given.

    `slow` counts how often the event at an offset took too long although it was alone; `most` are the events of a
    transaction, None: as many as come.
    """

    tables: dict[str, TargetTable] = field(default_factory=dict)
    demands: dict[str, str] = field(default_factory=dict)
    slow: dict[tuple[Partition, int], int] = field(default_factory=dict)
    most: int | None = None


class TargetTables:
    """`router`, `order` and `conflicts` fit the tables that do not halt. `origin` is the session's.

    Raises EnvironmentNotReady where a table does not fit, and `known` does not know that it ever did.
    """

    def __init__(
        self,
        connection: Connection,
        settings: PostgresSinkConfig,
        pipeline: str,
        origin: str | None,
        progress: Progress,
        known: KnownTables,
        functions: Functions | None = None,
        ordered: Callable[[str], bool] = lambda topic: True,
    ) -> None:
        self.ordered = ordered
        self._settings = settings
        self._pipeline = pipeline
        self._origin = origin
        self._progress = progress
        self._functions = functions
        self._tables, self._demands = known.tables, known.demands
        self._halted: dict[str, str] = {}
        progress.halted.clear()
        if not self._tables:
            found = read_tables(connection, settings.routes)
            require(untenable(connection, settings, found))
            self._warn(connection, found)
            self._tables.update(found)
        self._read(connection)

    def _warn(self, connection: Connection, tables: Mapping[str, TargetTable]) -> None:
        own = (caution for route in self._settings.routes for caution in cautions(route, tables[route.table]))
        for fact, remedy in dict.fromkeys((*own, *waiting(connection, self._settings, tables))):
            log.warning(fact, remedy=remedy)

    @property
    def halts(self) -> bool:
        return bool(self._halted)

    def halted(self, topic: str) -> str | None:
        """Why the topic's events cannot be applied at present."""
        routes = (route for route in self._settings.routes if names_any([route.topic], topic))
        reason = next((self._halted[route.table] for route in routes if route.table in self._halted), None)
        if reason is not None:
            self._progress.halted[topic] = reason
        return reason

    def halts_at(self, topic: str, tables: Iterable[TargetTable]) -> bool:
        """Return whether one of `tables`, which an event of `topic` writes, halts: a function may choose others."""
        reason = next((self._halted[name] for name in map(self._route_name, tables) if name in self._halted), None)
        if reason is not None:
            self._progress.halted[topic] = reason
        return reason is not None

    def _route_name(self, table: TargetTable) -> str:
        return next((name for name, known in self._tables.items() if str(known) == str(table)), "")

    def changed(self, connection: Connection) -> bool:
        """Read the catalog where a row was refused, which may only fit the table as it is now. Whether that helps."""
        found = tables_now(connection, self._settings.routes)
        if all(now is not None and _shape(now) == _shape(self._tables[name]) for name, now in found.items()):
            return False
        before = {name: _shape(table) for name, table in self._tables.items()}, dict(self._halted)
        self._read(connection, before[1])
        return before != ({name: _shape(table) for name, table in self._tables.items()}, self._halted)

    def adapt(self, connection: Connection, drifted: Drifted, *, again: bool) -> None:
        """Read the catalog, and halt what does not fit. `again`: it did not help before, whatever the catalog says."""
        name = str(drifted.table)
        if drifted.column is not None:
            self._demands[name] = drifted.column
        self._read(connection)
        reasons = [self._halted[route.table] for route in self._routes_of(name) if route.table in self._halted]
        if again and not reasons:
            reason = f"table {name}: {described(drifted.error)}"
            remedy = "look into the server's log; `pycdc doctor` compares the routes with the tables"
            for route in self._routes_of(name):
                self._halt(route, reason, remedy)

    def look_again(self, connection: Connection) -> None:
        """Look at the tables again, where something halts and the time has come."""
        if self._halted and time.monotonic() - self._looked_at >= LOOK_AGAIN:
            before = dict(self._halted)
            self._halted.clear()
            self._progress.halted.clear()
            self._read(connection, before)
            for table in before.keys() - self._halted.keys():
                log.info("a table fits again", table=table)

    def _read(self, connection: Connection, known: Mapping[str, str] | None = None) -> None:
        self._looked_at = time.monotonic()
        found = tables_now(connection, self._settings.routes)
        for route in self._settings.routes:
            table = found[route.table]
            wrong = [*mismatches(route, table), *self._lost(route, table), *self._demanded(table)]
            if wrong:
                facts, remedies = zip(*wrong, strict=True)
                self._halt(route, "; ".join(facts), "; ".join(remedies), known)
            elif table is not None and route.table not in self._halted:
                self._tables[route.table] = table
        self._compile(connection)

    def _lost(self, route: Route, table: TargetTable | None) -> Iterator[tuple[str, str]]:
        """Yield columns that are gone, of a route whose fields go into the columns of their names."""
        if table is not None and route.set is None and route.function is None and route.operation != "delta":
            for column in sorted(self._tables[route.table].columns.keys() - table.columns.keys()):
                yield (
                    f"table {table} has no column {column} any more",
                    f"ALTER TABLE {table} ADD COLUMN {column} …, or start again with a route that names its fields "
                    "under `set`",
                )

    def _demanded(self, table: TargetTable | None) -> Iterator[tuple[str, str]]:
        """Columns that new rows have to give, as an error told."""
        column = self._demands.get(str(table))
        if table is not None and column is not None and column in table.required:
            yield (
                f"column {column} of table {table} must be given, and events do not tell it",
                f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT … (or DROP NOT NULL), or start again with a "
                "route that has it under `set` or `constants`",
            )

    def _halt(self, route: Route, reason: str, remedy: str, known: Mapping[str, str] | None = None) -> None:
        """Halt the topics of a route's table. `known`: what was reported before."""
        if self._halted.setdefault(route.table, reason) is reason and (known or {}).get(route.table) != reason:
            log.error("a table does not fit any more: its topics halt, others go on", reason=reason, remedy=remedy)

    def _routes_of(self, table: str) -> list[Route]:
        return [route for route in self._settings.routes if str(self._tables[route.table]) == table]

    def _compile(self, connection: Connection) -> None:
        self.order, tables = tied(connection, self._settings, self._tables)
        connection.rollback()
        self._tables.update(tables)
        self.conflicts = set_up_conflicts(connection, self._settings, self._pipeline, self._tables, self._origin)
        self.router = RouteTable(self._settings, self._tables, self._functions, self.ordered)

"""A table's rule for conflicts, compiled: which guard its statements get, and what its events say of rows and times."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from pycdc.config.postgres_sink import ConflictRule, PostgresSinkConfig, Route
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.event import Event
from pycdc.model.patterns import names_any
from pycdc.rows.column_presence import holds_field
from pycdc.rows.column_readings import reading
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.conflicts.conflict import Function, source_time, time_from, whole
from pycdc.sinks.postgres.routing.field_paths import ABSENT, Look, has_value, look_up
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.conflict_guards import Guard
from pycdc.sinks.postgres.writing.writes import RowWrite, Shape

Version = Decimal | datetime


@dataclass(frozen=True, slots=True)
class KnownColumns:
    """Where a route's events have the old values of a table's columns: paths into the old row, by column.

    `removes`: its events mean that the row is removed.
    """

    topic: str
    when: tuple[tuple[Look, str | int | bool], ...]
    columns: Mapping[str, tuple[str, Look]]
    removes: bool

    def takes(self, event: Event) -> bool:
        row = event.before if event.deleted else event.row
        here = names_any([self.topic], event.partition.topic)
        return here and all(has_value(look(event, row), value) for look, value in self.when)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """`configured` is False for a table without a rule. `by_origin`: whether last writers are known."""

    table: TargetTable
    rule: ConflictRule
    configured: bool
    detection: str
    by_origin: bool
    function: Function | None
    known: tuple[KnownColumns, ...]

    @property
    def owned(self) -> frozenset[str]:
        """Columns that events write with a new row only."""
        return frozenset(name for name, word in self.rule.columns.items() if word == "keep_local")

    @property
    def added(self) -> frozenset[str]:
        return frozenset(name for name, word in self.rule.columns.items() if word == "delta")

    @property
    def spared(self) -> frozenset[str]:
        """What an event's row, as it is, is never written into a row that is there."""
        return self.owned | self.added

    @property
    def prepares(self) -> bool:
        """Whether its writes are looked at one by one, before those of a row are told as one."""
        return bool(self.added) or self.detection in ("version", "old_values") or self.remembers

    @property
    def remembers(self) -> bool:
        """Whether times of events, and deletes, are kept: see `write_times`."""
        return self.configured and self.rule.default == "last_write_wins"

    def guard(self, shape: Shape) -> Guard | None:
        """Return the guard of writes of `shape`; None where nothing can conflict.

        That is so for an upsert that writes new rows only, and for an insert that must be one.
        """
        if shape.operation == "insert":
            return Guard("absent", reports=True) if self.configured else None
        if shape.operation == "upsert" and not (set(shape.set) - self.spared or shape.reset):
            return Guard(spared=self.spared) if shape.set else None
        if not shape.does_something:
            return None
        kind = self._kind(shape)
        column = self.version_column if kind == "version" else ""
        return Guard(kind, column, self.spared, reports=kind != "none" or shape.operation != "upsert")

    def _kind(self, shape: Shape) -> Literal["none", "origin", "version", "before"]:
        if self.detection == "version":
            return "version"
        if self.detection == "old_values" and shape.operation != "upsert":
            return "before"
        # What `operation: delta` adds to a row does not conflict with what others did to it.
        if self.detection == "none" or not self.by_origin or not self.added.issuperset(shape.add):
            return "none"
        return "origin"

    @property
    def version_column(self) -> str:
        return self.rule.version or self.rule.row_time or ""

    # What an event says.

    def of(self, event: Event) -> KnownColumns:
        """Return the columns of the route that takes the event; the first one's, if several take it into this table."""
        if len(self.known) == 1:
            return self.known[0]
        return next((columns for columns in self.known if columns.takes(event)), self.known[0])

    def before(self, event: Event) -> dict[str, str | None]:
        """Return the old row by column, as far as the event holds it. Raises Unwritable."""
        out: dict[str, str | None] = {}
        for column, (path, look) in self.of(event).columns.items():
            value = look(event, event.before)
            if value is not ABSENT and holds_field(event, path) is not False:
                out[column] = reading(event.forms).text(value, self.table.columns[column])
        return out

    def means_removal(self, event: Event) -> bool:
        return event.deleted or self.of(event).removes

    def removes(self, write: RowWrite) -> bool:
        return self.means_removal(write.event)

    def time(self, event: Event) -> datetime:
        """Return the event's time. Raises Unwritable.

        The time of a delete is that of the row before where the event holds it, else the source's.
        """
        path = self.rule.event_time
        if path is None:
            return source_time(event)
        value = look_up(path)(event, event.before if event.deleted else event.row)
        if event.deleted and not path.startswith("$") and holds_field(event, path) is None:
            value = ABSENT
        time = None if value is ABSENT else time_from(value)
        if time is None and event.deleted and value is ABSENT:
            time = source_time(event)
        if time is None:
            raise Unwritable(f"the event has no time in {path}, which conflict.event_time names")
        return time

    def written_at(self, event: Event) -> datetime:
        """Return when the event was written, as it is remembered. Raises Unwritable.

        The fields of a delete are those of the row before, so its time is the source's.
        """
        path = self.rule.event_time
        fields = path is not None and not path.startswith("$")
        time = source_time(event) if event.deleted and fields else self.time(event)
        return time if self.rule.row_time is not None else whole(time)

    def version(self, write: RowWrite) -> str | None:
        """Return the event's version as text; None for a delete without one. Raises Unwritable."""
        column = self.version_column
        if column in write.shape.set:
            text = write.set[write.shape.set.index(column)]
        elif write.shape.moves and write.event.row is not None:
            _, look = self.of(write.event).columns[column]
            value = look(write.event, write.event.row)
            text = None if value is ABSENT else reading(write.event.forms).text(value, self.table.columns[column])
        else:
            text = self.before(write.event).get(column)
        if text is None and not self.removes(write):
            raise Unwritable(f"the event does not tell column {column}, which says how new it is")
        return text

    def comparable(self, text: str) -> Version:
        """Return a version that compares with others of its column. Raises Unwritable."""
        numeric = self.table.columns[self.version_column].category == "N"
        try:
            version: Version | None = Decimal(text) if numeric else time_from(text)
        except InvalidOperation:
            version = None
        if version is None:
            raise Unwritable(f"what the event tells of column {self.version_column} is no version to compare")
        return version

    def as_json(self, values: Mapping[str, str | None]) -> str:
        """Texts by column as a JSON document that `jsonb_populate_record` reads."""
        pairs = (f"{json.dumps(name)}: {self._json(name, text)}" for name, text in values.items())
        return "{" + ", ".join(pairs) + "}"

    def _json(self, name: str, text: str | None) -> str:
        if text is None:
            return "null"
        return text if self.table.columns[name].base in ("json", "jsonb") else json.dumps(text)


def policies(
    settings: PostgresSinkConfig, tables: Mapping[str, TargetTable], *, by_origin: bool
) -> dict[TargetTable, Policy]:
    """Return the policy of each table. Raises ConfigError, EnvironmentNotReady."""
    routes: dict[str, list[int]] = {}
    for order, route in enumerate(settings.routes):
        routes.setdefault(str(tables[route.table]), []).append(order)
    out = {}
    for orders in routes.values():
        table = tables[settings.routes[orders[0]].table]
        made = _policy(settings, table, orders, by_origin=by_origin)
        out.update({tables[settings.routes[order].table]: made for order in orders})
    return out


def _policy(settings: PostgresSinkConfig, table: TargetTable, orders: list[int], *, by_origin: bool) -> Policy:
    routes = [settings.routes[order] for order in orders]
    problems = list(mismatches(routes, orders, table, by_origin=by_origin))
    if problems:
        raise EnvironmentNotReady(
            "; ".join(fact for fact, _ in problems), hint="; ".join(remedy for _, remedy in problems)
        )
    chosen = routes[0].conflict
    rule = chosen or ConflictRule()
    return Policy(
        table,
        rule,
        chosen is not None,
        detection(rule, by_origin=by_origin),
        by_origin,
        imported(rule.function),
        tuple(_known_columns(route, table) for route in routes),
    )


def detection(rule: ConflictRule, *, by_origin: bool) -> str:
    """version, old_values, origin or none."""
    if rule.detect != "auto":
        return rule.detect
    if rule.version is not None or rule.row_time is not None:
        return "version"
    return "origin" if by_origin else "none"


_ORDERED: Final = ("N", "D")
"""Categories of types whose versions can be compared here too: numbers, and dates and times."""


def mismatches(
    routes: list[Route], orders: Iterable[int], table: TargetTable, *, by_origin: bool
) -> Iterator[tuple[str, str]]:
    """Why the rule of these routes, which write into one table, cannot be kept: facts, and what mends them."""
    places = ", ".join(f"routes[{order}]" for order in orders)
    rule = routes[0].conflict
    if any(route.conflict != rule for route in routes):
        yield f"{places} write table {table} and have different conflict rules", "write the same `conflict` in each"
        return
    if rule is None:
        return
    ordering = {name for name in (rule.version, rule.row_time) if name is not None}
    for column in sorted(ordering & table.columns.keys()):
        if table.columns[column].category not in _ORDERED:
            yield f"column {column} of table {table} is neither a number nor a time", "name one that is"
    for column, word in sorted(rule.columns.items()):
        if word == "delta" and column in table.columns and table.columns[column].category != "N":
            yield f"column {column} of table {table} is no number, and delta adds", "choose another word for it"
    needs = detection(rule, by_origin=by_origin) == "none" and rule.detect == "auto" and rule.default != "apply_remote"
    if (needs or rule.detect == "origin") and not by_origin:
        yield f"who wrote a row of table {table} last is not known, and its conflicts are not seen", NO_ORIGIN


NO_ORIGIN: Final = (
    "set track_commit_timestamp = on (it needs a restart) and GRANT EXECUTE ON FUNCTION pg_replication_origin_create, "
    "pg_replication_origin_oid, pg_replication_origin_session_setup, pg_replication_origin_xact_reset to the role, or "
    "choose `detect`"
)


def imported(path: str | None) -> Function | None:
    """Import the function that decides. Raises ConfigError."""
    if path is None:
        return None
    module, _, name = path.partition(":")
    try:
        found: Function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"conflict.function {path} cannot be imported ({type(error).__name__})",
            hint="write it as package.module:name, importable from where pycdc runs",
        ) from None
    return found


def _known_columns(route: Route, table: TargetTable) -> KnownColumns:
    names = {column: column for column in table.columns} if route.set is None else route.set
    if route.function is not None:
        names = {}  # what a function makes of fields is not known of those of the old row
    paths = {**names, **route.key}
    columns = {
        column: (path, look_up(path))
        for column, path in paths.items()
        if not path.startswith("$") and column not in route.constants and not table.columns[column].generated
    }
    when = tuple((look_up(path), value) for path, value in route.when.items())
    return KnownColumns(route.topic, when, columns, route.operation in ("delete", "soft_delete"))

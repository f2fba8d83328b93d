"""Routes, compiled: from an event to the writes it means. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from pycdc.config.postgres_sink import PostgresSinkConfig, Route
from pycdc.errors import TransformError
from pycdc.model.change import UNCHANGED, Row
from pycdc.model.event import Event, Forms
from pycdc.model.patterns import names_any
from pycdc.rows.column_presence import ColumnPresence
from pycdc.rows.text_values import Unwritable
from pycdc.sinks.postgres.routing.compiled_route import WriteOf, compile_route
from pycdc.sinks.postgres.routing.field_paths import ABSENT, look_up
from pycdc.sinks.postgres.routing.interpreted_route import PlainRoute
from pycdc.sinks.postgres.routing.key_changes import KeyChanges, of_moved
from pycdc.sinks.postgres.routing.key_reuse import KeyReuse
from pycdc.sinks.postgres.target_tables import TargetTable, key_columns
from pycdc.sinks.postgres.writing.key_forms import is_equal_by_text
from pycdc.sinks.postgres.writing.writes import RowWrite

_KINDS: Final = 256
"""Of rows that a route has functions for; JSON whose fields come and go may have any number."""


RowOf = Callable[[Event], Row | None]
"""A user's function under a route. Raises TransformError."""


class Functions(Protocol):
    """Users' functions, those of `rows` by their paths. All raise TransformError."""

    @property
    def rows(self) -> Mapping[str, RowOf]: ...
    def parts(self, event: Event) -> Sequence[Event]:
        """Return the events that are routed in the place of one that came."""


class RouteTable:
    """All routes of a sink. Topics that no route takes are the source's mistake: they are an error, never skipped."""

    def __init__(
        self,
        settings: PostgresSinkConfig,
        tables: Mapping[str, TargetTable],
        functions: Functions | None = None,
        ordered: Callable[[str], bool] = lambda topic: True,
    ) -> None:
        """`ordered` says whether the records of a topic are all in one partition."""
        self._functions = functions
        rows = {} if functions is None else functions.rows
        self._presence = presence = ColumnPresence(settings.unavailable)
        self._mark = presence.mark
        self._routes = [
            _CompiledRoute(route, tables[route.table], order, presence, marks(settings.routes, route, tables), ordered)
            if route.function is None
            else _RouteOfFunction(
                route,
                tables[route.table],
                order,
                presence,
                marks(settings.routes, route, tables),
                ordered,
                rows[route.function],
            )
            for order, route in enumerate(settings.routes)
        ]
        self._by_topic: dict[str, list[_CompiledRoute]] = {}
        self._followed = [topic for saga in settings.sagas.values() for topic in saga.topics]

    def writes(self, event: Event) -> list[RowWrite]:
        """Return an event's writes. Raises Unwritable where it does not fit its route, or a function failed at it."""
        try:
            raw = event.raw_value
            # Nearly all rows are sent whole, and say nothing else: so no function is called.
            if event.headers or event.deleted or raw is None or self._mark in raw or self._functions is not None:
                self._presence.settle(event)
            if self._functions is None:
                return self._routed(event)
            return [_of(event, write) for part in self._functions.parts(event) for write in self._routed(part)]
        except TransformError as error:
            raise Unwritable(error.fact) from None
        except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
            # A stranger's values may fail in a way that nobody thought of, and then too they are their record's fault.
            raise error if isinstance(error, Unwritable) else Unwritable(_unforeseen(error)) from None

    def _routed(self, event: Event) -> list[RowWrite]:
        topic = event.partition.topic
        routes = self._by_topic.get(topic) or self._of(topic)
        if len(routes) == 1 and routes[0].always:
            return routes[0].writes(event)
        taking = [route for route in routes if route.always or route.plain.takes(event)]
        writes = [write for route in taking for write in route.writes(event)]
        left = [route for route in routes if route not in taking and route.plain.leaves(event)]
        return [*_removals(event, left, writes), *writes] if left else writes

    def truncated(self, event: Event) -> list[TargetTable]:
        """Return the tables that are emptied with the source's table. Raises Unwritable where a route refuses that."""
        routes = self._by_topic.get(event.partition.topic) or self._of(event.partition.topic)
        out = []
        for route in (one.plain for one in routes):
            if route.route.on_truncate == "refuse":
                raise Unwritable(
                    f"the source's table was emptied (TRUNCATE): set `on_truncate` of the route into {route.table}"
                )
            if route.route.on_truncate == "truncate":
                out.append(route.table)
        return out

    def left_out(self, event: Event) -> str:
        """Why an event that was routed writes nothing."""
        if event.truncates:
            return "truncate"
        plain = [route.plain for route in self._by_topic.get(event.partition.topic, ())]
        if not plain and names_any(self._followed, event.partition.topic):
            return "saga"
        if (self._functions is not None and any(one.route.function for one in plain)) or not plain:
            return "function"
        if all(one.route.when or one.ops is not None for one in plain):
            return "when" if event.op is None or all(one.ops is None or event.op in one.ops for one in plain) else "ops"
        if event.deleted:
            return "on_delete" if all(one.route.deletion == "ignore" for one in plain) else "tombstone"
        return "function"

    def rank(self, topic: str) -> tuple[int, int]:
        """Return the place of the first route that takes `topic`: its table's, and its own."""
        plain = next((route.plain for route in self._by_topic.get(topic, ())), None)
        return (0, 0) if plain is None else (plain.table.rank, plain.order)

    def only(self, topic: str) -> PlainRoute | None:
        """Return the one route that takes all events of a topic, as long as no function and no saga looks at them."""
        routes = [route for route in self._routes if route.plain.takes_topic(topic)]
        if self._functions is not None or len(routes) != 1 or not routes[0].always or routes[0].plain.route.function:
            return None
        if names_any(self._followed, topic):
            return None
        return routes[0].plain

    def _of(self, topic: str) -> list[_CompiledRoute]:
        found = [route for route in self._routes if route.plain.takes_topic(topic)]
        if not found and not names_any(self._followed, topic):
            raise Unwritable(f"no route takes topic {topic}")
        return self._by_topic.setdefault(topic, found)


def marks(routes: Iterable[Route], own: Route, tables: Mapping[str, TargetTable]) -> set[str]:
    """Return the columns by which any of `routes` marks rows of `own`'s table as deleted."""
    table = str(tables[own.table])
    return {column for route in routes if str(tables[route.table]) == table for column in route.soft_delete}


class _CompiledRoute:
    """Chooses the function for a row's fields. Rows that were not sent whole are left to `PlainRoute`."""

    def __init__(
        self,
        route: Route,
        table: TargetTable,
        order: int,
        presence: ColumnPresence,
        marks: Collection[str],
        ordered: Callable[[str], bool],
    ) -> None:
        self.plain = PlainRoute(route, table, order, presence, marks)
        self.always = not route.when and route.ops is None
        self._key_changes = KeyChanges(self.plain, ordered)
        self._key_reuse = KeyReuse(self.plain, ordered)
        self._loose = next((c for c in self.plain.key if not is_equal_by_text(table.columns[c])), None)
        self._ordered = ordered
        self._known_keys = self._key_changes.known_keys
        self._functions: dict[tuple[str, ...], WriteOf] = {}
        self._forms: Forms | None = None
        """Of the rows that the functions are for: those of a topic are seldom of several."""

    def writes(self, event: Event) -> list[RowWrite]:
        row, key = event.row, event.raw_key
        if self._loose is not None and not self._ordered(event.partition.topic):
            raise Unwritable(
                f"values of key column {self._loose} of table {self.plain.table} are equal in several texts, and the "
                "topic has several partitions: records of one row may be in different ones, which have no order: give "
                "the topic one partition, or the column a type whose values have one text"
            )
        usual = row is not None and not event.unsent and event.before is None and event.other_key is None
        if usual and key is not None and key[:5] in self._known_keys and event.forms is self._forms:
            # Nothing is known of the row before, and the message key is one of those met before.
            function = self._functions.get(tuple(row))  # type: ignore[arg-type]
            if function is not None:
                write = function(event, row)  # type: ignore[arg-type]
                return [] if write is None else [write]
        self._key_reuse.require_order(event)
        write = self.write(event)
        if row is None or self._key_changes.may_happen(event, row):
            return self._key_changes.writes(event, write)
        return [] if write is None else [write]

    def write(self, event: Event) -> RowWrite | None:
        row = event.row
        if row is None or event.unsent:
            return self.plain.write(event)
        if event.forms is not self._forms:
            self._functions, self._forms = {}, event.forms
        function = self._functions.get(tuple(row)) or self._function(tuple(row))
        return function(event, row)

    def _function(self, fields: tuple[str, ...]) -> WriteOf:
        if len(self._functions) >= _KINDS:
            return lambda event, row: self.plain.write(event)
        return self._functions.setdefault(fields, compile_route(self.plain, fields, self._forms))


class _RouteOfFunction(_CompiledRoute):
    """Rows are what a function returns: its columns go where they are called. Deletes go as without it."""

    def __init__(
        self,
        route: Route,
        table: TargetTable,
        order: int,
        presence: ColumnPresence,
        marks: Collection[str],
        ordered: Callable[[str], bool],
        function: RowOf,
    ) -> None:
        super().__init__(route, table, order, presence, marks, ordered)
        own_names = route.model_copy(update={"key": {column: column for column in key_columns(route, table)}})
        self._of_row = _CompiledRoute(own_names, table, order, presence, marks, ordered)
        self._paths = {column: look_up(path) for column, path in route.key.items()}
        self._row = function

    def writes(self, event: Event) -> list[RowWrite]:
        """Return what a function makes of a row, of which the old row is not known; a delete asks no function."""
        if event.deleted:
            return super().writes(event)
        write = self.write(event)
        if write is None:
            return []
        return [write if event.other_key is None else of_moved(write)]

    def write(self, event: Event) -> RowWrite | None:
        if event.deleted:
            return super().write(event)
        row = self._row(event)
        if row is None:
            return None
        sent = {column: value for column, value in row.items() if value is not UNCHANGED}
        # What the function made of a row that it did not see whole is no new row, whatever it left out.
        lacking = frozenset(self.plain.table.columns) if event.unsent else frozenset[str]()
        own = replace(event, row=self._whole(event, sent), forms=None, unsent=lacking)
        write = self._of_row.write(own)
        return None if write is None else write._replace(event=event, first=event)

    def _whole(self, event: Event, row: Row) -> Row:
        """Add the columns of the key that the function left to the route."""
        table = self.plain.table
        strange = row.keys() - table.columns.keys()
        if strange:
            raise Unwritable(
                f"function {self.plain.route.function} returned column {min(strange)}, which {table} does not have"
            )
        of_key = event.key if isinstance(event.key, dict) else None
        found = {}
        for column, look in self._paths.items():
            value = look(event, event.row)
            found[column] = look(event, of_key) if value is ABSENT else value
        return {**{column: value for column, value in found.items() if value is not ABSENT}, **row}


def _unforeseen(error: Exception) -> str:
    return f"a value of the record fits no column ({type(error).__name__})"


def _removals(event: Event, left: Iterable[_CompiledRoute], writes: Iterable[RowWrite]) -> list[RowWrite]:
    """Return the deletes of rows that routes took before, but for those that another route writes."""
    before = event.row if event.other_key is not None and event.op == "c" else event.before
    # Without a value: a row that is not there is as it should be.
    gone = replace(event, row=None, before=before, deleted=True, raw_value=None, other_key=None)
    written = {(write.shape.space, write.key) for write in writes}
    found = (write for route in left for write in route.writes(gone))
    return [write for write in found if (write.shape.space, write.key) not in written]


def _of(event: Event, write: RowWrite) -> RowWrite:
    """Return a write as one of `event`'s record, whatever topic a function chose routes by."""
    if write.event.partition == event.partition:
        return write
    own = replace(write.event, partition=event.partition)
    return write._replace(event=own, first=own)

"""Which tables of the source the rows of a target's table come from, and what a route makes of their columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.config.postgres_sink import Route
from pycdc.config.values import ValuesConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import CopySource, arriving
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.errors import ConfigError, EnvironmentNotReady
from pycdc.model.change import Table
from pycdc.model.patterns import matches_any, names_any
from pycdc.operations.verify.canonical import NUMBERS, TEXTS, ColumnType, columns_of
from pycdc.rows.plan import merged_rule, treatments
from pycdc.serialization.names import DEFAULT_TOPIC, routed
from pycdc.sinks.postgres.target_tables import TargetTable, key_columns


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table of the source as its capture sends it.

    `fields` maps fields of the records to columns; `treated` are fields whose values a rule changes. `table` is None
    where the capture's configuration is not known.
    """

    topic: str
    oid: int
    copy: CopySource
    columns: Mapping[str, ColumnType]
    fields: Mapping[str, str]
    treated: frozenset[str] = frozenset()
    table: Table | None = None

    def __str__(self) -> str:
        return f"{self.copy.schema}.{self.copy.name}"


def captured_tables(config: CapturePipeline, catalog: Catalog, connection: Connection) -> Iterator[SourceTable]:
    """Yield the tables that a capture sends, as its publication has them. Raises PycdcError, psycopg.Error."""
    found = catalog.tables(config.source.postgres.tables, config.source.postgres.exclude_tables)
    relations = RelationCache(catalog, lambda oid, schema, name: True, lambda table, kind: None, config.compatibility)
    for ref in arriving(found, via_root=config.source.postgres.via_partition_root):
        copy = catalog.columns_for_copy(ref.oid, config.publication)
        table = None if copy is None else relations.from_catalog(ref.oid, copy.columns)
        if copy is None or table is None:
            continue
        rule = merged_rule(table, config.rules)
        treated = treatments(table, rule, config.values, config.compatibility)
        columns = columns_of(connection, ref.oid)
        # The catalog is as it is now: a column that was added since is not one of the snapshot's.
        fields = {name: table.columns[index].name for index, name, _ in treated if table.columns[index].name in columns}
        yield SourceTable(
            routed(rule.topic or DEFAULT_TOPIC, name=config.name, schema=ref.schema, table=ref.name),
            ref.oid,
            copy,
            columns,
            fields,
            frozenset(name for _, name, hide in treated if hide is not None),
            table,
        )


def tables_of_topics(topics: Sequence[str], catalog: Catalog, connection: Connection) -> Iterator[SourceTable]:
    """Yield the tables that Debezium's topic names mean, `prefix.schema.table`. Raises PycdcError, psycopg.Error."""
    for topic in topics:
        parts = topic.split(".")
        refs = catalog.tables([".".join(parts[-2:])]) if len(parts) > 2 else []
        for ref in refs[:1]:
            copy = catalog.columns_for_copy(ref.oid)
            if copy is not None:
                columns = columns_of(connection, ref.oid)
                yield SourceTable(topic, ref.oid, copy, columns, {name: name for name in copy.columns})


@dataclass(slots=True)
class Feed:
    """A table of the source through one route.

    `columns` maps columns of the target to expressions over the source's row, `not_compared` those that are left out to
    the reason. `obstacle` says why servers cannot compute it.
    """

    route: Route
    source: SourceTable
    columns: Mapping[str, sql.Composable]
    not_compared: Mapping[str, str]
    where: tuple[sql.Composable, ...] = ()
    obstacle: str | None = None
    filled: frozenset[str] = frozenset()
    """Columns that are never NULL in the source."""


@dataclass(slots=True)
class Unit:
    """A table of the target with all feeds into the same columns of it. `complete`: no other feed makes rows of it."""

    target: TargetTable
    types: Mapping[str, ColumnType]
    feeds: list[Feed]
    key: tuple[str, ...]
    columns: tuple[str, ...]
    not_compared: dict[str, str] = field(default_factory=dict)
    live: tuple[sql.Composable, ...] = ()
    complete: bool = True

    @property
    def obstacle(self) -> str | None:
        """Why the servers cannot compute digests; None where they can."""
        return next((feed.obstacle for feed in self.feeds if feed.obstacle is not None), None)


class Reasons:
    """What a pipeline's configuration says of values beside its routes."""

    def __init__(self, apply: ApplyPipeline, capture: CapturePipeline | None) -> None:
        self._apply = apply
        self._capture = capture
        self.values = capture.values if capture is not None else apply.source.kafka.values or ValuesConfig()

    def of_tables(self, route: Route, source: SourceTable) -> str | None:
        """Return why rows have to go through code, None where they need not."""
        if any(names_any(step.topics, source.topic) for step in self._apply.transforms):
            return "a function of `transforms` sees the rows"
        if route.function is not None:
            return f"function {route.function} makes the rows"
        capture = self._capture
        if capture is None:
            return None
        if any(matches_any(step.tables, source.copy.schema, source.copy.name) for step in capture.transforms):
            return "a function of the capture's `transforms` sees the rows"
        return None


def feed(
    route: Route, target: TargetTable, types: Mapping[str, ColumnType], source: SourceTable, reasons: Reasons
) -> Feed:
    """Return what the route makes of the source's table."""
    paths, not_compared = _paths(route, target, types, source)
    obstacle = reasons.of_tables(route, source)
    columns: dict[str, sql.Composable] = {}
    if route.function is not None:
        paths |= {name: name for name in not_compared if not types[name].generated and name not in route.soft_delete}
    for name, path in paths.items():
        column = source.fields.get(path.removeprefix("$key."))
        if path[:1] == "$" and not path.startswith("$key."):
            not_compared[name] = f"it is made from the record's {path}"
            continue
        if column is None:
            obstacle = obstacle or f"column {name} is made from {path}"
            columns[name] = sql.Identifier(name)
            continue
        reason = _lossy(source.columns[column], reasons.values)
        if reason is not None and source.table is None and name not in key_columns(route, target):
            not_compared[name] = f"{reason}, and the capture's configuration is not known"
            continue
        if path in source.treated:
            reason = f"a rule of the capture changes field {path}"
        expression, cast = converted(sql.Identifier(column), source.columns[column], types[name])
        obstacle = obstacle or reason or cast
        columns[name] = expression
    for name, value in route.constants.items():
        if name not in key_columns(route, target):
            columns[name] = _constant(value, types[name])
    where, why = _conditions(route, source)
    left_out = {name: reason for name, reason in not_compared.items() if name not in columns}
    filled = frozenset(
        name
        for name, path in paths.items()
        if (column := source.fields.get(path.removeprefix("$key."))) is not None and not source.columns[column].nullable
    )
    return Feed(route, source, columns, left_out, where, obstacle or why, filled)


def _paths(
    route: Route, target: TargetTable, types: Mapping[str, ColumnType], source: SourceTable
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields of the columns that the route is responsible for, and why other columns are left out."""
    key = {column: route.key.get(column, column) for column in key_columns(route, target)}
    assigned = route.set
    if assigned is None:
        assigned = {} if route.operation == "delta" else {name: name for name in source.fields if name in types}
    owned = {} if route.conflict is None else route.conflict.columns
    reasons = dict.fromkeys(types, "the route does not write it")
    paths = dict(key)
    for name, path in assigned.items():
        if name in key or name in route.constants:
            continue
        if types[name].generated:
            reasons[name] = "the server generates it"
        elif owned.get(name) == "keep_local":
            reasons[name] = "this side owns it"
        else:
            paths[name] = path
    reasons.update(dict.fromkeys(route.delta, "amounts of events are added to it"))
    reasons.update(dict.fromkeys(route.soft_delete, "it marks deleted rows"))
    compared = {*paths, *route.constants}
    return paths, {name: reason for name, reason in reasons.items() if name not in compared}


_CLOSE: Final = (
    NUMBERS,
    TEXTS,
    frozenset(("json", "jsonb")),
    frozenset(("inet", "cidr")),
    frozenset(("bit", "varbit")),
)
"""Types whose values are the same in each other."""
_LIMITED: Final = frozenset(("numeric", "timestamp", "timestamptz", "time", "timetz", "interval"))
"""Types that round to their modifier, as writing into a column does."""
_PLAIN_TEXTS: Final = TEXTS | {"int2", "int4", "int8", "uuid", "json", "jsonb"}
"""Types whose records hold the text that Postgres prints."""


def converted(expression: sql.Composable, source: ColumnType, target: ColumnType) -> tuple[sql.Composable, str | None]:
    """Return a value of the source as one of the target's column, and why that cannot be done in SQL, if it cannot."""
    if source.base == target.base:
        if target.modifier != source.modifier and target.base in _LIMITED:
            return sql.SQL("({}::{})").format(expression, sql.SQL(target.declared)), None
        return expression, None
    text = sql.SQL("({})::text").format(expression)
    if any(source.base in group and target.base in group for group in _CLOSE):
        if source.base == "name" or target.base in TEXTS:
            return text, None
        kind = target.declared if target.base in _LIMITED else target.base
        return sql.SQL("({}::{})").format(expression, sql.SQL(kind)), None
    to_text = target.base in TEXTS or target.is_enum or not target.builtin
    if to_text and (source.base in _PLAIN_TEXTS or source.is_enum or not source.builtin):
        return text, None
    if source.base in TEXTS and target.base == "uuid":
        return sql.SQL("({}::uuid)").format(expression), None
    return expression, f"column {target.name} is {target.base}, and its source {source.base}"


def _lossy(column: ColumnType, values: ValuesConfig) -> str | None:
    """Return why records do not hold a column's values as they are."""
    element = column.element if column.base.startswith("_") else column.base
    if element == "interval" and values.interval == "numeric":
        return f"column {column.name} is an interval, which records hold in microseconds"
    if element in ("numeric", "money") and values.decimal == "double":
        return f"column {column.name} is {element}, which records hold as a double"
    if element in ("time", "timestamp", "timestamptz", "timetz") and values.time == "connect":
        return f"column {column.name} is {element}, which records hold in milliseconds"
    return None


def _constant(value: str | int | float | bool | None, column: ColumnType) -> sql.Composable:
    text = None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    kind = column.declared if column.builtin else "text"
    return sql.SQL("{}::{}").format(sql.Literal(text), sql.SQL(kind))


def _conditions(route: Route, source: SourceTable) -> tuple[tuple[sql.Composable, ...], str | None]:
    """Return the rows that the publication sends and the route takes, or why SQL cannot name them."""
    where: list[sql.Composable] = []
    if source.copy.row_filter is not None:
        where.append(sql.SQL("({}\n)").format(sql.SQL(source.copy.row_filter)))
    for path, wanted in route.when.items():
        column = source.columns.get(source.fields.get(path, ""))
        if (
            column is None
            or path in source.treated
            or not (column.base in _PLAIN_TEXTS or column.is_enum or column.base == "bool")
        ):
            return (), f"`when` of the route asks for {path}"
        text = sql.SQL("({})::text").format(sql.Identifier(column.name))
        if isinstance(wanted, bool) or column.base == "bool":
            where.append(sql.SQL("lower({}) = {}").format(text, str(wanted).lower()))
        else:
            where.append(sql.SQL("{} = {}").format(text, str(wanted)))
    return tuple(where), None


def units(
    config: ApplyPipeline,
    tables: Mapping[str, TargetTable],
    types: Mapping[str, Mapping[str, ColumnType]],
    sources: Sequence[SourceTable],
    reasons: Reasons,
    wanted: Sequence[str],
    columns: Sequence[str] = (),
) -> tuple[list[Unit], dict[str, str]]:
    """Return what there is to compare, and why tables are left out: `wanted` and `columns` are all where none is named.

    Raises EnvironmentNotReady for a route whose topics belong to no table of the source, ConfigError for a table or a
    column that is wanted and not there.
    """
    sink = config.sink.postgres
    _require_known(wanted, columns, tables, types)
    out: dict[tuple[str, frozenset[str]], Unit] = {}
    left_out: dict[str, str] = {}
    for route in sink.routes:
        target = tables[route.table]
        if not _is_wanted(wanted, target):
            left_out[str(target)] = "it was not asked for"
            continue
        if route.operation in ("delete", "soft_delete"):
            continue
        fed = [one for one in sources if names_any([route.topic], one.topic)]
        if not fed:
            raise EnvironmentNotReady(
                f"no table of the source is known for the topics of route {route.topic} into {target}",
                hint="name the capture that writes them with --capture; topics of a service's own events cannot be "
                "verified: choose tables with --table",
            )
        for source in fed:
            one = feed(route, target, types[route.table], source, reasons)
            key = tuple(key_columns(route, target))
            if columns:
                _restrict(one, {*key, *columns})
            place = str(target), frozenset(one.columns)
            if place in out:
                out[place].feeds.append(one)
                continue
            order = [*key, *sorted(name for name in one.columns if name not in key)]
            out[place] = Unit(
                target,
                types[route.table],
                [one],
                key,
                tuple(order),
                dict(one.not_compared),
                _live(route, types[route.table]),
            )
    for source in sources:
        if not any(names_any([route.topic], source.topic) for route in sink.routes):
            left_out[str(source)] = f"no route takes its topic {source.topic}"
    shared = [name for name, _ in out]
    for (name, _), unit in out.items():
        unit.complete = shared.count(name) == 1
    return list(out.values()), left_out


def _is_wanted(wanted: Sequence[str], table: TargetTable) -> bool:
    return not wanted or any(matches_any([pattern], table.schema, table.name) for pattern in wanted)


def _require_known(
    wanted: Sequence[str],
    columns: Sequence[str],
    tables: Mapping[str, TargetTable],
    types: Mapping[str, Mapping[str, ColumnType]],
) -> None:
    """Raise ConfigError for a table or a column that was asked for and is not there: nothing would be compared."""
    for pattern in wanted:
        if not any(_is_wanted([pattern], table) for table in tables.values()):
            raise ConfigError(
                f"no table that the pipeline writes matches {pattern}",
                hint=f"name tables of the target: {', '.join(sorted(map(str, tables.values())))}",
            )
    known = {name for table, found in types.items() if _is_wanted(wanted, tables[table]) for name in found}
    for name in columns:
        if name not in known:
            raise ConfigError(
                f"no table that is compared has a column {name}", hint="name columns of the target's tables"
            )


def _restrict(one: Feed, kept: Collection[str]) -> None:
    left_out = {name: "it was not asked for" for name in one.columns if name not in kept}
    one.not_compared = {**one.not_compared, **left_out}
    one.columns = {name: value for name, value in one.columns.items() if name in kept}


def _live(route: Route, types: Mapping[str, ColumnType]) -> tuple[sql.Composable, ...]:
    """Return the conditions that a row of the target is not marked as deleted."""
    out: list[sql.Composable] = []
    for name, value in route.soft_delete.items():
        if value == "$timestamp":
            out.append(sql.SQL("{} IS NULL").format(sql.Identifier(name)))
        else:
            out.append(sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier(name), _constant(value, types[name])))
    return tuple(out)

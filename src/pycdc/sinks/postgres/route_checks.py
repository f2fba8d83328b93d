"""Whether the routes fit their tables: what a start refuses and `pycdc doctor` finds. Facts, and what mends them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import ConflictRule, PostgresSinkConfig, Route
from pycdc.errors import EnvironmentNotReady
from pycdc.sinks.postgres.target_tables import TargetTable, key_columns, tables_now
from pycdc.sinks.postgres.writing.foreign_key_order import tied
from pycdc.sinks.postgres.writing.table_dependencies import ACTIONS, ForeignKey

Problems = Iterator[tuple[str, str]]

_BEYOND = """WITH RECURSIVE gone (first, name, oid) AS (
    SELECT c.conname, n.nspname || '.' || t.relname, t.oid
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE c.contype = 'f' AND c.confrelid = to_regclass(%(table)s) AND c.confdeltype IN ('c', 'n', 'd')
        AND n.nspname || '.' || t.relname <> ALL (%(routed)s)
    UNION
    SELECT g.first, n.nspname || '.' || t.relname, t.oid
    FROM gone g JOIN pg_constraint c ON c.confrelid = g.oid AND c.contype = 'f' AND c.confdeltype IN ('c', 'n', 'd')
    JOIN pg_class t ON t.oid = c.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE g.name <> ALL (%(routed)s))
SELECT first, name FROM gone WHERE name = ANY (%(routed)s) ORDER BY 1, 2"""


def mismatches(route: Route, table: TargetTable | None) -> Problems:
    """Why a route cannot write into its table."""
    if table is None:
        yield f"table {route.table} does not exist", "create it, or correct the route's table"
        return
    key = key_columns(route, table)
    rule = set() if route.conflict is None else route.conflict.named
    named = {*key, *(route.set or {}), *route.delta, *route.constants, *route.soft_delete, *rule}
    for column in sorted(named - table.columns.keys()):
        yield (
            f"table {table} has no column {column}",
            f"ALTER TABLE {table} ADD COLUMN {column} …, or correct the route",
        )
    for column in sorted(name for name in named & table.columns.keys() if table.columns[name].generated):
        remedy = "choose another `key`" if column in key else "leave it out of the route"
        yield f"column {column} of table {table} is generated", remedy
    if not key:
        near = _nearly(table, tuple(table.columns))
        yield (
            f"table {table} has no primary key, and the route has no key{near}",
            "add `key: {column: field}` to the route",
        )
    elif frozenset(key) not in table.uniques:
        columns = ", ".join(key)
        yield (
            f"table {table} has no unique index over {columns}, so one event could write several rows"
            f"{_nearly(table, key)}",
            f"CREATE UNIQUE INDEX ON {table} ({columns}), or choose another key",
        )
    yield from _marks(route, table)
    yield from _secured(table)


def _nearly(table: TargetTable, key: tuple[str, ...]) -> str:
    """Why indexes that look like it do not count."""
    near = [f"{name} {why}" for name, columns, why in table.near_uniques if set(columns) <= set(key)]
    return f" ({', '.join(near)})" if near else ""


def _marks(route: Route, table: TargetTable) -> Problems:
    assigned = {*(route.set or {}), *route.constants, *key_columns(route, table)}
    for column in route.soft_delete:
        if column in table.columns and table.columns[column].required and column not in assigned:
            yield (
                f"column {column} of table {table} marks deleted rows, must not be null and has no default, so that "
                "nothing says what a row has that is there again",
                f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT …, or name it under `constants`",
            )


def _secured(table: TargetTable) -> Problems:
    if table.secured:
        yield (
            f"row security of table {table} applies to the role, which would miss rows without a word",
            f"ALTER ROLE … BYPASSRLS, or CREATE POLICY … ON {table} TO the role USING (true) WITH CHECK (true)",
        )
    for child in table.inheriting:
        yield (
            f"table {child} inherits from table {table}: what is written to rows of the latter would reach those of "
            "the former too, and no unique index covers both",
            f"ALTER TABLE {child} NO INHERIT {table}, or partition the table",
        )
    for rule in table.rules:
        yield (
            f"rule {rule} of table {table} makes statements do something else than they say",
            f"DROP RULE {rule} ON {table}, and write a trigger instead",
        )


def cautions(route: Route, table: TargetTable) -> Problems:
    """Return what may go wrong with some rows."""
    refusing = ", ".join(trigger.name for trigger in table.triggers if trigger.can_refuse)
    if refusing:
        yield (
            f"trigger {refusing} of table {table} sees each row before it is written: where it returns NULL, the row's "
            "event cannot be applied",
            "see that it returns NEW (OLD for a delete) for what the pipeline writes",
        )
    added = {*route.delta, *(() if route.conflict is None else _added_by(route.conflict))}
    for column in sorted(name for name in added if name in table.columns and table.columns[name].nullable):
        yield (
            f"column {column} of table {table} may be NULL, and what is added to NULL is NULL: the amount is lost",
            f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT 0, ALTER COLUMN {column} SET NOT NULL",
        )
    assigned = {*key_columns(route, table), *(route.set or {}), *route.constants}
    lacking = sorted(table.required - assigned) if route.set is not None else []
    if lacking and route.operation in ("insert", "upsert"):
        columns = ", ".join(lacking)
        yield (
            f"table {table} must be given {columns}, and the route does not: no new row can be made",
            f"name it under `set` or `constants`, or ALTER TABLE {table} ALTER COLUMN {lacking[0]} SET DEFAULT …",
        )


def _added_by(rule: ConflictRule) -> list[str]:
    return [column for column, word in rule.columns.items() if word == "delta"]


def read_tables(connection: Connection, routes: list[Route]) -> dict[str, TargetTable]:
    """Return the tables of all routes by their names there.

    Raises EnvironmentNotReady with everything that is wrong.
    """
    tables = tables_now(connection, routes)
    require(
        (f"sink.postgres.routes[{index}]: {fact}", remedy)
        for index, route in enumerate(routes)
        for fact, remedy in mismatches(route, tables[route.table])
    )
    return {name: table for name, table in tables.items() if table is not None}


def existing_tables(connection: Connection, routes: list[Route]) -> dict[str, TargetTable]:
    """Return the tables of all routes by their names there, whatever their keys are.

    Raises EnvironmentNotReady with those that are not there.
    """
    tables = tables_now(connection, routes)
    require(
        (f"table {name} does not exist", "create it, or correct the route's table")
        for name, table in tables.items()
        if table is None
    )
    return {name: table for name, table in tables.items() if table is not None}


def require(found: Problems) -> None:
    """Raise EnvironmentNotReady with all of `found`, if there is anything."""
    wrong = list(found)
    if wrong:
        raise EnvironmentNotReady("; ".join(fact for fact, _ in wrong), hint="; ".join(remedy for _, remedy in wrong))


# What foreign keys do.


def untenable(connection: Connection, settings: PostgresSinkConfig, tables: Mapping[str, TargetTable]) -> Problems:
    """Foreign keys that would change rows in an order that nobody knows. `tables` by the routes' names for them."""
    if settings.referential_actions == "act":
        return
    order, of_routes = tied(connection, settings, tables)
    named = {str(table): table for table in of_routes.values()}
    routes = [(route, of_routes[route.table]) for route in settings.routes]
    for key in order.keys:
        if key.on_update in ACTIONS and _moves(key, routes):
            yield (
                f"foreign key {key.constraint[1]} (ON UPDATE {ACTIONS[key.on_update]}) changes table {key.child} "
                f"with {', '.join(key.referenced)} of table {key.parent}, and another topic tells of them too",
                f"{_other_key(key)} ON UPDATE NO ACTION DEFERRABLE: events bring both tables' values",
            )
    for table in named.values():
        place = sql.Identifier(table.schema, table.name).as_string(None)
        for first, name in connection.execute(_BEYOND, {"table": place, "routed": list(named)}):
            yield (
                f"foreign key {first} carries deletes of table {table} through a table that no route writes to {name}",
                "make that foreign key ON DELETE NO ACTION, add a route for the table, or set "
                "sink.postgres.referential_actions: act",
            )


def _moves(key: ForeignKey, routes: list[tuple[Route, TargetTable]]) -> bool:
    """Return whether a route may change what the children name, while another topic tells of the children."""
    above = [(route, table) for route, table in routes if str(table) == key.parent]
    below = {route.topic for route, table in routes if str(table) == key.child}
    changed = (set(key.referenced) - {*key_columns(*one)} for one in above)
    assigned = ({*table.columns} if route.set is None else {*route.set} for route, table in above)
    changes = any(one & other for one, other in zip(changed, assigned, strict=True))
    return changes and {route.topic for route, _ in above} != below


def _other_key(key: ForeignKey) -> str:
    columns, referenced = ", ".join(key.columns), ", ".join(key.referenced)
    return (
        f"ALTER TABLE {key.child} DROP CONSTRAINT {key.constraint[1]}, ADD FOREIGN KEY ({columns}) REFERENCES "
        f"{key.parent} ({referenced})"
    )


def waiting(connection: Connection, settings: PostgresSinkConfig, tables: Mapping[str, TargetTable]) -> Problems:
    """Return what foreign keys that stay mean for deletes, and triggers for the order of events."""
    order, of_routes = tied(connection, settings, tables)
    named = {str(table): table for table in of_routes.values()}
    for key in order.keys:
        if key.on_delete not in ACTIONS:
            continue
        does = f"ON DELETE {ACTIONS[key.on_delete]} of foreign key {key.constraint[1]}"
        if key in named[key.parent].ties.waits:
            yield (
                f"{does}: deletes of table {key.parent} wait until events have removed or changed the rows of table "
                f"{key.child} that name the row",
                "where the source does not tell what its foreign keys did, set sink.postgres.referential_actions: act",
            )
        elif key.child != key.parent:
            yield (
                f"{does} changes rows of table {key.child}; events of several partitions are put in order only where "
                "they tell their place in the source",
                "keep the envelope with `source.lsn`, or make the foreign key ON DELETE NO ACTION",
            )
    for table in named.values():
        unforeseen = ", ".join(trigger.name for trigger in table.triggers if not trigger.keeps_to_its_row)
        if unforeseen and len({route.topic for route in settings.routes}) > 1:
            yield (
                f"trigger {unforeseen} of table {table} may write to other tables: events are applied in the source's "
                "order where they tell it, and more slowly",
                "keep the envelope with `source.lsn`; a trigger must not write what events bring too",
            )

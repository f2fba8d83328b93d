"""Parents before children: the order of the routes' tables by their foreign keys, as the catalog has them.

Where keys go round in a circle, or from a table to itself, no order satisfies them. A circle is entered where a key is
deferrable, and such constraints are deferred to the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.config.postgres_sink import PostgresSinkConfig, Route
from pycdc.sinks.postgres.target_tables import TargetTable
from pycdc.sinks.postgres.writing.table_dependencies import ForeignKey, ties_of

_FOREIGN_KEYS: Final = b"""SELECT cn.nspname || '.' || child.relname, pn.nspname || '.' || parent.relname,
    n.nspname, c.conname, c.condeferrable, c.condeferred,
    array(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place),
    array(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number ORDER BY k.place),
    c.confdeltype::text, c.confupdtype::text
FROM pg_constraint c
JOIN pg_namespace n ON n.oid = c.connamespace
JOIN pg_class child ON child.oid = c.conrelid
JOIN pg_namespace cn ON cn.oid = child.relnamespace
JOIN pg_class parent ON parent.oid = c.confrelid
JOIN pg_namespace pn ON pn.oid = parent.relnamespace
WHERE c.contype = 'f' AND cn.nspname || '.' || child.relname = ANY(%(tables)s)
    AND pn.nspname || '.' || parent.relname = ANY(%(tables)s)
ORDER BY c.conname"""
_DEFERRABLE: Final = b"""SELECT n.nspname, c.conname
FROM pg_constraint c
JOIN pg_namespace n ON n.oid = c.connamespace
JOIN pg_class t ON t.oid = c.conrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE c.contype IN ('u', 'x', 'p') AND c.condeferrable AND NOT c.condeferred
    AND tn.nspname || '.' || t.relname = ANY(%s)
ORDER BY 1, 2"""


@dataclass(frozen=True, slots=True)
class Order:
    """`ranks` are by table, smaller ones are written first; `deferred` are constraints that no order keeps.

    So are unique ones that can be deferred: values may move between rows.
    """

    ranks: Mapping[str, int]
    deferred: tuple[tuple[str, str], ...] = ()
    keys: tuple[ForeignKey, ...] = ()

    def defer(self, connection: Connection) -> None:
        """Defer constraints for the transaction at hand."""
        if self.deferred:
            names = sql.SQL(", ").join(sql.Identifier(*name) for name in self.deferred)
            connection.execute(sql.SQL("SET CONSTRAINTS {} DEFERRED").format(names))


def tied(
    connection: Connection, settings: PostgresSinkConfig, tables: Mapping[str, TargetTable]
) -> tuple[Order, dict[str, TargetTable]]:
    """Return the order of `tables`, by the routes' names for them, and the same tables with their ranks and ties."""
    order = read_order(connection, settings.routes, tables)
    routes: dict[str, list[Route]] = {}
    for route in settings.routes:
        routes.setdefault(str(tables[route.table]), []).append(route)
    acting = settings.referential_actions == "act"
    unforeseen = {str(table) for table in tables.values() if not all(one.keeps_to_its_row for one in table.triggers)}
    ties = ties_of(order.keys, routes, order.ranks, unforeseen=unforeseen, acting=acting)
    own = {str(table): replace(table, rank=order.ranks[str(table)], ties=ties[str(table)]) for table in tables.values()}
    return order, {name: own[str(table)] for name, table in tables.items()}


def read_order(connection: Connection, routes: Sequence[Route], tables: Mapping[str, TargetTable]) -> Order:
    """Read the order of `tables`, by the routes' names for them."""
    names = [str(tables[route.table]) for route in routes]
    wanted = [str(table) for table in tables.values()]
    order = order_of(names, foreign_keys(connection, wanted))
    unique = [(str(schema), str(name)) for schema, name in connection.execute(_DEFERRABLE, (wanted,))]
    return replace(order, deferred=(*order.deferred, *unique))


def foreign_keys(connection: Connection, tables: Sequence[str]) -> list[ForeignKey]:
    """Return the foreign keys between `tables`."""
    return [
        ForeignKey(row[0], row[1], (row[2], row[3]), row[4], row[5], tuple(row[6]), tuple(row[7]), row[8], row[9])
        for row in connection.execute(_FOREIGN_KEYS, {"tables": list(tables)})
    ]


def order_of(names: Sequence[str], keys: Sequence[ForeignKey]) -> Order:
    """`names` are the tables of the routes, one for each; what the keys leave open, the routes' order decides."""
    waiting = list(dict.fromkeys(names))
    hard = [key for key in keys if not key.deferrable]
    ranks: dict[str, int] = {}
    while waiting:
        table = _free(waiting, keys) or _free(waiting, hard) or waiting[0]
        ranks[table] = len(ranks)
        waiting.remove(table)
    broken = [key for key in keys if ranks[key.child] <= ranks[key.parent] and key.deferrable and not key.deferred]
    return Order(ranks, tuple(dict.fromkeys(key.constraint for key in broken)), tuple(keys))


def _free(waiting: Sequence[str], keys: Sequence[ForeignKey]) -> str | None:
    """Return the first table that has no parent among those that wait."""
    children = {key.child for key in keys if key.parent in waiting and key.parent != key.child}
    return next((table for table in waiting if table not in children), None)

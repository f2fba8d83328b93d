"""Parents before children: the order of the routes' tables by their foreign keys, as the catalog has them.

Where keys go round in a circle, or from a table to itself, no order satisfies them. A circle is entered where a key is
deferrable, and such constraints are deferred to the commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from pycdc.config import Route
from pycdc.sinks.postgres.session import Connection
from pycdc.sinks.postgres.tables import TargetTable

_FOREIGN_KEYS: Final = b"""SELECT cn.nspname || '.' || child.relname, pn.nspname || '.' || parent.relname,
    n.nspname, c.conname, c.condeferrable, c.condeferred
FROM pg_constraint c
JOIN pg_namespace n ON n.oid = c.connamespace
JOIN pg_class child ON child.oid = c.conrelid
JOIN pg_namespace cn ON cn.oid = child.relnamespace
JOIN pg_class parent ON parent.oid = c.confrelid
JOIN pg_namespace pn ON pn.oid = parent.relnamespace
WHERE c.contype = 'f' AND cn.nspname || '.' || child.relname = ANY(%(tables)s)
    AND pn.nspname || '.' || parent.relname = ANY(%(tables)s)
ORDER BY c.conname"""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Tables by `str`, the constraint by schema and name, and what the catalog says of when it is checked."""

    child: str
    parent: str
    constraint: tuple[str, str]
    deferrable: bool
    deferred: bool


@dataclass(frozen=True, slots=True)
class Order:
    """`ranks` are by table, smaller ones are written first; `deferred` are constraints that no order keeps."""

    ranks: Mapping[str, int]
    deferred: tuple[tuple[str, str], ...] = ()

    def defer(self, connection: Connection) -> None:
        """For the transaction at hand."""
        if self.deferred:
            names = sql.SQL(", ").join(sql.Identifier(*name) for name in self.deferred)
            connection.execute(sql.SQL("SET CONSTRAINTS {} DEFERRED").format(names))


def read_order(connection: Connection, routes: Sequence[Route], tables: Mapping[str, TargetTable]) -> Order:
    """`tables` by the routes' names for them."""
    names = [str(tables[route.table]) for route in routes]
    wanted = [str(table) for table in tables.values()]
    found = [
        ForeignKey(row[0], row[1], (row[2], row[3]), row[4], row[5])
        for row in connection.execute(_FOREIGN_KEYS, {"tables": wanted})
    ]
    return order_of(names, found)


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
    return Order(ranks, tuple(dict.fromkeys(key.constraint for key in broken)))


def _free(waiting: Sequence[str], keys: Sequence[ForeignKey]) -> str | None:
    """The first table that has no parent among those that wait."""
    children = {key.child for key in keys if key.parent in waiting and key.parent != key.child}
    return next((table for table in waiting if table not in children), None)

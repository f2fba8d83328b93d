"""How a table hangs together with the other tables of the routes, and what follows for the order of writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pycdc.config.postgres_sink import Route
from pycdc.model.patterns import names_any

ACTIONS: Final = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
"""By pg_constraint.confdeltype and confupdtype: what changes rows that no event is about."""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Tables by `str`, the constraint by schema and name, and what the catalog says of when it is checked.

    `columns` are the child's, `referenced` the parent's. `on_delete` and `on_update` are the catalog's letters.
    """

    child: str
    parent: str
    constraint: tuple[str, str]
    deferrable: bool
    deferred: bool
    columns: tuple[str, ...] = ()
    referenced: tuple[str, ...] = ()
    on_delete: str = "a"
    on_update: str = "a"


@dataclass(frozen=True, slots=True)
class TableDependencies:
    """`component` is shared by tables that foreign keys tie together; None: it is tied to none.

    `in_order`: its writes are done in the order of the events, because something that nobody can foresee happens with
    them: a trigger that may write elsewhere, or a referential action that is left to the database. `parent`: rows of
    other tables of the routes name its rows. `waits` are foreign keys by whose action a delete would change rows that
    events tell of themselves: such a delete waits until none are left. `child`: the database itself may delete its
    rows, so that an event's delete may find none.
    """

    component: str | None = None
    in_order: bool = False
    parent: bool = False
    child: bool = False
    waits: tuple[ForeignKey, ...] = ()


FREE: Final = TableDependencies()


def ties_of(
    keys: Sequence[ForeignKey],
    routes: Mapping[str, Sequence[Route]],
    ranks: Mapping[str, int],
    *,
    unforeseen: Collection[str],
    acting: bool,
) -> dict[str, TableDependencies]:
    """Return the ties of each table, by `str`; `routes` are those that write it.

    `unforeseen` are tables with triggers of which nobody knows what they do. `acting`: referential actions are left to
    the database, because the events do not tell what they did in the source.
    """
    components = _components(keys)
    waits = [key for key in keys if key.on_delete in ACTIONS and not acting and _written_by_others(key, routes, ranks)]
    acts = {key.parent for key in keys if key.on_delete in ACTIONS and key not in waits}
    in_order = {components.get(table, table) for table in {*acts, *unforeseen}}
    return {
        table: TableDependencies(
            components.get(table),
            components.get(table, table) in in_order,
            any(key.parent == table for key in keys),
            any(key.child == table and key.on_delete in ACTIONS for key in keys),
            tuple(key for key in waits if key.parent == table),
        )
        for table in routes
    }


def _written_by_others(key: ForeignKey, routes: Mapping[str, Sequence[Route]], ranks: Mapping[str, int]) -> bool:
    """Return whether other topics than the parent's have the child's rows: then it is not known which is ahead."""
    if key.child != key.parent and ranks[key.child] < ranks[key.parent]:
        return False  # a circle: each would wait for the other
    above, below = routes[key.parent], routes[key.child]
    if key.on_delete == "c" and not any("delete" in (route.operation, route.deletion) for route in below):
        return False
    if key.child == key.parent:
        return all(route.operation in ("insert", "update", "upsert") and not route.when for route in above)
    return not any(_overlap(one.topic, other.topic) for one in above for other in below)


def _overlap(one: str, other: str) -> bool:
    return names_any([one], other) or names_any([other], one)


def _components(keys: Sequence[ForeignKey]) -> dict[str, str]:
    """Return a name for each set of tables that keys tie together."""
    names: dict[str, str] = {}
    for key in keys:
        one, other = names.setdefault(key.child, key.child), names.setdefault(key.parent, key.parent)
        names.update({table: one for table, name in names.items() if name == other})
    return names

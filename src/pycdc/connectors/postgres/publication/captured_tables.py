"""Decide whether rows of a table are delivered.

The stream, and what was captured when a change was written, show which table it belonged to. Today's catalog alone does
not: a partition may have been detached or dropped since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.model.patterns import is_user_table, matches_any
from pycdc.observability.logger import get_logger

log = get_logger()

SchemaAndTable = tuple[str, str]


def wanted(tables: Sequence[str], exclude: Sequence[str], names: Sequence[SchemaAndTable]) -> bool:
    """Return whether a table is captured, by its own name (the first) and those of the tables it is a partition of.

    Some pattern of `tables` names one of them, and none of `exclude` names any.
    """
    if any(matches_any(exclude, *name) for name in names):
        return False
    return any(matches_any(tables, *name) for name in names) and all(is_user_table(tables, *name) for name in names[:1])


class DeliveredTables:
    """Knows the tables whose rows are delivered.

    `partitioned`: the publication publishes captured tables only, and partitioned ones among them, so that an unknown
    table must have been a partition. `on_unknown` is called with the name of a table of which this is not known any
    more.
    """

    def __init__(
        self,
        catalog: Catalog,
        tables: Sequence[str],
        exclude: Sequence[str],
        on_unknown: Callable[[str], None],
        signals: SchemaAndTable | None = None,
    ) -> None:
        self._catalog = catalog
        self._tables = tables
        self._exclude = exclude
        self._on_unknown = on_unknown
        self._signals = signals
        self._members: set[int] = set()
        self._dismissed: set[int] = set()
        self.partitioned = False

    def know(self, members: Iterable[int]) -> None:
        """Partitions, by OID, that are captured for the sake of their roots, or were until not long ago."""
        self._members |= set(members)

    def dismiss(self, oids: Iterable[int]) -> None:
        """Deliver no more rows of these tables, which were captured."""
        self._dismissed |= set(oids)
        self._members -= self._dismissed

    def wants(self, oid: int, schema: str, name: str) -> bool:
        own = (schema, name)
        if wanted(self._tables, self._exclude, [own]):
            return True
        if matches_any(self._exclude, *own) or own == self._signals:
            return False
        if oid in self._members:
            return True
        chain = self._catalog.chain(oid)
        if len(chain) > 1 or oid in self._dismissed:
            return wanted(self._tables, self._exclude, [own, *(found for found in chain if found != own)])
        return self._guess(f"{schema}.{name}", dropped=not chain)

    def _guess(self, table: str, *, dropped: bool) -> bool:
        if self.partitioned:
            log.warning("took a table that is no partition any more for one of a captured table", table=table)
            return True
        if dropped:
            self._on_unknown(table)
            log.warning("rows of a table that is gone are left out: nothing tells what it belonged to", table=table)
        return False

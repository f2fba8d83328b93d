"""Tables that were dropped, until nothing more of theirs can come: then what is kept for their rows is freed."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Final

from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.replication.relation_cache import RelationCache
from pycdc.connectors.postgres.replication.transaction_assembler import TransactionAssembler
from pycdc.model.change import Lsn

_DROPPED: Final = """
SELECT t.oid, CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text
           AS lsn
  FROM unnest(%(oids)s::int8[]) AS t (oid) WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.oid::oid)
"""
"""Whoever wrote to a table committed before it was dropped, and so before the LSN of now."""

_NONE: Final[frozenset[int]] = frozenset()


class DroppedTables:
    """Tables that `relations` knows and that were dropped. `forget` is called for them too."""

    def __init__(self, catalog: Catalog, relations: RelationCache, forget: Callable[[Set[int]], None]) -> None:
        self._catalog = catalog
        self._relations = relations
        self._forget = forget
        self._until: dict[int, Lsn] = {}

    def look(self) -> None:
        """Notice which are gone."""
        oids = sorted(self._relations.known - self._until.keys())
        if oids:
            found = self._catalog.ask(_DROPPED, oids=oids)
            self._until.update((row["oid"], Lsn.parse(row["lsn"])) for row in found)

    def passed(self, position: Lsn, assembler: TransactionAssembler) -> frozenset[int]:
        """Forget the tables of which nothing more can come, now that the stream is at `position`; return their OIDs."""
        if not self._until:
            return _NONE
        gone = frozenset(oid for oid, lsn in self._until.items() if lsn <= position)
        for oid in gone:
            del self._until[oid]
        self._relations.forget(gone)
        self._forget(gone)
        assembler.forget(gone)
        return gone

"""Table versions: what a Relation message says, completed by what the catalog adds.

Columns, types, typmods and the replica identity come from the message, which is right for the rows that follow it.
Nullability, defaults, the primary key's order, enum labels and domains come from the catalog as it is now; they are
advisory (failures.md C31): a fact that does not fit the message any more is left out, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pycdc.config.values import HONEST, CompatibilityConfig
from pycdc.connectors.postgres.catalog.catalog import Catalog, with_typmod
from pycdc.connectors.postgres.catalog.metadata import TableMetadata
from pycdc.connectors.postgres.replication.pgoutput import Relation, RelationColumn
from pycdc.model.change import Column, PgType, Table
from pycdc.observability.logger import get_logger
from pycdc.rows.codecs import is_unknown
from pycdc.rows.images import Images

log = get_logger()


class RelationCache:
    """Makes and keeps the newest version of each table.

    `wanted` says of OID, schema and name whether the rows are delivered; `on_unknown` hears of table and type where a
    column's type has no codec. `compatibility` says what Debezium knows of types, and when. `admit` raises for a
    version that may not be delivered.
    """

    def __init__(
        self,
        catalog: Catalog,
        wanted: Callable[[int, str, str], bool],
        on_unknown: Callable[[str, str], None],
        compatibility: CompatibilityConfig = HONEST,
        admit: Callable[[Table], None] = lambda table: None,
    ) -> None:
        self._catalog = catalog
        self._wanted = wanted
        self._on_unknown = on_unknown
        self._tables: dict[int, Table] = {}
        self._compatibility = compatibility
        self._admit = admit
        self._first: dict[int, PgType] = {}

    @property
    def known(self) -> set[int]:
        """The tables, by OID, of which a version is kept."""
        return set(self._tables)

    def forget(self, oids: Iterable[int]) -> None:
        for oid in oids:
            self._tables.pop(oid, None)

    def from_message(self, relation: Relation) -> Table | None:
        """Return the table's version as of `relation`; the same object as before where nothing changed."""
        if not self._wanted(relation.oid, relation.namespace, relation.name):
            self._tables.pop(relation.oid, None)
            return None
        metadata = self._catalog.table_metadata(relation.oid)
        types = self._types([column.type_oid for column in relation.columns])
        columns = tuple(
            _column(column, types.get(column.type_oid), metadata, relation.identity) for column in relation.columns
        )
        return self._newest(relation.oid, relation.namespace, relation.name, columns, relation.identity, metadata)

    def _types(self, oids: Sequence[int]) -> dict[int, PgType]:
        """Types by OID; enums are read anew, because ALTER TYPE … ADD VALUE is not announced."""
        types = self._catalog.types(oids)
        enums = {leaf.oid for leaf in map(_leaf, types.values()) if leaf.kind == "e"}
        if enums and self._compatibility.enum_labels != "kept":
            for oid in enums:
                self._catalog.forget(oid)
            types = self._catalog.types(oids)
        return {oid: self._as_at_first(oid, kind) for oid, kind in types.items()}

    def _as_at_first(self, oid: int, kind: PgType) -> PgType:
        """Return an enum, or an array of one, as it was first met where its labels do not follow."""
        if _leaf(kind).kind != "e" or self._compatibility.enum_labels == "followed":
            return kind
        return self._first.setdefault(oid, kind) if self._compatibility.enum_labels == "kept" or kind.element else kind

    def _relabelled(self, table: Table) -> Table:
        types = self._types([column.type.oid for column in table.columns])
        return replace(
            table, columns=tuple(_relabelled(column, types.get(column.type.oid)) for column in table.columns)
        )

    def from_catalog(self, oid: int, columns: Sequence[str]) -> Table | None:
        """Return the table as the catalog has it now, with these columns, to read a snapshot. None if it is gone."""
        metadata = self._catalog.table_metadata(oid)
        return None if metadata is None else self.of_metadata(metadata, columns)

    def of_metadata(self, metadata: TableMetadata, columns: Sequence[str]) -> Table:
        """Return the table's version from metadata that is known already."""
        chosen = tuple(metadata.columns[name] for name in columns if name in metadata.columns)
        return self._newest(
            metadata.oid, metadata.schema, metadata.name, chosen, metadata.identity, metadata, current=True
        )

    def _newest(
        self,
        oid: int,
        schema: str,
        name: str,
        columns: tuple[Column, ...],
        identity: str,
        metadata: TableMetadata | None,
        *,
        current: bool = False,
    ) -> Table:
        key = _key(columns, identity, metadata, current=current)
        known = self._tables.get(oid)
        deferrable = metadata.deferrable if metadata is not None else known is not None and known.deferrable
        table = Table(oid, schema, name, columns, key, identity, Images(columns), self._relabelled, deferrable)
        if known is not None and _same(known, table):
            return known
        self._admit(table)
        self._tables[oid] = table
        self._warn(table)
        return table

    def _warn(self, table: Table) -> None:
        for column in table.columns:
            if is_unknown(column.type, self._compatibility):
                self._on_unknown(str(table), column.type.name)
                log.warning("a type without a codec", table=str(table), column=column.name, type=column.type.name)


def _same(one: Table, other: Table) -> bool:
    return (one.schema, one.name, one.columns, one.key, one.identity, one.deferrable) == (
        other.schema,
        other.name,
        other.columns,
        other.key,
        other.identity,
        other.deferrable,
    )


def _leaf(kind: PgType) -> PgType:
    return kind if kind.element is None else kind.element


def _relabelled(column: Column, kind: PgType | None) -> Column:
    if kind is None or _leaf(column.type).kind != "e":
        return column
    return replace(column, type=replace(column.type, labels=kind.labels, element=kind.element))


def _column(column: RelationColumn, kind: PgType | None, metadata: TableMetadata | None, identity: str) -> Column:
    known = None if metadata is None else metadata.columns.get(column.name)
    fitting = known is not None and kind is not None and known.type.oid == kind.oid
    # A default or nullability of a column that was retyped meanwhile still holds for its name.
    nullable = known.nullable if known is not None else not (column.key and identity in "di")
    return Column(
        column.name,
        with_typmod(kind or PgType(column.type_oid, "unknown"), column.typmod),
        identity=column.key,
        nullable=nullable,
        default=None if known is None else known.default,
        dimensions=known.dimensions if known is not None and fitting else 0,
        generated=False,
    )


def _unsent(names: set[str], flagged: Sequence[str], identity: str, metadata: TableMetadata, *, current: bool) -> bool:
    """Return whether the primary key has columns that replication does not send.

    The key must be `current`, or generated columns that the row's version lacks, and still its key.
    """
    missing = [metadata.columns[name] for name in metadata.key if name not in names and name in metadata.columns]
    if not metadata.has_primary_key or not missing:
        return False
    of_the_row = identity == "f" or set(flagged) < set(metadata.key)
    return current or (of_the_row and any(column.generated for column in missing))


def _key(
    columns: tuple[Column, ...], identity: str, metadata: TableMetadata | None, *, current: bool
) -> tuple[str, ...]:
    """Return the key's columns in the constraint's order, as far as the catalog still agrees with the message."""
    names = {column.name for column in columns}
    flagged = tuple(column.name for column in columns if column.identity)
    if metadata is not None and _unsent(names, flagged, identity, metadata, current=current):
        # Naming it makes the plan ask for another key (rules[].key): what is left of this one tells rows apart no more.
        return metadata.key
    if metadata is None or not metadata.key or not names.issuperset(metadata.key):
        return flagged if identity in "di" else ()
    # Under DEFAULT the flags are the primary key's as of the row; the catalog only adds its order, or a unique index
    # where there is no primary key, then as now.
    if identity != "d" or set(metadata.key) == set(flagged) or not (flagged or metadata.has_primary_key):
        return metadata.key
    return flagged if identity in "di" else ()

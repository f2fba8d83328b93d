"""Tables as the catalog knows them: columns, the best key, what identifies a row.

Queries are of many tables at once: starting with a thousand tables must not take a thousand round trips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pycdc.connectors.postgres.catalog.metadata import TableMetadata
from pycdc.connectors.postgres.catalog.type_metadata import TypeCatalog, with_typmod
from pycdc.model.change import Column, PgType

_Row = dict[str, Any]

_TABLE: Final = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relreplident::text AS identity,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indimmediate) AS deferrable
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%(oids)s::int8[]::oid[])
"""

_COLUMNS: Final = """
-- Told the table, pg_get_expr would lock it (since Postgres 16); a default names no columns.
SELECT a.attrelid::int8 AS oid, a.attnum AS number, a.attname AS name, a.atttypid::int8 AS type, a.atttypmod AS typmod,
       NOT a.attnotnull AS nullable, a.attndims AS dimensions, a.attgenerated <> '' AS generated,
       a.attgenerated = 'v' AS virtual,
       CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, 0) END AS default
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ANY (%(oids)s::int8[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

_KEYS: Final = """
SELECT i.indrelid::int8 AS oid, i.indisprimary AS primary, i.indisreplident AS replident,
       i.indimmediate AS immediate,
       (i.indkey::int2[])[0:i.indnkeyatts - 1] AS numbers
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = ANY (%(oids)s::int8[]::oid[]) AND i.indisunique AND i.indisvalid
   -- A deferrable key tells rows apart whenever somebody can see them, though it cannot be the replica identity.
   AND (i.indimmediate OR i.indisprimary)
   AND i.indpred IS NULL AND i.indexprs IS NULL
 ORDER BY i.indisprimary DESC, i.indisreplident DESC, c.relname
"""


def metadata_of(query: Callable[..., list[_Row]], types: TypeCatalog, oids: Sequence[int]) -> dict[int, TableMetadata]:
    """Return metadata by OID, in the order of `oids`; tables that are gone are missing. `query` as in TypeCatalog."""
    tables, columns, indexes = (_by_oid(query(text, oids=list(oids))) for text in (_TABLE, _COLUMNS, _KEYS))
    known = types.types({row["type"] for rows in columns.values() for row in rows})
    return {
        oid: _table_metadata(oid, tables[oid][0], columns.get(oid, []), indexes.get(oid, []), known)
        for oid in oids
        if oid in tables
    }


def _by_oid(rows: Sequence[_Row]) -> dict[int, list[_Row]]:
    """Group rows by OID, in their order, and take the OID out of them."""
    found: dict[int, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.pop("oid"), []).append(row)
    return found


def _table_metadata(
    oid: int, table: _Row, columns: Sequence[_Row], indexes: Sequence[_Row], types: Mapping[int, PgType]
) -> TableMetadata:
    names = {row["number"]: row["name"] for row in columns}
    required = {row["number"] for row in columns if not row["nullable"]}
    key: list[int] = next((i["numbers"] for i in indexes if required.issuperset(i["numbers"])), [])
    identity = _identity_numbers(table["identity"], indexes, names)
    return TableMetadata(
        oid,
        **table,
        columns={
            row["name"]: Column(
                row["name"],
                with_typmod(types.get(row["type"]) or PgType(row["type"], "unknown"), row["typmod"]),
                identity=row["number"] in identity,
                nullable=row["nullable"],
                default=row["default"],
                dimensions=row["dimensions"],
                generated=row["generated"],
                virtual=row["virtual"],
            )
            for row in columns
        },
        key=tuple(names[number] for number in key if number in names),
        has_primary_key=any(i["primary"] and i["immediate"] for i in indexes),
    )


def _identity_numbers(identity: str, indexes: Sequence[_Row], names: Mapping[int, str]) -> set[int]:
    if identity == "f":
        return set(names)
    flag = {"d": "primary", "i": "replident"}.get(identity)
    return {number for index in indexes if flag and index[flag] and index["immediate"] for number in index["numbers"]}

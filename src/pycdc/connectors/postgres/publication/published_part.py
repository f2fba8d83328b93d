"""What a publication sends of one table: its columns, its rows, its generated columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pycdc.connectors.postgres.catalog.metadata import PublishedTable, TableMetadata

_FILTERS_SINCE: Final = 150_000
_GENERATED_SINCE: Final = 180_000
_LISTED: Final = """
SELECT (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[])) AS columns,
       pg_get_expr(r.prqual, r.prrelid) AS row_filter
  FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid
 WHERE p.pubname = %(name)s AND r.prrelid = %(oid)s::int8::oid AND NOT EXISTS (
       SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid AND n.pnnspid = c.relnamespace)
"""
"""What the view pg_publication_tables tells of one table, without locking all others. Where its schema is published
too, all of the table is."""


def published_part(
    row: Callable[..., dict[str, Any] | None], version: int, publication: str, table: TableMetadata
) -> PublishedTable:
    """Return the part of a table that is published, all of it where nothing says otherwise.

    `row` runs SQL with named parameters and returns the first row.
    """
    generated = False
    if version >= _GENERATED_SINCE:
        found = row("SELECT pubgencols FROM pg_publication WHERE pubname = %(name)s", name=publication)
        generated = found is not None and found["pubgencols"] == "s"
    listed = row(_LISTED, name=publication, oid=table.oid) if version >= _FILTERS_SINCE else None
    return PublishedTable(table.schema, table.name, **(listed or {}), generated=generated)

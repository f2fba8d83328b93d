"""Row filters and column lists of a publication that keep an application from writing to the tables.

Postgres refuses UPDATE and DELETE (42P10) where a filter asks for columns that the replica identity does not hold, or
where a list lacks columns that it holds. Via the root, the root's filter counts for each partition.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pycdc.clients.quoting import quoted
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.publication.writability import Failing
from pycdc.printable import printable

_SINCE: Final = 150_000
"""Publications have row filters and column lists since Postgres 15."""

_IDENTITIES: Final = """
SELECT m.prrelid::int8 AS oid, s.nspname::text AS schema, k.relname::text AS name, k.relreplident = 'f' AS whole,
       ARRAY(SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = k.oid
                AND a.attnum = ANY (i.indkey)
              WHERE i.indrelid = k.oid
                AND CASE k.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) AS identity,
       ARRAY(SELECT DISTINCT a.attname::text FROM regexp_matches(m.prqual::text, ':varattno (\\d+)', 'g') AS f (found)
               JOIN pg_attribute a ON a.attrelid = m.prrelid AND a.attnum = f.found[1]::int) AS asked,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
              WHERE a.attrelid = m.prrelid AND a.attnum = ANY (m.prattrs::int2[])) AS listed,
       m.prattrs IS NOT NULL AS lists,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.oid AND NOT a.attisdropped AND a.attgenerated <> ''
                  AND current_setting('server_version_num')::int >= 180000) AS generated
  FROM pg_publication p JOIN pg_publication_rel m ON m.prpubid = p.oid
       JOIN pg_class c ON c.oid = m.prrelid,
       LATERAL (SELECT c.oid WHERE c.relkind = 'r'
                UNION ALL SELECT t.relid::oid FROM pg_partition_tree(c.oid) t
                           WHERE c.relkind = 'p' AND p.pubviaroot AND t.isleaf) AS w (oid)
       JOIN pg_class k ON k.oid = w.oid AND k.relkind = 'r' JOIN pg_namespace s ON s.oid = k.relnamespace
 WHERE p.pubname = %(name)s AND (m.prqual IS NOT NULL OR m.prattrs IS NOT NULL)
 ORDER BY 1, 2, 3
"""


def failing_parts(catalog: Catalog, publication: str, tables: Iterable[TableRef]) -> list[Failing]:
    """Return those of `tables` that UPDATE and DELETE fail on for what the publication has of them."""
    if catalog.version < _SINCE:
        return []
    refs = {table.oid: table for table in tables}
    out: dict[int, Failing] = {}
    for row in catalog.ask(_IDENTITIES, name=publication):
        found = _failing(refs[row["oid"]], row) if row["oid"] in refs else None
        if found is not None:
            out.setdefault(row["oid"], found)
    return list(out.values())


def _failing(table: TableRef, row: dict[str, Any]) -> Failing | None:
    leaf, identity = quoted(row["schema"], row["name"]), set(row["identity"])
    whose = "" if leaf == quoted(table.schema, table.name) else f", in partition {leaf}"
    if row["lists"] and row["whole"]:
        fact = f"is published with a list of columns, and its replica identity holds all of them{whose}"
        return Failing(table, fact, f"ALTER TABLE {leaf} REPLICA IDENTITY DEFAULT")
    lacking = sorted(identity - set(row["listed"])) if row["lists"] else []
    if lacking:
        names = printable(", ".join(lacking))
        fact = f"is published without columns of its replica identity{whose}: {names}"
        return Failing(table, fact, f"-- add {names} to the publication's columns: ALTER PUBLICATION … SET TABLE …")
    asked = [] if row["whole"] else sorted(set(row["asked"]) - identity)
    if asked:
        names = printable(", ".join(asked))
        fact = f"is published with a filter on columns that its replica identity does not hold{whose}: {names}"
        # FULL would hold the generated columns, and is refused.
        filtered = f"-- filter by columns of the replica identity only, not by {names}"
        return Failing(table, fact, filtered if row["generated"] else f"ALTER TABLE {leaf} REPLICA IDENTITY FULL")
    return None

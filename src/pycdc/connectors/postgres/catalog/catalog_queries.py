"""Queries to the catalogs whose columns depend on the version of the server (`server_version_num`)."""

from __future__ import annotations


def slot_query(version: int) -> str:
    """Return the query for a slot by its `name`."""
    if version >= 170_000:
        invalidation = "invalidation_reason"
    elif version >= 160_000:
        invalidation = "CASE WHEN conflicting OR wal_status = 'lost' THEN 'lost' END"
    else:
        invalidation = "CASE WHEN wal_status = 'lost' THEN 'lost' END"
    failover, synced = ("failover", "synced") if version >= 170_000 else ("false", "false")
    return f"""
SELECT slot_name::text AS name, plugin::text, database::text, temporary, active_pid,
       confirmed_flush_lsn::text AS confirmed_flush, restart_lsn::text, wal_status, safe_wal_size,
       {invalidation} AS invalidation, {failover} AS failover, {synced} AS synced, two_phase,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                       restart_lsn)::int8 AS retained_bytes
  FROM pg_replication_slots WHERE slot_name = %(name)s
"""  # noqa: S608 - the pieces are the constants above


def publication_query(version: int) -> str:
    """Return the query for a publication by its `name`."""
    generated = "p.pubgencols <> 'n'" if version >= 180_000 else "false"
    return f"""
SELECT p.pubname::text AS name, p.puballtables AS all_tables, p.pubviaroot AS via_partition_root,
       p.pubinsert AS insert, p.pubupdate AS update, p.pubdelete AS delete, p.pubtruncate AS truncate,
       {generated} AS generated_columns, r.rolname::text AS owner,
       pg_has_role(p.pubowner, 'USAGE') AS owned
  FROM pg_publication p JOIN pg_roles r ON r.oid = p.pubowner WHERE p.pubname = %(name)s
"""  # noqa: S608


def covered_query(version: int) -> str:
    """Return the query for the OIDs of all tables that a publication covers, their partitions too."""
    # The view lists no partitioned table whose partitions come under their own names.
    schemas = (
        "OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)"
    )
    return f"""
WITH listed AS (
    SELECT r.prrelid AS oid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
     WHERE p.pubname = %(name)s
     UNION
    SELECT c.oid FROM pg_publication_tables t
      JOIN pg_namespace n ON n.nspname = t.schemaname
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
     WHERE t.pubname = %(name)s
     UNION
    SELECT c.oid FROM pg_publication p, pg_class c
     WHERE p.pubname = %(name)s AND c.relkind = 'p' AND (p.puballtables {schemas * (version >= 150_000)}))
SELECT oid::int8 AS oid FROM listed UNION SELECT t.relid::oid::int8 FROM listed, pg_partition_tree(listed.oid) t
"""  # noqa: S608


def published_query(version: int) -> str:
    """Return the query for what `pg_publication_tables` tells of each table of a publication."""
    generated = "(SELECT p.pubgencols = 's' FROM pg_publication p WHERE p.pubname = t.pubname)"
    if version < 180_000:
        generated = "false"
    if version < 150_000:
        columns = row_filter = "NULL"
    else:
        # The view lists every column where the publication lists none.
        columns = """(SELECT CASE WHEN r.prattrs IS NOT NULL THEN t.attnames::text[] END
            FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
           WHERE p.pubname = t.pubname AND r.prrelid = c.oid)"""
        row_filter = "t.rowfilter"
    return f"""
SELECT t.schemaname::text AS schema, t.tablename::text AS name, {columns} AS columns, {row_filter} AS row_filter,
       {generated} AS generated
  FROM pg_publication_tables t
  JOIN pg_namespace n ON n.nspname = t.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
 WHERE t.pubname = %(name)s ORDER BY 1, 2
"""  # noqa: S608

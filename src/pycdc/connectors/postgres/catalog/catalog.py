"""What the source's catalogs say. Reads only; SQL that changes something is in `admin`.

Everything told about tables and types is advisory: DDL may overtake the question, so objects dropped meanwhile are
None or missing, never an error. What decides about rows are the Relation messages of the stream.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.connectors.postgres.catalog.catalog_queries import (
    covered_query,
    publication_query,
    published_query,
    slot_query,
)
from pycdc.connectors.postgres.catalog.keyset import keyset
from pycdc.connectors.postgres.catalog.metadata import (
    CopySource,
    PublicationMetadata,
    PublishedTable,
    ReplicationLag,
    ServerMetadata,
    SlotMetadata,
    StandbySlot,
    TableMetadata,
    TableRef,
    XminHolder,
)
from pycdc.connectors.postgres.catalog.table_metadata import metadata_of
from pycdc.connectors.postgres.catalog.type_metadata import TypeCatalog, with_typmod
from pycdc.connectors.postgres.publication.published_part import published_part
from pycdc.connectors.postgres.snapshot.pg_snapshot import PgSnapshot
from pycdc.model.change import Lsn, PgType
from pycdc.model.patterns import is_user_table, qualified

__all__ = ["Catalog", "parse_history", "with_typmod"]

_Row = dict[str, Any]

_XMIN: Final = """
SELECT kind, name::text, age::int8 FROM (
    SELECT 'session' AS kind,
           concat_ws(' ', 'pid', pid, CASE WHEN application_name <> '' THEN '(' || application_name || ')' END) AS name,
           age(backend_xmin) AS age
      FROM pg_stat_activity
     WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type <> 'walsender'
     UNION ALL
    SELECT 'slot', slot_name, greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
     UNION ALL
    SELECT 'standby', application_name, age(backend_xmin) FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
     UNION ALL
    SELECT 'prepared transaction', gid, age(transaction) FROM pg_prepared_xacts) held
 WHERE age IS NOT NULL ORDER BY age DESC LIMIT 1
"""

_SERVER: Final = """
SELECT current_setting('server_version_num')::int AS version,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
       CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
            -- The control file lags behind a promotion; the name of the segment being written does not.
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline,
       current_database() AS database, d.oid::int8 AS database_oid, pg_encoding_to_char(d.encoding) AS encoding,
       current_setting('wal_level') AS wal_level,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS current_lsn,
       pg_is_in_recovery() AS in_recovery,
       current_setting('max_replication_slots')::int AS max_replication_slots,
       (SELECT count(*) FROM pg_replication_slots)::int AS used_replication_slots,
       current_setting('max_wal_senders')::int AS max_wal_senders,
       (SELECT NULLIF(setting::int8, -1) * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
           AS max_slot_wal_keep_size,
       (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_sender_timeout') / 1000.0::float8
           AS wal_sender_timeout,
       -- In seconds since 18.1, in minutes before: pg_settings knows the unit.
       coalesce((SELECT extract(epoch FROM (setting || coalesce(unit, 's'))::interval) FROM pg_settings
                  WHERE name = 'idle_replication_slot_timeout'), 0)::float8 AS idle_slot_timeout,
       (SELECT setting FROM pg_settings WHERE name = 'output_plugin_libraries') AS output_plugins,
       current_user::text AS role,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS role_replicates
  FROM pg_database d WHERE d.datname = current_database()
"""

CHAIN: Final = """
       -- The table and those that it is a partition of, the topmost first: it is meant by the name of each.
       LATERAL (SELECT coalesce(array_agg(k.oid ORDER BY a.place DESC), ARRAY[c.oid]) AS oids,
                       coalesce(array_agg(s.nspname || '.' || k.relname ORDER BY a.place DESC),
                                ARRAY[n.nspname || '.' || c.relname]) AS names
                  FROM pg_partition_ancestors(CASE WHEN c.relispartition THEN c.oid END)
                           WITH ORDINALITY AS a (relid, place)
                       JOIN pg_class k ON k.oid = a.relid JOIN pg_namespace s ON s.oid = k.relnamespace) AS chain,
       -- The topmost that is named, and under whose name the others may come.
       LATERAL (SELECT u.oid FROM unnest(chain.oids, chain.names) WITH ORDINALITY AS u (oid, name, place)
                 WHERE u.name LIKE ANY (%(patterns)s) ORDER BY u.place LIMIT 1) AS named"""
"""For queries of tables `c` in namespaces `n`, with the parameters `patterns` and `exclude`."""

CHOSEN: Final = """
       n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM unnest(chain.names) name WHERE name LIKE ANY (%(exclude)s))"""

_TABLES: Final = f"""
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END AS rows_estimate,
       NULLIF(named.oid, c.oid)::int8 AS root
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,{CHAIN}
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND {CHOSEN}
 ORDER BY 2, 3
"""  # noqa: S608 - the pieces are the constants above

_ANCESTORS: Final = """
SELECT n.nspname AS schema, k.relname AS name
  FROM (SELECT %(oid)s::int8::oid AS oid
        UNION SELECT p.relid::oid FROM pg_class c, pg_partition_ancestors(c.oid) p
               WHERE c.oid = %(oid)s::int8::oid) a
       JOIN pg_class k ON k.oid = a.oid JOIN pg_namespace n ON n.oid = k.relnamespace
"""

_UNCAPTURED_PARTITIONS: Final = """
SELECT DISTINCT n.nspname || '.' || c.relname AS name
  FROM unnest(%(oids)s::int8[]::oid[]) root, pg_partition_tree(root) t
       JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.oid <> ALL (%(oids)s::int8[]::oid[])
 ORDER BY 1
"""

_WAL_END: Final = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text AS lsn
"""

_STANDBY_SLOTS: Final = """
SELECT trim(both ' "' FROM listed.name) AS name, coalesce(s.active, false) AS active
  FROM string_to_table(current_setting('synchronized_standby_slots', true), ',') AS listed (name)
       LEFT JOIN pg_replication_slots s ON s.slot_name = trim(both ' "' FROM listed.name) AND s.slot_type = 'physical'
"""

_LAG: Final = """
SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS current,
       s.confirmed_flush_lsn::text AS confirmed, s.restart_lsn::text AS restart,
       r.sent_lsn::text AS sent, r.flush_lsn::text AS flushed, r.replay_lag
  FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
 WHERE s.slot_name = %(name)s
"""


_TRIES: Final = 9


class Catalog:
    """One ordinary connection for questions, opened when first needed and again when it turns out to be stale.

    Nothing takes long once `stopping` is set.
    """

    def __init__(self, dsn: str, stopping: threading.Event | None = None) -> None:
        self._dsn = dsn
        self.stopping = stopping
        self._connection: Connection | None = None
        self._types = TypeCatalog(self._rows)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(self, query: str, **parameters: Any) -> list[_Row]:
        """Return the rows of any query, as dicts, for those who have questions of their own."""
        return self._rows(query, **parameters)

    def _rows(self, query: str, **parameters: Any) -> list[_Row]:
        fresh = self._connection is None
        try:
            return self._query(query, parameters)
        except psycopg.OperationalError as error:
            broken = self._connection is None or self._connection.broken
            self.close()
            if fresh or not broken:
                raise source_error(error) from None
        except psycopg.Error as error:
            raise source_error(error) from None
        try:
            return self._query(query, parameters)
        except psycopg.Error as error:
            raise source_error(error) from None

    def _query(self, query: str, parameters: Mapping[str, Any]) -> list[_Row]:
        for _ in range(_TRIES):
            # A table was dropped while the server told of it: "could not open relation with OID …".
            with suppress(psycopg.errors.InternalError_):
                return self._once(query, parameters)
        return self._once(query, parameters)

    def _once(self, query: str, parameters: Mapping[str, Any]) -> list[_Row]:
        if self._connection is None:
            self._connection = connect_to_source(self._dsn, stopping=self.stopping)
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), parameters).fetchall()

    def _row(self, query: str, **parameters: Any) -> _Row | None:
        rows = self._rows(query, **parameters)
        return rows[0] if rows else None

    @property
    def version(self) -> int:
        """server_version_num."""
        if self._connection is None:
            self._connection = connect_to_source(self._dsn, stopping=self.stopping)
        return self._connection.info.server_version

    # -- the server and its slots

    def server(self) -> ServerMetadata:
        row = self._row(_SERVER)
        assert row is not None
        return ServerMetadata(**{**row, "current_lsn": Lsn.parse(row["current_lsn"])})

    def timeline_ends(self) -> dict[int, Lsn]:
        """Return where each timeline before the present one ended. Needs the right to replicate."""
        connection = connect_to_source(self._dsn, replication=True)
        try:
            row = connection.execute("IDENTIFY_SYSTEM").fetchone()
            timeline = int(row[1]) if row else 1
            # The first timeline has no history file.
            history = connection.execute(f"TIMELINE_HISTORY {timeline}".encode()).fetchone() if timeline > 1 else None
        except psycopg.Error as error:
            raise source_error(error) from None
        finally:
            connection.close()
        return parse_history(history[1]) if history else {}

    def slot(self, name: str) -> SlotMetadata | None:
        rows = self._rows(slot_query(self.version), name=name)
        if not rows:
            return None
        row = rows[0]
        lsns = {key: _lsn(row[key]) for key in ("confirmed_flush", "restart_lsn")}
        return SlotMetadata(**{**row, **lsns})

    def standby_slots(self) -> list[StandbySlot]:
        """Return the slots of standbys without which failover slots send nothing; none before Postgres 17."""
        return [StandbySlot(**row) for row in self._rows(_STANDBY_SLOTS)]

    def replication_lag(self, slot: str) -> ReplicationLag | None:
        """Return the slot's lag, None where the slot does not exist, or was never read and confirmed."""
        row = self._row(_LAG, name=slot)
        if row is None or row["confirmed"] is None or row["current"] is None:
            return None
        lsns = {key: _lsn(row[key]) for key in ("current", "confirmed", "restart", "sent", "flushed")}
        return ReplicationLag(**{**row, **lsns})

    def last_reply(self, pid: int) -> str | None:
        """Return the time of the last status update that a walsender had, by its reader's clock; None if unknown."""
        row = self._row("SELECT reply_time::text AS replied FROM pg_stat_replication WHERE pid = %(pid)s", pid=pid)
        return None if row is None else row["replied"]

    def xmin_holder(self) -> XminHolder | None:
        """Return what holds back xmin most, as far as this role may see it."""
        row = self._row(_XMIN)
        return None if row is None else XminHolder(**row)

    def wal_end(self) -> Lsn:
        """Return how far the WAL is on disk, or in recovery what was replayed of it: the stream can have it."""
        return Lsn.parse(self._rows(_WAL_END)[0]["lsn"])

    def visibility(self) -> PgSnapshot:
        """Return what a snapshot sees that is taken now."""
        return PgSnapshot.parse(self._rows("SELECT pg_current_snapshot()::text AS snapshot")[0]["snapshot"])

    # -- tables

    def tables(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[TableRef]:
        """Return permanent tables, partitioned tables and partitions that match, by schema and name.

        System schemas never match, and pycdc's own tables only where a pattern names them.
        """
        rows = self._rows(_TABLES, patterns=[*map(like, patterns)], exclude=[*map(like, exclude)])
        return [TableRef(**row) for row in rows if is_user_table(patterns, row["schema"], row["name"])]

    def named(self, oid: int, patterns: Sequence[str], exclude: Sequence[str] = ()) -> TableRef | None:
        """Return the table of this OID, if its present name matches."""
        return next((ref for ref in self.tables(patterns, exclude) if ref.oid == oid), None)

    def chain(self, oid: int) -> list[tuple[str, str]]:
        """Return schema and name of a table and of all those that it is a partition of; none where it is gone."""
        return [(row["schema"], row["name"]) for row in self._rows(_ANCESTORS, oid=oid)]

    def uncaptured_partitions(self, oids: Iterable[int]) -> list[str]:
        """Partitions of these tables that are not among them."""
        return [row["name"] for row in self._rows(_UNCAPTURED_PARTITIONS, oids=list(oids))]

    def table_metadata(self, oid: int) -> TableMetadata | None:
        return self.metadata_of([oid]).get(oid)

    def metadata_of(self, oids: Sequence[int]) -> dict[int, TableMetadata]:
        """Return metadata by OID, in as many questions for a thousand tables as for one; lost tables are missing."""
        return metadata_of(self._rows, self._types, oids)

    def columns_for_copy(
        self, oid: int, publication: str | None = None, *, generated: bool = False
    ) -> CopySource | None:
        """Return the columns in the table's order and the filter that a snapshot must use to equal the stream.

        Without `publication` it is all columns and rows. `generated`: generated columns too, which the stream leaves
        out.
        """
        metadata = self.table_metadata(oid)
        if metadata is None:
            return None
        published = PublishedTable(metadata.schema, metadata.name)
        if publication is not None:
            published = published_part(self._row, self.version, publication, metadata)
        names = tuple(
            name
            for name, column in metadata.columns.items()
            if published.sends(column) or (generated and column.generated and published.columns is None)
        )
        key = keyset(self._rows, oid, metadata.key, names)
        return CopySource(metadata.schema, metadata.name, names, published.row_filter, metadata.kind != "p", key)

    # -- publications

    def publication(self, name: str) -> PublicationMetadata | None:
        row = self._row(publication_query(self.version), name=name)
        if row is None:
            return None
        operations = frozenset(word for word in ("insert", "update", "delete", "truncate") if row.pop(word))
        covered = frozenset(found["oid"] for found in self._rows(covered_query(self.version), name=name))
        return PublicationMetadata(**row, operations=operations, tables=self.publication_tables(name), covered=covered)

    def publication_tables(self, name: str) -> tuple[PublishedTable, ...]:
        """Return what the publication publishes now, roots in place of partitions where it publishes via the root."""
        rows = self._rows(published_query(self.version), name=name)
        return tuple(
            PublishedTable(
                r["schema"], r["name"], tuple(r["columns"]) if r["columns"] else None, r["row_filter"], r["generated"]
            )
            for r in rows
        )

    # -- types

    def types(self, oids: Iterable[int]) -> dict[int, PgType]:
        """Types by OID, domains resolved to their base type with its typmod; types dropped meanwhile are missing."""
        return self._types.types(oids)

    def column_type(self, oid: int, typmod: int = -1) -> PgType:
        """Return the type of a column as a Relation message names it; one that is gone by now is called ``unknown``."""
        return with_typmod(self.types([oid]).get(oid) or PgType(oid, "unknown"), typmod)

    def forget(self, oid: int) -> None:
        """Read the type anew next time, and what was resolved through it."""
        self._types.forget(oid)


def parse_history(content: bytes | str) -> dict[int, Lsn]:
    """Parse a timeline history file: lines of timeline, switch point and reason, apart by tabs; # begins a comment."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    fields = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {int(timeline): Lsn.parse(lsn) for timeline, lsn, *_ in fields}


def like(pattern: str) -> str:
    """Return a pattern of the configuration for LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", qualified(pattern)).replace("*", "%")


def _lsn(text: str | None) -> Lsn | None:
    return None if text is None else Lsn.parse(text)

"""What the commands ask of a source beyond what the engine does: rights, sizes, the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.errors import PycdcError

_TABLES: Final = """
SELECT c.oid::int8 AS oid, has_table_privilege(c.oid, 'SELECT') AS selectable,
       has_schema_privilege(c.relnamespace, 'USAGE') AS reachable,
       pg_has_role(c.relowner, 'USAGE') AS owned, row_security_active(c.oid) AS row_security,
       CASE WHEN c.relkind = 'p'
            THEN (SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) t WHERE t.isleaf)
            ELSE pg_total_relation_size(c.oid) END::int8 AS size
  FROM pg_class c WHERE c.oid = ANY (%s::int8[]::oid[])
"""
_ROLE: Final = """
SELECT current_user::text AS name, has_database_privilege(current_database(), 'CREATE') AS creates,
       (SELECT count(*) FROM pg_stat_replication)::int AS used_wal_senders,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser
"""


@dataclass(frozen=True, slots=True)
class TableRights:
    """What this role may do with a table, and its size in bytes with indexes and TOAST.

    `selectable` and `reachable` (the schema's USAGE) are both needed to read it, `owned` to publish it. `row_security`:
    policies hide rows from this role.
    """

    oid: int
    selectable: bool
    reachable: bool
    owned: bool
    row_security: bool
    size: int | None


@dataclass(frozen=True, slots=True)
class RoleMetadata:
    """`creates`: publications, which need CREATE in the database."""

    name: str
    creates: bool
    used_wal_senders: int
    superuser: bool = False


class SourceInspection:
    """Each question takes a connection of its own."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def tables(self, oids: Sequence[int]) -> dict[int, TableRights]:
        """By OID; tables dropped meanwhile are missing."""
        return {row["oid"]: TableRights(**row) for row in self._rows(_TABLES, [list(oids)])}

    def role(self) -> RoleMetadata:
        return RoleMetadata(**self._rows(_ROLE)[0])

    def open_to_all(self, oid: int) -> bool:
        """Return whether PUBLIC, and so every role, may insert into a table."""
        return bool(self._rows("SELECT has_table_privilege('public', %s::int8::oid, 'INSERT') AS may", [oid])[0]["may"])

    def clock_ahead(self) -> float:
        """Seconds that the server's clock is ahead of ours; uncertain by the time of a round trip."""
        connection = connect_to_source(self._dsn)
        try:
            before = time.time()
            row = connection.execute("SELECT clock_timestamp()").fetchone()
            middle = (before + time.time()) / 2
        except psycopg.Error as error:
            raise source_error(error) from None
        finally:
            connection.close()
        assert row is not None
        return float((row[0] - datetime.fromtimestamp(middle, UTC)).total_seconds())

    def refuses_replication(self) -> PycdcError | None:
        """Why this role cannot open a replication connection."""
        try:
            connect_to_source(self._dsn, replication=True).close()
        except PycdcError as error:
            return error
        return None

    def end(self, pid: int) -> bool:
        """End a session. False where it was gone."""
        return bool(self._rows("SELECT pg_terminate_backend(%s) AS ended", [pid])[0]["ended"])

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        connection = connect_to_source(self._dsn)
        try:
            with connection.cursor(row_factory=dict_row) as cursor:
                return cursor.execute(query.encode(), parameters).fetchall()
        except psycopg.Error as error:
            raise source_error(error) from None
        finally:
            connection.close()

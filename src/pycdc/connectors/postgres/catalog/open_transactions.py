"""What transactions may still do to a table, or did in the transaction that made it."""

from __future__ import annotations

from typing import Final

from pycdc.clients.postgres_errors import TableLocked
from pycdc.clients.quoting import quoted
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef

_MAKER: Final = "t.xmin FROM pg_class c JOIN pg_type t ON t.oid = c.reltype WHERE c.oid = %(oid)s::int8::oid"

_OLDER_WRITERS: Final = """
WITH RECURSIVE family AS (SELECT %(oid)s::int8::oid AS oid
  UNION SELECT i.inhrelid FROM family f JOIN pg_class c ON c.oid = f.oid AND c.relkind = 'p'
                               JOIN pg_inherits i ON i.inhparent = f.oid)
SELECT DISTINCT coalesce(held.pid, 0) AS pid
  FROM pg_locks held JOIN pg_locks own USING (virtualtransaction)
 WHERE held.locktype = 'relation' AND held.granted AND held.mode ~ '^(RowExclusive|ShareRow|Exclusive|AccessExclusive)'
   AND held.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
   AND held.relation IN (SELECT f.oid FROM family f)
   AND own.locktype = 'transactionid' AND own.granted AND own.mode = 'ExclusiveLock'
   -- Transaction ids here have 32 bits and go round.
   AND (%(since)s::int8 - own.transactionid::text::int8) & 4294967295 BETWEEN 1 AND 2147483647
"""


def has_rows_of_its_maker(catalog: Catalog, ref: TableRef) -> bool:
    """Return whether the transaction that made a table also wrote rows into it."""
    table = quoted(ref.schema, ref.name).replace("%", "%%")
    query = f"SELECT EXISTS (SELECT FROM {table} WHERE xmin = (SELECT {_MAKER})) AS found"  # noqa: S608
    try:
        return bool(catalog.ask(query, oid=ref.oid)[0]["found"])
    except TableLocked:
        # Rows that are read once too often are better than rows that are not.
        return True


def older_writers(catalog: Catalog, oid: int, since: int) -> list[int]:
    """Return the sessions (0: a prepared transaction) that wrote into a table before transaction `since`, and go on."""
    return [row["pid"] for row in catalog.ask(_OLDER_WRITERS, oid=oid, since=since)]

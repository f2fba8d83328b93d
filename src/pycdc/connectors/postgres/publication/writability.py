"""What keeps an application from writing to a table once it is published.

Postgres refuses UPDATE and DELETE on a published table that has no replica identity (55000), and since 18 where the
identity holds generated columns that are not published (42P10). For a partitioned table its partitions decide, because
those are what is written to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pycdc.clients.quoting import quoted
from pycdc.connectors.postgres.catalog.catalog import Catalog
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.printable import sql_printable

GENERATED_SINCE: Final = 180_000
"""Since then publications may have generated columns, and identities must not have others."""

UNWRITABLE: Final = """
SELECT '"' || replace(s.nspname, '"', '""') || '"."' || replace(k.relname, '"', '""') || '"' AS leaf,
       CASE WHEN k.relreplident <> 'f' AND identity.key IS NULL THEN 'identity'
            WHEN columns.virtual THEN 'virtual' ELSE 'stored' END AS lacks,
       EXISTS (SELECT FROM pg_index i
                WHERE i.indrelid = k.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate
                  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.oid AND a.attnum = ANY (i.indkey)
                                     AND a.attgenerated <> '')) AS keyed,
       (SELECT max(a.attgenerated::text) FROM pg_attribute a
         WHERE a.attrelid = k.oid AND NOT a.attisdropped AND a.attgenerated <> ''
           AND current_setting('server_version_num')::int >= 180000) AS generated
  FROM pg_class k JOIN pg_namespace s ON s.oid = k.relnamespace
       -- As RelationGetReplicaIndex chooses it.
       LEFT JOIN LATERAL (
           SELECT i.indkey::int2[] AS key FROM pg_index i
            WHERE i.indrelid = k.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indislive
              AND i.indpred IS NULL
              AND CASE k.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END LIMIT 1
       ) AS identity ON true,
       LATERAL (SELECT coalesce(bool_or(a.attgenerated = 'v'), false) AS virtual,
                       coalesce(bool_or(a.attgenerated = 's'), false) AS stored
                  FROM pg_attribute a
                 WHERE a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
                   AND (k.relreplident = 'f' OR a.attnum = ANY (identity.key))
                   AND current_setting('server_version_num')::int >= 180000) AS columns
 WHERE k.oid = ANY (CASE WHEN c.relkind = 'p' THEN coalesce(NULLIF(ARRAY(
           SELECT t.relid::oid FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid
            WHERE t.isleaf AND l.relkind = 'r'), '{}'), ARRAY[c.oid]) ELSE ARRAY[c.oid] END)
   AND ((k.relreplident <> 'f' AND identity.key IS NULL) OR columns.virtual OR columns.stored)
 ORDER BY (k.relreplident = 'f' OR identity.key IS NOT NULL) AND NOT columns.virtual, 1 LIMIT 1
"""
"""For a table `c`: the first of what is written to that could not be written to, and why."""

_OF_TABLES: Final = f"""
SELECT c.oid::int8 AS oid, writes.* FROM pg_class c, LATERAL ({UNWRITABLE}) AS writes
 WHERE c.oid = ANY (%(oids)s::int8[]::oid[])
"""  # noqa: S608 - the pieces are the constants above

_FAIL: Final = "once it is published, UPDATE and DELETE on it fail"


@dataclass(frozen=True, slots=True)
class Writability:
    """Whether a table can be written to once it is published.

    `lacks` is empty where nothing stands against publishing; else it is ``identity``, ``stored`` or ``virtual``, and
    `leaf` the quoted name of the table that it is true of. `keyed`: that has a primary key that could be its identity.
    `generated` is s or v where it has generated columns that an identity must not hold.
    """

    leaf: str = ""
    lacks: str = ""
    keyed: bool = False
    generated: str = ""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Writability:
        """Make it of the columns of `UNWRITABLE`, which are NULL where nothing is lacking."""
        leaf = sql_printable(row["leaf"] or "")
        return cls(leaf, row["lacks"] or "", bool(row["keyed"]), row["generated"] or "")

    def fails(self, *, publishes_generated: bool) -> bool:
        """Return whether UPDATE and DELETE fail once it is published."""
        return bool(self.lacks) and not (self.lacks == "stored" and publishes_generated)

    def hindrance(self, table: str, *, publishes_generated: bool) -> tuple[str, str] | None:
        """Why writes to `table`, a quoted name, would fail, and the SQL that helps; None where they would not."""
        if not self.fails(publishes_generated=publishes_generated):
            return None
        return f"{self.fact(table)}: {_FAIL}", self.remedy

    def fact(self, table: str) -> str:
        """Return what is lacking of `table`, a quoted name."""
        whose = "" if self.leaf == table else f", in partition {self.leaf}"
        if self.lacks == "identity":
            return f"has no replica identity{whose}"
        kind = "virtual generated column" if self.lacks == "virtual" else "generated column that is not published"
        return f"has a {kind} in its replica identity{whose}"

    @property
    def remedy(self) -> str:
        alter = f"ALTER TABLE {self.leaf}"
        if self.keyed:
            return f"{alter} REPLICA IDENTITY DEFAULT"
        if not self.generated:
            return f"{alter} REPLICA IDENTITY FULL"
        # FULL holds the generated columns, and is refused.
        return f"{alter} REPLICA IDENTITY USING INDEX …, or ADD PRIMARY KEY (…), of columns that are not generated"


WRITABLE: Final = Writability()


@dataclass(frozen=True, slots=True)
class Failing:
    """A table that cannot be written to once it is published. `fact` says why, `remedy` is SQL."""

    table: TableRef
    fact: str
    remedy: str


def failing(catalog: Catalog, tables: Sequence[TableRef], *, publishes_generated: bool = False) -> list[Failing]:
    """Return those of `tables` that UPDATE and DELETE would fail on once they are published.

    A partition is named by its root where that is among them.
    """
    oids = {table.oid for table in tables}
    rows = {row["oid"]: Writability.of_row(row) for row in catalog.ask(_OF_TABLES, oids=sorted(oids))}
    return [
        Failing(table, found.fact(quoted(table.schema, table.name)), found.remedy)
        for table in tables
        if table.root not in oids
        and (found := rows.get(table.oid, WRITABLE)).fails(publishes_generated=publishes_generated)
    ]

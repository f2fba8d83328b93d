"""Which tables there are and how the publication publishes them, as one look at the catalogs finds it.

A *grant* is the catalog row by which a publication publishes a table: one of pg_publication_rel (of the table or of a
table that it is a partition of), of pg_publication_namespace, or the publication itself where it has all tables. It
has an OID of its own, and a table that is taken out and put back gets another one: so a gap is seen afterwards too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pycdc.connectors.postgres.catalog.catalog import CHAIN, CHOSEN, Catalog, like
from pycdc.connectors.postgres.catalog.metadata import TableRef
from pycdc.connectors.postgres.publication.writability import GENERATED_SINCE, UNWRITABLE, WRITABLE, Writability
from pycdc.model.patterns import is_user_table

_NAMESPACES_SINCE: Final = 150_000
"""Publications have schemas, row filters and column lists since Postgres 15."""


@dataclass(frozen=True, slots=True)
class CandidateTable:
    """A table that the configuration's patterns name.

    `part` is a digest of its row filter and column list, empty where all is published. `attached`: it, or what it
    belongs to, became a partition after it was made. `top` is the topmost table that it is a partition of, named or
    not. `owned` and so on as in `TableRights`.
    """

    ref: TableRef
    logged: bool = True
    writes: Writability = WRITABLE
    reachable: bool = True
    selectable: bool = True
    row_security: bool = False
    owned: bool = True
    grants: frozenset[int] = frozenset()
    part: str = ""
    attached: bool = False
    top: int = 0

    def __str__(self) -> str:
        return str(self.ref)


@dataclass(frozen=True, slots=True)
class Published:
    """A publication.

    `operations` are the first letters of insert, update, delete, truncate; `grants` are all there are, `listed` the
    tables that stand in it by name, by the OIDs of their grants. `generated`: it publishes stored generated columns.
    """

    oid: int
    operations: frozenset[str]
    via_root: bool
    owner: str
    owned: bool
    grants: frozenset[int]
    listed: Mapping[int, TableRef]
    generated: bool = False


@dataclass(frozen=True, slots=True)
class PublishedState:
    """`publication` is None where it does not exist."""

    publication: Published | None
    candidates: tuple[CandidateTable, ...]

    @property
    def captured(self) -> dict[int, CandidateTable]:
        """What can be captured, by OID."""
        return {found.ref.oid: found for found in self.candidates if found.logged}

    @property
    def publishes_captured_only(self) -> bool:
        """Each table stands in the publication by name, and none that is not captured."""
        published = self.publication
        if published is None or published.grants != published.listed.keys():
            return False
        return self.captured.keys() >= {ref.oid for ref in published.listed.values()}


def observe(catalog: Catalog, publication: str, patterns: Sequence[str], exclude: Sequence[str]) -> PublishedState:
    """Two queries, however many tables there are. Patterns are as in the configuration."""
    schemas = catalog.version >= _NAMESPACES_SINCE
    found = catalog.ask(_publication_query(catalog.version), name=publication)
    likes = {"patterns": [*map(like, patterns)], "exclude": [*map(like, exclude)]}
    rows = catalog.ask(_candidates_query(schemas=schemas), name=publication, **likes)
    candidates = (_candidate(row) for row in rows if is_user_table(patterns, row["schema"], row["name"]))
    return PublishedState(_published(found[0]) if found else None, tuple(candidates))


def _published(row: dict[str, Any]) -> Published:
    listed = {
        grant: TableRef(oid, schema, name, kind)
        for grant, oid, schema, name, kind in zip(
            row["listed"], row["oids"], row["schemas"], row["names"], row["kinds"], strict=True
        )
    }
    return Published(
        row["oid"],
        frozenset(letter for letter in "iudt" if row[letter]),
        row["via_root"],
        row["owner"],
        row["owned"],
        _oids(row["grants"]),
        listed,
        row["generated"],
    )


def _candidate(row: dict[str, Any]) -> CandidateTable:
    ref = TableRef(*(row[name] for name in ("oid", "schema", "name", "kind", "rows_estimate", "root")))
    facts = ("logged", "reachable", "selectable", "row_security", "owned")
    return CandidateTable(
        ref,
        **{name: row[name] for name in facts},
        grants=_oids(row["grants"]),
        part=row["part"] or "",
        attached=row["attached"],
        top=row["top"],
        writes=Writability.of_row(row),
    )


def _oids(values: Iterable[int]) -> frozenset[int]:
    return frozenset(values)


def _publication_query(version: int) -> str:
    schemas = version >= _NAMESPACES_SINCE
    generated = "p.pubgencols = 's'" if version >= GENERATED_SINCE else "false"
    in_schemas = " || ARRAY(SELECT s.oid::int8 FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)"
    return f"""
SELECT p.oid::int8 AS oid, p.pubinsert AS i, p.pubupdate AS u, p.pubdelete AS d, p.pubtruncate AS t,
       p.pubviaroot AS via_root, r.rolname::text AS owner, pg_has_role(p.pubowner, 'USAGE') AS owned,
       {generated} AS generated, l.listed, l.oids, l.schemas, l.names, l.kinds,
       l.listed || CASE WHEN p.puballtables THEN ARRAY[p.oid::int8] ELSE '{{}}' END{in_schemas * schemas} AS grants
  FROM pg_publication p JOIN pg_roles r ON r.oid = p.pubowner,
       LATERAL (SELECT coalesce(array_agg(m.oid::int8), '{{}}') AS listed,
                       coalesce(array_agg(c.oid::int8), '{{}}') AS oids,
                       coalesce(array_agg(n.nspname::text), '{{}}') AS schemas,
                       coalesce(array_agg(c.relname::text), '{{}}') AS names,
                       coalesce(array_agg(c.relkind::text), '{{}}') AS kinds
                  FROM pg_publication_rel m JOIN pg_class c ON c.oid = m.prrelid
                       JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE m.prpubid = p.oid) l
 WHERE p.pubname = %(name)s
"""  # noqa: S608 - the pieces are the constants above


def _candidates_query(*, schemas: bool) -> str:
    in_schemas = """
             UNION ALL SELECT s.oid::int8 FROM pg_publication_namespace s JOIN p ON s.pnpubid = p.oid
              WHERE s.pnnspid IN (SELECT k.relnamespace FROM pg_class k WHERE k.oid = ANY (up.oids))"""
    part = """(
       SELECT string_agg(left(md5(concat_ws('|', m.prattrs::text, m.prqual::text)), 8), '' ORDER BY m.prrelid)
         FROM pg_publication_rel m JOIN p ON m.prpubid = p.oid
        WHERE m.prrelid = ANY (up.oids) AND (m.prattrs IS NOT NULL OR m.prqual IS NOT NULL))"""
    return f"""
WITH p AS (SELECT oid, puballtables FROM pg_publication WHERE pubname = %(name)s)
SELECT c.oid::int8 AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       CASE WHEN c.reltuples >= 0 THEN c.reltuples::int8 END AS rows_estimate,
       NULLIF(named.oid, c.oid)::int8 AS root, chain.oids[1]::int8 AS top,
       c.relpersistence = 'p' AS logged, writes.leaf, writes.lacks, writes.keyed, writes.generated,
       has_schema_privilege(n.oid, 'USAGE') AS reachable, has_table_privilege(c.oid, 'SELECT') AS selectable,
       row_security_active(c.oid) AS row_security, pg_has_role(c.relowner, 'USAGE') AS owned,
       ARRAY(SELECT m.oid::int8 FROM pg_publication_rel m JOIN p ON m.prpubid = p.oid WHERE m.prrelid = ANY (up.oids)
             UNION ALL SELECT p.oid::int8 FROM p WHERE p.puballtables{in_schemas * schemas}) AS grants,
       {part if schemas else "NULL"} AS part,
       EXISTS (SELECT FROM pg_inherits h JOIN pg_class k ON k.oid = h.inhrelid JOIN pg_type t ON t.oid = k.reltype
                WHERE c.relispartition AND h.inhrelid = ANY (up.oids) AND h.xmin <> t.xmin) AS attached
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,{CHAIN},
       LATERAL (SELECT chain.oids) AS up (oids)
       LEFT JOIN LATERAL ({UNWRITABLE}) AS writes ON true
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence IN ('p', 'u') AND {CHOSEN}
 ORDER BY 2, 3
"""  # noqa: S608

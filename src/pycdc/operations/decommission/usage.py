"""Who still uses the old tables: what the server counted since a date, sessions, and objects that name them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.operations.cutover.gates import Closed
from pycdc.operations.decommission.progress import Counters, DecommissionProgress

_OIDS: Final = "SELECT to_regclass(name)::oid::int8 FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NOT NULL"
_TREE: Final = """SELECT relid::oid FROM unnest(%(oids)s::oid[]) root,
    LATERAL (SELECT root AS relid UNION SELECT relid FROM pg_partition_tree(root)) tree"""
"""With partitions."""
_COUNTERS: Final = f"""SELECT relid::regclass::text, coalesce(seq_scan, 0) + coalesce(idx_scan, 0),
    n_tup_ins + n_tup_upd + n_tup_del
FROM pg_stat_all_tables WHERE relid IN ({_TREE})"""  # noqa: S608
_SESSIONS: Final = f"""SELECT a.pid, a.usename, a.application_name,
    EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.relation IN ({_TREE})
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())),
    a.query = '<insufficient privilege>'
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    AND (a.query = '<insufficient privilege>' OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid
            AND l.relation IN ({_TREE})) OR (a.query_start >= to_timestamp(%(since)s) AND a.query ~* %(names)s))
ORDER BY 1"""  # noqa: S608
_FUNCTIONS: Final = """SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosrc ~* %s AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pycdc_cutover') ORDER BY 1"""
_PUBLICATIONS: Final = """SELECT DISTINCT p.pubname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
WHERE r.prrelid = ANY (%s::oid[]) AND p.pubname <> ALL (%s) ORDER BY 1"""
_DEPENDENTS: Final = """WITH mine AS (
    SELECT 'pg_class'::regclass AS class, one AS id FROM unnest(%(oids)s::oid[]) one
    UNION SELECT 'pg_class'::regclass, objid FROM pg_depend WHERE classid = 'pg_class'::regclass
        AND refclassid = 'pg_class'::regclass AND refobjid = ANY (%(oids)s::oid[]) AND deptype IN ('a', 'i')
    UNION SELECT 'pg_type'::regclass, t.oid FROM pg_type t
        WHERE t.typrelid = ANY (%(oids)s::oid[])
            OR t.typelem IN (SELECT oid FROM pg_type WHERE typrelid = ANY (%(oids)s::oid[]))
), found AS (
    SELECT DISTINCT d.classid, d.objid, coalesce(w.ev_class, k.conrelid, f.adrelid) AS owner, v.relkind, k.contype
    FROM pg_depend d JOIN mine ON mine.class = d.refclassid AND mine.id = d.refobjid
    LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    LEFT JOIN pg_class v ON v.oid = w.ev_class
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    WHERE d.deptype = 'n'
)
SELECT CASE WHEN relkind IS NOT NULL THEN 'views' WHEN contype = 'f' THEN 'foreign keys' ELSE 'dependents' END,
    CASE WHEN relkind IS NOT NULL THEN owner::regclass::text ELSE pg_describe_object(classid, objid, 0) END
FROM found WHERE owner IS NULL OR NOT owner = ANY (%(oids)s::oid[]) ORDER BY 1, 2"""


class OldTables:
    """The tables that are to go, as far as they are there. Each question raises Closed where somebody uses them."""

    def __init__(self, connection: psycopg.Connection[Any], tables: Sequence[tuple[str, str]]) -> None:
        self._connection = connection
        self.tables = list(tables)
        names = [sql.Identifier(*table).as_string(connection) for table in tables]
        self.oids = [oid for (oid,) in connection.execute(_OIDS, (names,))]
        self._words = rf"\y({'|'.join(re.escape(name) for _, name in tables)})\y"

    def counters(self) -> dict[str, Counters]:
        """Return what the server counted so far, by table, partitions each for itself."""
        found = self._connection.execute(_COUNTERS, {"oids": self.oids})
        return {table: Counters(reads, writes) for table, reads, writes in found}

    def quiet(self, progress: DecommissionProgress | None, now: float, seconds: float) -> str:
        if not seconds:
            return "not asked for"
        if progress is None:
            raise Closed("nobody watches the tables yet: the first decommission begins to")
        watched = now - progress.since
        if watched < seconds:
            raise Closed(f"watched since {progress.date}: {seconds - watched:.0f} of {seconds:.0f} s are left")
        return f"watched since {progress.date}"

    def reads(self, progress: DecommissionProgress | None) -> str:
        """Ask for reads. A write that the fence refused is one too: it looked for the row."""
        return self._unused(progress, "reads", "read", "; a backup reads too")

    def writes(self, progress: DecommissionProgress | None) -> str:
        return self._unused(progress, "writes", "written", "")

    def _unused(self, progress: DecommissionProgress | None, name: str, verb: str, note: str) -> str:
        row = self._connection.execute("SELECT current_setting('track_counts')").fetchone()
        if row != ("on",):
            raise Closed("the server does not count: track_counts is off")
        if progress is None:
            return "not watched yet"
        found = increases(progress.counters, self.counters(), name)
        if found:
            uses = ", ".join(f"{table} {number} times" for table, number in sorted(found.items()))
            raise Closed(f"{verb} since {progress.date}: {uses}{note}")
        return f"none since {progress.date}"

    def sessions(self, progress: DecommissionProgress | None) -> str:
        """Ask for sessions that hold a lock on the tables, or named them in their last statement."""
        since = 0.0 if progress is None else progress.since
        query = {"oids": self.oids, "since": since, "names": self._words}
        found = self._connection.execute(_SESSIONS, query).fetchall()
        users = [
            f"pid {pid} ({user}, {program or 'no name'})"
            for pid, user, program, locks, hid in found
            if locks or not hid
        ]
        if users:
            raise Closed(f"sessions hold them or named them last: {', '.join(users)}")
        hidden = sum(hid for *_, hid in found)
        return f"none; what {hidden} others ask cannot be seen: GRANT pg_read_all_stats" if hidden else "none"

    def dependents(self, kind: str) -> str:
        found = [name for one, name in self._connection.execute(_DEPENDENTS, {"oids": self.oids}) if one == kind]
        return _none(found)

    def functions(self) -> str:
        return _none([name for (name,) in self._connection.execute(_FUNCTIONS, (self._words,))])

    def publications(self, own: Collection[str]) -> str:
        return _none([name for (name,) in self._connection.execute(_PUBLICATIONS, (self.oids, list(own)))])


def increases(before: dict[str, Counters], now: dict[str, Counters], name: str) -> dict[str, int]:
    """Return by how much each counter has grown. One that fell began anew, after a crash of the server for instance."""
    found = {}
    for table, counted in now.items():
        first = getattr(before.get(table, Counters(0, 0)), name)
        last = getattr(counted, name)
        found[table] = last - first if last >= first else last
    return {table: number for table, number in found.items() if number}


def _none(found: Sequence[str]) -> str:
    if found:
        raise Closed(", ".join(found))
    return "none"

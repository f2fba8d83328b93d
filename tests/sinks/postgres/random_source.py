"""A source whose random transactions obey its own constraints, the records that tell of them, and the comparison.

Transactions are executed in the schema ``source``, whose constraints do what they do. Triggers that fire before each
row note the changes in the order in which they happen, those of foreign keys' actions too.
"""

from __future__ import annotations

from random import Random
from typing import Any

import psycopg

from tests.sinks.postgres.rig import Process, Rig

NOTES = """
CREATE SCHEMA source;
CREATE TABLE source.notes (lsn bigserial, name text, op text, before jsonb, after jsonb);
CREATE FUNCTION source.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO source.notes (name, op, before, after)
    VALUES (TG_TABLE_NAME, TG_OP, CASE TG_OP WHEN 'INSERT' THEN NULL ELSE to_jsonb(OLD) END,
        CASE TG_OP WHEN 'DELETE' THEN NULL ELSE to_jsonb(NEW) END);
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
"""


class RandomSource:
    """`tables` are DDL without the schema, by name, parents first; each has a key `id`.

    `told`: whether records tell their place in the source.
    """

    def __init__(self, rig: Rig, random: Random, tables: dict[str, str], *, told: bool = True) -> None:
        self.rig, self.random, self.tables, self._told = rig, random, tables, told
        self.topics: dict[str, list[tuple[Any, Any]]] = {name: [] for name in tables}
        self._connection = psycopg.connect(rig.dsn)
        self._connection.execute(NOTES)
        for schema in ("source", "public"):
            self._connection.execute(f"SET search_path = {schema}".encode())
            for ddl in tables.values():
                self._connection.execute(ddl.encode())
        for name in tables:
            self._connection.execute(
                f"CREATE TRIGGER zz BEFORE INSERT OR UPDATE OR DELETE ON source.{name} "
                "FOR EACH ROW EXECUTE FUNCTION source.note()".encode()
            )
        self._connection.execute("SET search_path = source")
        self._connection.commit()

    def transaction(self, statements: list[str]) -> None:
        """Those of the statements that the source takes; nothing where it does not take all of it at the commit."""
        connection = self._connection
        try:
            with connection.transaction():
                connection.execute("DELETE FROM notes")
                for statement in statements:
                    try:
                        with connection.transaction():
                            connection.execute(statement.encode())
                    except psycopg.errors.IntegrityError:
                        continue
                notes = connection.execute("SELECT lsn, name, op, before, after FROM notes ORDER BY lsn").fetchall()
        except psycopg.errors.IntegrityError:
            return
        for lsn, name, op, before, after in notes:
            self._record(lsn, name, op, before, after)

    def _record(self, lsn: int, name: str, op: str, before: Any, after: Any) -> None:
        if op == "UPDATE" and before["id"] != after["id"]:
            self._record(lsn, name, "DELETE", before, None)
            self._record(lsn, name, "INSERT", None, after)
            return
        source = {"source": {"name": "shop", "db": "shop", "lsn": lsn}} if self._told else {}
        key = {"id": (after or before)["id"]}
        old = before if op == "DELETE" else None
        self.topics[name].append(
            (key, {"op": op[0].lower().replace("i", "c"), "before": old, "after": after, **source})
        )
        if op == "DELETE":
            self.topics[name].append((key, None))

    def feed(self, process: Process, *, torn: bool) -> None:
        """All records, topics in any order; in several batches that are not in step where they are `torn`."""
        for _ in range(100):
            batch: list[Any] = []
            for topic in self.random.sample(list(self.topics), len(self.topics)):
                left = self.topics[topic][self.rig.ends.get(topic, 0) :]
                taken = self.random.randint(0, len(left)) if torn else len(left)
                batch += [(topic, *record) for record in left[:taken]]
            if batch:
                process.feed(*batch)
            elif not any(records[self.rig.ends.get(topic, 0) :] for topic, records in self.topics.items()):
                return
        raise AssertionError("events wait for ever")

    def differences(self) -> dict[str, list[Any]]:
        """Rows that are not the same on both sides, by table, and what was recorded of conflicts."""
        found = {
            name: self.rig.sql(
                f"(TABLE source.{name} EXCEPT ALL TABLE public.{name}) UNION ALL "
                f"(TABLE public.{name} EXCEPT ALL TABLE source.{name})"
            )
            for name in self.tables
        }
        found["conflicts"] = self.rig.sql('SELECT "table", kind FROM pycdc.conflicts')
        found["parked"] = self.rig.sql("SELECT topic, error FROM pycdc.parked")
        return {name: rows for name, rows in found.items() if rows}

    def close(self) -> None:
        self._connection.close()

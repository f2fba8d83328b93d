"""Sequences behind columns that events write: an id that a row brings along does not move the sequence of its column.

Rules:

1. A sequence never goes backwards, whatever other sessions draw from it meanwhile.
2. Its step is kept: one that makes even numbers goes on with even numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from pycdc.clients.postgres import Connection
from pycdc.clients.postgres_sessions import connected
from pycdc.config.postgres_sink import PostgresSinkConfig
from pycdc.errors import EnvironmentNotReady
from pycdc.sinks.postgres.target_tables import split_name

_OF_TABLE: Final = """SELECT DISTINCT tn.nspname, t.relname, a.attname, sn.nspname, s.relname,
    q.seqincrement, CASE WHEN q.seqincrement > 0 THEN q.seqmax ELSE q.seqmin END,
    has_sequence_privilege(s.oid, 'SELECT') AND has_table_privilege(t.oid, 'SELECT'),
    has_sequence_privilege(s.oid, 'UPDATE'), pg_has_role(s.relowner, 'USAGE')
FROM pg_class t
JOIN pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND a.atttypid = ANY ('{int2,int4,int8,numeric}'::regtype[])
JOIN pg_class s ON s.relkind = 'S'
JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_sequence q ON q.seqrelid = s.oid
WHERE t.oid = to_regclass(%s) AND (
    EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid = a.attnum
        AND d.deptype IN ('a', 'i'))
    OR EXISTS (SELECT FROM pg_attrdef v JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = v.oid
        WHERE v.adrelid = t.oid AND v.adnum = a.attnum
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid))
ORDER BY 4, 5, 1, 2, 3"""


@dataclass(frozen=True, slots=True)
class ColumnSequence:
    """A sequence and the column whose values it makes.

    `last` and `called` are the sequence's; `reached` is the column's greatest value (least, where `step` is negative),
    None in an empty table. All three are None where the role may not read them.
    """

    table: tuple[str, str]
    column: str
    sequence: tuple[str, str]
    step: int
    limit: int
    readable: bool
    settable: bool
    owned: bool
    last: int | None = None
    called: bool | None = None
    reached: int | None = None

    @property
    def table_name(self) -> str:
        return ".".join(self.table)

    @property
    def sequence_name(self) -> str:
        return ".".join(self.sequence)

    @property
    def following(self) -> int | None:
        """What the next row would get."""
        return None if self.last is None else self.last + self.step if self.called else self.last

    @property
    def behind(self) -> bool:
        """Whether the sequence would make values that are there."""
        if self.following is None or self.reached is None:
            return False
        return self.following <= self.reached if self.step > 0 else self.following >= self.reached

    def target(self, margin: int) -> int | None:
        """Return the value to set: `margin` beyond what is there; None where the sequence is beyond that already.

        Raises EnvironmentNotReady where the sequence does not reach so far.
        """
        if self.last is None or self.reached is None:
            return None
        way = 1 if self.step > 0 else -1
        lacking = (self.reached + way * margin - self.last) * way
        if lacking < 0 or (lacking == 0 and self.called):
            return None
        target = self.last + -(-lacking // abs(self.step)) * self.step
        if (self.limit - target) * way < 0:
            raise EnvironmentNotReady(
                f"sequence {self.sequence_name} ends before {self.table_name}.{self.column} and the margin",
                hint="choose a smaller --margin, or give the column and its sequence a greater type",
            )
        return target


def read_sequences(settings: PostgresSinkConfig) -> list[ColumnSequence]:
    """Return the sequences of all tables of the routes. Raises PycdcError."""
    with connected(settings.dsn.get_secret_value()) as connection:
        return _read(connection, settings)


def advance_sequences(settings: PostgresSinkConfig, margin: int) -> list[ColumnSequence]:
    """Set those that are behind, in one transaction; return them as they were. Raises PycdcError, having set none."""
    with connected(settings.dsn.get_secret_value()) as connection:
        found = [one for one in _read(connection, settings) if one.behind]
        refused = [one.sequence_name for one in found if not one.settable]
        if refused:
            raise EnvironmentNotReady(
                f"the role may not set {', '.join(refused)}",
                hint=f"GRANT UPDATE ON SEQUENCE {', '.join(refused)} TO {connection.info.user}",
            )
        targets = [(one, one.target(margin)) for one in found]
        for one, target in targets:
            if target is not None:
                _set(connection, one, target)
        connection.commit()
        return found


def _read(connection: Connection, settings: PostgresSinkConfig) -> list[ColumnSequence]:
    found = []
    for table in _tables(settings):
        name = sql.Identifier(*split_name(table)).as_string(connection)
        for row in connection.execute(_OF_TABLE, (name,)).fetchall():
            found.append(ColumnSequence((row[0], row[1]), row[2], (row[3], row[4]), *row[5:]))
    connection.rollback()
    return [_filled(connection, one) if one.readable else one for one in found]


def _tables(settings: PostgresSinkConfig) -> Iterable[str]:
    return dict.fromkeys(route.table for route in settings.routes)


def _filled(connection: Connection, one: ColumnSequence) -> ColumnSequence:
    extreme = sql.SQL("max" if one.step > 0 else "min")
    query = sql.SQL("SELECT s.last_value, s.is_called, (SELECT {}({}) FROM {}) FROM {} AS s").format(
        extreme, sql.Identifier(one.column), sql.Identifier(*one.table), sql.Identifier(*one.sequence)
    )
    row = connection.execute(query).fetchone()
    assert row is not None
    connection.rollback()
    reached = None if row[2] is None else int(row[2])
    return replace(one, last=row[0], called=row[1], reached=reached)


def _set(connection: Connection, one: ColumnSequence, target: int) -> None:
    """Others draw from it meanwhile. An owner locks them out; else what they draw within this statement is at risk."""
    name = sql.Identifier(*one.sequence)
    if one.owned:
        # Changes nothing, and is the only statement that locks a sequence.
        connection.execute(sql.SQL("ALTER SEQUENCE {} INCREMENT BY {}").format(name, sql.Literal(one.step)))
    furthest = sql.SQL("greatest" if one.step > 0 else "least")
    connection.execute(
        sql.SQL("SELECT setval({}, {}({}, last_value)) FROM {}").format(
            sql.Literal(name.as_string(connection)), furthest, sql.Literal(target), name
        )
    )

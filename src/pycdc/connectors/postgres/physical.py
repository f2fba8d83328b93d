"""Reading a table in physical order, in ranges of its blocks, and knowing afterwards what was read.

A row version never leaves its place: whoever changes a row writes another version, with the id of the transaction that
did. So a row whose place was read, and that nobody changed since the snapshot was taken, was read; a change is in the
stream, which begins at the snapshot. That holds for as long as the table has the same files: VACUUM FULL, CLUSTER and
many an ALTER TABLE write new ones, and then it cannot be told any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import psycopg
from psycopg import sql

from pycdc.connectors.postgres.facts import CopySource, TableRef
from pycdc.connectors.postgres.session import Connection

_FAMILY: Final = """
WITH RECURSIVE family AS (SELECT %s::int8::oid AS oid
UNION SELECT i.inhrelid FROM pg_inherits i JOIN family f ON i.inhparent = f.oid WHERE NOT %s)
SELECT c.oid::int8, pg_relation_filenode(c.oid)::int8,
       pg_relation_size(c.oid) / current_setting('block_size')::int8,
       c.relkind = 'r' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap')
  FROM family f JOIN pg_class c ON c.oid = f.oid WHERE c.relkind <> 'p' ORDER BY 1
"""
_OLDEST: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8"
_XIDS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Heap:
    """Where a table's rows are: files of `blocks` blocks at most, all of its partitions' beside each other.

    `ordinary`: all of them are heaps, which have blocks. `files` tells these files from others.
    """

    blocks: int
    files: str
    ordinary: bool


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered of a table: what a snapshot saw in the blocks before `block`.

    Every transaction that the snapshot does not see has an id (of 32 bits) from `oldest` on. `files` are `Heap.files`.
    """

    block: int
    oldest: int
    files: str

    def others(self) -> sql.Composable:
        """The condition that a row was not delivered, or was changed since.

        An id that lies more than 2³¹ transactions back may count as new: then its row comes once more.
        """
        return sql.SQL("(ctid >= {} OR age(xmin) <= age({}::xid))").format(_place(self.block), str(self.oldest))


@dataclass(frozen=True, slots=True)
class Range:
    """The rows in blocks from `first` to before `end`, in physical order, without the first `skip`.

    A snapshot sees the same versions at the same places each time, so that counting them is safe.
    """

    first: int
    end: int
    skip: int = 0

    def conditions(self, source: CopySource) -> list[sql.Composable]:
        return [sql.SQL("ctid >= {} AND ctid < {}").format(_place(self.first), _place(self.end))]

    def ending(self, source: CopySource) -> sql.Composable:
        return sql.SQL(" OFFSET {}").format(sql.Literal(self.skip)) if self.skip else sql.SQL("")


def _place(block: int) -> sql.Composable:
    return sql.SQL("'({},0)'::tid").format(sql.SQL(str(block)))


def heap_of(connection: Connection, ref: TableRef) -> Heap:
    """The files as they are at present, whatever the transaction sees. A lock on the table keeps it so.

    Nothing but numbers is asked for, which a connection that leaves text raw understands too.
    """
    rows: list[tuple[Any, ...]] = connection.execute(_FAMILY, (ref.oid, ref.kind != "p")).fetchall()
    told = ",".join(f"{oid}:{filenode}" for oid, filenode, _, _ in rows)
    return Heap(
        max((blocks for _, _, blocks, _ in rows), default=0),
        sha256(told.encode()).hexdigest()[:16],
        all(ordinary for _, _, _, ordinary in rows),
    )


def oldest_unseen(connection: Connection) -> int:
    """The oldest id that a transaction may have which this one does not see."""
    row = connection.execute(_OLDEST).fetchone()
    if row is None:
        raise psycopg.DataError("the server told no snapshot")
    return int(row[0]) % _XIDS

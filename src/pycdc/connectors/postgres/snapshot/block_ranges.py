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

from pycdc.clients.postgres import Connection
from pycdc.connectors.postgres.catalog.metadata import CopySource

_FAMILY: Final = """
SELECT f.oid::int8, pg_relation_filenode(f.oid)::int8,
       pg_relation_size(f.oid) / current_setting('block_size')::int8,
       c.relkind = 'r' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap') AS ordinary,
       c.relkind <> 'r' OR c.relfilenode = pg_relation_filenode(f.oid) AS seen
  FROM (SELECT %(oid)s::int8::oid AS oid WHERE NOT %(parted)s
         UNION ALL
        SELECT t.relid::oid FROM pg_partition_tree(%(oid)s::int8::oid) t WHERE t.isleaf AND %(parted)s) f
       LEFT JOIN pg_class c ON c.oid = f.oid
 ORDER BY 1
"""
"""The functions tell the present, pg_class what the transaction sees."""
_OLDEST: Final = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8"
_XIDS: Final = 1 << 32
_ITEMS: Final = 292
"""More rows than a block of 8 kB holds."""
_PLACES: Final = 2048
"""More than any block holds."""


class Rewritten(Exception):
    """The table is not the one of which a snapshot was exported.

    It was truncated, rewritten, made again, or has another name, other columns or partitions. The snapshot sees none of
    its rows now, or cannot show which of them were read.

    Source: the manual, "Caveats" of MVCC (13.6).
    """


@dataclass(frozen=True, slots=True)
class TableBlocks:
    """Where a table's rows are: `leaves` files of `blocks` blocks at most, all of its partitions' beside each other.

    `ordinary`: all of them are heaps, which have blocks. `files` tells these files from others. `seen`: they are those
    that the transaction sees, and not made anew since.
    """

    blocks: int
    files: str
    ordinary: bool
    leaves: int = 1
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered of a table: what a snapshot saw in the blocks before `block`.

    Every transaction that the snapshot does not see has an id (of 32 bits) from `oldest` on. `files` are
    `TableBlocks.files`.
    """

    block: int
    oldest: int
    files: str

    def others(self) -> sql.Composable:
        """Return the condition that a row was not delivered, or was changed since.

        An id that lies more than 2³¹ transactions back may count as new: then its row comes once more.
        """
        return sql.SQL("(ctid >= {} OR age(xmin) <= age({}::xid))").format(_place(self.block), str(self.oldest))


@dataclass(frozen=True, slots=True)
class BlockRange:
    """The rows from the place `item` of the block `first` to before the place `end_item` of the block `end`.

    In which order they come is the server's business; where there are too many at once, the range is cut.
    """

    first: int
    end: int
    item: int = 0
    end_item: int = 0

    def conditions(self, source: CopySource) -> list[sql.Composable]:
        first, end = _place(self.first, self.item), _place(self.end, self.end_item)
        return [sql.SQL("ctid >= {} AND ctid < {}").format(first, end)]

    def ending(self, source: CopySource) -> sql.Composable:
        return sql.SQL("")

    def cut(self) -> tuple[BlockRange, BlockRange] | None:
        """Two halves; None where there is but one place."""
        if self.end - self.first > 1:
            middle, item = (self.first + self.end) // 2, 0
        else:
            last = self.end_item if self.end == self.first else _PLACES
            if last - self.item < 2:
                return None
            likely = min(last, _ITEMS) if self.item < _ITEMS else last
            middle, item = self.first, max(self.item + 1, (self.item + likely) // 2)
        return BlockRange(self.first, middle, self.item, item), BlockRange(middle, self.end, item, self.end_item)

    def until(self, part: BlockRange) -> BlockRange:
        """Return what of this range lies behind `part`, its beginning."""
        return BlockRange(part.end, self.end, part.end_item, self.end_item)


def _place(block: int, item: int = 0) -> sql.Composable:
    return sql.SQL("'({},{})'::tid").format(sql.SQL(str(block)), sql.SQL(str(item)))


def heap_of(connection: Connection, oid: int, *, parted: bool) -> TableBlocks:
    """Return the files as they are at present, whatever the transaction sees. A lock on the table keeps it so.

    Nothing but numbers is asked for, which a connection that leaves text raw understands too.
    """
    parameters = {"oid": oid, "parted": parted}
    rows: list[tuple[Any, ...]] = connection.execute(_FAMILY, parameters).fetchall()
    files = ",".join(f"{leaf}:{filenode}" for leaf, filenode, *_ in rows)
    return TableBlocks(
        max((blocks or 0 for _, _, blocks, *_ in rows), default=0),
        sha256(files.encode()).hexdigest()[:16],
        all(ordinary for *_, ordinary, _ in rows),
        len(rows),
        all(seen for *_, seen in rows),
    )


def oldest_unseen(connection: Connection) -> int:
    """Return the oldest id that a transaction may have which this one does not see."""
    row = connection.execute(_OLDEST).fetchone()
    if row is None:
        raise psycopg.DataError("the server told no snapshot")
    return int(row[0]) % _XIDS

"""What the server sends of transactions that go on side by side, and what is committed of them.

It follows src/backend/replication/pgoutput/pgoutput.c: to whom a table was described, and when it is described anew.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.connectors.postgres import frames

Row = tuple[int, int, int]
"""The table's OID, the version of its schema, and a number."""
OIDS = (1, 2, 3, 4)


@dataclass
class Transaction:
    """`open` are its subtransactions by depth, `rows` those not rolled back, each with the ids that it is within."""

    xid: int
    streamed: bool
    gid: str = ""
    open: list[int] = field(default_factory=list)
    rows: list[tuple[tuple[int, ...], Row]] = field(default_factory=list)
    told: set[int] = field(default_factory=set)
    """Tables that were described to this transaction alone."""
    began: bool = False
    sent: set[int] = field(default_factory=set)
    """Subtransactions of which something was sent."""
    altered: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Tables that it altered itself: the subtransaction that did, and the version."""
    prepared: int = 0


class Walsender:
    """Draws a history; `sent` are its messages, `committed` the rows of each transaction in the order of commits."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.sent: list[bytes] = []
        self.committed: list[list[Row]] = []
        self.version = dict.fromkeys(OIDS, 0)
        self.versions = 0
        self.described: set[int] = set()
        self.lsn = 1000
        self.xid = 100
        self.number = 0
        self.going: list[Transaction] = []
        self.prepared: list[Transaction] = []

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.dice.choice((self._begin, self._stream, self._stream, self._stream, self._end, self._alter))()
        self._whole()
        while self.going or self.prepared:
            self._end()

    def _next(self) -> int:
        self.lsn += 10
        return self.lsn

    def _alter(self) -> None:
        """Another schema, or what makes the server describe the same one anew."""
        oid = self.dice.choice(OIDS)
        if self.dice.random() < 0.5:
            self.versions += 1
            self.version[oid] = self.versions
        self._invalidate(oid)

    def _invalidate(self, oid: int) -> None:
        self.described.discard(oid)
        for transaction in self.going:
            transaction.told.discard(oid)

    def _new(self, *, streamed: bool) -> Transaction:
        self.xid += 1
        return Transaction(self.xid, streamed, f"g{self.xid}" if self.dice.random() < 0.4 else "")

    def _begin(self) -> None:
        if self.dice.random() < 0.5:
            self._whole()
        else:
            self.going.append(self._new(streamed=True))

    def _whole(self) -> None:
        """One that is sent at its end, or where it is prepared."""
        transaction = self._new(streamed=False)
        lsn = self._next()
        rows = [self._row(transaction) for _ in range(self.dice.randint(1, 4))]
        prepare = transaction.gid
        self.sent.append(frames.begin_prepare(self.xid, lsn, lsn + 5, prepare) if prepare else frames.begin(lsn, 7))
        for row in rows:
            if row[0] not in self.described:
                self.described.add(row[0])
                self.sent.append(_relation(row))
            self.sent.append(_insert(row))
        transaction.rows = [((), row) for row in rows]
        if prepare:
            transaction.prepared = lsn
            self.sent.append(frames.prepare(transaction.xid, lsn, lsn + 5, prepare))
            self.prepared.append(transaction)
        else:
            self.sent.append(frames.commit(lsn, lsn + 5))
            self.committed.append(rows)

    def _row(self, transaction: Transaction) -> Row:
        """Of a table that nobody else has locked; there is one that is never altered within a transaction."""
        others = [one for one in (*self.going, *self.prepared) if one is not transaction]
        oid = self.dice.choice([oid for oid in OIDS if not any(oid in other.altered for other in others)])
        self.number += 1
        return oid, self.version[oid], self.number

    def _stream(self) -> None:
        """A block of one that goes on, within which savepoints are made; behind it one may be rolled back to."""
        if not self.going:
            return
        transaction = self.dice.choice(self.going)
        self.sent.append(frames.stream_start(transaction.xid, first=not transaction.began))
        transaction.began = True
        for _ in range(self.dice.randint(0, 6)):
            if self.dice.random() < 0.3:
                self.xid += 1
                transaction.open.append(self.xid)
            row = self._row(transaction)
            if row[0] != OIDS[0] and self.dice.random() < 0.1 and not self._used_by_others(transaction, row[0]):
                self.versions += 1
                transaction.altered[row[0]] = (transaction.open[-1] if transaction.open else 0, self.versions)
                self._invalidate(row[0])
            _, version = transaction.altered.get(row[0], (0, row[1]))
            self._streamed_row(transaction, (row[0], version, row[2]))
        self.sent.append(b"E")
        if transaction.open and self.dice.random() < 0.5:
            self._roll_back_to(transaction, self.dice.randrange(len(transaction.open)))

    def _used_by_others(self, transaction: Transaction, oid: int) -> bool:
        others = [one for one in (*self.going, *self.prepared) if one is not transaction]
        return any(row[0] == oid for other in others for _, row in other.rows)

    def _streamed_row(self, transaction: Transaction, row: Row) -> None:
        xid = transaction.open[-1] if transaction.open else transaction.xid
        if row[0] not in transaction.told:
            transaction.told.add(row[0])
            self.sent.append(frames.within(_relation(row), xid))
        self.sent.append(frames.within(_insert(row), xid))
        transaction.sent.add(xid)
        transaction.rows.append((tuple(transaction.open), row))

    def _roll_back_to(self, transaction: Transaction, depth: int) -> None:
        gone = transaction.open[depth:]
        transaction.open = transaction.open[:depth]
        transaction.rows = [(within, row) for within, row in transaction.rows if gone[0] not in within]
        for oid, (xid, _) in list(transaction.altered.items()):
            if xid in gone:
                del transaction.altered[oid]
                self._invalidate(oid)
        for xid in gone:
            if xid in transaction.sent:
                self.sent.append(frames.stream_abort(transaction.xid, xid))
                transaction.told.clear()

    def _end(self) -> None:
        if self.prepared and self.dice.random() < 0.5:
            self._end_prepared()
        elif self.going:
            transaction = self.dice.choice(self.going)
            self.going.remove(transaction)
            if transaction.began:
                self._end_streamed(transaction)

    def _end_streamed(self, transaction: Transaction) -> None:
        lsn = self._next()
        for oid, (_, version) in transaction.altered.items():
            self.version[oid] = version
            self._invalidate(oid)
            transaction.told.discard(oid)
        if self.dice.random() < 0.3:
            self.sent.append(frames.stream_abort(transaction.xid, transaction.xid))
        elif transaction.gid:
            transaction.prepared = lsn
            self.sent.append(frames.prepare(transaction.xid, lsn, lsn + 5, transaction.gid, b"p"))
            self.prepared.append(transaction)
        else:
            self.sent.append(frames.stream_commit(transaction.xid, lsn, lsn + 5))
            self.described |= transaction.told
            self.committed.append([row for _, row in transaction.rows])

    def _end_prepared(self) -> None:
        transaction = self.dice.choice(self.prepared)
        self.prepared.remove(transaction)
        lsn = self._next()
        if self.dice.random() < 0.5:
            self.sent.append(frames.rollback_prepared(transaction.xid, transaction.prepared + 5, lsn, transaction.gid))
        else:
            self.sent.append(frames.commit_prepared(transaction.xid, lsn, lsn + 5, transaction.gid))
            self.committed.append([row for _, row in transaction.rows])


def _relation(row: Row) -> bytes:
    """A version has as many columns as its number, and one more."""
    oid, version, _ = row
    return frames.relation(oid, f"t{oid}", [(f"c{column}", 23, column == 0) for column in range(version + 1)])


def _insert(row: Row) -> bytes:
    oid, version, number = row
    return frames.insert(oid, [b"%d" % number] * (version + 1))

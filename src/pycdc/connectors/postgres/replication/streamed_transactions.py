"""Transactions that the server sends before they are committed come out of here as if it had not.

With `streaming` a transaction comes in blocks, between those of others (protocol 2); with `two_phase` it comes when it
is prepared (protocol 3). Its messages are kept until Stream Commit or Commit Prepared, and then come in one piece, in
the place of their commit, in the words of protocol 1: Begin, Origin, the rows, Commit. Whoever reads them need not know
that they were streamed: positions, chunks, marks and checksums are those of a transaction that came at its commit.

- In a streamed block, each message carries the id of the (sub)transaction that wrote it. Stream Abort of a
  subtransaction drops those of this id and no others: it is sent for each one within, too.
- But a logical message carries the id of the whole transaction. Where one came before a subtransaction was rolled back,
  nothing tells whether it was written there: such a transaction is read again, at its commit (`in_doubt`).
- A Relation message in a streamed block describes the rows of this transaction only, until that is committed; the
  server then takes it for known to everybody, unless something newer came. So the newest by arrival holds at the end.
- What is prepared without being streamed uses what was described before, and describes for everybody at once, whether
  it will be committed or not.
- After a restart the server sends all of it again, but a prepared transaction only where its PREPARE lies behind the
  confirmed position: `confirmable` holds that back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, Protocol

from pycdc.connectors.postgres.replication import pgoutput
from pycdc.connectors.postgres.replication.control_message import PREFIX as CONTROL
from pycdc.connectors.postgres.replication.transaction_chunks import HEADER
from pycdc.connectors.postgres.replication.transaction_spool import SpoolFolder, TransactionSpool
from pycdc.errors import ConnectionLost, PositionGap, ProtocolError
from pycdc.model.change import Lsn
from pycdc.model.origin import MESSAGE_PREFIX

_XID: Final = slice(HEADER + 1, HEADER + 5)
"""Of a message in a streamed block; the relation's OID in one that is not."""
_OID: Final = slice(HEADER + 5, HEADER + 9)
"""Of a message in a streamed block."""
_AFTER_XID: Final = slice(HEADER + 5, None)
_LETTER: Final = slice(HEADER, HEADER + 1)
_ROWS: Final = frozenset((pgoutput.INSERT, pgoutput.UPDATE, pgoutput.DELETE))
_NOTED: Final = frozenset(
    (
        pgoutput.MESSAGE,
        pgoutput.ORIGIN,
        pgoutput.RELATION,
        pgoutput.STREAM_START,
        pgoutput.STREAM_STOP,
        pgoutput.STREAM_COMMIT,
        pgoutput.STREAM_ABORT,
        pgoutput.BEGIN_PREPARE,
        pgoutput.PREPARE,
        pgoutput.COMMIT_PREPARED,
        pgoutput.ROLLBACK_PREPARED,
        pgoutput.STREAM_PREPARE,
    )
)
"""Messages that are looked at; all others are kept or passed on as they are."""
_begin = Struct(">cQqI").pack
_commit = Struct(">cBQQq").pack


class FrameSource(Protocol):
    def read(self, max_messages: int, max_bytes: int, timeout: float) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class _Description:
    """A Relation message without an id, and how many came before it."""

    number: int
    xid: bytes
    frame: bytes

    @property
    def oid(self) -> bytes:
        return self.frame[_XID]


@dataclass(slots=True)
class _InProgress:
    """A transaction that is not committed. `streamed`: its messages carry ids. `aborted` are those rolled back.

    `told`: it has logical messages, other than pycdc's own, which are never written behind a savepoint.
    """

    spool: TransactionSpool
    streamed: bool
    told: bool = False
    origin: list[bytes] = field(default_factory=list)
    aborted: set[bytes] = field(default_factory=set)
    described: list[_Description] = field(default_factory=list)


@dataclass(slots=True)
class _Hold:
    """From PREPARE on, until what COMMIT PREPARED ended at `end` is stored."""

    prepared: int
    end: int | None = None


class StreamedTransactions:
    """Reads `source` as that is read itself. `memory` is how many bytes are kept outside of `folder`, about.

    What was committed before `start` is delivered. `in_doubt` is called before a ConnectionLost that the next reader of
    the source can avoid only by not having transactions streamed; None: nobody reads logical messages.
    """

    def __init__(
        self,
        source: FrameSource,
        folder: SpoolFolder,
        memory: int,
        start: Lsn,
        in_doubt: Callable[[], None] | None = None,
    ) -> None:
        self._source = source
        self._folder = folder
        self._memory = memory
        self._start = start
        self._in_doubt = in_doubt
        self._transactions: dict[int, _InProgress] = {}
        self._holds: dict[int, _Hold] = {}
        self._block: _InProgress | None = None
        self._shared: dict[bytes, _Description] = {}
        self._descriptions = 0
        self._pieces: Iterator[list[bytes]] = iter(())
        self._most = (0, 0)
        self.replaying = False
        """A transaction that was kept is given back: until that is done, nobody listens to the source."""

    def read(self, max_messages: int, max_bytes: int, timeout: float) -> list[bytes]:
        """Return frames of protocol 1, no more than asked for; none where none came that is committed."""
        self._most = max_messages, max_bytes
        piece = next(self._pieces, None)
        if piece is None:
            self._pieces = self._translated(self._source.read(max_messages, max_bytes, timeout))
            piece = next(self._pieces, None)
        return piece or []

    def confirmable(self, position: Lsn) -> Lsn:
        """Return how far the server may forget, where `position` is stored.

        It sends what was prepared before its confirmed position never again, not even at COMMIT PREPARED.
        """
        self._holds = {xid: hold for xid, hold in self._holds.items() if hold.end is None or hold.end > position}
        return Lsn(min([position, *(hold.prepared for hold in self._holds.values())]))

    def close(self) -> None:
        self._pieces = iter(())
        for transaction in self._transactions.values():
            transaction.spool.close()
        self._transactions.clear()

    @property
    def count(self) -> int:
        """Transactions that are kept."""
        return len(self._transactions)

    def _translated(self, frames: list[bytes]) -> Iterator[list[bytes]]:
        try:
            places = [place for place, frame in enumerate(frames) if frame[HEADER] in _NOTED]
        except IndexError:
            raise ProtocolError("empty message") from None
        out: list[bytes] = []
        begin = 0
        for place in places:
            self._take(frames[begin:place], out)
            for piece in self._noted(frames[place], out):
                if out and not self._fits(out, piece):
                    yield out
                    out = []
                out += piece
            begin = place + 1
        self._take(frames[begin:], out)
        self._limit()
        if out:
            yield out

    def _fits(self, out: list[bytes], piece: list[bytes]) -> bool:
        messages, size = self._most
        return len(out) + len(piece) <= messages and sum(map(len, out)) + sum(map(len, piece)) <= size

    def _take(self, frames: list[bytes], out: list[bytes]) -> None:
        """Keep `frames` where they are of a transaction in progress, or pass them on."""
        block = self._block
        if block is None:
            out += frames
        elif frames:
            if not block.streamed:
                self._describe(block, frames)
            block.spool.append(frames)

    def _describe(self, block: _InProgress, frames: list[bytes]) -> None:
        """Keep with the rows what was said of their tables before: something else may be said until they are wanted."""
        known = {description.oid for description in block.described}
        for frame in frames:
            for oid in _relations_of(frame):
                if oid not in known and oid in self._shared:
                    known.add(oid)
                    block.described.append(self._shared[oid])
                    block.spool.append([self._shared[oid].frame])

    def _limit(self) -> None:
        while self._transactions and sum(one.spool.size for one in self._transactions.values()) > self._memory:
            max(self._transactions.values(), key=lambda one: one.spool.size).spool.to_disk()

    def _noted(self, frame: bytes, out: list[bytes]) -> Iterator[list[bytes]]:
        """Do what a message asks for; yield the transaction that it ends, piece by piece."""
        letter, block = frame[HEADER], self._block
        if letter == pgoutput.ORIGIN:
            (out if block is None else block.origin).append(frame)
        elif letter == pgoutput.MESSAGE:
            if block is not None and block.streamed and not block.told:
                message = pgoutput.decode(frame, HEADER, streamed=True)
                assert isinstance(message, pgoutput.Message)
                block.told = message.prefix not in (CONTROL, MESSAGE_PREFIX)
            self._take([frame], out)
        elif letter == pgoutput.RELATION:
            self._described(frame, out)
        elif block is not None and letter == (pgoutput.STREAM_STOP if block.streamed else pgoutput.PREPARE):
            self._block = None
            if letter == pgoutput.PREPARE:
                self._prepared(frame)
        elif block is not None:
            raise ProtocolError(f"message {chr(letter)!r} within a transaction in progress")
        elif letter == pgoutput.STREAM_COMMIT:
            commit = pgoutput.decode(frame, HEADER)
            assert isinstance(commit, pgoutput.StreamCommit)
            yield from self._replay(frame, commit.xid, commit)
        elif letter == pgoutput.COMMIT_PREPARED:
            yield from self._commit_prepared(frame)
        else:
            self._between_blocks(frame)

    def _described(self, frame: bytes, out: list[bytes]) -> None:
        block = self._block
        self._descriptions += 1
        if block is not None and block.streamed:
            block.described.append(_Description(self._descriptions, frame[_XID], _without_id(frame)))
            block.spool.append([frame])
            return
        description = self._shared[frame[_XID]] = _Description(self._descriptions, b"", frame)
        out.append(frame)
        if block is not None:
            block.described.append(description)
            block.spool.append([frame])

    def _between_blocks(self, frame: bytes) -> None:
        message = pgoutput.decode(frame, HEADER)
        if isinstance(message, pgoutput.StreamStart):
            if message.first:
                self._forget(message.xid)
                self._transactions[message.xid] = self._kept(streamed=True)
            self._block = self._known(message.xid)
        elif isinstance(message, pgoutput.StreamAbort):
            self._aborted(message.xid, message.subxid)
        elif isinstance(message, pgoutput.StreamPrepare):
            self._known(message.xid)
            self._holds[message.xid] = _Hold(message.prepare_lsn)
        elif isinstance(message, pgoutput.RollbackPrepared):
            # It is sent of what was never sent, too.
            self._forget(message.xid)
            self._holds.pop(message.xid, None)
        elif isinstance(message, pgoutput.BeginPrepare) and not isinstance(message, pgoutput.Prepare):
            self._forget(message.xid)
            self._block = self._transactions[message.xid] = self._kept(streamed=False)
        else:
            raise ProtocolError(f"message {chr(frame[HEADER])!r} outside of a transaction in progress")

    def _aborted(self, xid: int, subxid: int) -> None:
        if subxid == xid:
            self._forget(xid)
        elif (transaction := self._transactions.get(xid)) is not None:
            if transaction.told and self._in_doubt is not None:
                self._in_doubt()
                raise ConnectionLost(
                    f"transaction {xid} has logical messages and rolled back to a savepoint: it is read at its commit",
                    hint="the server does not tell behind which savepoint a message was written; set "
                    "`source.postgres.messages: off` where nobody reads them",
                )
            transaction.aborted.add(subxid.to_bytes(4, "big"))

    def _prepared(self, frame: bytes) -> None:
        message = pgoutput.decode(frame, HEADER)
        assert isinstance(message, pgoutput.Prepare)
        self._known(message.xid)
        self._holds[message.xid] = _Hold(message.prepare_lsn)

    def _commit_prepared(self, frame: bytes) -> Iterator[list[bytes]]:
        message = pgoutput.decode(frame, HEADER)
        assert isinstance(message, pgoutput.CommitPrepared)
        if message.xid not in self._transactions:
            if message.commit_lsn < self._start:
                return
            raise PositionGap(
                f"transaction {message.xid} is committed now, was prepared before the slot's position, and was not "
                "delivered: the server does not send its changes again",
                hint="find out who else read or moved the slot; then start over: `pycdc teardown` and run again",
            )
        if message.xid in self._holds:
            self._holds[message.xid].end = message.end_lsn
        yield from self._replay(frame, message.xid, message)

    def _kept(self, *, streamed: bool) -> _InProgress:
        return _InProgress(TransactionSpool(self._folder, self._most[1]), streamed)

    def _known(self, xid: int) -> _InProgress:
        if xid not in self._transactions:
            raise ProtocolError(f"transaction {xid} goes on, and did not begin")
        return self._transactions[xid]

    def _forget(self, xid: int) -> None:
        transaction = self._transactions.pop(xid, None)
        if transaction is not None:
            transaction.spool.close()

    def _replay(
        self, frame: bytes, xid: int, commit: pgoutput.StreamCommit | pgoutput.CommitPrepared
    ) -> Iterator[list[bytes]]:
        """Give back what was kept, as of protocol 1. The header of `frame` is that of Begin and Commit."""
        transaction = self._known(xid)
        head = frame[:HEADER]
        most = self._most[0]
        self.replaying = True
        yield [head + _begin(b"B", commit.commit_lsn, commit.commit_time, xid), *transaction.origin]
        for block in transaction.spool.blocks():
            messages = _surviving(block, transaction.aborted) if transaction.streamed else block
            for begin in range(0, len(messages), most):
                yield messages[begin : begin + most]
        del self._transactions[xid]
        transaction.spool.close()
        self.replaying = False
        newer = self._newer_than(transaction)
        yield [*newer, head + _commit(b"C", 0, commit.commit_lsn, commit.end_lsn, commit.commit_time)]

    def _newer_than(self, transaction: _InProgress) -> list[bytes]:
        """Return what was said of its tables to everybody since it was said to this transaction, and holds again."""
        own = {one.oid: one for one in transaction.described if one.xid not in transaction.aborted}
        newer = []
        for oid, description in own.items():
            shared = self._shared.get(oid)
            if shared is None or shared.number <= description.number:
                self._shared[oid] = description
            elif shared.frame[HEADER:] != description.frame[HEADER:]:
                newer.append(shared.frame)
        return newer


def _surviving(frames: list[bytes], aborted: set[bytes]) -> list[bytes]:
    """Return the messages of a streamed block without their ids, and without those that were rolled back."""
    if aborted:
        frames = [frame for frame in frames if frame[_XID] not in aborted]
    return [frame[: HEADER + 1] + frame[_AFTER_XID] for frame in frames]


def _without_id(frame: bytes) -> bytes:
    return frame[: HEADER + 1] + frame[_AFTER_XID]


def _relations_of(frame: bytes) -> list[bytes]:
    """Return the OIDs of the tables that a message outside of a streamed block is about."""
    letter = frame[HEADER]
    if letter in _ROWS:
        return [frame[_XID]]
    if letter != pgoutput.TRUNCATE:
        return []
    message = pgoutput.decode(frame, HEADER)
    assert isinstance(message, pgoutput.Truncate)
    return [oid.to_bytes(4, "big") for oid in message.oids]

"""From XLogData frames to runs: transactions are followed, rows stay bytes.

Strategy: consecutive row messages with the same letter and relation (five bytes, compared in one slice) join the run
that is being filled; another table's row, a Begin or a Commit costs about a microsecond, because small transactions are
made of these; everything else goes through `pgoutput.decode`. A transaction counts as already delivered iff its commit
LSN lies before the start position, never by the LSN of a row.

What the reverse direction wrote carries a mark and must not go back: an origin, which follows Begin, or a transactional
logical message, which comes before the first row (`pycdc.model.origin`). Such a transaction is read and dropped, or its
rows of the tables that the mark names, and the position moves past it. So nothing of a transaction is announced before
its first change. A marked transaction that is wanted all the same keeps the way that its changes came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from struct import Struct
from struct import error as StructError
from typing import Final

from pycdc.connectors.postgres.replication import pgoutput
from pycdc.connectors.postgres.replication.control_message import PREFIX as CONTROL
from pycdc.connectors.postgres.replication.control_message import ControlMessage, TransactionTime
from pycdc.connectors.postgres.replication.pgoutput import POSTGRES_EPOCH
from pycdc.connectors.postgres.replication.transaction_chunks import HEADER, TransactionChunks
from pycdc.connectors.postgres.snapshot.pg_snapshot import UnseenTransactions
from pycdc.errors import ProtocolError
from pycdc.model.change import Batch, LogicalMessage, Lsn, Op, Position, Run, Table, Transaction
from pycdc.model.origin import MESSAGE_PREFIX, ChangeOrigin, Mark, pipeline_of_origin, read_mark
from pycdc.model.trace_context import PREFIX as TRACE
from pycdc.model.trace_context import sampled
from pycdc.model.transaction_chunk import TransactionChunk
from pycdc.observability.progress import Progress

_HEAD: Final = slice(HEADER, HEADER + 5)
_ROW_OPS: Final = {pgoutput.INSERT: Op.CREATE, pgoutput.UPDATE: Op.UPDATE, pgoutput.DELETE: Op.DELETE}
_NO_RUN: Final = None
"""Not bytes: an empty message has an empty head."""
_begin = Struct(f">{HEADER + 1}xQqI").unpack
_commit = Struct(f">{HEADER + 1}xBQQq").unpack
"""As `pgoutput.decode` reads them, of frames of the right length only."""


class TransactionAssembler:
    """Feed it frames, it fills batches.

    `relation` turns a Relation message into a table version, None for a table whose rows are not delivered.
    `foreign` says of a pipeline's name whether its writes are dropped; `by_table`: only those to the tables that its
    mark names. `messages`: deliver logical messages. `signals` is schema and name of the signal table. `notes` collects
    what is meant for the connector, whose business it is to take them out; so is it to settle `unseen`, which gets the
    ids of the transactions that were read. `strange_marks` counts messages that look like a pipeline's mark and are
    none; `hidden` counts rows that `foreign` pipelines wrote, by their names. What `chunks` know to be delivered is
    left out.
    """

    def __init__(
        self,
        relation: Callable[[pgoutput.Relation], Table | None],
        start: Lsn,
        last_commit: Lsn = Lsn(0),
        *,
        marks: bool = False,
        messages: bool = True,
        foreign: Callable[[str], bool] = lambda pipeline: False,
        by_table: bool = False,
        signals: tuple[str, str] | None = None,
        unseen: UnseenTransactions | None = None,
        chunks: TransactionChunks | None = None,
    ) -> None:
        self._relation = relation
        self._chunks = chunks or TransactionChunks()
        self._tables: dict[bytes, Table | None] = {}
        self._kinds: dict[bytes, tuple[Op, Table | None]] = {}
        self._start = start
        self._marks = marks
        self._messages = messages
        self._foreign = foreign
        self._by_table = by_table
        self._signals = signals
        self._signal_oids: set[bytes] = set()
        self._left_out: frozenset[str] = frozenset()
        self._transaction: Transaction | None = None
        self._delivered = False
        self._skipping = False
        self._announced = False
        self._head: bytes | None = _NO_RUN
        self._frames: list[bytes] = []
        self._run: Run | None = None
        self._noted_behind: int | None = None
        self._last_commit = int(last_commit)
        self._committed = 0
        self._signalling = False
        self._hidden_from: str | None = None
        self._hides = False
        self.hidden: Counter[str] = Counter()
        self.strange_marks = 0
        self.notes: list[ControlMessage] = []
        self.unseen = unseen or UnseenTransactions()

    @property
    def idle(self) -> bool:
        """No transaction is half read."""
        return self._transaction is None

    @property
    def last_commit(self) -> Lsn:
        """The end LSN of the last transaction that had changes."""
        return Lsn(self._last_commit)

    def report(self, progress: Progress) -> None:
        """Add what was counted since the last report."""
        progress.strange_marks += self.strange_marks
        self.strange_marks = 0
        progress.hidden.update(self.hidden)
        self.hidden.clear()

    def feed(self, frames: list[bytes], batch: Batch) -> None:
        """Append the frames' changes to `batch` and move its position to the last commit among them."""
        head, run, kinds = self._head, self._frames, self._kinds
        self._committed = 0
        for frame in frames:
            kind = frame[_HEAD]
            if kind == head:
                run.append(frame)
                continue
            if head:
                self._end_run(batch)
            known = kinds.get(kind)
            if known is not None:
                self._start_run(known[0], known[1], kind, frame, batch)
            elif not kind or kind[0] not in _ROW_OPS:
                self._control(frame, batch)
            else:
                kinds[kind] = known = self._described(kind)
                self._start_run(*known, kind, frame, batch)
            head, run = self._head, self._frames
        self._end_run(batch)
        self._chunks.read(batch.runs, self._transaction)
        if self._committed:
            batch.position = Position(Lsn(self._committed))
            batch.last_commit = self.last_commit

    @property
    def half_read(self) -> TransactionChunk | None:
        """As much of a transaction as was read; None between two, before its first change, and behind a note.

        How much was read is told by changes alone: a restart there could not tell whether the note was handled.
        """
        transaction = self._transaction
        if transaction is not None and transaction.changes == self._noted_behind:
            return None
        return self._chunks.half_read(transaction)

    def _described(self, kind: bytes) -> tuple[Op, Table | None]:
        oid = kind[1:]
        if oid not in self._tables:
            raise ProtocolError(f"row of relation {int.from_bytes(oid, 'big')}, which was not described")
        return _ROW_OPS[kind[0]], self._tables[oid]

    def _start_run(self, op: Op, table: Table | None, kind: bytes, frame: bytes, batch: Batch) -> None:
        transaction = self._transaction
        if transaction is None:
            raise ProtocolError("row outside of a transaction")
        self._head, self._frames = kind, [frame]
        self._signalling = op is Op.CREATE and not self._skipping and kind[1:] in self._signal_oids
        if table is None or self._skipping or (self._left_out and str(table) in self._left_out):
            self._run = None
            self._hides = table is not None and not self._delivered and self._hidden_from is not None
            return
        if not self._announced:
            self._announce(batch)
        self._run = Run(op, table, transaction, transaction.changes, self._frames)
        batch.runs.append(self._run)

    def _end_run(self, batch: Batch) -> None:
        """Account for the run being filled. The next frame of its kind begins a new one."""
        run, transaction = self._run, self._transaction
        if run is not None and transaction is not None:
            count = len(self._frames)
            if self._chunks.left:
                self._chunks.shorten(run)
                self._frames = run.frames
                if not run.frames:
                    batch.runs.pop()
            transaction.changes += count
            batch.size += len(self._frames)
            if transaction.counts is not None:
                table = str(run.table)
                transaction.counts[table] = transaction.counts.get(table, 0) + count
        if self._signalling:
            self._signalling = False
            frames = [] if run is None and self._chunks.left else self._frames
            self._noted_behind = 0 if transaction is None else transaction.changes
            self.notes += [
                ControlMessage(len(batch.runs), frame, Lsn(int.from_bytes(frame[1:9], "big")), inserted=True)
                for frame in frames
            ]
        if self._hides and self._hidden_from is not None:
            self.hidden[self._hidden_from] += len(self._frames)
            self._hides = False
        self._head, self._frames, self._run = _NO_RUN, [], None

    def _control(self, frame: bytes, batch: Batch) -> None:
        """Take a message that is not a row."""
        try:
            if frame[HEADER] == pgoutput.BEGIN:
                self._begin(*_begin(frame))
            elif frame[HEADER] == pgoutput.COMMIT:
                flags, commit_lsn, end_lsn, _ = _commit(frame)
                self._commit(flags, commit_lsn, end_lsn, batch)
            else:
                self._decoded(frame, batch)
        except (StructError, IndexError):
            pgoutput.decode(frame, HEADER)  # says what is wrong with it
            raise

    def _decoded(self, frame: bytes, batch: Batch) -> None:
        message = pgoutput.decode(frame, HEADER)
        if isinstance(message, pgoutput.Relation):
            self._relation_described(message)
        elif isinstance(message, pgoutput.Truncate):
            self._truncate(message, frame, batch)
        elif isinstance(message, pgoutput.Message):
            self._message(message, frame, batch)
        elif isinstance(message, pgoutput.OriginMessage):
            if self._transaction is not None:
                self._transaction.origin, self._transaction.origin_lsn = _legible(message.name), message.commit_lsn
                pipeline = pipeline_of_origin(message.name)
                self._marked(None if pipeline is None else Mark(pipeline, ChangeOrigin(pipeline, 1)))
        elif not isinstance(message, pgoutput.Type | pgoutput.StreamAbort):
            # Postgres 18 sends Stream Abort unasked, of what it had put aside and found to be rolled back.
            letter = chr(frame[HEADER])
            raise ProtocolError(f"message {letter!r} although neither streaming nor two_phase was asked for")

    def _relation_described(self, message: pgoutput.Relation) -> None:
        oid = message.oid.to_bytes(4, "big")
        self._tables[oid] = self._relation(message)
        self._kinds.clear()
        self._signal_oids.discard(oid)
        if (message.namespace, message.name) == self._signals:
            self._signal_oids.add(oid)

    def dismiss(self, oids: Iterable[int]) -> None:
        """Deliver no more rows of these."""
        for oid in oids:
            self._tables[oid.to_bytes(4, "big")] = None
        self._kinds.clear()

    def forget(self, oids: Iterable[int]) -> None:
        """No more rows of these come: one that does, undescribed, is an error."""
        for oid in oids:
            self._tables.pop(oid.to_bytes(4, "big"), None)
            self._signal_oids.discard(oid.to_bytes(4, "big"))
        self._kinds.clear()

    def _begin(self, final_lsn: int, commit_time: int, xid: int) -> None:
        if self._transaction is not None:
            raise ProtocolError("begin within a transaction")
        self._transaction = Transaction(xid, final_lsn, commit_time + POSTGRES_EPOCH, self._last_commit)
        self._delivered = self._skipping = final_lsn < self._start
        self._announced = not self._marks
        if self._marks:
            self._transaction.counts = {}
        if not self._delivered and self._chunks.begin(xid, final_lsn):
            self._announced = True

    def _announce(self, batch: Batch) -> None:
        """Mark the beginning, once it is known that something follows."""
        if not self._announced and self._transaction is not None:
            self._announced = True
            batch.runs.append(Run(Op.BEGIN, None, self._transaction, 0, []))

    def _marked(self, mark: Mark | None) -> None:
        """Take a mark. One that comes after rows is not pycdc's, which comes first. It holds more than the origin."""
        transaction = self._transaction
        if mark is None or transaction is None or transaction.changes or self._delivered:
            return
        transaction.change_origin = mark.change_origin
        if self._foreign(mark.pipeline):
            self._hidden_from = mark.pipeline
            self._skipping = not (self._by_table and mark.tables)
            self._left_out = mark.tables if self._by_table else frozenset()

    def _commit(self, flags: int, commit_lsn: int, end_lsn: int, batch: Batch) -> None:
        if flags:
            raise ProtocolError(f"commit flags {flags:#04x} are not 0")
        transaction = self._transaction
        if transaction is None or transaction.commit_lsn != commit_lsn:
            raise ProtocolError("commit of another transaction than the one begun")
        self._chunks.commit()
        transaction.end_lsn = end_lsn
        if transaction.xid is not None:
            self.unseen.delivered.append(transaction.xid)
        if not self._delivered:
            if transaction.changes:
                self._last_commit = end_lsn
            if self._marks and not self._skipping and (transaction.changes or self._noted_behind is None):
                self._announce(batch)
                batch.runs.append(Run(Op.END, None, transaction, transaction.changes, []))
            self._committed = end_lsn
        self._transaction = None
        self._skipping = self._delivered = False
        self._noted_behind = None
        self._hidden_from = None
        if self._left_out:
            self._left_out = frozenset()

    def _truncate(self, message: pgoutput.Truncate, frame: bytes, batch: Batch) -> None:
        if self._transaction is None:
            raise ProtocolError("truncate outside of a transaction")
        if self._skipping:
            return
        for oid in message.oids:
            table = self._tables.get(oid.to_bytes(4, "big"))
            if table is not None and str(table) not in self._left_out:
                self._announce(batch)
                if not self._chunks.passed([frame]):
                    batch.runs.append(Run(Op.TRUNCATE, table, self._transaction, self._transaction.changes, [frame]))
                    batch.size += 1
                self._transaction.changes += 1

    def _note(self, message: pgoutput.Message, run: int) -> ControlMessage:
        transaction = self._transaction
        if transaction is None:
            raise ProtocolError("transactional message outside of a transaction")
        moment = TransactionTime(transaction.xid or 0, transaction.commit_time / 1_000_000)
        self._noted_behind = transaction.changes
        return ControlMessage(run, message.content, Lsn(message.lsn), moment=moment)

    def _message(self, message: pgoutput.Message, frame: bytes, batch: Batch) -> None:
        if message.prefix == CONTROL:
            if message.transactional and not self._skipping and not self._chunks.left:
                self.notes.append(self._note(message, len(batch.runs)))
            return
        logical = LogicalMessage(_legible(message.prefix), message.content, message.transactional, Lsn(message.lsn))
        if message.transactional:
            transaction = self._transaction
            if transaction is None:
                raise ProtocolError("transactional message outside of a transaction")
            if message.prefix == MESSAGE_PREFIX:
                mark = read_mark(message.content)
                self.strange_marks += mark is None
                self._marked(mark)
                return
            if message.prefix == TRACE:
                transaction.trace = sampled(message.content)
                return
            if self._skipping or not self._messages:
                return
            self._announce(batch)
            passed = self._chunks.passed([frame])
            transaction.changes += 1
            if passed:
                return
            batch.runs.append(Run(Op.MESSAGE, None, transaction, transaction.changes - 1, [frame], message=logical))
        else:
            if message.lsn < self._start or not self._messages:
                return
            sent = int.from_bytes(frame[17:HEADER], "big", signed=True) + POSTGRES_EPOCH
            alone = Transaction(None, message.lsn, sent, self._last_commit)
            batch.runs.append(Run(Op.MESSAGE, None, alone, 0, [frame], message=logical))
            self._committed = max(self._committed, message.lsn)
        batch.size += 1


def _legible(text: str) -> str:
    """Return a prefix or an origin's name as Unicode: a database without an encoding may have any bytes in it."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

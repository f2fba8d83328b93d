"""A transaction that is delivered in chunks: how much of it was, and that it comes again as it was.

After a restart Postgres sends the whole transaction, from its beginning and in the same order. What was delivered is
left out by count; a checksum over it shows where another publication or filter makes other changes of the same
transaction, and the count would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from zlib import crc32

from pycdc.connectors.postgres.replication import pgoutput
from pycdc.errors import PositionGap
from pycdc.model.change import Run, Transaction
from pycdc.model.transaction_chunk import TransactionChunk

HEADER: Final = 25
"""Bytes of XLogData before the message: 'w', start LSN, end LSN, send time."""
_COMMIT: Final = bytes([pgoutput.COMMIT])
_MESSAGE_ALONE: Final = b"M\0"
"""A logical message that is of no transaction."""


class TransactionChunks:
    """`resumed` is what was delivered of the first transaction to come. `counting`: sum up what is half read."""

    def __init__(self, resumed: TransactionChunk | None = None, *, counting: bool = False) -> None:
        self._resumed = resumed
        self._counting = counting
        self._crc32 = 0
        self.left = 0
        """Changes that are still to be left out."""

    def begin(self, xid: int, commit_lsn: int) -> bool:
        """Return whether the beginning of this transaction, which is not delivered as a whole, was delivered."""
        self._crc32 = 0
        if self._resumed is None:
            return False
        self._require((xid, commit_lsn) == (self._resumed.xid, self._resumed.commit_lsn))
        self.left = self._resumed.changes
        return True

    def passed(self, frames: Sequence[bytes]) -> int:
        """Return how many of the next changes were delivered. Raises PositionGap where they were others."""
        passed = min(self.left, len(frames))
        if passed:
            self._add(frames[:passed])
            self.left -= passed
            if not self.left and self._resumed is not None:
                self._require(self._crc32 == self._resumed.crc32)
                self._resumed = None
        return passed

    def shorten(self, run: Run) -> None:
        """Take out of `run` what was delivered."""
        passed = self.passed(run.frames)
        run.frames = run.frames[passed:]
        run.index += passed

    def commit(self) -> None:
        """Raise PositionGap where the transaction, which is over, had fewer changes than were delivered."""
        self._require(not self.left)

    def read(self, runs: Iterable[Run], transaction: Transaction | None) -> None:
        """Sum up those of `runs` that are of `transaction`, which goes on."""
        if self._counting and transaction is not None:
            for run in runs:
                if run.transaction is transaction:
                    self._add(run.frames)

    def half_read(self, transaction: Transaction | None) -> TransactionChunk | None:
        """Return as much of `transaction` as was read; None between two, and where nothing new of it was."""
        if transaction is None or transaction.xid is None or not transaction.changes or self.left:
            return None
        return TransactionChunk(transaction.xid, transaction.commit_lsn, transaction.changes, self._crc32)

    def _add(self, frames: Iterable[bytes]) -> None:
        value = self._crc32
        for frame in frames:
            value = crc32(frame[HEADER:], value)
        self._crc32 = value

    def _require(self, same: bool) -> None:
        if not same and self._resumed is not None:
            raise PositionGap(
                f"transaction {self._resumed.xid} was delivered up to its change {self._resumed.changes}, and comes "
                "otherwise now",
                hint="put tables, columns and row filters of the publication back as they were then; else start over: "
                "`pycdc teardown` and run again",
            )


def last_end(frames: Sequence[bytes]) -> int:
    """Return how many of the frames there are up to the last end of a transaction, or message outside of one."""
    for place in range(len(frames) - 1, -1, -1):
        kind = frames[place][HEADER : HEADER + 2]
        if kind[:1] == _COMMIT or kind == _MESSAGE_ALONE:
            return place + 1
    return 0

"""How far a transaction was delivered that is too large to become visible as a whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransactionChunk:
    """The first `changes` changes of a transaction, which are delivered before the rest of it.

    Postgres sends a transaction again from its beginning, in the same order; `crc32` is over the messages of those
    changes, by which it is seen that they are the same.
    """

    xid: int
    commit_lsn: int
    changes: int
    crc32: int

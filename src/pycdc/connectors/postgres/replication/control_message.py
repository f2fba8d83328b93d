"""What a pipeline reads in its stream that is meant for itself: requests, and watermarks of incremental snapshots."""

from __future__ import annotations

from typing import Final, NamedTuple

from pycdc.model.change import Lsn

PREFIX: Final = "pycdc.snapshot"
"""Of the logical messages that carry them."""


class TransactionTime(NamedTuple):
    """The transaction of a message: its number, and a time in seconds."""

    xid: int
    at: float


class ControlMessage(NamedTuple):
    """A signal or watermark before the batch's run of that number, or an `inserted` row of the signal table.

    `content` is the message's content, or the row's frame. A message has its transaction's number and commit time, in
    seconds.
    """

    run: int
    content: bytes
    lsn: Lsn
    inserted: bool = False
    moment: TransactionTime = TransactionTime(0, 0.0)

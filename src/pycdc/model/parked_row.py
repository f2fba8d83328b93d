"""A row that the capture could not deliver, or that waits behind one of its key: see `pycdc.parking`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from pycdc.model.change import Lsn, Op, Position, Run, Table, Transaction

EVERY_KEY: Final = "*"
"""Stands for all keys of a table: of a truncate, and of a row whose key is not known."""
_XLOG_HEADER: Final = 25
"""Bytes before pgoutput's message; the time of sending is among them."""


@dataclass(frozen=True, slots=True)
class ParkedReason:
    """Why a row is parked. `error` is a class of errors, `fact` what it said, which never holds a value."""

    error: str
    fact: str


WAITS: Final = ParkedReason("Waits", "waits behind an earlier row of its key")


@dataclass(frozen=True, slots=True)
class ParkedEntry:
    """What is known of a parked row without its values.

    `id` is the same whenever the same change is read. `keys` are digests of the message keys that it concerns, two of
    an update that changes the key, none of a table without one. `parked_at` is in milliseconds since the Unix epoch.
    `parts` is how many records of the topic hold it. `sequence` tells the order of parking, and stays when a row is
    tried again in vain. `streamed`: it is no row of a snapshot, so that its position can be compared with others.
    """

    id: str
    table: str
    keys: tuple[str, ...]
    op: Op
    position: Position
    xid: int | None
    reason: ParkedReason
    parked_at: int
    sequence: int = 0
    parts: int = 1

    @property
    def streamed(self) -> bool:
        return self.op is not Op.READ

    @property
    def waits(self) -> bool:
        """Whether nothing is known to be wrong with the row itself."""
        return self.reason.error == WAITS.error


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A parked row as it came: one frame, the table version that it belongs to, and its transaction."""

    entry: ParkedEntry
    table: Table
    transaction: Transaction
    frame: bytes = field(repr=False)
    marker: str | None = None

    def run(self) -> Run:
        """Return the row as the stream brought it."""
        entry = self.entry
        return Run(entry.op, self.table, self.transaction, entry.position.index, [self.frame], self.marker)


def parked_id(run: Run) -> str:
    """Return the id of the only row of a run."""
    frame = run.frames[0] if run.op is Op.READ else run.frames[0][_XLOG_HEADER:]
    place = f"{run.table} {run.op.value} {run.transaction.commit_lsn} {run.index} ".encode()
    return hashlib.blake2b(place + frame, digest_size=8).hexdigest()


def position_of(run: Run) -> Position:
    """Return the position of a run's first row."""
    return Position(Lsn(run.transaction.commit_lsn), run.index)

"""Encode what all records of a transaction share as Avro, once: where rows are few, this is half of the work.

The three times of transactions that follow each other differ in their low bits only, so the bytes of the high ones are
kept. `plain_source_block` is the reference implementation, without that.
"""

from __future__ import annotations

from typing import Final

from pycdc.model.change import Transaction
from pycdc.rows.avro import CONTINUED, long, sized, unsigned
from pycdc.rows.encoder import SourceBlock
from pycdc.serialization.source_info import SourceOrigin, sequence_before

NULL: Final = b"\x00"
SOME: Final = b"\x02"
NO_MARKER: Final = NULL + sized(b"false")
"""``source.snapshot`` of a streamed row: the marker's union begins with the enum, whose default is "false"."""


def opening(origin: SourceOrigin) -> bytes:
    """Encode the fields of ``source`` before its time."""
    return sized(origin.version.encode()) + sized(origin.connector.encode()) + sized(origin.name.encode())


def plain_source_block(transaction: Transaction, origin: SourceOrigin) -> SourceBlock:
    time, xid = transaction.commit_time, transaction.xid
    return (
        opening(origin) + long(time // 1000) + NO_MARKER + sized(origin.database.encode()),
        sequence_before(transaction.previous_end),
        SOME + long(time) + SOME + long(time * 1000),
        (NULL if xid is None else SOME + long(xid)) + SOME,
    )


class SourceBlockEncoder:
    """Encodes the source blocks of one origin."""

    def __init__(self, origin: SourceOrigin) -> None:
        self._origin = origin
        self._opening = opening(origin)
        self._behind = NO_MARKER + sized(origin.database.encode())
        self._ms = self._us = self._ns = -1
        self._ms_bytes = self._us_bytes = self._ns_bytes = b""

    def of(self, transaction: Transaction) -> SourceBlock:
        time, xid = transaction.commit_time, transaction.xid
        if xid is None or time < 1 << 38:  # three days after 1970
            return plain_source_block(transaction, self._origin)
        # Twice the number is its zigzag. A varint's low groups of 7 bits come first: two of ms, four of us and ns.
        ms, us, ns = time // 1000 << 1, time << 1, time * 2000
        if ms >> 14 != self._ms:
            self._ms = ms >> 14
            self._ms_bytes = unsigned(self._ms) + self._behind
        if us >> 28 != self._us:
            self._us = us >> 28
            self._us_bytes = unsigned(self._us) + SOME
        if ns >> 28 != self._ns:
            self._ns = ns >> 28
            self._ns_bytes = unsigned(self._ns)
        previous = transaction.previous_end
        return (
            self._opening + CONTINUED[ms & 0x3FFF] + self._ms_bytes,
            b'["%d","' % previous if previous else b'[null,"',
            b"".join(
                (
                    SOME,
                    CONTINUED[us & 0x3FFF],
                    CONTINUED[us >> 14 & 0x3FFF],
                    self._us_bytes,
                    CONTINUED[ns & 0x3FFF],
                    CONTINUED[ns >> 14 & 0x3FFF],
                    self._ns_bytes,
                )
            ),
            b"\x02" + unsigned(xid << 1) + b"\x02",
        )

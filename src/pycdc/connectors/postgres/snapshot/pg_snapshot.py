"""Which transactions a snapshot sees, and which came by the stream before any snapshot does. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from pycdc.errors import ProtocolError

_HALF = 1 << 31
_WHOLE = 1 << 32


class PgSnapshot:
    """All below `xmin`, none from `xmax` on, and between them those that are not in progress."""

    __slots__ = ("_in_progress", "_xmax", "_xmin")

    def __init__(self, xmin: int, xmax: int, in_progress: frozenset[int]) -> None:
        self._xmin, self._xmax, self._in_progress = xmin, xmax, in_progress

    @classmethod
    def parse(cls, text: str) -> PgSnapshot:
        """``xmin:xmax:xip,…`` of 64-bit ids."""
        try:
            xmin, xmax, listed = text.split(":")
            return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in listed.split(",") if xid))
        except ValueError:
            raise ProtocolError("a snapshot that is not xmin:xmax:xip") from None

    def sees(self, xid: int | None) -> bool:
        """Return whether a committed transaction is in the snapshot.

        `xid` is the stream's, of 32 bits: the epoch is the one that brings it nearest to the snapshot.
        """
        if xid is None:
            return True
        full = self._full(xid)
        return full < self._xmin or (full < self._xmax and full not in self._in_progress)

    def sees_all(self, first: int, last: int) -> bool:
        """Return whether none of the transactions from `first` to `last`, by the stream's ids, is in progress."""
        low, high = self._full(first), self._full(last)
        return high < self._xmax and not any(low <= xid <= high for xid in self._in_progress)

    def _full(self, xid: int) -> int:
        full = (self._xmax & ~(_WHOLE - 1)) | xid
        if full - self._xmax > _HALF:
            full -= _WHOLE
        elif self._xmax - full > _HALF:
            full += _WHOLE
        return full


class UnseenTransactions:
    """Transactions that came by the stream, as far as no snapshot was known to see them since.

    A commit that waits for a synchronous standby is in the stream before any snapshot sees it: rows that are read then
    are older than what was delivered. `delivered` collects ids as they come. `state` goes with the checkpoint, so that
    a restart knows them too: the range of ids that they lie in.
    """

    def __init__(self, state: Sequence[int] = ()) -> None:
        self.delivered: list[int] = []
        self._before = (state[0], state[1]) if state else None
        self._counted = 0
        self._range: tuple[int, int] | None = self._before

    def settle(self, visibility: PgSnapshot) -> bool:
        """Forget what the snapshot sees; tell whether nothing is left."""
        self.delivered[:] = [xid for xid in self.delivered if not visibility.sees(xid)]
        if self._before is not None and visibility.sees_all(*self._before):
            self._before = None
        self._counted, self._range = 0, self._before
        return not self.delivered and self._before is None

    @property
    def state(self) -> tuple[int, ...]:
        for xid in islice(self.delivered, self._counted, None):
            low, high = self._range or (xid, xid)
            self._range = (xid if _earlier(xid, low) else low, xid if _earlier(high, xid) else high)
        self._counted = len(self.delivered)
        return self._range or ()


def _earlier(one: int, other: int) -> bool:
    """Ids of 32 bits go round."""
    return 0 < (other - one) % _WHOLE < _HALF

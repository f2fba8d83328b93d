"""Which transactions a snapshot sees, from pg_current_snapshot(). No I/O."""

from __future__ import annotations

from pycdc.errors import ProtocolError

_HALF = 1 << 31
_WHOLE = 1 << 32


class Visibility:
    """All below `xmin`, none from `xmax` on, and between them those that are not in progress."""

    __slots__ = ("_in_progress", "_xmax", "_xmin")

    def __init__(self, xmin: int, xmax: int, in_progress: frozenset[int]) -> None:
        self._xmin, self._xmax, self._in_progress = xmin, xmax, in_progress

    @classmethod
    def parse(cls, text: str) -> Visibility:
        """``xmin:xmax:xip,…`` of 64-bit ids."""
        try:
            xmin, xmax, listed = text.split(":")
            return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in listed.split(",") if xid))
        except ValueError:
            raise ProtocolError("a snapshot that is not xmin:xmax:xip") from None

    def sees(self, xid: int | None) -> bool:
        """Whether a committed transaction is in the snapshot. `xid` is the stream's, of 32 bits: the epoch is the one
        that brings it nearest to the snapshot."""
        if xid is None:
            return True
        full = (self._xmax & ~(_WHOLE - 1)) | xid
        if full - self._xmax > _HALF:
            full -= _WHOLE
        elif self._xmax - full > _HALF:
            full += _WHOLE
        return full < self._xmin or (full < self._xmax and full not in self._in_progress)

"""Why a server is not to be had, and whether that is an excuse."""

from __future__ import annotations


class Unavailable(Exception):
    """A server that a test asks for cannot be had here.

    ``excused`` tells two cases apart: the programs are not on this machine (or the server is not ours to stop), or they
    are here and should have worked. Where ``PYCDC_TEST_STRICT=1`` is set, only the first still skips a test.
    """

    def __init__(self, reason: str, *, excused: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.excused = excused


class ServerFailed(Exception):
    """A server that was started did not come up, or ended by itself. The message ends with the tail of its log."""

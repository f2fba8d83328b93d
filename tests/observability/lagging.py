"""A capture that is so far behind, whatever the time."""

from __future__ import annotations

from pycdc.observability.capture_lag import CaptureLag


class Lagging(CaptureLag):
    def __init__(self, seconds: float, size: int) -> None:
        super().__init__()
        self._told = seconds, size

    @property
    def known(self) -> bool:
        return True

    def seconds(self) -> float:
        return self._told[0]

    def bytes(self) -> int:
        return self._told[1]

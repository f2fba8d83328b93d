"""Attempts at a transaction: how many, how long, and what was tried already."""

from __future__ import annotations

import random
import time
from typing import Final

from pycdc.errors import ConnectionLost
from pycdc.model.event import Event
from pycdc.observability.progress import Progress
from pycdc.sinks.postgres.writing.write_errors import Unfinished

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
_TURN: Final = 60.0
"""Seconds after which deadlocks and the like are no passing trouble any more."""


class TookTooLong(Unfinished):
    """A transaction has used up its time."""


def too_slow(event: Event, seconds: float) -> ConnectionLost:
    """Return the error for a transaction that took too long and cannot be made smaller."""
    return ConnectionLost(
        f"{event} takes longer than {seconds:g} s to apply",
        hint="look for slow triggers and missing indexes, or raise sink.postgres.max_transaction_seconds",
    )


class Attempts:
    """The attempts at one chunk.

    `looked`: whether the catalog was read again; `bisect`: a row is known to be refused.
    """

    def __init__(self, most: int, progress: Progress) -> None:
        self._most = most
        self._progress = progress
        self._count = 0
        self._began = time.monotonic()
        self.looked = False
        self.bisect = False

    @property
    def used_up(self) -> bool:
        return self._count + 1 >= self._most or time.monotonic() - self._began > _TURN

    def again(self, error: Exception) -> None:
        """Wait a moment. Raises ConnectionLost after the last attempt."""
        last = self.used_up
        self._count += 1
        self._progress.retried[type(error).__name__] += 1
        if last:
            raise ConnectionLost(
                f"{self._count} attempts met deadlocks, locks or serialization failures",
                hint="look at pg_stat_activity for who holds locks on the tables of the routes",
            ) from None
        _pause(self._count)


def _pause(attempt: int) -> None:
    """Return a pause with jitter, so that two who met do not meet again."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt)
    time.sleep(random.uniform(0, longest))  # noqa: S311  (jitter, not a secret)

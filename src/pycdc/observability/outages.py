"""What does not answer at present: a line when it begins, one a minute while it lasts, and one when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pycdc.observability.logger import get_logger

log = get_logger()

_EVERY: Final = 60.0
"""Seconds between two lines of one that lasts."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A server that does not answer.

    `what` names the server, where it is, and the option that configures it. `since` is monotonic. `source`: the
    pipeline reads from it, so that its silence is not the sink's fault.
    """

    what: str
    reason: str
    hint: str
    since: float
    reported_at: float
    source: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


class Outages:
    """The servers that do not answer at present. For any thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lasting: dict[str, Outage] = {}
        self._lock = threading.Lock()

    def begin(self, what: str, reason: str, hint: str, *, source: bool = False, seconds: float = 0.0) -> None:
        """Take note that `what` does not answer, and has not for `seconds`; `reason` is the latest one."""
        now = self._now()
        with self._lock:
            known = self._lasting.get(what)
            outage = replace(known, reason=reason) if known else Outage(what, reason, hint, now - seconds, now, source)
            due = known is None or now - known.reported_at >= _EVERY
            self._lasting[what] = replace(outage, reported_at=now) if due else outage
        if due:
            log.warning("no answer, waiting", what=what, reason=reason, hint=hint, seconds=round(now - outage.since, 1))

    def end(self, what: str) -> None:
        """Take note that `what` answers. This costs next to nothing where it did before."""
        if not self._lasting:
            return
        with self._lock:
            ended = self._lasting.pop(what, None)
        if ended is not None:
            log.info("answers again", what=what, seconds=round(self._now() - ended.since, 1))

    @property
    def lasting(self) -> list[Outage]:
        """Those of the present, the longest first."""
        return sorted(self._lasting.copy().values(), key=lambda outage: outage.since)

"""Verify again and again: everything at first, and then what events have touched since, and what differed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pycdc.config.pipeline import PipelineConfig
from pycdc.errors import ConfigError, PycdcError
from pycdc.observability.progress import Progress
from pycdc.observability.verify_progress import VerifyProgress
from pycdc.operations.verify.cut import Announce
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.result import DifferenceKind, Verification
from pycdc.operations.verify.two_way import OtherDirection, confirmed
from pycdc.operations.verify.verification import Verifier


@dataclass(frozen=True, slots=True)
class WatchSchedule:
    """`interval` are seconds between two verifications, `full_every` those between two of everything.

    Between those nobody looks at rows that no event touched.
    """

    interval: float = 30.0
    full_every: float = 3600.0


def watch(
    config: PipelineConfig,
    options: VerifyOptions,
    schedule: WatchSchedule,
    on_result: Callable[[Verification], None],
    *,
    progress: Progress,
    stop: threading.Event,
    announce: Announce = lambda text: None,
) -> None:
    """Verify until `stop` is set; `on_result` is called with each outcome.

    A verification that fails is tried again at the next turn, all of it. Raises PycdcError where the first one fails,
    or where trying again cannot help.
    """
    if options.two_passes is not None:
        raise ConfigError("two passes cannot be watched", hint="leave --watch or --two-passes out")
    known = progress.verification = VerifyProgress()
    with _Rounds(config, options, announce) as rounds:
        due, found = 0.0, None
        while not stop.is_set():
            began = time.monotonic()
            full = found is None or began >= due
            try:
                found = rounds.run() if found is None or full else rounds.run_again(found)
            except PycdcError as error:
                if not known.full or not error.retry:
                    raise
                _failed(progress, error, announce)
                found = None
            else:
                due = began + schedule.full_every if full else due
                _ended(progress, known, found, began, full=full)
                on_result(found)
            stop.wait(max(0.0, schedule.interval - (time.monotonic() - began)))
    progress.state = "stopped"


class _Rounds:
    """Verifications over the same connections, confirmed where the other direction is known."""

    def __init__(self, config: PipelineConfig, options: VerifyOptions, announce: Announce) -> None:
        self._other: OtherDirection | None = None
        self._values = options.values
        if options.other_apply is not None and options.other_capture is not None:
            self._other = OtherDirection(options.other_apply, options.other_capture, options.timeout)
            options = replace(options, values=True)
        self._opened = ExitStack()
        self._verifier = self._opened.enter_context(Verifier(config, options, announce))

    def __enter__(self) -> _Rounds:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def run(self) -> Verification:
        return self._judged(self._verifier.run())

    def run_again(self, before: Verification) -> Verification:
        return self._judged(self._verifier.run_again(before))

    def _judged(self, found: Verification) -> Verification:
        if self._other is None:
            return found
        found = confirmed(found, self._other, lambda: self._verifier.run_again(found))
        return found if self._values else found.without_values()


def _ended(progress: Progress, known: VerifyProgress, found: Verification, began: float, *, full: bool) -> None:
    known.differences = {
        (table.table, kind.value): table.differing[kind] for table in found.tables for kind in DifferenceKind
    }
    known.rows = sum(table.source_rows + table.in_flight for table in found.tables)
    known.tables_not_compared = sum(table.problem is not None for table in found.tables)
    known.seconds, known.began_at = found.seconds, began
    if full:
        known.full += 1
    else:
        known.partial += 1
    progress.state, progress.last_error, progress.last_delivery = "streaming", None, math.inf


def _failed(progress: Progress, error: PycdcError, announce: Announce) -> None:
    if progress.verification is not None:
        progress.verification.failures += 1
    if progress.state != "retrying":
        progress.state, progress.last_delivery = "retrying", time.monotonic()
    progress.last_error = error.fact
    announce(f"{error.fact}; tries again")

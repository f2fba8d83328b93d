"""A way verified several times: all of it while it is written, and while writes are held what changed since."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut
from contextlib import ExitStack
from typing import Final

from pycdc.errors import EnvironmentNotReady
from pycdc.operations.cutover.group_state import HandoverDirection, write_report
from pycdc.operations.cutover.sides import Group, Way
from pycdc.operations.verify.options import VerifyOptions
from pycdc.operations.verify.reports.json_report import document
from pycdc.operations.verify.result import Verification
from pycdc.operations.verify.verification import Verifier

_PASSES: Final = 5
"""Of what changed, at most, before writes are held."""


class WayVerification:
    """Its sessions stay open between two passes. A context manager.

    The report of a pass is stored beside the group's state if it was one of everything, or found a difference.
    """

    def __init__(self, group: Group, direction: HandoverDirection) -> None:
        self._group = group
        self._way = group.way(direction)
        self._opened = ExitStack()
        self._executor = ThreadPoolExecutor(1, "pycdc-cutover-verify")
        self._verifier: Verifier | None = None
        self._found: Verification | None = None

    def __enter__(self) -> WayVerification:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.submit(self._opened.close)
        self._executor.shutdown(wait=False)

    def prepare(self, seconds: float) -> None:
        """Verify everything, and what changes meanwhile until a pass of that takes no more than `seconds`.

        Raises PycdcError, EnvironmentNotReady where the tables differ.
        """
        last = self._timed_pass()
        for _ in range(_PASSES):
            took = self._timed_pass()
            if took <= seconds or took > last / 2:  # another one would take as long
                return
            last = took

    def verify(self, seconds: float | None = None) -> None:
        """Verify the rows that events have touched since the last pass, everything if there was none.

        Raises TimeoutError if that is not done in `seconds`, PycdcError, EnvironmentNotReady where the tables differ.
        """
        try:
            self._run(seconds)
        except TimedOut:
            if self._verifier is not None:
                self._verifier.cancel()
            raise

    def _timed_pass(self) -> float:
        began = time.monotonic()
        self._run()
        return time.monotonic() - began

    def _run(self, seconds: float | None = None) -> None:
        before = self._found
        self._found = None
        found = self._executor.submit(self._pass, before).result(seconds)
        if before is None or not found.equal:  # here, not on the other thread: the group's sessions are in use here
            write_report(self._group.new.connection, self._group.name, self._way.direction, document(found))
        _require_equal(found, self._way)
        self._found = found

    def _pass(self, before: Verification | None) -> Verification:
        if self._verifier is None:
            verifier = Verifier(self._way.apply, VerifyOptions(capture=self._way.capture))
            self._verifier = self._opened.enter_context(verifier)
        return self._verifier.run() if before is None else self._verifier.run_changes(before)


def _require_equal(found: Verification, way: Way) -> None:
    if found.differs:
        differing = sum(sum(table.differing.values()) for table in found.tables)
        raise EnvironmentNotReady(
            f"{differing} rows that {way.apply.name} writes are not as {way.capture.name} says",
            hint="pycdc verify shows which, and repairs them",
        )
    for table in found.tables:
        if table.problem is not None:
            raise EnvironmentNotReady(
                f"table {table.table} cannot be verified: {table.problem}", hint="pycdc verify tries it alone"
            )

"""Verify one direction of two: what the other direction has under way is no difference.

A row that an application changed in the target is not in the source before the other pipeline has brought it there. So
differences are confirmed: everything that the target's first snapshot saw is waited for in the source, and then only
what differs again, with the same row in the target, is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Final

import psycopg

from pycdc.build.decoder import build_decoder
from pycdc.clients.postgres_errors import source_error
from pycdc.clients.postgres_sessions import connect_to_source
from pycdc.config.pipeline import ApplyPipeline, CapturePipeline
from pycdc.model.change import Lsn
from pycdc.model.patterns import names_any
from pycdc.operations.verify.cut import EndSessions, VerifiedEnds, wait_for_apply, wait_for_capture
from pycdc.operations.verify.result import Difference, TableResult, Verification
from pycdc.operations.verify.stream_window import StreamWindow

_MOST: Final = 5
"""Confirmations of rows that are written all the time."""
_END: Final = "SELECT pg_current_wal_lsn()::text"


class OtherDirection:
    """The pipeline that goes from the target into the source, and its capture."""

    def __init__(self, apply: ApplyPipeline, capture: CapturePipeline, timeout: float) -> None:
        sink, source = apply.sink.postgres, apply.source.kafka
        self._source, self._routes, self._name = source, sink.routes, apply.name
        self._ends = VerifiedEnds(
            capture.source.postgres.dsn.get_secret_value(),
            sink.dsn.get_secret_value(),
            capture.slot,
            apply.name,
            sink.bookkeeping,
            timeout,
        )

    def wait(self) -> None:
        """Wait until everything that was committed in the target so far is in the source. Raises PycdcError."""
        with closing(EndSessions(self._ends)) as sessions, build_decoder(self._source) as decoder:
            wait_for_capture(self._ends, sessions.source, self._now())
            wanted = [route.topic for route in self._routes]
            group = self._source.group or self._name
            window = StreamWindow(self._source, group, decoder, lambda topic: names_any(wanted, topic))
            high = {partition: span.end for partition, span in window.ends().items()}
            wait_for_apply(self._ends, sessions.target, window, high)

    def _now(self) -> Lsn:
        with closing(connect_to_source(self._ends.source_dsn)) as connection:
            try:
                row = connection.execute(_END).fetchone()
            except psycopg.Error as error:
                raise source_error(error) from None
        return Lsn.parse(row[0] if row else "0/0")


def confirmed(first: Verification, other: OtherDirection, again: Callable[[], Verification]) -> Verification:
    """Return the last verification with the differences that all have found since. Raises PycdcError."""
    found, known = first, first.differences
    for _ in range(_MOST):
        if not known or any(map(has_more, found.tables)):
            break
        other.wait()
        found = again()
        same = differs_again(known, found)
        settled = len(same) == len(known)
        known = same
        if settled:
            break
    return only(found, known, "were under way in the other direction")


def differs_again(known: list[Difference], found: Verification) -> list[Difference]:
    """Return the differences of `found` that are the same as known ones, with the same row in the target."""
    before = {_identity(one) for one in known}
    return [one for one in found.differences if _identity(one) in before]


def _identity(one: Difference) -> tuple[object, ...]:
    target = None if one.target is None else tuple(sorted(one.target.items()))
    return one.table, one.kind, tuple(one.key.items()), one.columns, target


def only(found: Verification, known: list[Difference], why: str) -> Verification:
    """Return a verification with the known differences alone; `why` says what the others are."""
    return replace(found, tables=[_table(table, known, why) for table in found.tables])


def has_more(table: TableResult) -> bool:
    """Whether it has more differences than are kept, so that nobody can say which of them are found again."""
    return sum(table.differing.values()) > len(table.differences)


def _table(table: TableResult, known: list[Difference], why: str) -> TableResult:
    if has_more(table):
        return replace(table, notes=[*table.notes, "too many differences to set those under way apart"])
    kept = [one for one in table.differences if one in known]
    gone = len(table.differences) - len(kept)
    notes = [*table.notes, f"{gone} keys {why}"] if gone else table.notes
    return replace(table, differences=kept, differing=Counter(one.kind for one in kept), notes=notes)

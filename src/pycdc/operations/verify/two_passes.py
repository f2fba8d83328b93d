"""The fallback where source and target have no common point: two passes with a pause between, labelled in every report.

Snapshots are plain ones, and nobody asks a slot, topics or offsets. What differs in both passes in the same way, with
the same values in the target, is reported: a change that takes longer than the pause is reported too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from pycdc.clients.postgres_errors import target_error
from pycdc.connectors.postgres.catalog.slots_and_publications import Admin
from pycdc.operations.verify.cut import BEGIN, Announce, Cut, VerifiedEnds, target_session
from pycdc.operations.verify.result import Verification
from pycdc.operations.verify.two_way import differs_again, has_more, only


def plain_cut(ends: VerifiedEnds) -> Cut:
    """Return plain snapshots of both sides, one right after the other. Raises PycdcError."""
    began = time.monotonic()
    exported = Admin(ends.source_dsn).export_snapshot("")
    try:
        holder = target_session(ends)
    except BaseException:
        exported.close()
        raise
    try:
        holder.execute(BEGIN)
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
    except BaseException as error:
        holder.close()
        exported.close()
        if isinstance(error, psycopg.Error):
            raise target_error(error) from None
        raise
    name = str(row[0]) if row else ""
    point = exported.slot.consistent_point
    return Cut({}, {}, {}, {}, point, frozenset(), exported, holder, name, began, 0.0, 0.0)


def twice(run: Callable[[], Verification], pause: float, announce: Announce) -> Verification:
    """Return the second of two verifications, with what differs as it did in the first. Raises PycdcError."""
    found = run()
    known = found.differences
    if known and not any(map(has_more, found.tables)):
        announce(f"{len(known)} rows differ; looks again in {pause:g} s")
        time.sleep(pause)
        found = run()
        found = only(found, differs_again(known, found), "have changed since the first pass")
    found.exact = False
    return found

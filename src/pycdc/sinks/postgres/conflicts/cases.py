"""Find out which conflict a write is, and describe it as `Conflict`."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from pycdc.model.event import Partition
from pycdc.sinks.postgres.conflicts.conflict import Conflict, ConflictKind, source_time, time_from
from pycdc.sinks.postgres.conflicts.locked_rows import LockedRow
from pycdc.sinks.postgres.conflicts.policy import Policy, Version
from pycdc.sinks.postgres.writing.conflict_guards import Guard
from pycdc.sinks.postgres.writing.writes import RowWrite


def row_of(write: RowWrite) -> object:
    return write.shape.space, write.key


def is_stale(policy: Policy, write: RowWrite, highest: dict[object, Version]) -> bool:
    text, row = policy.version(write), row_of(write)
    if text is None:
        return False
    version = policy.comparable(text)
    seen = highest.get(row)
    if seen is not None:
        # Times of one row that are equal come in the order of its events; an equal version is a duplicate.
        same_is_stale = policy.rule.version is not None and not policy.removes(write)
        if version < seen or (same_is_stale and version == seen):  # type: ignore[operator]
            return True
    highest[row] = version
    if write.shape.operation == "delete":
        del highest[row]  # a row that is made anew may begin anew
    return False


class Latest(NamedTuple):
    """The last write of a row in a batch."""

    written_at: datetime
    place: Partition
    removes: bool


def is_late(policy: Policy, write: RowWrite, latest: dict[object, Latest]) -> bool:
    """Return whether a later write of the row came another way, earlier in the batch, and one of both removes it."""
    row, shape = row_of(write), write.shape
    own = Latest(policy.written_at(write.event), write.event.partition, shape.operation == "delete" or shape.moves)
    known = latest.get(row)
    if known is not None and known.place != own.place and (known.removes or own.removes):
        ahead = (own.written_at - known.written_at).total_seconds()
        if ahead < -policy.rule.skew or (ahead <= policy.rule.skew and policy.rule.tie == "existing"):
            return True
    latest[row] = own
    return False


def stale(policy: Policy, write: RowWrite) -> Conflict:
    return unseen(policy, write, ConflictKind.DELETE_STALE if policy.removes(write) else ConflictKind.UPDATE_STALE)


def unseen(policy: Policy, write: RowWrite, kind: ConflictKind) -> Conflict:
    """Describe a conflict with a row that was not read. What the event sets are texts."""
    return Conflict(
        str(policy.table),
        kind,
        dict(zip(write.shape.key, write.key, strict=True)),
        current=None,
        incoming=None if policy.removes(write) else _image(policy, write),
        before=None,
        event_time=source_time(write.event),
        current_time=None,
        origin=None,
    )


def _image(policy: Policy, write: RowWrite) -> dict[str, Any]:
    """Return what the event sets, its documents as documents."""
    values = dict(zip(write.shape.set, write.set, strict=True))
    documents = {name: text for name, text in values.items() if policy.table.columns[name].base in ("json", "jsonb")}
    return {**values, **json.loads(policy.as_json(documents), parse_float=Decimal)}


def old_row(policy: Policy, write: RowWrite) -> str:
    return policy.as_json(policy.before(write.first))


def kind_of(policy: Policy, guard: Guard, found: LockedRow) -> ConflictKind | None:
    """Return the kind of conflict, None where the row, now that it is locked, is as expected."""
    removes = policy.removes(found.write)
    if guard.kind == "absent":
        return ConflictKind.INSERT_EXISTS
    if guard.kind == "version":
        return ConflictKind.DELETE_STALE if removes else ConflictKind.UPDATE_STALE
    if guard.kind == "before":
        if found.agrees:
            return None
        return ConflictKind.DELETE_VALUES_DIFFER if removes else ConflictKind.UPDATE_VALUES_DIFFER
    if guard.kind == "none" or found.ours:
        return None
    return ConflictKind.DELETE_ORIGIN_DIFFERS if removes else ConflictKind.UPDATE_ORIGIN_DIFFERS


def kind_of_late(policy: Policy, found: LockedRow) -> ConflictKind:
    """Return the kind of conflict of an event that is older than what is remembered of its row."""
    removes = policy.removes(found.write)
    if found.current is None:
        return ConflictKind.DELETE_MISSING if removes else ConflictKind.UPDATE_DELETED
    if found.ours:
        return ConflictKind.DELETE_STALE if removes else ConflictKind.UPDATE_STALE
    return ConflictKind.DELETE_ORIGIN_DIFFERS if removes else ConflictKind.UPDATE_ORIGIN_DIFFERS


def conflict_of(policy: Policy, found: LockedRow, kind: ConflictKind, event_time: datetime | None = None) -> Conflict:
    """Describe a conflict with a locked row. `event_time` is given where it is not what the rule says."""
    row, shape = found.current, found.write.shape
    texts = dict(zip(shape.key, found.write.key, strict=True))
    time = found.committed_at if found.written_at is None else found.written_at
    if policy.rule.row_time is not None and event_time is None:
        time = None if row is None else time_from(row[policy.rule.row_time])
    return Conflict(
        str(policy.table),
        kind,
        texts if row is None else {name: row[name] for name in shape.key},
        row,
        found.incoming,
        found.before,
        event_time or policy.time(found.write.event),
        time,
        found.origin,
        found.matches_before,
        remembered=found.written_at is not None,
    )

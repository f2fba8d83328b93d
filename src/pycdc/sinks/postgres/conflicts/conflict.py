"""What a conflict is, and who wins. No I/O.

The incoming side is where the events come from, the existing one is where the rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pycdc.config.postgres_sink import ConflictRule
from pycdc.model.event import Event


class ConflictKind(StrEnum):
    """The words are Postgres' own where it has one (pg_stat_subscription_stats, version 18)."""

    INSERT_EXISTS = "insert_exists"
    UPDATE_ORIGIN_DIFFERS = "update_origin_differs"
    UPDATE_VALUES_DIFFER = "update_values_differ"
    UPDATE_STALE = "update_stale"
    UPDATE_MISSING = "update_missing"
    DELETE_ORIGIN_DIFFERS = "delete_origin_differs"
    DELETE_VALUES_DIFFER = "delete_values_differ"
    DELETE_STALE = "delete_stale"
    UPDATE_DELETED = "update_deleted"
    """It would make a row anew that a later event deleted."""
    DELETE_MISSING = "delete_missing"
    UNIQUE_EXISTS = "unique_exists"
    """Another row has the values, under a unique key that is not the route's."""


STALE: Final = (ConflictKind.UPDATE_STALE, ConflictKind.DELETE_STALE)
UNIQUE: Final = (ConflictKind.INSERT_EXISTS, ConflictKind.UNIQUE_EXISTS)


class Decision(StrEnum):
    """COLUMNS: some of the event's, or others. IGNORED: there is no row, and none is made."""

    APPLY_REMOTE = "apply_remote"
    KEEP_LOCAL = "keep_local"
    COLUMNS = "columns"
    PARKED = "parked"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Conflict:
    """An event that meets a row which it does not expect. The repr holds no values.

    Rows are as `to_jsonb` writes them, numbers with a fraction as Decimal. `current` is the row there, None where there
    is none; `incoming` what the event sets, None for a delete; `before` what the event says the row was, as far as it
    does. `origin` is the replication origin of the row's last writer, "" for an application, None where nobody knows;
    `current_time` is when that committed, or the column of `row_time`.
    """

    table: str
    kind: ConflictKind
    key: Mapping[str, Any] = field(repr=False)
    current: Mapping[str, Any] | None = field(repr=False)
    incoming: Mapping[str, Any] | None = field(repr=False)
    before: Mapping[str, Any] | None = field(repr=False)
    event_time: datetime
    current_time: datetime | None
    origin: str | None
    agrees: bool = False
    """The row is the event's `before`: whoever sent it knew the row."""
    remembered: bool = False
    """`current_time` is that of the event which a pipeline wrote the row by, or deleted it."""


class Undecided(Exception):
    """A function that decides failed, or returned something else. The message names it."""


Function = Callable[[Conflict], Any]
ConflictAnswer = Decision | Mapping[str, Any]
"""Who wins, or what the row's columns become."""


@dataclass(frozen=True, slots=True)
class ResolvedConflict:
    """What became of a conflict with `event`."""

    conflict: Conflict
    event: Event
    decision: Decision


def decide(conflict: Conflict, rule: ConflictRule, function: Function | None) -> ConflictAnswer:
    """Return who wins the row; columns that are decided on their own come on top. Raises Undecided."""
    match rule.default:
        case "apply_remote":
            return Decision.APPLY_REMOTE
        case "keep_local":
            return Decision.KEEP_LOCAL
        case "version":
            return Decision.KEEP_LOCAL if conflict.kind in STALE else Decision.APPLY_REMOTE
        case "last_write_wins":
            return Decision.APPLY_REMOTE if event_is_last(conflict, rule) else Decision.KEEP_LOCAL
        case "park":
            return Decision.PARKED
        case "python":
            assert function is not None
            return _asked(conflict, str(rule.function), function)


def event_is_last(conflict: Conflict, rule: ConflictRule) -> bool:
    """Return whether the event was written later than the row.

    Both sides come to the same answer, whatever comes first, and equal times are decided by the side. Of commits whole
    milliseconds are compared, because that is what events carry while the server knows microseconds. What an
    application deletes is not remembered where it was deleted, so a delete loses against a row of an application that
    it did not know: that row is made anew on the other side.
    """
    if conflict.current_time is None or (conflict.current is None and not conflict.remembered):
        return True
    has_old_row = conflict.before is not None and not conflict.before.keys() <= conflict.key.keys()
    if conflict.incoming is None and has_old_row and not conflict.remembered:
        return conflict.agrees
    if rule.row_time is not None:
        ahead = conflict.event_time - conflict.current_time
    else:
        ahead = whole(conflict.event_time) - whole(conflict.current_time)
    if abs(ahead) > timedelta(seconds=rule.skew):
        return ahead > timedelta(0)
    return (rule.skew > 0 and conflict.agrees) or rule.tie == "incoming"


def matches_before(conflict: Conflict, rule: ConflictRule) -> bool:
    """Return whether there is no conflict after all: the row is what the event says it was before.

    For last_write_wins that is no answer: a row may have gone and come back, and the times know.
    """
    return conflict.agrees and rule.default not in ("last_write_wins", "version")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def whole(time: datetime) -> datetime:
    """Return a time without its microseconds."""
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _asked(conflict: Conflict, name: str, function: Function) -> ConflictAnswer:
    try:
        answer = function(conflict)
    except Exception as error:
        # What it says may hold values of the row.
        raise Undecided(f"{name} raised {type(error).__name__}") from error
    if isinstance(answer, Mapping) and all(isinstance(column, str) for column in answer):
        return answer
    words = {"apply_remote": Decision.APPLY_REMOTE, "keep_local": Decision.KEEP_LOCAL, "park": Decision.PARKED}
    if not isinstance(answer, str) or answer not in words:
        raise Undecided(f'{name} returned neither "apply_remote", "keep_local" or "park" nor a dict of columns')
    return words[answer]


# What an event says of its time and of the row before it.


def source_time(event: Event) -> datetime:
    """Return when the source committed, as an envelope has it; else the record's time."""
    milliseconds: Any = (event.source or {}).get("ts_ms")
    return time_from(milliseconds if isinstance(milliseconds, int) and milliseconds > 0 else event.timestamp) or _EPOCH


def time_from(value: Any) -> datetime | None:
    """Return a time, or None for what is none. It is in UTC where it has no zone.

    Accepted are a number of milliseconds since the Unix epoch, ISO 8601, and a datetime.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return _EPOCH + timedelta(milliseconds=int(value)) if -_FARTHEST < value < _FARTHEST else None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


_FARTHEST: Final = 2**47
"""Milliseconds; beyond lie years that datetime does not have."""

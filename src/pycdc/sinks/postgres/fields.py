"""Fields of an event by their paths: see `config.Route`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from pycdc.events import Event


class Absent(Enum):
    """A field that an event does not have. Not null."""

    ABSENT = "ABSENT"


ABSENT: Final = Absent.ABSENT

Look = Callable[[Event, Mapping[str, Any] | None], Any]
"""From an event and the row that counts (after, or before for a delete) to a field's value or `ABSENT`."""


def look_up(path: str) -> Look:
    """The function that finds a field."""
    head, _, rest = path.partition(".")
    if head == "$key":
        return (lambda event, row: _inside(event.key, rest)) if rest else lambda event, row: _present(event.key)
    if head == "$headers":
        return lambda event, row: _header(event, rest)
    if path in _RECORD:
        own = _RECORD[path]
        return lambda event, row: own(event)
    if not rest:
        return lambda event, row: ABSENT if row is None else row.get(path, ABSENT)
    return lambda event, row: _inside(row, path)


def time_of(event: Event) -> str:
    """The record's, as text that Postgres reads."""
    return datetime.fromtimestamp(event.timestamp / 1000, UTC).isoformat()


_RECORD: Final[dict[str, Callable[[Event], Any]]] = {
    "$topic": lambda event: event.partition.topic,
    "$partition": lambda event: event.partition.number,
    "$offset": lambda event: event.offset,
    "$timestamp": time_of,
}


def _inside(value: Any, path: str) -> Any:
    """A field whose own name has dots goes before a path."""
    if isinstance(value, dict) and path in value:
        return value[path]
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return value


def _header(event: Event, name: str) -> Any:
    found = [value for header, value in event.headers if header == name]
    return ABSENT if not found else None if found[-1] is None else found[-1].decode("utf-8", "replace")


def _present(value: Any) -> Any:
    return ABSENT if value is None else value

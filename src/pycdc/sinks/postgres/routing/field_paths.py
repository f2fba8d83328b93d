"""Fields of an event by their paths: see `config.Route`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pycdc.model.event import Event, Forms, Unwritable
from pycdc.rows.target_column import TargetColumn


class Absent(Enum):
    """A field that an event does not have. Not null."""

    ABSENT = "ABSENT"


ABSENT: Final = Absent.ABSENT

Look = Callable[[Event, Mapping[str, Any] | None], Any]
"""From an event and the row that counts (after, or before for a delete) to a field's value or `ABSENT`."""


def look_up(path: str) -> Look:
    """Return the function that finds a field."""
    head, _, rest = path.partition(".")
    if head == "$key":
        return (lambda event, row: _inside(event.key, rest)) if rest else lambda event, row: _present(event.key)
    if head == "$headers":
        return lambda event, row: _header(event, rest)
    if path in _RECORD:
        own = _RECORD[path]
        return lambda event, row: own(event)
    if path[:2] == "__":
        return lambda event, row: _beside(event, row, path)
    if not rest:
        return lambda event, row: ABSENT if row is None else row.get(path, ABSENT)
    return lambda event, row: _inside(row, path)


def look_for(path: str, column: TargetColumn) -> Look:
    """Return the function that finds a field for a column. Raises Unwritable where it is none.

    A header is bytes to bytea, and a text to other columns.
    """
    look = look_up(path)
    if not path.startswith("$headers."):
        return look

    def of_header(event: Event, row: Mapping[str, Any] | None) -> Any:
        value = look(event, row)
        if column.base == "bytea":
            return value.encode() if isinstance(value, str) else value
        if isinstance(value, bytes):
            raise Unwritable(f"column {column.name}: the header is no UTF-8 text")
        return value

    return of_header


def forms_of(path: str, event: Event) -> Forms | None:
    """Return what is known of the values under a path: those of headers and of the record itself are texts."""
    if path[:1] != "$":
        return event.forms
    if path != "$key" and not path.startswith("$key."):
        return None
    return event.key_forms if event.key is not None else None


def time_of(event: Event) -> str:
    """Return the record's time as text that Postgres reads. Raises Unwritable for one beyond its years."""
    if not _FIRST <= event.timestamp <= _LAST:
        raise Unwritable("the record's timestamp is no time that Postgres has")
    return (_EPOCH + timedelta(milliseconds=event.timestamp)).isoformat()


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)

_RECORD: Final[dict[str, Callable[[Event], Any]]] = {
    "$topic": lambda event: event.partition.topic,
    "$partition": lambda event: event.partition.number,
    "$offset": lambda event: event.offset,
    "$timestamp": time_of,
}


def _inside(value: Any, path: str) -> Any:
    """Return the field under a path. A field whose own name has dots goes before a path."""
    if isinstance(value, dict) and path in value:
        return value[path]
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return value


def _beside(event: Event, row: Mapping[str, Any] | None, name: str) -> Any:
    """Return a field of the row, or one that flattening added to it."""
    if row is not None and name in row:
        return row[name]
    return ABSENT if event.added is None else event.added.get(name, ABSENT)


def _header(event: Event, name: str) -> Any:
    """Text, or bytes where it is none."""
    found = [value for header, value in event.headers if header == name]
    if not found or found[-1] is None:
        return None if found else ABSENT
    try:
        return found[-1].decode()
    except UnicodeDecodeError:
        return found[-1]


def has_value(found: Any, wanted: str | int | bool) -> bool:
    """Return whether a field has the value that `when` names. A text says it too, as headers do: `true` is in any case.

    What is not there has no value, and null has none.
    """
    if found is None or found is ABSENT:
        return False
    if isinstance(found, bool) or isinstance(wanted, bool):
        return str(found).lower() == str(wanted).lower()
    if isinstance(wanted, int) and isinstance(found, int | float | Decimal):
        return found == wanted
    return str(found) == str(wanted)


def identity_of(value: Any) -> str | None:
    """Return a text that no other identity has; None for null, a truth value, a fraction or an object.

    Texts and integers are themselves, bytes that are a text are that text, and others hex behind a backslash and an x,
    so that a text that begins so is hex too.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | bytes | UUID):
        return None
    text = value if isinstance(value, str | bytes) else str(value)
    try:
        data = text.encode() if isinstance(text, str) else text
        shown = data.decode()
    except UnicodeError:
        shown = "\0"
    return shown if "\0" not in shown and shown[:2] != "\\x" else "\\x" + _bytes(text).hex()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _present(value: Any) -> Any:
    return ABSENT if value is None else value

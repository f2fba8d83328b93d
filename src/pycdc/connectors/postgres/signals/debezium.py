"""Debezium's signals: what a row of its signal table or a message of its signal topic asks for.

Source: Debezium 3.6, "Sending signals to a Debezium connector". They are anybody's who may write there: nothing in them
is taken for granted, and what cannot be used is `Unusable`, with what to write instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pycdc.rows.tuples import ROW, ColumnBytes, split_tuple

Channel = Literal["command", "table", "topic"]
DebeziumAction = Literal["snapshot", "cancel", "pause", "resume", "log"]

_ACTIONS: Final[dict[str, DebeziumAction]] = {
    "execute-snapshot": "snapshot",
    "stop-snapshot": "cancel",
    "pause-snapshot": "pause",
    "resume-snapshot": "resume",
    "log": "log",
}
_LONGEST: Final = 65_536
"""Characters of `data`; Debezium's table has 2,048."""
_LONGEST_PATTERN: Final = 2048


class Unusable(Exception):
    """A signal that cannot be handled, and what to write instead. Neither holds anything of its data."""

    def __init__(self, fact: str, remedy: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class DebeziumSignal:
    """As it came. `data` is JSON; `id` is the same when the signal is delivered again, and no other signal's."""

    id: str
    type: str
    data: str = field(repr=False)
    channel: Channel


@dataclass(frozen=True, slots=True)
class Request:
    """What a signal asks for.

    `collections` are regular expressions over `schema.table`, `filters` pairs of such a one and a condition. `ignored`
    names what was asked for beside that.
    """

    action: DebeziumAction
    collections: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    message: str = field(default="", repr=False)
    ignored: tuple[str, ...] = ()


def of_row(frame: bytes, lsn: str) -> DebeziumSignal:
    """Return the signal of a row that was inserted. Debezium goes by the columns' order, not by their names."""
    columns = split_tuple(frame, ROW)[0]
    if len(columns) < 3:
        raise Unusable(f"a row of the signal table has {len(columns)} columns", "publish its columns id, type and data")
    name, kind, data = map(_column, columns[:3])
    return DebeziumSignal(f"{_shown(name[:64])} at {lsn}", _shown(kind), data, "table")


def of_message(value: bytes, place: str) -> DebeziumSignal:
    """Return the signal of a message, `{"type": …, "data": {…}}`, at `place` in its topic. Raises Unusable."""
    try:
        document = json.loads(value) if len(value) <= 2 * _LONGEST else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unusable(
            f"a message of the signal topic is no JSON object of at most {2 * _LONGEST} bytes",
            'write {"type": "execute-snapshot", "data": {…}}',
        )
    data = document.get("data") or {}
    return DebeziumSignal(
        place,
        _shown(_string(document.get("type"), "type")),
        data if isinstance(data, str) else json.dumps(data),
        "topic",
    )


def _column(text: ColumnBytes) -> str:
    try:
        return text.decode() if isinstance(text, bytes) else ""
    except UnicodeDecodeError:
        raise Unusable("a row of the signal table is not UTF-8", "write plain text") from None


def _shown(text: str) -> str:
    """Return text as a log may show it: a terminal obeys control characters."""
    return "".join(character if character.isprintable() else "?" for character in text)


def requested(signal: DebeziumSignal) -> Request:
    """Return what `signal` asks for. Raises Unusable."""
    action = _ACTIONS.get(signal.type)
    if action is None:
        raise Unusable("its type is none that pycdc knows", f"use one of {', '.join(_ACTIONS)}")
    data = _object(signal.data)
    if action == "log":
        return Request(action, message=_shown(_string(data.get("message"), "message")))
    if action in ("pause", "resume"):
        return Request(action)
    kind = data.get("type") or "incremental"
    if not isinstance(kind, str) or kind.lower() not in ("incremental", "blocking"):
        raise Unusable("the type of snapshot is unknown", "write incremental or blocking, or leave `type` out")
    collections = tuple(_pattern(one) for one in _list(data, "data-collections"))
    if action == "cancel":
        return Request(action, collections)
    if not collections:
        raise Unusable("it names no table", 'list them: {"data-collections": ["public.orders"]}')
    if data.get("additional-condition"):
        # Without it more rows would be read than were asked for.
        raise Unusable("additional-condition is out of date", "write additional-conditions, a list")
    filters = tuple(map(_filter, _list(data, "additional-conditions")))
    ignored = [name for name in ("surrogate-key",) if data.get(name)]
    return Request(
        action, collections, filters, ignored=(*ignored, *(["blocking"] if kind.lower() == "blocking" else []))
    )


def _object(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise Unusable(f"its data is longer than {_LONGEST} characters", "write several signals")
    try:
        data = json.loads(text or "{}")
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Unusable("its data is no JSON object", 'write it as {"data-collections": ["public.orders"]}')
    return data


def _list(data: dict[str, Any], name: str) -> Sequence[Any]:
    found = data.get(name) or []
    if not isinstance(found, list):
        raise Unusable(f"{name} is no list", f"write [ … ] behind {name}, also for a single one")
    return found


def _string(value: object, name: str) -> str:
    """Text that a database takes: JSON can spell characters that no text has."""
    if not isinstance(value, str) or not value.strip():
        raise Unusable(f"{name} is missing, or no text", f"write {name} in double quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{name} holds half a character", "escape it as JSON demands, in pairs") from None
    if "\0" in value:
        raise Unusable(f"{name} holds a zero byte", "leave it out")
    return value.strip()


def _pattern(value: object) -> str:
    pattern = _string(value, "a data collection")
    if len(pattern) > _LONGEST_PATTERN:
        raise Unusable(f"a regular expression is longer than {_LONGEST_PATTERN} characters", "write several")
    return pattern


def _filter(value: object) -> tuple[str, str]:
    if not isinstance(value, dict):
        raise Unusable(
            "additional-conditions is no list of objects",
            'write [{"data-collection": "public.orders", "filter": "id > 7"}]',
        )
    return _pattern(value.get("data-collection")), _string(value.get("filter"), "filter")

"""Outbox events without a table: a transactional logical message whose JSON has as members what a row has as columns.

Any role may write a logical message, so one that is no event does not end the pipeline: it is set apart, as it came, in
the topic of the dead letters, with the reason in its headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from pycdc.config.envelope import OutboxConfig
from pycdc.errors import ConversionError
from pycdc.model.change import Column, LogicalMessage, Lsn, PgType, Position, Run, Table
from pycdc.observability.logger import get_logger
from pycdc.rows.encoder import EncodedParts
from pycdc.rows.tuples import ColumnBytes
from pycdc.serialization.headers import Header
from pycdc.serialization.outbox import EventRouter

log = get_logger()

OWN_HEADERS: Final = ("type", "correlation_id", "causation_id", "traceparent", "tracestate")
"""Members that are headers of the same names, where they are there and `outbox.additional` does not place them."""
_HEADERS: Final = "headers"
_RESERVED: Final = "__"
"""Headers that begin so are pycdc's and Debezium's: they say where a change was written first, say."""
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class MessageEvents:
    """Makes records of the messages under the prefix `outbox.messages`; what is none goes to topic `dead`."""

    def __init__(
        self, settings: OutboxConfig, router: EventRouter, dead: str, count_dead: Callable[[str], None]
    ) -> None:
        self._prefix = settings.messages
        self._router = router
        self._dead = dead
        self._count_dead = count_dead
        self._id = settings.id
        self._payload = settings.payload
        self._required = [name for name in (settings.key, settings.route) if name is not None]
        self._table = message_table(settings)
        placed = {column.column for column in settings.additional}
        self._own_headers = [name for name in OWN_HEADERS if name not in placed]

    def takes(self, message: LogicalMessage) -> bool:
        """Return whether it is meant for an event."""
        return message.transactional and message.prefix == self._prefix

    def record(self, run: Run, message: LogicalMessage) -> tuple[str, EncodedParts]:
        """Return topic and record, headers included."""
        where = Position(Lsn(run.transaction.commit_lsn), run.index)
        try:
            return self._event(message, partial(_same, where))
        except (ConversionError, ValueError) as error:
            reason = error.fact if isinstance(error, ConversionError) else str(error)
            return self._dead, self._set_apart(message, where, reason)

    def _event(self, message: LogicalMessage, where: Callable[[], Position]) -> tuple[str, EncodedParts]:
        found = members(_text(message.content))
        found.setdefault(self._id, json.dumps(str(message.lsn)))
        missing = [name for name in self._required if found.get(name, "null") == "null"]
        if missing:
            raise ValueError(f"it has no member {missing[0]!r}")
        columns: list[ColumnBytes] = [self._column(column, found) for column in self._table.columns]
        topic, record = self._router.record(self._table, columns, where)
        record["headers"] = [*record["headers"], *self._headers(found)]
        return topic, record

    def _column(self, column: Column, found: dict[str, str]) -> bytes | None:
        """Return a member as the text of a column."""
        raw = found.get(column.name, "null")
        if raw == "null":
            return None
        text = raw if column.name == self._payload else _plain(raw)
        if column.type.name == "timestamptz":
            text = _utc(text, column.name)
        return text.encode("utf-8", "surrogateescape")

    def _headers(self, found: dict[str, str]) -> Iterator[Header]:
        for name in self._own_headers:
            if name in found:
                yield name, _header(found[name])
        for name, raw in members(found.get(_HEADERS, "{}")).items():
            if name.startswith(_RESERVED):
                raise ValueError(f"it has a header that begins with {_RESERVED}, which is reserved")
            yield name, _header(raw)

    def _set_apart(self, message: LogicalMessage, where: Position, reason: str) -> EncodedParts:
        self._count_dead("message")
        log.warning(
            "a logical message under the outbox' prefix is no event, and goes to the dead letters",
            position=str(where),
            reason=reason,
            topic=self._dead,
            hint="correct what writes it: docs/outbox.md says which members it has",
        )
        headers = [
            ("__pycdc.error", b"NoOutboxEvent"),
            ("__pycdc.reason", reason.encode()),
            ("__pycdc.position", str(where).encode()),
        ]
        return {"key": message.prefix.encode(), "value": message.content, "headers": headers}


def message_table(settings: OutboxConfig) -> Table:
    """Return the table that a message is a row of: the columns that `settings` name, as EventRouter expects them."""
    required = {settings.key, settings.route}
    types = {settings.payload: "jsonb", settings.timestamp: "timestamptz", settings.schema_version: "int8"}
    types |= {column.column: "int8" for column in settings.additional if column.to == "partition"}
    names = [settings.id, settings.key, settings.route, settings.payload, settings.timestamp, settings.schema_version]
    names += [column.column for column in settings.additional]
    columns = [
        Column(name, PgType(0, types.get(name, "text")), nullable=name not in required)
        for name in dict.fromkeys(names)
        if name is not None
    ]
    return Table(0, "message", settings.messages or "", tuple(columns))


def members(text: str) -> dict[str, str]:
    """Return the members of a JSON object, each as it is written; of several of one name the last.

    Raises ValueError, which shows no value.
    """
    try:
        document = json.loads(text)
        return dict(_members(text)) if isinstance(document, dict) else _no_object()
    except (ValueError, RecursionError):
        return _no_object()


def _no_object() -> dict[str, str]:
    raise ValueError("its content, or its member `headers`, is no JSON object") from None


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and texts of a document that is known to be an object."""
    decoder = json.JSONDecoder()
    at = _behind(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        start = _behind(text, _behind(text, at) + 1)  # behind the colon
        _, end = decoder.raw_decode(text, start)
        yield name, text[start:end]
        at = _behind(text, end)
        if text[at] == ",":
            at = _behind(text, at + 1)


def _behind(text: str, at: int) -> int:
    """Return the place of the next sign that is no white space."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _plain(raw: str) -> str:
    """Return a member as a column's text: a string without quotes, everything else as it is written."""
    value: Any = json.loads(raw) if raw.startswith('"') else raw
    return str(value)


def _utc(text: str, member: str) -> str:
    """Return a time of ISO 8601 as Postgres writes it; one without a zone is UTC's."""
    try:
        time = datetime.fromisoformat(text)
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"its member {member!r} is no time of ISO 8601") from None
    return utc.strftime("%Y-%m-%d %H:%M:%S.%f+00")


def _header(raw: str) -> bytes | None:
    return None if raw == "null" else _plain(raw).encode("utf-8", "surrogateescape")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("its content is not UTF-8") from None


def _same(where: Position) -> Position:
    return where

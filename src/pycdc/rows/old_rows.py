"""Whether a delete's old row is whole, proven by its schema.

Under REPLICA IDENTITY FULL it is. Else Postgres sends the identity alone, and Debezium fills up: an optional field with
null (or its default), another one with its default or its type's zero. So a field outside of the message key that holds
anything else was sent, and all others with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pycdc.model.event import Event

_ZEROS: Final[dict[str, Any]] = {
    **dict.fromkeys(("int", "long", "int8", "int16", "int32", "int64"), 0),
    **dict.fromkeys(("float", "double"), 0.0),
    "string": "",
    "boolean": False,
}
"""Of types without a name of Kafka Connect's, which may have another zero."""
_NOTHING: Final = object()


class _Field(NamedTuple):
    """`filler` is what stands there for a value that was not sent, `_NOTHING` where that is not certain."""

    name: str
    filler: Any


def is_whole(event: Event) -> bool:
    before = event.before
    if before is None:
        return False
    others = (field for field in _fields(event) if field.name in before and field.name in event.doubtful)
    return any(field.filler is not _NOTHING and before[field.name] not in (None, field.filler) for field in others)


def _fields(event: Event) -> Iterator[_Field]:
    """Return the fields of the old row, as far as there is a schema."""
    schema = event.schema
    try:
        if schema is not None:
            yield from map(_of_avro, _row_of_avro(schema)["fields"])
        elif event.raw_value is not None and b'"schema"' in event.raw_value:
            document = json.loads(event.raw_value)
            yield from map(_of_connect, _row_of_connect(document["schema"])["fields"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return


def _row_of_avro(schema: Any) -> Any:
    first = schema["fields"][0]
    if first["name"] != "before":
        return schema
    return next(branch for branch in first["type"] if isinstance(branch, dict))


def _of_avro(field: Any) -> _Field:
    kind, default = field["type"], field.get("default")
    optional = isinstance(kind, list) and "null" in kind
    if default is not None:
        return _Field(field["name"], _NOTHING)
    zero = _ZEROS.get(kind, _NOTHING) if isinstance(kind, str) else _NOTHING
    return _Field(field["name"], None if optional else zero)


def _row_of_connect(schema: Any) -> Any:
    return next((field for field in schema["fields"] if field["field"] == "before"), schema)


def _of_connect(field: Any) -> _Field:
    if field.get("default") is not None:
        return _Field(field["field"], _NOTHING)
    if field.get("optional"):
        return _Field(field["field"], None)
    return _Field(field["field"], _NOTHING if field.get("name") else _ZEROS.get(field["type"], _NOTHING))

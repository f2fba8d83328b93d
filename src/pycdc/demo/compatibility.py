"""May one Avro schema read what another one wrote? Structural rules of the Avro specification, "Schema Resolution"."""

from __future__ import annotations

from typing import Any, Final

import fastavro
import fastavro.schema

_PROMOTIONS: Final = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""What a reader may be, beside the writer's own type."""

NamedSchemas = dict[str, Any]


def parse(schema: Any) -> tuple[Any, NamedSchemas]:
    """Return the schema with full names, and its named types. Raises ValueError if it is no Avro schema."""
    names: NamedSchemas = {}
    try:
        return fastavro.parse_schema(schema, named_schemas=names), names
    except (fastavro.schema.SchemaParseException, fastavro.schema.UnknownType, KeyError, TypeError) as error:
        raise ValueError(f"not an Avro schema: {type(error).__name__}") from None


def can_read(reader: Any, writer: Any) -> bool:
    """Both as JSON values. Raises ValueError if one of them is no Avro schema."""
    (reader, reader_names), (writer, writer_names) = parse(reader), parse(writer)
    return _Resolution(reader_names, writer_names).reads(reader, writer)


def compatible(level: str, new: Any, earlier: list[Any]) -> bool:
    """Return whether `new` may follow `earlier` (oldest first) under one of Confluent's compatibility levels."""
    if level == "NONE" or not earlier:
        return True
    direction, _, transitive = level.partition("_")
    against = earlier if transitive else earlier[-1:]
    backward = direction in ("BACKWARD", "FULL")
    forward = direction in ("FORWARD", "FULL")
    return all((not backward or can_read(new, old)) and (not forward or can_read(old, new)) for old in against)


class _Resolution:
    def __init__(self, reader_names: NamedSchemas, writer_names: NamedSchemas) -> None:
        self._reader_names = reader_names
        self._writer_names = writer_names
        self._assumed: set[tuple[str, str]] = set()

    def reads(self, reader: Any, writer: Any) -> bool:
        reader, writer = _resolved(reader, self._reader_names), _resolved(writer, self._writer_names)
        if isinstance(writer, list):
            return all(self.reads(reader, branch) for branch in writer)
        if isinstance(reader, list):
            return any(self.reads(branch, writer) for branch in reader)
        kind, written = _kind(reader), _kind(writer)
        if kind != written:
            return kind in _PROMOTIONS.get(written, ())
        if kind == "array":
            return self.reads(reader["items"], writer["items"])
        if kind == "map":
            return self.reads(reader["values"], writer["values"])
        if kind == "record":
            return self._reads_record(reader, writer)
        if kind == "enum":
            return _same_name(reader, writer) and (
                "default" in reader or set(writer["symbols"]) <= set(reader["symbols"])
            )
        if kind == "fixed":
            return _same_name(reader, writer) and reader["size"] == writer["size"]
        return True

    def _reads_record(self, reader: Any, writer: Any) -> bool:
        pair = (reader["name"], writer["name"])
        if pair in self._assumed:
            return True
        self._assumed.add(pair)
        if not _same_name(reader, writer):
            return False
        written = {field["name"]: field["type"] for field in writer["fields"]}
        return all(
            self.reads(field["type"], written[field["name"]]) if field["name"] in written else "default" in field
            for field in reader["fields"]
        )


def _resolved(schema: Any, names: NamedSchemas) -> Any:
    if isinstance(schema, dict) and isinstance(schema["type"], dict | list):
        return _resolved(schema["type"], names)
    return names.get(schema, schema) if isinstance(schema, str) else schema


def _kind(schema: Any) -> str:
    return schema if isinstance(schema, str) else str(schema["type"])


def _same_name(reader: Any, writer: Any) -> bool:
    return str(reader["name"]) == str(writer["name"]) or writer["name"] in reader.get("aliases", ())

"""Avro schemas as registries give them, checked: whoever answers as the registry decides what is in them.

A schema comes out in fastavro's parsed form, in which names are full and refer to what was defined before. It holds
nothing but checked integers and texts, because functions are generated from it, and no schema makes a small record a
lot of work: see `_MOST_EMPTY`.

Source: Apache Avro 1.12 specification, "Schema Declaration".
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

MOST_TYPES: Final = 10_000
"""A table has 1,600 columns at most, and an envelope two unions of them."""
DEEPEST: Final = 40
_MOST_BYTES: Final = 4 << 20
_LONGEST_NAME: Final = 1_000
_MOST_FIXED: Final = 1 << 20
_MOST_DIGITS: Final = 200_000
_MOST_EMPTY: Final = 64
"""Values of a record that take no bytes (nulls, empty records): fields that name types that name types have 2 ** n."""

PRIMITIVES: Final = frozenset(("null", "boolean", "int", "long", "float", "double", "string", "bytes"))
_NAMED: Final = frozenset(("record", "error", "enum", "fixed"))
_LOGICAL: Final = ("logicalType", "connect.name")
_INTEGERS: Final = ("scale", "precision")
_NUMBER: Final = re.compile(r"-?[0-9]{1,9}")


class BadSchema(ValueError):
    """The message holds nothing of the schema but names of types that Avro has."""


def parse_avro(text: str) -> Any:
    """Parse the schema of a registry's answer. Raises BadSchema."""
    if len(text) > _MOST_BYTES:
        raise BadSchema("it is larger than 4 MiB")
    try:
        return parse_schema(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, BadSchema) else BadSchema("it is not JSON") from None


def parse_schema(document: Any) -> Any:
    """Parse a schema that has been read from JSON already. Raises BadSchema."""
    parser = _Parser()
    parsed = parser.schema(document, "", 1)
    if isinstance(parsed, dict):
        parsed["__named_schemas"] = parser.named
    return parsed


class _Parser:
    def __init__(self) -> None:
        self.named: dict[str, dict[str, Any]] = {}
        self._types = 0
        self._sizes: dict[str, tuple[int, int]] = {}

    def schema(self, schema: Any, space: str, depth: int) -> Any:
        parsed = self._parsed(schema, space, depth)
        _, empty = self._size(parsed)
        if empty > _MOST_EMPTY:
            raise BadSchema(f"more than {_MOST_EMPTY} of its values take no bytes")
        return parsed

    def _parsed(self, schema: Any, space: str, depth: int) -> Any:
        self._types += 1
        if self._types > MOST_TYPES or depth > DEEPEST:
            raise BadSchema(f"it has more than {MOST_TYPES} types, or is nested more than {DEEPEST} deep")
        if isinstance(schema, str):
            return self._known(schema, space)
        if isinstance(schema, list):
            return self._union(schema, space, depth)
        if not isinstance(schema, dict):
            raise BadSchema("a type is neither a name, a list nor an object")
        kind = schema.get("type")
        if isinstance(kind, dict | list):
            return {"type": self.schema(kind, space, depth + 1), **_attributes(schema)}
        if not isinstance(kind, str):
            raise BadSchema("a type has no name")
        if kind in _NAMED:
            return self._defined(kind, schema, space, depth)
        if kind == "array":
            return {**self._array(schema.get("items"), space, depth), **_attributes(schema)}
        if kind == "map":
            return {"type": kind, "values": self.schema(schema.get("values"), space, depth + 1), **_attributes(schema)}
        known, more = self._known(kind, space), _attributes(schema)
        return {"type": known, **more} if more else known

    def _known(self, name: str, space: str) -> str:
        if name in PRIMITIVES:
            return name
        full = f"{space}.{name}" if space and "." not in name else name
        for candidate in (full, name):
            if candidate in self.named or candidate in self._sizes:
                return candidate
        raise BadSchema(
            "a type is named that is neither Avro's nor defined before; schemas that refer to others in the registry "
            "are not read: register them with all types written out"
        )

    def _union(self, branches: list[Any], space: str, depth: int) -> list[Any]:
        if any(isinstance(branch, list) for branch in branches):
            raise BadSchema("a union stands in a union")
        return [self.schema(branch, space, depth + 1) for branch in branches]

    def _array(self, items: Any, space: str, depth: int) -> dict[str, Any]:
        """`most`: items that take no bytes could be any number of them."""
        item = self.schema(items, space, depth + 1)
        return {"type": "array", "items": item, **({} if self._size(item)[0] else {"most": _MOST_EMPTY})}

    def _defined(self, kind: str, schema: dict[str, Any], space: str, depth: int) -> dict[str, Any]:
        name, space = _full_name(schema, space)
        if name in self.named or name in PRIMITIVES:
            raise BadSchema("a name is defined twice")
        made: dict[str, Any] = {"type": kind, "name": name, **_attributes(schema)}
        # What a record that names itself takes at least is not known yet: such a branch has at least the union's byte.
        self._sizes[name] = (1, 1)
        self.named[name] = made
        if kind == "enum":
            made["symbols"] = _names(schema.get("symbols"))
            self._sizes[name] = (1, 0)
        elif kind == "fixed":
            made["size"] = _integer(schema.get("size"), 0, _MOST_FIXED, "size of a fixed")
            self._sizes[name] = (made["size"], int(not made["size"]))
        else:
            made["fields"] = self._fields(schema.get("fields"), space, depth)
            self._sizes[name] = self._total([field["type"] for field in made["fields"]])
        return made

    def _fields(self, fields: Any, space: str, depth: int) -> list[dict[str, Any]]:
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            raise BadSchema("a record has no list of fields")
        names = _names([field.get("name") for field in fields])
        return [
            {"name": name, "type": self.schema(field.get("type"), space, depth + 1)}
            for name, field in zip(names, fields, strict=True)
        ]

    def _total(self, types: list[Any]) -> tuple[int, int]:
        sizes = [self._size(each) for each in types]
        least, empty = sum(size for size, _ in sizes), sum(count for _, count in sizes)
        return min(least, _MOST_FIXED), min(empty + (least == 0), _MOST_EMPTY + 1)

    def _size(self, schema: Any) -> tuple[int, int]:
        """Return the least number of bytes of a value, and how many values in it take none."""
        if isinstance(schema, str):
            return self._sizes.get(schema) or (int(schema != "null"), int(schema == "null"))
        if isinstance(schema, list):
            # The union's own byte pays for a null, as in each nullable column of a table.
            return 1, max((self._size(branch)[1] for branch in schema if branch != "null"), default=0)
        kind = schema["type"]
        if isinstance(kind, dict | list):
            return self._size(kind)
        return (1, 0) if kind in ("array", "map") else self._size(schema["name"] if kind in _NAMED else kind)


def _attributes(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that decide how a value is meant."""
    out: dict[str, Any] = {name: schema[name] for name in _LOGICAL if isinstance(schema.get(name), str)}
    if "logicalType" in out:
        found = {name: schema[name] for name in _INTEGERS if name in schema}
        out |= {
            name: _integer(value, -_MOST_DIGITS, _MOST_DIGITS, f"{name} of a decimal") for name, value in found.items()
        }
    parameters = schema.get("connect.parameters")
    if "connect.name" in out and isinstance(parameters, dict):
        out["connect.parameters"] = {
            name: value for name, value in parameters.items() if isinstance(value, str) and _NUMBER.fullmatch(value)
        }
    return out


def _full_name(schema: dict[str, Any], enclosing: str) -> tuple[str, str]:
    """Return the full name of a type that is defined, and the namespace of those within it."""
    (name,) = _names([schema.get("name")])
    space = schema.get("namespace")
    if "." in name:
        return name, name.rpartition(".")[0]
    space = enclosing if space is None else space
    if not isinstance(space, str) or len(space) > _LONGEST_NAME:
        raise BadSchema("a namespace is no text")
    return (f"{space}.{name}" if space else name), space


def _names(names: Any) -> list[str]:
    if not isinstance(names, list) or not all(
        isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and _is_text(name) for name in names
    ):
        raise BadSchema("a name is missing, or no text of up to 1,000 characters")
    if len(set(names)) < len(names):
        raise BadSchema("a name stands twice in a list")
    return names


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def _integer(value: Any, least: int, most: int, what: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise BadSchema(f"the {what} is no integer between {least} and {most}")
    return value
